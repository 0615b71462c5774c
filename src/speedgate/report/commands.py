"""`speedgate summary`, `report` and `compare`: results as Markdown, as one HTML file, and of two runs side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from speedgate.report import compare, markdown
from speedgate.results import console, folder, optional
from speedgate.results.exit_status import ExitStatus
from speedgate.results.text import log_line


def add_commands(commands: Any) -> None:
    """Add `summary`, `report` and `compare` to the sub-commands of `speedgate`."""
    command = console.add_command(commands, "summary", "write the results of a run as Markdown")
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="the folder given to --results, or .speedgate for all runs"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="append to this file instead of printing")
    command.set_defaults(run=_summary)
    command = console.add_command(commands, "report", "write the results of a run as one HTML file")
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="the folder given to --results, or a folder of .speedgate"
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="the HTML file to write")
    command.set_defaults(run=_report)
    command = console.add_command(commands, "compare", "print the results of two runs side by side")
    for name in ("a", "b"):
        command.add_argument(
            name, type=Path, metavar=name.upper(), help="the folder of a run, or the result file of one case"
        )
    command.set_defaults(run=_compare)


def _summary(options: argparse.Namespace) -> int:
    files, unread = folder.read_folder(options.folder), folder.unread_folders(options.folder)
    if unread:
        names = log_line(", ".join(unread[:10]))
        print(f"speedgate: skipped, because the name is not that of a run: {names}", file=sys.stderr)
    if not folder.result_names(files):
        other = f"one that was skipped ({options.folder / unread[0]})" if unread else "a run's folder"
        raise ValueError(f"{options.folder}: holds no result of a case: run pytest bench first, or name {other}")
    text = markdown.render(files)
    if options.out is None:
        console.print_markdown(text)
        return ExitStatus.OK
    try:
        markdown.append(options.out, text)
    except OSError as error:
        raise ValueError(f"--out {options.out}: {error.strerror}; name a file that can be written") from error
    return ExitStatus.OK


def _report(options: argparse.Namespace) -> int:
    if options.output.is_dir():
        raise ValueError(f"--output {options.output}: a folder; expected the name of a file, such as report.html")
    optional.require_extra("report", what="a report")
    from speedgate.report.html import document, page, view

    report = view.load_report(options.folder, root=options.root)
    page.write_page(options.output, document.render_report(report))
    return ExitStatus.OK


def _compare(options: argparse.Namespace) -> int:
    pairs = compare.pair_cases(compare.read_run(options.a), compare.read_run(options.b))
    for line in compare.render(pairs, a_name=str(options.a), b_name=str(options.b)):
        console.print_line(line)
    return ExitStatus.OK
