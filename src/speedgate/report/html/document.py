"""The report of a run as one HTML file: verdicts first, then where each number comes from. Figures are rounded here."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speedgate.gate.explain import explains_verdict
from speedgate.report.html import details, page, sections
from speedgate.report.html.page import TONES, Table, badge, table
from speedgate.report.html.view import Report, ReportCase, mapping
from speedgate.report.markdown import structure_only_count
from speedgate.results import case_table
from speedgate.results.case_table import NOT_JUDGED, CaseRow, row_of_run
from speedgate.results.run import Outcome, Run, Verdict

if TYPE_CHECKING:
    from markupsafe import Markup

_COLUMNS = (
    case_table.CASE,
    case_table.VERDICT,
    case_table.LATENCY,
    case_table.RATES,
    case_table.PROCESSES,
    case_table.SPREAD,
    case_table.SSIM,
    case_table.PEAK,
    case_table.COLD_START,
    dataclasses.replace(case_table.REFERENCE, heading="stored"),
)
_QUIET = (Outcome.PASS, Outcome.NO_BASELINE)


def document(report: Report) -> str:
    """The whole file."""
    parts = {
        "Verdicts": _verdicts(report),
        "Cases": _cases(report),
        "Ladder": sections.ladder(report),
        "Processes": sections.processes(report),
        "Pictures": details.pictures(report),
        "Memory": sections.memory(report),
        "Cold start": sections.cold_start(report),
        "Attribution": details.attribution(report),
        "Roofline": details.roofline(report),
        "Environment": _environment(report),
        "Command and versions": _command(report),
    }
    found = {title: body for title, body in parts.items() if body}
    return page.page(
        f"speedgate on {report.gpu_key}",
        page.render("report.html", parts={_target(title): (title, body) for title, body in found.items()}),
        subtitle="; ".join(filter(None, [counts(report), report.measured])),
        nav={title: f"#{_target(title)}" for title in found},
    )


def counts(report: Report) -> str:
    """How many cases have which outcome, worst first."""
    entries, described = _apart(report)
    count = Counter(entry.outcome for entry in entries)
    said = [f"{count[outcome]} {outcome or NOT_JUDGED}" for outcome in (None, *Outcome) if count[outcome]]
    cases = "1 case" if len(entries) == 1 else f"{len(entries)} cases"
    shown = f"{cases}: {', '.join(said)}" if entries else "nothing was built"
    return f"{shown}; {structure_only_count(len(described))}" if described else shown


def _apart(report: Report) -> tuple[list[ReportCase], list[ReportCase]]:
    """The cases that were built, lost or red, and those that were only described and hold."""
    described = [entry for entry in report.entries if entry.is_structure_only]
    return [entry for entry in report.entries if not entry.is_structure_only], described


def _verdicts(report: Report) -> Markup:
    told = [one for one in report.verdicts if one.outcome not in _QUIET]
    explained = {entry.case_key: entry.explanation for entry in report.entries}  # said once, with the worst of the case
    quiet = {outcome: [one for one in report.verdicts if one.outcome is outcome] for outcome in reversed(_QUIET)}
    return page.render(
        "verdicts.html",
        told=[(one, explained.pop(one.case_key) if _is_below(one, explained) else ()) for one in told],
        quiet={outcome: [(one, ()) for one in found] for outcome, found in quiet.items()},
        tones=TONES,
        remarks=report.remarks,
        targets=_targets(report),
    )


def _is_below(verdict: Verdict, explained: Mapping[str, Sequence[str]]) -> bool:
    return explains_verdict(explained.get(verdict.case_key, ()), claim=verdict.claim, outcome=verdict.outcome)


def _cases(report: Report) -> Markup:
    entries, described = _apart(report)
    shown = Table(
        caption="Each case, rounded; the raw samples are in the results",
        columns=[column.heading for column in _COLUMNS],
        rows=[_cells(entry) for entry in entries],
        numbers=frozenset(column.heading for column in _COLUMNS if column.is_number),
    )
    targets = _targets(report)
    facts = [(targets[e.case_key], e.case_key, _facts(e.run)) for e in report.entries if e.run is not None]
    return page.render(
        "cases.html",
        table=table(shown),
        facts=facts,
        described=[entry.case_key for entry in described],
        structure=structure_only_count(len(described)),
    )


def _cells(entry: ReportCase) -> list[str]:
    stored = list(entry.figures.values())[-1] if entry.figures else None
    reference = "other arm" if entry.other else f"{stored.latency_s:.4g} s ({stored.name})" if stored else "none"
    fields: dict[str, Any] = {"outcome": entry.outcome, "reference": reference}
    row = CaseRow(case_key=entry.case_key, **fields) if entry.run is None else row_of_run(entry.run, **fields)
    return [badge(row.outcome) if column is case_table.VERDICT else column.cell(row) for column in _COLUMNS]


def _facts(run: Run) -> str:
    """What the case was and what was counted in it, as text."""
    facts = {
        "fingerprint": run.fingerprint,
        "recipe": run.recipe,
        "structure": run.structure,
        "counts": run.counts,
        "parity": run.parity,
    }
    return json.dumps(facts, indent=2, ensure_ascii=False, default=str)


def _environment(report: Report) -> Markup:
    """The machine, and a column for each environment: cases that share one share the column."""
    environments: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for entry in report.entries:
        for run, arm in ((entry.run, ""), (entry.other, "other arm of ")):
            if run is not None:
                key = json.dumps(mapping(run.environment), sort_keys=True, default=str)
                environments.setdefault(key, (mapping(run.environment), []))[1].append(f"{arm}{entry.case_key}")
    machine = {**report.machine, **{f"before the first case: {name}": value for name, value in report.health.items()}}
    return page.render(
        "environment.html",
        machine=table(Table(caption="The machine", columns=("fact", "value"), rows=_pairs(machine))),
        environments=[
            (table(Table(caption="Versions in the workers", columns=("package", "version"), rows=_pairs(facts))), cases)
            for facts, cases in environments.values()
        ],
    )


def _command(report: Report) -> Markup:
    made_by = dict(report.made_by)
    command = made_by.pop("command", None)
    shown = Table(caption="What wrote this report", columns=("what", "value"), rows=_pairs(made_by))
    return page.render("command.html", command=command, table=table(shown))


def _pairs(facts: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    return [(name, "-" if value is None else str(value)) for name, value in facts.items()]


def _targets(report: Report) -> dict[str, str]:
    """The id of each case's facts on the page, of those that were built."""
    return {entry.case_key: f"case-{number}" for number, entry in enumerate(report.entries) if entry.run is not None}


def _target(title: str) -> str:
    return title.lower().replace(" ", "-")
