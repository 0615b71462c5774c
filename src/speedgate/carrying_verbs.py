"""`speedgate recording pack` and `unpack`: an unfinished recording from one machine to the next."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speedgate import carrying, compile_cache
from speedgate.cache_verbs import TRUST, most_bytes

_MOST_MB = 16.0


def add(commands: Any, *, command: Callable[[argparse.Namespace], list[str]]) -> None:
    """Add both verbs; `command` prints the lines that `options.act` returns."""
    recording = commands.add_parser("recording", help="carry an unfinished recording to the next machine", epilog=TRUST)
    verbs = recording.add_subparsers(required=True, metavar="VERB")
    packing = verbs.add_parser("pack", help="write what is recorded so far, compile caches included", epilog=TRUST)
    packing.add_argument("folder", type=Path, metavar="FOLDER")
    packing.add_argument("--gpu-key", metavar="KEY", help="default: the only one that holds a recording")
    packing.add_argument(
        "--max-file-mb", type=most_bytes, default=most_bytes(str(_MOST_MB)), metavar="MB", help=f"default: {_MOST_MB:g}"
    )
    packing.set_defaults(act=_pack)
    unpacking = verbs.add_parser("unpack", help="go on here from what was packed elsewhere", epilog=TRUST)
    unpacking.add_argument("folder", type=Path, metavar="FOLDER")
    unpacking.set_defaults(act=_unpack)
    for verb in (packing, unpacking):
        verb.add_argument("--folder", dest="caches", type=Path, default=compile_cache.FOLDER, metavar="DIR",
                          help="where runs leave and find compile caches; default: ./%(default)s")  # fmt: skip
        verb.set_defaults(command=command)


def _pack(options: argparse.Namespace) -> list[str]:
    written = carrying.pack(
        options.folder,
        root=options.root,
        caches=options.caches,
        gpu_key=options.gpu_key,
        most_bytes=options.max_file_mb,
    )
    return [f"{path}: {path.stat().st_size / 1e6:.1f} MB" for path in written]


def _unpack(options: argparse.Namespace) -> list[str]:
    key, written = carrying.unpack(options.folder, root=options.root, caches=options.caches)
    said = [f"  {path}" for path in written]
    return [f"{key}: {len(written)} files; pytest bench --gate record goes on from here", *said]
