"""Write the results of a run as Markdown for a job summary or a comment, worst case first.

The results may come from anybody, so every text of theirs is escaped.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from speedgate.gate import guard
from speedgate.gate.policy import Policy
from speedgate.report import confirmed, gpu_code_table
from speedgate.report.verdict_order import worst_first
from speedgate.results import case_table, folder, provenance
from speedgate.results.case_table import NOT_JUDGED, CaseRow, markdown_head, markdown_row, row_of_run
from speedgate.results.folder import ResultFile
from speedgate.results.run import Outcome, Verdict
from speedgate.results.text import markdown_code

MAX_SUMMARY_BYTES = 2**20  # of a job step; GitHub documents it with the workflow commands
MAX_CHARACTERS = 60_000  # GitHub takes 65,536 in a comment; the rest is for what the poster adds
_COLUMNS = (
    dataclasses.replace(
        case_table.VERDICT, cell=lambda row: f"**{row.outcome}**" if row.outcome else case_table.verdict_text(row)
    ),
    case_table.CASE,
    case_table.LATENCY,
    case_table.PROCESSES,
    case_table.SSIM,
    case_table.PEAK,
    case_table.SESSION,
)
_MAX_SENTENCE = 2_000  # characters: a list of many wrong facts has its expectations at the end
_MOST_WARNINGS = 3  # one run has one; a folder may hold several runs
_MORE = 200  # characters reserved for the lines that count what was left out


def append(path: Path, text: str, *, limit_bytes: int | None = None) -> None:
    """Add text to a file that others append to as well, such as $GITHUB_STEP_SUMMARY.

    GitHub drops a job summary of more than `MAX_SUMMARY_BYTES` as a whole. So its last lines are cut, which are the least bad
    ones, and the last one says so; `limit_bytes` is that limit if the file is the job's summary.
    """
    if limit_bytes is None and os.environ.get("GITHUB_STEP_SUMMARY") == str(path):
        limit_bytes = MAX_SUMMARY_BYTES
    if limit_bytes is not None:
        text = _cut_to_bytes(text, limit_bytes - (path.stat().st_size if path.exists() else 0))
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def _cut_to_bytes(text: str, room: int) -> str:
    """Return the text, or as many of its first lines as fit into `room` bytes beside a line that says that the rest is cut."""
    if len(text.encode()) <= room:
        return text
    lines = text.splitlines(keepends=True)
    cut = (
        "\n{} more lines do not fit into this summary (GitHub drops one of more than 1 MiB); they are in the artifact\n"
    )
    used = len(cut.format(len(lines)).encode())
    fitting = []
    for line in lines:
        used += len(line.encode())
        if used > room:
            break
        fitting.append(line)
    note = cut.format(len(lines) - len(fitting))
    return "".join([*fitting, note]) if len(note.encode()) <= room else ""


def render(files: Mapping[str, bytes], *, limit: int = MAX_CHARACTERS) -> str:
    """Write at most `limit` characters: the count of each verdict, a row per case, and the sentences of all but PASS.

    A `ValueError` if a file is not one that `pytest bench` writes, or if there is no case.
    """
    results = sorted(folder.parse_results(files), key=lambda case: (_severity(case), case.case_key, case.session))
    built = [case for case in results if not case.is_structure_only]
    gpu_keys = sorted({case.gpu_key for case in results})[:10]
    references = sum(case.is_reference for case in built)
    counts = count_outcomes((case.outcome for case in built if not case.is_reference), references=references)
    counts = counts or "nothing was built"
    head = f"**{counts}** on {', '.join(map(markdown_code, gpu_keys))}\n"
    head += f"\n**Claims**: {markdown_code(_guarded(results)[: limit // 20])}\n"
    head += _warnings(results)
    head += _provenance(built or results, limit=limit // 10)
    head += _confirmed(results)
    head += _structure_only([case for case in results if case.is_structure_only], limit=limit // 10)
    case_rows = [_row(case) for case in built if case.run is not None or not case.gpu_code]
    columns = case_table.with_figures(_COLUMNS, case_rows)
    headings = markdown_head(columns) if case_rows else []
    # The table gets at most two thirds: without the sentences it does not say why.
    rows, left_out = _split_at_limit(
        [markdown_row(columns, row) for row in case_rows],
        limit=(limit - len(head)) * 2 // 3 - sum(map(len, headings)) - _MORE,
    )
    parts = [head, "", *headings, *rows, *_count_left_out(left_out, "case")]
    parts += gpu_code_lines(built, limit=(limit - len("\n".join(parts))) // 2)
    sentences = [verdict_item(verdict, lines) for verdict, lines in _verdicts_to_show(built)]
    if sentences:
        fitting, left_out = _split_at_limit(sentences, limit=limit - len("\n".join(parts)) - _MORE)
        parts += ["", *fitting, *_count_left_out(left_out, "verdict")]
    text = "\n".join(parts) + "\n"
    assert len(text) <= limit, "the parts were cut to fit"
    return text


def gpu_code_lines(cases: Sequence[ResultFile], *, limit: int) -> list[str]:
    """Format the table of generated code in at most `limit` characters; empty if there is none."""
    rows = [
        row
        for case in cases
        for row in gpu_code_table.rows_of({case.case_key: case.gpu_code}, {case.case_key: case.verdicts})
    ]
    if not rows:
        return []
    columns = case_table.with_figures(gpu_code_table.COLUMNS, rows)
    lines = [markdown_row(columns, row) for row in rows]
    return [
        "",
        gpu_code_table.CAPTION,
        "",
        *markdown_head(columns),
        *cut_to_limit(lines, limit=limit - _MORE, noun="case"),
    ]


def count_outcomes(outcomes: Iterable[Outcome | None], *, references: int = 0) -> str:
    """Count cases by their outcome, worst first; None stands for a case that nobody judged. References come last."""
    count = Counter(outcomes)
    counts = [f"{count[outcome]} {outcome or NOT_JUDGED}" for outcome in (None, *Outcome) if count[outcome]]
    return ", ".join([*counts, *([f"{references} {case_table.REFERENCE}"] if references else [])])


def _guarded(cases: Sequence[ResultFile]) -> str:
    """Say how many claims of the cases are guarded, and why others are not; the reasons come from anybody."""
    return guard.count_guarded(
        {case.name: case.verdicts for case in cases}, {case.name: case.not_judged for case in cases}
    ).sentence


def structure_only_count(count: int) -> str:
    """Say how many cases were checked on the meta device and never built."""
    return f"structure only: {'1 case holds' if count == 1 else f'{count} cases hold'}, on the meta device"


def verdict_item(verdict: Verdict, lines: Sequence[str], *, limit: int | None = None) -> str:
    """Format a verdict as an item of a list, with the lines that explain it below, of at most `limit` characters."""
    item = (
        f"- **{verdict.outcome}** {markdown_code(verdict.case_key)} {markdown_code(verdict.claim)}:"
        f" {markdown_code(verdict.sentence, limit=_MAX_SENTENCE)}"
    )
    below = [f"  - {markdown_code(line)}" for line in lines]
    fitting, left_out = (below, 0) if limit is None else _split_at_limit(below, limit=limit)
    return "\n".join([item, *fitting, *([f"  - {left_out} more lines are in the JSON file"] if left_out else [])])


def cut_to_limit(lines: Sequence[str], *, limit: int, noun: str) -> list[str]:
    """Take the first lines that fit into `limit` characters, and add one that counts the others, each of them a `noun`."""
    fitting, left_out = _split_at_limit(lines, limit=limit - _MORE)
    return [*fitting, *_count_left_out(left_out, noun)]


def _severity(case: ResultFile) -> int:
    """Rank a case by its outcome, worst first; one that nobody judged comes before all, because it may hide anything."""
    if case.is_reference:
        return len(Outcome)
    return -1 if case.outcome is None else case.outcome.severity


def _structure_only(cases: Sequence[ResultFile], *, limit: int) -> str:
    """List the cases that were only described apart from those that were built: they are no PASS of a measurement."""
    if not cases:
        return ""
    fitting, left_out = _split_at_limit([markdown_code(case.case_key) for case in cases], limit=limit)
    more = [f"{left_out} more"] if left_out else []
    return f"\n{structure_only_count(len(cases))}: {', '.join([*fitting, *more])}\n"


def _warnings(cases: Sequence[ResultFile]) -> str:
    """Format a warning for each fire drill and each quick run among the cases."""
    warnings = sorted({case.warning for case in cases if case.warning is not None})
    return "".join(f"\n**{name}**: {markdown_code(sentence)}\n" for name, sentence in warnings[:_MOST_WARNINGS])


def _provenance(cases: Sequence[ResultFile], *, limit: int) -> str:
    """Format a line for each time, commit and set of versions that the cases were measured with."""
    lines = sorted({provenance.describe(case.document) for case in cases} - {""}, reverse=True)  # the newest first
    fitting, left_out = _split_at_limit([markdown_code(line) for line in lines], limit=limit)
    more = [f"and {left_out} others"] if left_out else []
    return "".join(f"\n{line}\n" for line in (*fitting, *more))


def _confirmed(cases: Sequence[ResultFile]) -> str:
    """Format how many cases were confirmed, the machine's drift, and the baselines that will soon be stale; for each GPU key."""
    confirmed_by_key: dict[str, list[confirmed.Confirmed]] = {}
    for case in cases:
        if case.confirmation is not None:
            confirmed_by_key.setdefault(case.gpu_key, []).append((case.confirmation, case.verdicts))
    lines = []
    for gpu_key in sorted(confirmed_by_key)[:_MOST_WARNINGS]:
        remarks = confirmed.remarks(confirmed_by_key[gpu_key], tolerance=Policy.latency_tolerance)
        lines += [f"{gpu_key}: {line}" for line in remarks[: 2 + _MOST_WARNINGS]]
    return "".join(f"\n{markdown_code(line)}\n" for line in lines)


def _verdicts_to_show(cases: Sequence[ResultFile]) -> list[tuple[Verdict, Sequence[str]]]:
    """Take the verdicts that are no PASS, worst first, each with the explanation that belongs to it."""
    return worst_first(
        ([verdict for verdict in case.verdicts if verdict.outcome is not Outcome.PASS], case.explanation)
        for case in cases
    )


def _row(case: ResultFile) -> CaseRow:
    row = row_of_run(case.run) if case.run is not None else CaseRow(case_key=case.case_key)
    return dataclasses.replace(row, outcome=case.outcome, session=case.session, is_reference=case.is_reference)


def _split_at_limit(lines: Sequence[str], *, limit: int) -> tuple[list[str], int]:
    """Take the first lines that fit into `limit` characters, and count those that do not."""
    fitting, used = [], 0
    for line in lines:
        used += len(line) + 1
        if used > limit:
            break
        fitting.append(line)
    return fitting, len(lines) - len(fitting)


def _count_left_out(count: int, noun: str) -> list[str]:
    return ["", f"{count} more {noun}s, none worse, are in the artifact"] if count else []
