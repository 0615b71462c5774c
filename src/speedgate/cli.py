"""The `speedgate` command: collects the commands of the packages and runs one of them.

`--help` needs no torch, so every module that is slow to import is imported by the command that uses it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from speedgate import __version__
from speedgate.baselines import commands as baselines
from speedgate.fleet import commands as fleet
from speedgate.gpu_code import commands as gpu_code
from speedgate.history import commands as history
from speedgate.report import commands as report
from speedgate.results import console
from speedgate.results.text import redact_password
from speedgate.versions import commands as versions


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 where a bump, a merge or a trend is red, or 2 for an error."""
    options = _parse(sys.argv[1:] if argv is None else list(argv))
    return console.run_command(options.run, options)


class _Parser(argparse.ArgumentParser):
    """The parser of the command and, because argparse uses the same class for them, of its sub-commands."""

    def error(self, message: str) -> NoReturn:
        """Leave out passwords, because argparse repeats the argument that it refuses."""
        super().error(" ".join(map(redact_password, message.split(" "))))


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parse the arguments; `bump` and `bisect` pass those after `--` on to pytest, where argparse would mix them with ours."""
    end = argv.index("--") if "--" in argv else len(argv)
    parser = _parser()
    if not any(command in argv[:end] for command in versions.PYTEST_COMMANDS):
        return parser.parse_args(argv)
    options, unknown = parser.parse_known_args(argv[:end])
    if unknown:
        arguments = " ".join(unknown)
        hint = f"; arguments for pytest come after `--`: ... -- {arguments}" if "pytest_arguments" in options else ""
        parser.error(f"unrecognized arguments: {arguments}{hint}")
    options.pytest_arguments = argv[end + 1 :]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="speedgate", description="Manage baselines, results and histories, and try other versions.")
    parser.add_argument("--version", action="version", version=f"speedgate {__version__}")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("baselines"),
        metavar="DIR",
        help="folder of the baselines; default: ./baselines",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for package in (baselines, fleet, report, versions, history, gpu_code):
        package.add_commands(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
