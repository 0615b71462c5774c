"""The verdict on a bump: a JSON file for machines, and a Markdown page for the summary of a job or a pull request."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from speedgate.gate import explain
from speedgate.report import markdown as rendering
from speedgate.results import exit_status
from speedgate.results.exit_status import ExitStatus
from speedgate.results.run import Outcome
from speedgate.results.text import markdown_text

VERDICT_FILE, SUMMARY_FILE = "verdict.json", "summary.md"
SCHEMA = 1
_EXPLANATION = 4_000  # characters of a case's
# What says nothing of two arms: nothing was measured, nothing to compare with, or too much noise.
_UNJUDGED = {Outcome.INVALID, Outcome.STALE, Outcome.MISSING, Outcome.UNDECIDED, Outcome.NO_BASELINE}


def verdict_document(
    changes: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], *, status: int
) -> dict[str, Any]:
    """The document: `outcome` is the worst of all verdicts, null where there is none.

    `green` is whether pytest ended well and judged anything: a run that measured nothing is no pass. `judged` is whether the
    run is green or red: without a verdict, or where pytest broke, it is neither.
    """
    told = [one for document in found for one in document["verdicts"]]
    green = status in exit_status.GREEN and any(one["outcome"] not in _UNJUDGED for one in told)
    return {
        "schema": SCHEMA,
        "green": green,
        "judged": green or (status in exit_status.RED and bool(told)),
        "exit_status": status,
        "outcome": min((one["outcome"] for one in told), key=lambda outcome: Outcome(outcome).severity, default=None),
        "changes": [dict(one) for one in changes],
        "cases": {name: _case(document) for document in found for name in [_name(document)] if name},
        "verdicts": sorted(told, key=lambda one: Outcome(one["outcome"]).severity),
    }


def is_red(document: Mapping[str, Any]) -> bool:
    """Whether something was judged and found worse."""
    return bool(document["judged"] and not document["green"])


def describe_result(document: Mapping[str, Any]) -> str:
    """Green, red or why neither, and where pytest could not hand its figures on."""
    ended = f"pytest ended with exit status {document['exit_status']}"
    if not document["judged"]:
        return f"not judged, {ended}{' and no verdict' if document['exit_status'] in exit_status.JUDGED else ''}"
    colour = "green" if document["green"] else "red"
    return (
        colour
        if document["exit_status"] in (ExitStatus.OK, ExitStatus.RED)
        else f"{colour}, and {ended}: the history did not take it"
    )


def arm_ratio(metric: str, document: Mapping[str, Any]) -> float | None:
    """Divide this arm's latency or peak memory by the other arm's; None if the metric has no figure or was not measured."""
    against = document.get("against") or {}
    if metric == "latency" and against.get("log_ratios"):
        return math.exp(statistics.fmean(against["log_ratios"]))
    sides = [document.get("run") or {}, against.get("other") or {}]
    if metric != "memory" or not all(side.get("processes") for side in sides):
        return None
    this_arm, other_arm = (
        statistics.median(max(process["peak_bytes"]) for process in side["processes"]) for side in sides
    )
    return float(this_arm / other_arm)


def render(document: Mapping[str, Any], *, limit: int = rendering.MAX_CHARACTERS) -> str:
    """The page: what changed, a row a case, then each verdict that is no plain PASS, worst first, in `limit` characters.

    What is different in a case stands below its first verdict that says that something moved.
    """
    lines = [f"## {_title(document)}", "", "| package | stable | bump | commits |", "| --- | --- | --- | --- |"]
    for one in document["changes"]:
        versions = [one[side]["version"] if one[side] else "-" for side in ("old", "new")]
        lines.append(_row(one["package"], *versions, one["commits"] or "-"))
    if document["cases"]:
        lines += ["", "| case | latency | stable | ratio | peak memory ratio |", "| --- | --- | --- | --- | --- |"]
    rows = [_case_row(name, document["cases"][name]) for name in _worst_first(document)]
    lines += rendering.fitted(rows, limit=(limit - len("\n".join(lines))) // 2, what="case")
    told = [one for one in document["verdicts"] if one["outcome"] != Outcome.PASS or one["claim"] == "latency"]
    passed = len(document["verdicts"]) - len(told)
    said = _sentences(told, document["cases"])
    last = f"- {passed} {'other ' if told else ''}verdicts are PASS"
    lines += ["", *rendering.fitted(said, limit=limit - len("\n".join([*lines, last])), what="verdict"), last]
    return "\n".join(lines) + "\n"


def _sentences(told: Sequence[Mapping[str, Any]], cases: Mapping[str, Any]) -> list[str]:
    """An entry of the list for each verdict."""
    explained: set[str] = set()
    said = []
    for one in told:
        key = one["case_key"]
        lines = cases[key]["explanation"] if key in cases and key not in explained else ()
        shown = lines if explain.explains_verdict(lines, claim=one["claim"], outcome=one["outcome"]) else ()
        if shown:
            explained.add(key)
        head = f"- **{one['outcome']}** {markdown_text(key)} {markdown_text(one['claim'])}: {markdown_text(one['sentence'])}"
        said.append("\n".join([head, *_below(shown)]))
    return said


def _below(lines: Sequence[str]) -> list[str]:
    """What is different in a case, cut: one case's kernels must not crowd out the next one's verdict."""
    shown = [f"  - {markdown_text(line)}" for line in lines]
    kept = [line for line, end in zip(shown, itertools.accumulate(map(len, shown)), strict=True) if end <= _EXPLANATION]
    left_out = [f"  - {len(shown) - len(kept)} more lines stand in {VERDICT_FILE}"] if len(kept) < len(shown) else []
    return [*kept, *left_out]


def _worst_first(document: Mapping[str, Any]) -> list[str]:
    """The cases by their worst verdict; those that are alike stay in their order."""
    worst = {one["case_key"]: Outcome(one["outcome"]).severity for one in reversed(document["verdicts"])}
    return sorted(document["cases"], key=lambda name: worst.get(name, -1))


def _case_row(name: str, case: Mapping[str, Any]) -> str:
    seconds = [f"{case[side]:.4g} s" if case[side] else "-" for side in ("latency_s", "stable_latency_s")]
    ratios = [f"{case[kind]:.3f}" if case[kind] else "-" for kind in ("latency_ratio", "memory_ratio")]
    return _row(name, *seconds, *ratios)


def _title(document: Mapping[str, Any]) -> str:
    moved = [f"{one['package']} {one['new']['version']}" for one in document["changes"]]
    worst = f" ({document['outcome']})" if document["outcome"] else ""
    return markdown_text(f"{', '.join(moved)} against the stable pins: {describe_result(document)}{worst}")


def _name(document: Mapping[str, Any]) -> str | None:
    """The key of a case that was built; one that was only described has no run."""
    run = document.get("run")
    return run["case_key"] if run else None


def _case(document: Mapping[str, Any]) -> dict[str, Any]:
    other = (document.get("against") or {}).get("other") or {}
    return {
        "latency_s": _latency_s(document["run"]),
        "stable_latency_s": _latency_s(other),
        "latency_ratio": arm_ratio("latency", document),
        "memory_ratio": arm_ratio("memory", document),
        "environment": document["run"]["environment"],
        "stable_environment": other.get("environment"),
        "explanation": list(document.get("explanation") or ()),
    }


def _latency_s(side: Mapping[str, Any]) -> float | None:
    medians = [statistics.median(process["seconds"]) for process in side.get("processes", ())]
    return statistics.geometric_mean(medians) if medians else None


def _row(*cells: str) -> str:
    return f"| {' | '.join(markdown_text(cell) for cell in cells)} |"
