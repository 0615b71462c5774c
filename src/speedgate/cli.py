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
from typing import Any, NoReturn

from speedgate.baselines import benchmark_json, describe, published, store
from speedgate.baselines import promote as promotion
from speedgate.fleet import cli_merge
from speedgate.fleet import commands as cache_verbs
from speedgate.history import cli_trend
from speedgate.history import commands as cli_history
from speedgate.history import site_commands as site_verbs
from speedgate.report import commands as report_command
from speedgate.report import markdown
from speedgate.results import commandline, json_io
from speedgate.results.run import write_json
from speedgate.versions import commands as cli_bumps


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 where a bump or a trend is red, or 2 with one line on stderr per error.

    A bump that could not be judged is such an error.
    """
    options = _parse(sys.argv[1:] if argv is None else list(argv))
    try:
        errors: list[str] = options.command(options)
    except (ValueError, OSError) as error:
        errors = [_said(error)]
    if (unwritten := _unwritten()) and unwritten not in errors:
        errors = [*errors, unwritten]
    for line in errors:
        print("speedgate:", printable(line), file=sys.stderr)
    return 2 if errors else 0


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


def printable(text: str) -> str:
    """`text` on one line and in ASCII: what a file says must not steer the terminal or the log it is printed to."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown.encode("ascii", "backslashreplace").decode("ascii")


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

    listing = commands.add_parser("baselines", help="list every baseline of every GPU key")
    listing.set_defaults(command=_list)

    promote = commands.add_parser("promote", help="make the recorded obtained.json of a GPU key its next baseline")
    promote.add_argument("gpu_key", metavar="GPU_KEY")
    promote.add_argument("--name", default="recorded", help="NNNN_<name>.json; default: recorded")
    promote.add_argument(
        "--accept-slower",
        metavar="REASON",
        help="why cases may be slower than their oldest baseline; stored in the file",
    )
    promote.set_defaults(command=_promote)

    check = commands.add_parser("check", help="validate baseline files and published CSVs; without FILE, all of them")
    check.add_argument("files", nargs="*", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    importing = commands.add_parser(
        "import-published", help="write a published ladder as the baseline file of its GPU key"
    )
    importing.add_argument("csv", type=Path, metavar="CSV", help="figures; a .toml beside it says what was measured")
    importing.add_argument("--gpu-key", metavar="KEY", help="refuse a ladder that was measured on another GPU key")
    importing.add_argument("--pipeline", action="append", dest="pipelines", metavar="NAME", help="default: all of them")
    importing.set_defaults(command=_import)

    cache_verbs.add(commands, command=_say)
    describe.add_command(commands)
    markdown.add_command(commands)
    cli_merge.add_command(commands)
    report_command.add_command(commands)
    cli_bumps.add_commands(commands)
    cli_history.add_commands(commands)
    cli_trend.add_command(commands)
    site_verbs.add_command(commands)
    return parser


def _list(options: argparse.Namespace) -> list[str]:
    """Print one line per case and file, because the earlier figures are kept; the last one is the comparison."""
    rows = [("GPU KEY", "FILE", "CASE", "SOURCE", "MEDIAN", "PROCESSES")]
    for gpu_key in store.require_gpu_keys(options.root):
        for path in store.baseline_files(options.root, gpu_key):
            found = store.read_file(path, gpu_key=gpu_key)
            for one in found.baselines.values():
                count = str(len(one.process_medians_s))
                rows.append((gpu_key, path.name, one.case_key, one.source, f"{one.latency_s:.4g} s", count))
            rows += [(gpu_key, path.name, key, "recorded", "out of memory", "") for key in found.out_of_memory]
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return []


def _promote(options: argparse.Namespace) -> list[str]:
    target = promotion.promote(options.root, options.gpu_key, name=options.name, accept_slower=options.accept_slower)
    for line in promotion.review_notes(target):
        print(printable(line))
    print(printable(f"{target}: review it, then commit it"))
    return []


def _check(options: argparse.Namespace) -> list[str]:
    """Check every file even where one is broken, so that one call shows all that is wrong."""
    errors, paths = [], list(options.files)
    if not paths:
        for gpu_key in store.require_gpu_keys(options.root):
            try:
                paths += store.baseline_files(options.root, gpu_key)
            except ValueError as error:
                errors.append(str(error))
        paths += published.source_files(options.root)
    for path in paths:
        try:
            contents = published.summary(path) if path.suffix == ".csv" else _contents(json_io.read(path), path=path)
        except ValueError as error:
            errors.append(str(error))
        else:
            print(printable(f"{path}: {contents}"))
    return errors


def _contents(document: Any, *, path: Path) -> str:
    """Check a document that is, or is to become, the baseline file `path`, and say how many cases it holds."""
    stored = store.parse_document(document, path=path, gpu_key=path.resolve().parent.name)
    count = len(stored.out_of_memory)
    return _count(len(stored.baselines), "case") + (f", {count} more out of memory" if count else "")


def _import(options: argparse.Namespace) -> list[str]:
    document = published.published_document(options.csv, gpu_key=options.gpu_key, pipelines=options.pipelines)
    gpu_key = document["machine_info"][benchmark_json.BLOCK]["gpu_key"]
    target = store.key_folder(options.root, gpu_key) / published.NAME
    contents = _contents(document, path=target)
    for path in sorted(target.parent.glob(f"{target.name[:4]}_*.json")):
        if path.name != target.name:
            raise ValueError(f"{path}: holds the number of {target.name}; rename it first")
    write_json(target, document)
    print(printable(f"{target}: {contents}"))
    return []


def _say(options: argparse.Namespace) -> list[str]:
    for line in options.act(options):
        print(printable(line))
    return []


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


if __name__ == "__main__":
    raise SystemExit(main())
