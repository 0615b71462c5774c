"""`speedgate gpu-code`: work with stored records of the code that a GPU would run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from speedgate.results import console
from speedgate.results.exit_status import ExitStatus
from speedgate.results.gpu_code import GpuCode
from speedgate.results.json_io import decode, read_json
from speedgate.results.run import Outcome


def add_commands(commands: Any) -> None:
    """Add `gpu-code` to the sub-commands of `speedgate`."""
    parser = console.add_command(commands, "gpu-code", "work with records of the code that a GPU would run")
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    compare = console.add_command(group, "compare", "judge one record by another of the same case and target")
    compare.add_argument("old", type=Path, metavar="OLD", help="the record to compare with, a JSON file")
    compare.add_argument("new", type=Path, metavar="NEW", help="the record to judge, a JSON file")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from speedgate.gpu_code.compare import judge_work

    verdict, lines = judge_work(read_record(options.new), read_record(options.old), label=str(options.old))
    if verdict.outcome is Outcome.UNKNOWN:
        raise ValueError(verdict.sentence)
    console.print_line(str(verdict))
    for line in lines:
        console.print_line(f"  {line}")
    return ExitStatus.RED if verdict.outcome is Outcome.MORE_WORK else ExitStatus.OK


def read_record(path: Path) -> GpuCode:
    """Read a record; a `ValueError` names the file and the field that is wrong."""
    return decode(read_json(path), GpuCode, where=str(path))
