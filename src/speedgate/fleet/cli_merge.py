"""`speedgate merge`: the results of all shards of a selection as one folder of results, with one verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add `merge` to the subcommands of `speedgate`."""
    command = commands.add_parser("merge", help="join the results of all shards of a selection (--shard I/N)")
    command.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="what --results named, one a shard")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of results to write")
    command.set_defaults(command=_merge)


def _merge(options: argparse.Namespace) -> list[str]:
    from speedgate.fleet import merge, merged_report
    from speedgate.results.console import ascii_line

    output = options.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output {output}: is not empty; name a new folder")
    merged = merge.merge([merge.read(folder) for folder in options.folders])
    said = merged_report.lines(merged, baselines_root=options.root)
    merged_report.write(merged, output)
    for line in [*said, f"{output}: each case, verdict.json and summary.md"]:
        print(ascii_line(line))
    if merged.manifest.exit_status != 0:
        raise SystemExit(1)
    return []
