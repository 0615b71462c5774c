"""The `speedgate` command: baselines, compile caches, summaries, other versions of packages.

Needs no GPU and, but for the caches, no torch.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from speedgate.baselines import commands as baseline_commands
from speedgate.fleet import cli_merge
from speedgate.fleet import commands as cache_verbs
from speedgate.history import cli_trend
from speedgate.history import commands as cli_history
from speedgate.history import site_commands as site_verbs
from speedgate.report import commands as report_command
from speedgate.report import markdown
from speedgate.results import commandline
from speedgate.results.console import FAILED, OK, print_error, print_line
from speedgate.versions import commands as cli_bumps


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 where a bump or a trend is red, or 2 with one line on stderr per error.

    A bump that could not be judged is such an error.
    """
    options = _parse(sys.argv[1:] if argv is None else list(argv))
    errors: list[str] = []
    status = OK
    try:
        if "run" in options:
            status = options.run(options)
        else:
            errors = options.command(options)
    except (ValueError, OSError) as error:
        errors = [_said(error)]
    if (unwritten := _unwritten()) and unwritten not in errors:
        errors = [*errors, unwritten]
    for line in errors:
        print_error(line)
    return FAILED if errors else status


def _said(error: Exception) -> str:
    """The error in our words: the number and the class of the system's are for programmers."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    place = error.filename or ("the output" if error.errno in (errno.EPIPE, errno.ENOSPC) else None)
    return f"{place}: {error.strerror}" if place else error.strerror


def _unwritten() -> str | None:
    """Why what was printed did not reach its reader; None if it did."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe: when it ends, Python would try again, and say so its way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _said(error)
    return None


class _Parser(argparse.ArgumentParser):
    """Its subcommands' parsers are of the same class."""

    def error(self, message: str) -> NoReturn:
        """What argparse says of an argument repeats it, and so may repeat a password."""
        super().error(" ".join(map(commandline.without_password, message.split(" "))))


def _parse(argv: list[str]) -> argparse.Namespace:
    """Of the commands that run pytest, what follows `--` is its own: argparse would split it up among our arguments."""
    end = argv.index("--") if "--" in argv else len(argv)
    if not any(command in argv[:end] for command in cli_bumps.PYTEST):
        return _parser().parse_args(argv)
    parser = _parser()
    options, unknown = parser.parse_known_args(argv[:end])
    if unknown:
        said = " ".join(unknown)
        behind = f"; what is pytest's stands behind `--`: ... -- {said}"
        parser.error(f"unrecognized arguments: {said}{behind if hasattr(options, 'pytest_arguments') else ''}")
    options.pytest_arguments = argv[end + 1 :]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="speedgate", description="Baselines of each GPU key, and other versions of packages.")
    parser.add_argument("--root", type=Path, default=Path("baselines"), metavar="DIR", help="default: ./baselines")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    baseline_commands.add_commands(commands)
    cache_verbs.add(commands, command=_say)
    markdown.add_command(commands)
    cli_merge.add_command(commands)
    report_command.add_command(commands)
    cli_bumps.add_commands(commands)
    cli_history.add_commands(commands)
    cli_trend.add_command(commands)
    site_verbs.add_command(commands)
    return parser


def _say(options: argparse.Namespace) -> list[str]:
    for line in options.act(options):
        print_line(line)
    return []


if __name__ == "__main__":
    raise SystemExit(main())
