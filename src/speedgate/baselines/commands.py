"""Commands for baselines: baselines, promote, check, import-published and describe."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speedgate.baselines import acknowledged, benchmark_json, describe, promote, published, store
from speedgate.gate.acknowledgement import CLAIMS
from speedgate.results import json_io
from speedgate.results.console import add_command, print_error, print_line, print_markdown
from speedgate.results.exit_status import ExitStatus
from speedgate.results.json_io import write_json
from speedgate.results.text import aligned, ascii_line

_KEY = "a GPU key: the name of a folder in the folder of the baselines"


def add_commands(commands: Any) -> None:
    """Add the commands to argparse's sub-commands of `speedgate`; each sets `run`, which returns the exit status."""
    listing = add_command(commands, "baselines", "list the baselines of every GPU key")
    listing.set_defaults(run=_list)

    promoting = add_command(commands, "promote", "make the recorded obtained.json of a GPU key its next baseline")
    promoting.add_argument("gpu_key", metavar="GPU_KEY", help=_KEY)
    promoting.add_argument(
        "--name", default="recorded", help="name of the file, NNNN_<name>.json; default: %(default)s"
    )
    promoting.add_argument(
        "--accept-slower",
        metavar="REASON",
        help="accept cases that are slower than the lowest figure ever promoted; the file stores the reason",
    )
    promoting.set_defaults(run=_promote)

    acknowledging = add_command(
        commands,
        "acknowledge",
        "accept a red claim of a case until its next baseline: writes the reason and how much slower it may be",
    )
    acknowledging.add_argument("case", metavar="CASE", help="the key of the case, as in sdxl/int8/1024px-30steps-b1")
    acknowledging.add_argument(
        "--why", required=True, metavar="TEXT", help="the reason, one line; every report shows it"
    )
    acknowledging.add_argument(
        "--claim", metavar="|".join(CLAIMS), help="accept this claim only; default: each of these that is red"
    )
    acknowledging.add_argument(
        "--results",
        type=Path,
        default=Path(".speedgate"),
        metavar="DIR",
        help="results of a session, or the folder of all sessions, of which the newest that measured the case counts; default:"
        " %(default)s",
    )
    acknowledging.set_defaults(run=_acknowledge)

    checking = add_command(commands, "check", "validate baseline files and CSV files of published figures")
    checking.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="default: every such file in the folder of the baselines"
    )
    checking.set_defaults(run=_check)

    importing = add_command(
        commands, "import-published", "write a published ladder as the baseline file of its GPU key"
    )
    importing.add_argument("csv", type=Path, metavar="CSV", help="the figures; the TOML beside it names GPU and source")
    importing.add_argument("--gpu-key", metavar="KEY", help="refuse a ladder that was measured on another GPU key")
    importing.add_argument(
        "--pipeline",
        action="append",
        dest="pipelines",
        metavar="NAME",
        help="write the ladder of this pipeline only; default: of each",
    )
    importing.set_defaults(run=_import_published)

    describing = add_command(commands, "describe", "print the recorded baselines of a GPU key as Markdown")
    describing.add_argument("gpu_key", metavar="GPU_KEY", help=_KEY)
    describing.set_defaults(run=_describe)


def _list(options: argparse.Namespace) -> int:
    """Print one line per case and file. Earlier figures are listed too; the last one is the comparison."""
    rows = [("GPU KEY", "FILE", "CASE", "SOURCE", "MEDIAN", "PROCESSES")]
    for gpu_key in store.require_gpu_keys(options.root):
        for path in store.baseline_files(options.root, gpu_key):
            rows += [(gpu_key, path.name, *row) for row in _case_rows(store.read_file(path, gpu_key=gpu_key))]
    for line in aligned([[ascii_line(cell) for cell in row] for row in rows]):
        print(line)
    return ExitStatus.OK


def _case_rows(cases: store.StoredCases) -> Iterator[tuple[str, str, str, str]]:
    for baseline in cases.baselines.values():
        count = len(baseline.process_medians_s)
        yield baseline.case_key, baseline.source, f"{baseline.latency_s:.4g} s", str(count)
    for case_key in cases.out_of_memory:
        yield case_key, "recorded", "out of memory", ""


def _promote(options: argparse.Namespace) -> int:
    acknowledged.read_file(options.root, options.gpu_key)  # an error in it must not come after the promotion
    target = promote.promote(options.root, options.gpu_key, name=options.name, accept_slower=options.accept_slower)
    root = options.root.absolute().parent
    ended = acknowledged.end_outdated(options.root, options.gpu_key)
    for note in [*promote.review_notes(target), *promote.origin_notes(target, root=root), *ended]:
        print_line(note)
    print_line(f"{target}: review it, then commit it")
    return ExitStatus.OK


def _acknowledge(options: argparse.Namespace) -> int:
    path, lines = acknowledged.acknowledge(
        options.root, options.case, why=options.why, results=options.results, claim=options.claim
    )
    for line in lines:
        print_line(line)
    print_line(f"{path}: review it, then commit it")
    return ExitStatus.OK


def _check(options: argparse.Namespace) -> int:
    """Check every file, also after an error, so that one call lists everything that is wrong."""
    errors: list[str] = []
    paths = list(options.files)
    if not paths:
        for gpu_key in store.require_gpu_keys(options.root):
            try:
                paths += store.baseline_files(options.root, gpu_key)
                paths += acknowledged.files(options.root, gpu_key)
            except ValueError as error:
                errors.append(str(error))
        paths += published.source_files(options.root)
    for path in paths:
        try:
            summary = (
                published.describe_source(path)
                if path.suffix == ".csv"
                else _summary(json_io.read_json(path), path=path)
            )
        except ValueError as error:
            errors.append(str(error))
        else:
            print_line(f"{path}: {summary}")
    for line in errors:
        print_error(line)
    return ExitStatus.FAILED if errors else ExitStatus.OK


def _summary(document: Any, *, path: Path) -> str:
    """Check the document of a baseline file and count its cases; `path` names the GPU key and is used in errors."""
    if path.name == acknowledged.FILE:
        entries = acknowledged.parse_document(document, path=path)
        claims = sum(map(len, entries.values()))
        return f"{claims} acknowledged claim{'' if claims == 1 else 's'}"
    cases = store.parse_document(document, path=path, gpu_key=path.resolve().parent.name)
    count, oom_count = len(cases.baselines), len(cases.out_of_memory)
    return f"{count} case{'' if count == 1 else 's'}" + (f", {oom_count} more out of memory" if oom_count else "")


def _import_published(options: argparse.Namespace) -> int:
    document = published.published_document(options.csv, gpu_key=options.gpu_key, pipelines=options.pipelines)
    gpu_key = document["machine_info"][benchmark_json.BLOCK]["gpu_key"]
    target = store.key_folder(options.root, gpu_key) / published.NAME
    summary = _summary(document, path=target)
    for path in sorted(target.parent.glob(f"{target.name[:4]}_*.json")):
        if path.name != target.name:
            raise ValueError(f"{path}: has the number of {target.name}; rename it first")
    write_json(target, document)
    print_line(f"{target}: {summary}")
    return ExitStatus.OK


def _describe(options: argparse.Namespace) -> int:
    print_markdown(describe.baseline_page(options.root, options.gpu_key))
    return ExitStatus.OK
