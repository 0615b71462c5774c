"""`speedgate cache export` and `speedgate cache import`: a compile cache as a file that one CI job leaves to the next."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speedgate.fleet import cache_archive, compile_cache
from speedgate.fleet.cache_archive import CacheFile, Origin
from speedgate.measure import machine

TRUST = (
    "A compile cache is code: torch unpickles it, and its checksums only tell that a file is whole, not who made it."
    " Import what your own runner has exported, and nothing else."
)


def add(commands: Any, *, command: Callable[[argparse.Namespace], list[str]]) -> None:
    """Add both verbs; `command` prints the lines that `options.act` returns."""
    cache = commands.add_parser("cache", help="carry a compile cache from one machine to the next", epilog=TRUST)
    verbs = cache.add_subparsers(required=True, metavar="VERB")
    exporting = verbs.add_parser("export", help="pack what the last runs have compiled here", epilog=TRUST)
    exporting.add_argument("target", type=Path, metavar="FILE", help="an existing folder gets a file for each case")
    exporting.set_defaults(act=_export)
    importing = verbs.add_parser("import", help="let the next start of each case load it", epilog=TRUST)
    importing.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="exported by the same build and GPU key, or their folder"
    )
    importing.set_defaults(act=_import)
    for verb in (exporting, importing):
        verb.add_argument(
            "--folder",
            type=Path,
            default=compile_cache.FOLDER,
            metavar="DIR",
            help="where runs leave and find compile caches; default: ./%(default)s",
        )
        verb.add_argument("--device", choices=machine.DEVICES, default="auto", help="default: %(default)s")
        verb.set_defaults(command=command)


def _export(options: argparse.Namespace) -> list[str]:
    files, left_out = compile_cache.export_to(options.target, folder=options.folder, here=_here(options.device))
    return [*(line for file in files for line in _says(file)), *(f"left out: {line}" for line in left_out)]


def _import(options: argparse.Namespace) -> list[str]:
    here = _here(options.device)
    paths = [file for path in options.files for file in (compile_cache.exported(path) if path.is_dir() else [path])]
    files = [compile_cache.import_from(path, folder=options.folder, here=here) for path in paths]
    return [
        *(line for file in files for line in _says(file)),
        "the next start of each case loads it, before it compiles",
    ]


def _says(file: CacheFile) -> list[str]:
    cases = [
        f"  {entry.case_key}: recipe {entry.fingerprint}, {entry.artifact_bytes / 1e6:.1f} MB unpacked"
        for entry in file.entries
    ]
    size = f"{file.path.stat().st_size / 1e6:.1f} MB"
    return [f"{file.path}: {size}, torch {file.origin.build['torch']} on {file.origin.gpu_key}", *cases]


def _here(device: str) -> Origin:
    """This machine and this interpreter's build; a `ValueError` where it has no torch."""
    here = cache_archive.origin(machine.resolve_machine(device).key, machine.versions())
    if here.build["torch"] is None:
        raise ValueError("there is no torch in this environment, and compile caches are of one build of it")
    return here
