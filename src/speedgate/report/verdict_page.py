"""The verdict on a whole run, such as a bump: a JSON document for programs, and a Markdown page for people."""

from __future__ import annotations

import math
import operator
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from speedgate.gate.explain import WORK
from speedgate.gate.guard import NO_COMPARISON
from speedgate.report import gpu_code_table
from speedgate.report.markdown import MAX_CHARACTERS, cut_to_limit, verdict_item
from speedgate.report.verdict_order import worst_first
from speedgate.results import case_table
from speedgate.results.case_table import CaseRow, Column
from speedgate.results.exit_status import GREEN, JUDGED, RED, ExitStatus
from speedgate.results.gpu_code import GeneratedCode
from speedgate.results.json_io import decode
from speedgate.results.run import Outcome, Verdict
from speedgate.results.text import markdown_code

VERDICT_FILE, SUMMARY_FILE = "verdict.json", "summary.md"
SCHEMA = 1
_COLUMNS = (
    case_table.CASE,
    case_table.LATENCY,
    case_table.OTHER_LATENCY,
    case_table.LATENCY_RATIO,
    case_table.MEMORY_RATIO,
)
_MAX_EXPLANATION = 4_000  # characters: the kernels of one case must not crowd out the verdict of the next
_COMPARE_URL = re.compile(r"https://github\.com/[\w./-]+")


def verdict_document(
    changes: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], *, status: int
) -> dict[str, Any]:
    """Make the document of a run from the changed packages, the documents of its cases and the exit status of pytest.

    `green` needs a good exit status and at least one comparison: a run that measured nothing has not passed. `judged` is true
    if the run is green or red, and false if pytest broke or reached no verdict. `outcome` is the worst, or null.
    """
    verdicts = sorted(
        (verdict for result in results for verdict in result["verdicts"]),
        key=lambda verdict: Outcome(verdict["outcome"]).severity,
    )
    green = status in GREEN and any(verdict["outcome"] not in NO_COMPARISON for verdict in verdicts)
    return {
        "schema": SCHEMA,
        "green": green,
        "judged": green or (status in RED and bool(verdicts)),
        "exit_status": status,
        "outcome": verdicts[0]["outcome"] if verdicts else None,
        "changes": [dict(change) for change in changes],
        "cases": {result["run"]["case_key"]: _case(result) for result in results if result.get("run")},
        "verdicts": verdicts,
        "gpu_code": _gpu_code(results),
    }


def _gpu_code(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rows of the table of generated code by case, as texts, and the lines that name the kernels that differ."""
    cases: dict[str, Any] = {}
    for result in results:
        if not result.get("gpu_code"):
            continue
        codes = _decode_codes(result)
        verdicts = [decode(verdict, Verdict, where="verdicts") for verdict in result["verdicts"]]
        case_key = next(iter(codes.values())).this.case_key
        rows = gpu_code_table.rows_of({case_key: codes}, {case_key: verdicts})
        cells = [{column.heading: column.cell(row) for column in gpu_code_table.COLUMNS} for row in rows]
        cases[case_key] = {"rows": cells, "explanation": list(result.get("explanation") or ())}
    return cases


def _decode_codes(result: Mapping[str, Any]) -> dict[str, GeneratedCode]:
    return {target: decode(code, GeneratedCode, where="gpu_code") for target, code in result["gpu_code"].items()}


def is_red(document: Mapping[str, Any]) -> bool:
    """True if the run was judged and something is worse."""
    return bool(document["judged"] and not document["green"])


def describe_result(document: Mapping[str, Any]) -> str:
    """Say "green", "red" or why it is neither, and whether the upload to the history failed."""
    status = document["exit_status"]
    ended = f"pytest ended with exit status {status}"
    if not document["judged"]:
        return f"not judged, {ended}{' and no verdict' if status in JUDGED else ''}"
    colour = "green" if document["green"] else "red"
    if status in (ExitStatus.OK, ExitStatus.RED):
        return colour
    return f"{colour}, and {ended}: the history did not take it"


def conclusion(document: Mapping[str, Any]) -> str:
    """Return the result with the worst outcome in brackets, such as "red (SLOWER)"."""
    return describe_result(document) + (f" ({document['outcome']})" if document["outcome"] else "")


def candidate(document: Mapping[str, Any]) -> str:
    """Name the packages that were judged, with their new versions."""
    return ", ".join(f"{change['package']} {change['new']['version']}" for change in document["changes"])


def arm_ratio(metric: str, result: Mapping[str, Any]) -> float | None:
    """Divide this arm's latency or peak memory by the other arm's; None if it was not measured, and for any other metric.

    Generated code has several figures; the sentence of its verdict names those that are more.
    """
    against = result.get("against") or {}
    if metric == "latency" and against.get("log_ratios"):
        return math.exp(statistics.fmean(against["log_ratios"]))
    arms = [result.get("run") or {}, against.get("other") or {}]
    if metric != "memory" or not all(arm.get("processes") for arm in arms):
        return None
    this_arm, other_arm = (
        statistics.median(max(process["peak_bytes"]) for process in arm["processes"]) for arm in arms
    )
    return float(this_arm / other_arm)


def render(document: Mapping[str, Any], *, limit: int = MAX_CHARACTERS) -> str:
    """Write the page in at most `limit` characters: the changed packages, a row per case, and the verdicts, worst first.

    PASS verdicts are only counted, except those on latency: their sentences say which slowdown would have been seen.
    """
    lines = [_title(document), "", "| package | stable | bump | commits |", "| --- | --- | --- | --- |"]
    lines += map(_change_row, document["changes"])
    if document["cases"]:
        lines += ["", *case_table.markdown_head(_COLUMNS)]
    rows = [_case_row(case_key, document["cases"][case_key]) for case_key in _worst_cases_first(document)]
    lines += cut_to_limit(rows, limit=(limit - len("\n".join(lines))) // 2, noun="case")
    lines += _gpu_code_lines(document, limit=(limit - len("\n".join(lines))) // 2)
    items = _verdict_items(document)
    passed = len(document["verdicts"]) - len(items)
    last = f"- {passed} {'other ' if items else ''}verdicts are PASS"
    lines += ["", *cut_to_limit(items, limit=limit - len("\n".join([*lines, last])), noun="verdict"), last]
    return "\n".join(lines) + "\n"


def _verdict_items(document: Mapping[str, Any]) -> list[str]:
    verdicts_by_case: dict[str, list[Verdict]] = {}
    for stored in document["verdicts"]:
        verdict = decode(stored, Verdict, where="verdicts")
        if verdict.outcome is not Outcome.PASS or verdict.claim.startswith(("latency", WORK)):
            verdicts_by_case.setdefault(verdict.case_key, []).append(verdict)
    cases = {**document["cases"], **document.get("gpu_code", {})}
    explained = worst_first(
        (verdicts, cases[case_key]["explanation"] if case_key in cases else ())
        for case_key, verdicts in verdicts_by_case.items()
    )
    return [verdict_item(verdict, lines, limit=_MAX_EXPLANATION) for verdict, lines in explained]


def _gpu_code_lines(document: Mapping[str, Any], *, limit: int) -> list[str]:
    """Format the table of generated code; empty if none was generated."""
    rows = [row for case in document.get("gpu_code", {}).values() for row in case["rows"]]
    columns = [
        Column[Mapping[str, str]](column.heading, operator.itemgetter(column.heading), column.is_name, column.is_number)
        for column in gpu_code_table.COLUMNS
    ]
    shown = case_table.with_figures(columns, rows)
    if not rows:
        return []
    lines = [case_table.markdown_row(shown, row) for row in rows]
    return [
        "",
        gpu_code_table.CAPTION,
        "",
        *case_table.markdown_head(shown),
        *cut_to_limit(lines, limit=limit, noun="case"),
    ]


def _worst_cases_first(document: Mapping[str, Any]) -> list[str]:
    """Sort the cases by their worst verdict; a case without one comes first."""
    severities = {
        verdict["case_key"]: Outcome(verdict["outcome"]).severity for verdict in reversed(document["verdicts"])
    }
    return sorted(document["cases"], key=lambda case_key: severities.get(case_key, -1))


def _title(document: Mapping[str, Any]) -> str:
    return f"## {markdown_code(candidate(document))} against the stable pins: {conclusion(document)}"


def _change_row(change: Mapping[str, Any]) -> str:
    versions = [markdown_code(change[side]["version"]) if change[side] else "-" for side in ("old", "new")]
    url = change["commits"] or "-"
    # GitHub makes a link of a plain address; anything else that a package's metadata may hold is shown as code.
    commits = url if url == "-" or _COMPARE_URL.fullmatch(url) else markdown_code(url)
    return f"| {' | '.join([markdown_code(change['package']), *versions, commits])} |"


def _case_row(case_key: str, case: Mapping[str, Any]) -> str:
    row = CaseRow(
        case_key=case_key,
        latency_s=case["latency_s"],
        other_latency_s=case["stable_latency_s"],
        latency_ratio=case["latency_ratio"],
        memory_ratio=case["memory_ratio"],
    )
    return case_table.markdown_row(_COLUMNS, row)


def _case(result: Mapping[str, Any]) -> dict[str, Any]:
    other = (result.get("against") or {}).get("other") or {}
    return {
        "latency_s": _latency_s(result["run"]),
        "stable_latency_s": _latency_s(other),
        "latency_ratio": arm_ratio("latency", result),
        "memory_ratio": arm_ratio("memory", result),
        "environment": result["run"]["environment"],
        "stable_environment": other.get("environment"),
        "explanation": list(result.get("explanation") or ()),
    }


def _latency_s(run: Mapping[str, Any]) -> float | None:
    """Compute the geometric mean of the process medians of a stored run; None if it has no process."""
    medians_s = [statistics.median(process["seconds"]) for process in run.get("processes", ())]
    return statistics.geometric_mean(medians_s) if medians_s else None
