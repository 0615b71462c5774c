"""Lines for the log of a job of GitHub Actions: an annotation for each red verdict, and text that is no workflow command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from speedgate.results.run import Verdict
from speedgate.results.text import ascii_line, log_line, printable

_MOST = 10  # GitHub shows no more annotations of one step


def is_on_github() -> bool:
    """Return True in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def safe_line(text: str) -> str:
    """Return one line without control characters; in a job of GitHub Actions also without a workflow command."""
    return log_line(text) if is_on_github() else printable(text)


def safe_lines(text: str) -> str:
    """Return text of several lines, such as the log of a worker, with each line as `safe_line` returns it."""
    return "\n".join(map(safe_line, text.splitlines()))


def error_annotations(verdicts: Iterable[tuple[Verdict, Sequence[str]]]) -> list[str]:
    """Return a workflow command for each red verdict, given worst first with the lines that explain it.

    If there are more than GitHub shows, the last one counts the rest.
    """
    commands = [
        error(f"{verdict.outcome} {verdict.case_key} {verdict.claim}", verdict.sentence, *lines)
        for verdict, lines in verdicts
    ]
    if len(commands) <= _MOST:
        return commands
    return [*commands[: _MOST - 1], error(f"{len(commands) - _MOST + 1} more red verdicts", "they are in the log")]


def notice(title: str, *lines: str) -> str:
    """Return a workflow command that annotates a job with something that is no error."""
    return _command("notice", title, lines)


def error(title: str, *lines: str) -> str:
    """Return a workflow command that annotates a job with an error."""
    return _command("error", title, lines)


def _command(level: str, title: str, lines: Iterable[str]) -> str:
    """Format the command. Escapes are those of GitHub's own toolkit (actions/toolkit, packages/core/src/command.ts).

    "##[" is the older form of a command, which the runner finds anywhere in a line.
    """
    message = "%0A".join(ascii_line(line).replace("%", "%25") for line in lines)
    title = ascii_line(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{message}".replace("##[", "# #[")
