"""`speedgate history`: upgrade a history, and runs into one and out of one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speedgate.history import cli_trend, site_commands, urls
from speedgate.results import console

if TYPE_CHECKING:
    from speedgate.history.entries import Entry

EXPORT_SUFFIX = ".json"


def add_commands(commands: Any) -> None:
    """Add `history`, `trend` and `site` to the sub-commands of `speedgate`."""
    cli_trend.add_command(commands)
    site_commands.add_command(commands)
    history = commands.add_parser("history", help="runs over commits and machines, in SQLite or PostgreSQL")
    verbs = history.add_subparsers(required=True, metavar="COMMAND")

    importing = verbs.add_parser("import", help="add runs; what is there already is not added again")
    importing.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH",
        help="a results folder, an export, a baseline, or what pytest bench --benchmark-json saved",
    )  # fmt: skip
    _add_url(importing)
    importing.set_defaults(run=_import)

    exporting = verbs.add_parser("export", help="write all runs, or some, to one file")
    exporting.add_argument(
        "file", type=Path, metavar="FILE", help="a name that ends in .json; pytest-benchmark compare reads the file too"
    )
    exporting.add_argument("--gpu-key", metavar="KEY", help="of this machine only")
    exporting.add_argument("--case", metavar="KEY", help="of this case only")
    _add_url(exporting)
    exporting.set_defaults(run=_export)

    upgrade = verbs.add_parser("upgrade", help="bring an older history to the schema of this version")
    _add_url(upgrade)
    upgrade.set_defaults(run=_upgrade)


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--history", default=urls.of_file(urls.FILE), metavar="URL", help=f"{urls.VALID} (default: %(default)s)"
    )


def _import(options: argparse.Namespace) -> int:
    """Read every source before writing, so that nothing of a file that was cut short is imported."""
    from speedgate.history import database, writing

    urls.parsed(options.history)
    entries_by_path = {path: _entries(path) for path in options.paths}
    database.prepare(options.history)
    for path, entries in entries_by_path.items():
        done = writing.add(options.history, entries)
        console.print_line(f"{path}: {done.added} added, {done.known} there already")
    return console.OK


def _export(options: argparse.Namespace) -> int:
    from speedgate.history import exchange, queries

    if options.file.suffix != EXPORT_SUFFIX:
        raise ValueError(f"{options.file}: expected a name that ends in {EXPORT_SUFFIX}")
    entries = queries.entries(options.history, gpu_key=options.gpu_key, case_key=options.case)
    count = exchange.write(options.file, entries)
    console.print_line(f"{options.file}: {count} runs")
    return console.OK


def _upgrade(options: argparse.Namespace) -> int:
    from speedgate.history import database

    before, after = database.upgrade(options.history)
    console.print_line(f"{urls.shown(options.history)}: schema {before or 'none'} before, {after} now")
    return console.OK


def _entries(path: Path) -> list[Entry]:
    from speedgate.history import entries, exchange
    from speedgate.results import folder

    if path.is_dir():
        files = folder.read_folder(path)
        try:
            return entries.from_results(files)
        except ValueError as error:  # which names the file alone, and there may be one of that name in each folder
            raise ValueError(f"{path}: {error}") from error
    return exchange.read(path)
