"""`speedgate merge` joins the results of shards; `speedgate cache` carries compile caches from one machine to the next."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from speedgate.fleet import cache_archive, compile_cache
from speedgate.fleet.cache_archive import CacheFile, CacheOrigin
from speedgate.measure import machine
from speedgate.results import console
from speedgate.results.exit_status import ExitStatus

TRUST = (
    "A compile cache is code: torch unpickles it, and its checksums only tell that a file is whole, not who made it."
    " Import what your own runner has exported, and nothing else."
)


def add_commands(commands: Any) -> None:
    """Add `merge` and `cache` to the sub-commands of `speedgate`."""
    merge = commands.add_parser("merge", help="join the results of all shards of a selection (--shard I/N)")
    merge.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="what --results named, one a shard")
    merge.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of results to write")
    merge.set_defaults(run=_merge)

    cache = commands.add_parser("cache", help="carry a compile cache from one machine to the next", epilog=TRUST)
    verbs = cache.add_subparsers(required=True, metavar="VERB")
    exporting = verbs.add_parser("export", help="pack what the last runs have compiled here", epilog=TRUST)
    exporting.add_argument("target", type=Path, metavar="FILE", help="an existing folder gets a file for each case")
    exporting.set_defaults(run=_export)
    importing = verbs.add_parser("import", help="let the next start of each case load it", epilog=TRUST)
    importing.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="exported by the same build and GPU key, or their folder"
    )
    importing.set_defaults(run=_import)
    for verb in (exporting, importing):
        verb.add_argument(
            "--folder",
            type=Path,
            default=compile_cache.FOLDER,
            metavar="DIR",
            help="where runs leave and find compile caches; default: ./%(default)s",
        )
        verb.add_argument("--device", choices=machine.DEVICES, default="auto", help="default: %(default)s")


def _merge(options: argparse.Namespace) -> int:
    from speedgate.fleet import merge

    output = options.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output {output}: is not empty; name a new folder")
    merged = merge.merge([merge.read_shard(folder) for folder in options.folders])
    lines = merge.describe(merged, baselines_root=options.root)
    merge.write(merged, output)
    for line in [*lines, f"{output}: each case, verdict.json and summary.md"]:
        console.print_line(line)
    return ExitStatus.OK if merged.manifest.exit_status == 0 else ExitStatus.RED


def _export(options: argparse.Namespace) -> int:
    files, left_out = compile_cache.export_to(options.target, folder=options.folder, here=_here(options.device))
    for line in [*(line for file in files for line in _says(file)), *(f"left out: {line}" for line in left_out)]:
        console.print_line(line)
    return ExitStatus.OK


def _import(options: argparse.Namespace) -> int:
    here = _here(options.device)
    paths = [file for path in options.files for file in (compile_cache.exported(path) if path.is_dir() else [path])]
    files = [compile_cache.import_from(path, folder=options.folder, here=here) for path in paths]
    for line in (line for file in files for line in _says(file)):
        console.print_line(line)
    console.print_line("the next start of each case loads it, before it compiles")
    return ExitStatus.OK


def _says(file: CacheFile) -> list[str]:
    cases = [
        f"  {entry.case_key}: recipe {entry.fingerprint}, {entry.artifact_bytes / 1e6:.1f} MB unpacked"
        for entry in file.entries
    ]
    size = f"{file.path.stat().st_size / 1e6:.1f} MB"
    return [f"{file.path}: {size}, torch {file.origin.build['torch']} on {file.origin.gpu_key}", *cases]


def _here(device: str) -> CacheOrigin:
    """This machine and this interpreter's build; a `ValueError` where it has no torch."""
    here = cache_archive.origin(machine.resolve_machine(device).key, machine.runtime_versions())
    if here.build["torch"] is None:
        raise ValueError("there is no torch in this environment, and compile caches are of one build of it")
    return here
