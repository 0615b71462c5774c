"""Write the report of a run as one HTML file: verdicts first, then the measurements that they were made from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speedgate.gate import guard
from speedgate.report.html import details, sections
from speedgate.report.html.page import TONES, Table, outcome_badge, render_page, render_table, render_template
from speedgate.report.html.view import Report, ReportCase, as_mapping
from speedgate.report.markdown import count_outcomes, structure_only_count
from speedgate.report.verdict_order import worst_first
from speedgate.results import case_table
from speedgate.results.case_table import NO_FIGURE, CaseRow, row_of_run
from speedgate.results.run import Outcome, Run

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
    case_table.COMPILE,
    dataclasses.replace(case_table.BASELINE, heading="stored"),
)
_FOLDED = (Outcome.NO_BASELINE, Outcome.PASS)  # verdicts that need nobody's attention


def render_report(report: Report) -> str:
    """Write the whole file. A section without any figure is left out."""
    sections_by_title = {
        "Verdicts": _verdict_section(report),
        "Cases": _case_section(report),
        "GPU code": details.gpu_code_section(report),
        "Ladder": sections.latency_section(report),
        "Processes": sections.process_section(report),
        "Pictures": details.picture_section(report),
        "Memory": sections.memory_section(report),
        "Cold start": None if report.is_quick else sections.cold_start_section(report),
        "Compile": None if report.is_quick else sections.compile_section(report),
        "Attribution": details.attribution_section(report),
        "Roofline": details.roofline_section(report),
        "Environment": _environment_section(report),
        "Command and versions": _command_section(report),
    }
    parts = {_section_id(title): (title, body) for title, body in sections_by_title.items() if body}
    return render_page(
        f"speedgate on {report.gpu_key}",
        render_template("report.html", parts=parts),
        subtitle="; ".join(filter(None, [_summary(report), report.measured])),
        warning=report.warning,
        nav={title: f"#{section_id}" for section_id, (title, _) in parts.items()},
    )


def _summary(report: Report) -> str:
    """Count the cases by outcome, worst first."""
    built, described = _built_and_described(report)
    count = "1 case" if len(built) == 1 else f"{len(built)} cases"
    summary = f"{count}: {_counts(built)}" if built else "nothing was built"
    return f"{summary}; {structure_only_count(len(described))}" if described else summary


def _counts(cases: Sequence[ReportCase]) -> str:
    references = sum(case.is_reference for case in cases)
    return count_outcomes((case.outcome for case in cases if not case.is_reference), references=references)


def _built_and_described(report: Report) -> tuple[list[ReportCase], list[ReportCase]]:
    """Separate the cases that were only checked on the meta device and hold from all others, lost and red ones included."""
    described = [case for case in report.cases if case.is_structure_only]
    return [case for case in report.cases if not case.is_structure_only], described


def _verdict_section(report: Report) -> Markup:
    verdicts = worst_first((case.verdicts, case.explanation) for case in report.cases)
    return render_template(
        "verdicts.html",
        verdicts=[(verdict, lines) for verdict, lines in verdicts if verdict.outcome not in _FOLDED],
        folded={
            outcome: [(verdict, lines) for verdict, lines in verdicts if verdict.outcome is outcome]
            for outcome in _FOLDED
        },
        tones=TONES,
        remarks=[_guarded(report), *report.remarks],
        targets=_fact_ids(report),
    )


def _guarded(report: Report) -> str:
    by_case = {case.case_key: case for case in report.cases}
    return guard.count_guarded(
        {key: case.verdicts for key, case in by_case.items()}, {key: case.not_judged for key, case in by_case.items()}
    ).sentence


def _case_section(report: Report) -> Markup | None:
    built, described = _built_and_described(report)
    rows = [_case_row(case) for case in built if case.run is not None or not case.gpu_code]
    if not rows and not described:
        return None
    columns = case_table.with_figures(_COLUMNS, rows)
    if report.is_quick:  # the first image was made in a process that had made others
        columns = [column for column in columns if column not in (case_table.COLD_START, case_table.COMPILE)]
    table = Table(
        caption="Each case, rounded; the raw samples are in the results",
        columns=[column.heading for column in columns],
        rows=[
            [
                outcome_badge(row.outcome, is_reference=row.is_reference) if c is case_table.VERDICT else c.cell(row)
                for c in columns
            ]
            for row in rows
        ],
        numbers=frozenset(column.heading for column in columns if column.is_number),
    )
    ids = _fact_ids(report)
    return render_template(
        "cases.html",
        table=render_table(table) if rows else None,
        facts=[(ids[case.case_key], case.case_key, _facts(case.run)) for case in report.cases if case.run is not None],
        described=[case.case_key for case in described],
        structure=structure_only_count(len(described)),
    )


def _case_row(case: ReportCase) -> CaseRow:
    baseline = list(case.baselines.values())[-1] if case.baselines else None
    stored = f"{baseline.latency_s:.4g} s ({baseline.name})" if baseline else NO_FIGURE
    row = row_of_run(case.run) if case.run is not None else CaseRow(case_key=case.case_key)
    return dataclasses.replace(row, outcome=case.outcome, compared_with=stored, is_reference=case.is_reference)


def _facts(run: Run) -> str:
    """Format what the case was, and what was counted in it, as JSON."""
    facts = {
        "fingerprint": run.fingerprint,
        "recipe": run.recipe,
        "structure": run.structure,
        "counts": run.counts,
        "parity": run.parity,
    }
    return json.dumps(facts, indent=2, ensure_ascii=False, default=str)


def _environment_section(report: Report) -> Markup:
    """List the facts of the machine, then the versions of each environment with the cases that it measured."""
    environments: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for case in report.cases:
        for run, arm in ((case.run, ""), (case.other_run, "other arm of ")):
            if run is not None:
                versions = as_mapping(run.environment)
                key = json.dumps(versions, sort_keys=True, default=str)
                environments.setdefault(key, (versions, []))[1].append(f"{arm}{case.case_key}")
    machine = {**report.machine, **{f"before the first case: {name}": value for name, value in report.health.items()}}
    return render_template(
        "environment.html",
        machine=_fact_table("The machine", "fact", machine),
        environments=[
            (_fact_table("Versions in the workers", "package", versions, value="version"), cases)
            for versions, cases in environments.values()
        ],
    )


def _command_section(report: Report) -> Markup:
    made_by = dict(report.made_by)
    command = made_by.pop("command", None)
    return render_template("command.html", command=command, table=_fact_table("Origin of this report", "fact", made_by))


def _fact_table(caption: str, name: str, facts: Mapping[str, Any], *, value: str = "value") -> Markup:
    rows: Sequence[tuple[str, str]] = [
        (fact, NO_FIGURE if content is None else str(content)) for fact, content in facts.items()
    ]
    return render_table(Table(caption=caption, columns=(name, value), rows=rows))


def _fact_ids(report: Report) -> dict[str, str]:
    """Number the elements that hold the facts of each case that was built."""
    return {case.case_key: f"case-{number}" for number, case in enumerate(report.cases) if case.run is not None}


def _section_id(title: str) -> str:
    return title.lower().replace(" ", "-")
