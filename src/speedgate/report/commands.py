"""`speedgate report`: the HTML report of results that a run has left."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from speedgate.report import markdown
from speedgate.results import optional


def add_commands(commands: Any) -> None:
    """Add `report` and `summary` to the sub-commands of `speedgate`."""
    markdown.add_command(commands)
    command = commands.add_parser("report", help="write the results of a run as one HTML file")
    command.add_argument("folder", type=Path, metavar="DIR", help="what --results named, or a folder of .speedgate")
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="the HTML file to write")
    command.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    if options.output.is_dir():
        raise ValueError(f"--output {options.output}: a folder; expected the name of a file, such as report.html")
    optional.need("report", what="a report")
    from speedgate.report.html import document, page, view

    page.write(options.output, document.document(view.of_folder(options.folder, root=options.root)))
    return 0
