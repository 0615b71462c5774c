"""`speedgate summary`: results as Markdown for a job summary or a comment, worst first, whoever wrote them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.gate.explain import explains_verdict
from speedgate.results import folder, provenance
from speedgate.results.folder import ResultFile
from speedgate.results.run import Outcome, Verdict
from speedgate.results.text import log_line, markdown_code

MAX_CHARACTERS = 60_000  # GitHub takes 65,536 in a comment; what the poster adds stands in the rest
_TABLE = ("| verdict | case | latency | processes | SSIM | peak | results |", "|---|---|---|---|---|---|---|")
_NOT_JUDGED = "not judged"
_MORE = 200  # characters kept for the lines that say what was left out


def add_command(commands: Any) -> None:
    """Add `summary` to the subcommands of `speedgate`."""
    command = commands.add_parser("summary", help="write the results of a run as Markdown")
    command.add_argument("folder", type=Path, metavar="DIR", help="what --results named, or .speedgate for all runs")
    command.add_argument("--out", type=Path, metavar="FILE", help="append to this file; default: print it")
    command.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    files, skipped = folder.read_folder(options.folder), folder.unread_folders(options.folder)
    if skipped:
        names = ", ".join(skipped[:10])
        print(f"speedgate: not read, for it is not named like a run: {log_line(names)}", file=sys.stderr)
    if not folder.result_names(files):
        named = f"one that was not read ({options.folder / skipped[0]})" if skipped else "a run's folder"
        raise ValueError(f"{options.folder}: holds no result of a case: run pytest bench first, or name {named}")
    text = render(files)
    if options.out is None:
        print(text, end="")
        return 0
    try:
        append(options.out, text)
    except OSError as error:
        raise ValueError(f"--out {options.out}: {error.strerror}; name a file that can be written") from error
    return 0


def append(path: Path, text: str) -> None:
    """Add to a file that others write to as well, such as $GITHUB_STEP_SUMMARY."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def render(files: Mapping[str, bytes], *, limit: int = MAX_CHARACTERS) -> str:
    """At most `limit` characters of Markdown: the count of each verdict, a row a case, a sentence for each that is no PASS.

    A `ValueError` where a file is not what `pytest bench` writes, or where there is no case at all.
    """
    found = sorted(folder.parse_results(files), key=lambda case: (_rank(case.outcome), case.case_key, case.session))
    cases = [case for case in found if not case.is_structure_only]
    head = (
        f"**{_counts(cases)}** on {', '.join(markdown_code(key) for key in sorted({c.gpu_key for c in found})[:10])}\n"
    )
    head += _measured(found, limit=limit // 10)
    head += _structure([case for case in found if case.is_structure_only], limit=limit // 10)
    rows = [_row(case) for case in cases]
    # The table may take two thirds: sentences say why, and a table without them says little.
    table, left_out = _within(rows, limit=(limit - len(head)) * 2 // 3 - sum(map(len, _TABLE)) - _MORE)
    parts = [head, "", *(_TABLE if rows else ()), *table, *_left_out(left_out, "case")]
    said = [_sentence(verdict, lines) for verdict, lines in _told(cases)]
    sentences, left_out = _within(said, limit=limit - len("\n".join(parts)) - _MORE)
    parts += ["", *sentences, *_left_out(left_out, "verdict")] if said else []
    text = "\n".join(parts) + "\n"
    assert len(text) <= limit, "the parts were cut to fit"
    return text


def _counts(cases: Sequence[ResultFile]) -> str:
    count = Counter(_NOT_JUDGED if case.outcome is None else case.outcome.value for case in cases)
    names = [outcome.value for outcome in Outcome]
    return ", ".join(f"{count[name]} {name}" for name in (_NOT_JUDGED, *names) if count[name]) or "nothing was built"


def structure_only(count: int) -> str:
    """What is said of so many cases that were described and never built."""
    return f"structure only: {'1 case holds' if count == 1 else f'{count} cases hold'}, on the meta device"


def _structure(cases: Sequence[ResultFile], *, limit: int) -> str:
    """A line that names what was only described, apart from what was built: it is no PASS of a measurement."""
    if not cases:
        return ""
    shown, left_out = _within([markdown_code(case.case_key) for case in cases], limit=limit)
    more = [f"{left_out} more"] if left_out else []
    return f"\n{structure_only(len(cases))}: {', '.join([*shown, *more])}\n"


def _measured(cases: Sequence[ResultFile], *, limit: int) -> str:
    """A line for each time, commit and set of versions that the cases were measured with, where they say so."""
    lines = sorted({provenance.line(case.document) for case in cases} - {""}, reverse=True)  # the newest first
    shown, left_out = _within([markdown_code(line) for line in lines], limit=limit)
    more = [f"and {left_out} others"] if left_out else []
    return "".join(f"\n{line}\n" for line in (*shown, *more))


def _rank(outcome: Outcome | None) -> int:
    """A case that nobody judged comes first: it may hide anything."""
    return -1 if outcome is None else outcome.severity


def _told(cases: Sequence[ResultFile]) -> list[tuple[Verdict, tuple[str, ...]]]:
    """The verdicts that are no PASS, worst first; the first of a case that says that something moved has its explanation."""
    told: list[tuple[Verdict, tuple[str, ...]]] = []
    for case in cases:
        verdicts = sorted((one for one in case.verdicts if one.outcome is not Outcome.PASS), key=_urgency)
        lines = case.explanation
        first = next((one for one in verdicts if explains_verdict(lines, claim=one.claim, outcome=one.outcome)), None)
        told += [(one, lines if one is first else ()) for one in verdicts]
    return sorted(told, key=lambda one: _urgency(one[0]))


def _urgency(verdict: Verdict) -> tuple[int, str, str]:
    return _rank(verdict.outcome), verdict.case_key, verdict.claim


def _row(case: ResultFile) -> str:
    run = case.run
    measured = run is not None and bool(run.processes)
    ssim = None if run is None or run.parity is None else run.parity.get("ssim")
    cells = (
        f"**{case.outcome.value}**" if case.outcome else _NOT_JUDGED,
        markdown_code(case.case_key),
        f"{run.latency_s:.4g} s" if run is not None and measured else "-",
        str(len(run.processes)) if run is not None else "-",
        "-" if ssim is None else f"{ssim:.4f}",
        f"{run.peak_bytes / 2**30:.3f} GiB" if run is not None and measured else "-",
        markdown_code(case.session),
    )
    return f"| {' | '.join(cells)} |"


def _sentence(verdict: Verdict, lines: Sequence[str]) -> str:
    said = f"- **{verdict.outcome}** {markdown_code(verdict.case_key)} {markdown_code(verdict.claim)}: {markdown_code(verdict.sentence)}"
    return "\n".join([said, *(f"  - {markdown_code(line)}" for line in lines)])


def _within(lines: Sequence[str], *, limit: int) -> tuple[list[str], int]:
    """The first lines that fit into `limit` characters, and how many did not."""
    kept, used = [], 0
    for line in lines:
        used += len(line) + 1
        if used > limit:
            break
        kept.append(line)
    return kept, len(lines) - len(kept)


def _left_out(count: int, what: str) -> list[str]:
    return ["", f"{count} more {what}s, none worse, are in the artifact"] if count else []


def fitted(lines: Sequence[str], *, limit: int, what: str) -> list[str]:
    """The first of some lines, worst first, that fit into `limit` characters, and one that says how many `what`s did not."""
    kept, left_out = _within(lines, limit=limit - _MORE)
    return [*kept, *_left_out(left_out, what)]
