"""`speedgate merge` joins the results of shards; `speedgate cache` moves compile caches between machines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from speedgate.fleet import compile_cache
from speedgate.fleet.cache_archive import Build, CacheFile, CacheOrigin
from speedgate.measure import machine
from speedgate.results import console
from speedgate.results.exit_status import ExitStatus

TRUST = (
    "A compile cache is code: torch unpickles it. Its checksums show that a file is complete, not who made it."
    " Import only what your own runner exported."
)


def add_commands(commands: Any) -> None:
    """Add `merge` and `cache` to the sub-commands of `speedgate`."""
    merging = console.add_command(commands, "merge", "join the results of all shards of a selection (--shard I/N)")
    merging.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="the --results folder of each shard")
    merging.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of results to write")
    merging.set_defaults(run=_merge)

    cache = console.add_command(commands, "cache", "move compile caches from one machine to the next", epilog=TRUST)
    cache_commands = cache.add_subparsers(required=True, metavar="COMMAND")
    exporting = console.add_command(cache_commands, "export", "pack what the last runs compiled here", epilog=TRUST)
    exporting.add_argument(
        "target", type=Path, metavar="FILE", help="file to write; an existing folder gets one file for each case"
    )
    exporting.set_defaults(run=_export)
    importing = console.add_command(
        cache_commands,
        "import",
        "store exported caches where the next start of each case loads them",
        epilog=TRUST,
    )
    importing.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="files that the same build exported on the same GPU key, or a folder of them",
    )  # fmt: skip
    importing.set_defaults(run=_import)
    for parser in (exporting, importing):
        parser.add_argument(
            "--folder",
            type=Path,
            default=compile_cache.FOLDER,
            metavar="DIR",
            help="where runs save and load compile caches; default: ./%(default)s",
        )
        parser.add_argument("--device", choices=machine.DEVICES, default="auto", help="default: %(default)s")


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
    return ExitStatus.OK if merged.manifest.exit_status == ExitStatus.OK else ExitStatus.RED


def _export(options: argparse.Namespace) -> int:
    files, left_out = compile_cache.export_to(
        options.target, folder=options.folder, here=_current_origin(options.device)
    )
    for file in files:
        _print_file(file)
    for line in left_out:
        console.print_line(f"left out: {line}")
    return ExitStatus.OK


def _import(options: argparse.Namespace) -> int:
    here = _current_origin(options.device)
    paths: list[Path] = []
    for path in options.files:
        paths += compile_cache.exported_files(path) if path.is_dir() else [path]
    for file in [compile_cache.import_from(path, folder=options.folder, here=here) for path in paths]:
        _print_file(file)
    console.print_line("the next start of each case loads it, before it compiles")
    return ExitStatus.OK


def _print_file(file: CacheFile) -> None:
    size = f"{file.path.stat().st_size / 1e6:.1f} MB"
    console.print_line(f"{file.path}: {size}, torch {file.origin.build.torch} on {file.origin.gpu_key}")
    for entry in file.entries:
        unpacked = f"{entry.artifact_bytes / 1e6:.1f} MB unpacked"
        console.print_line(f"  {entry.case_key}: recipe {entry.fingerprint}, {unpacked}")


def _current_origin(device: str) -> CacheOrigin:
    """Return the GPU key of this machine and the build of this interpreter; a `ValueError` if it has no torch."""
    build = Build.from_versions(machine.runtime_versions())
    if build.torch is None:
        raise ValueError("there is no torch in this environment, and a compile cache belongs to one build of torch")
    return CacheOrigin(gpu_key=machine.resolve_machine(device).key, build=build)
