"""An unfinished recording as a file, from a machine that is lent for minutes to the next one: all that the same command needs.

`recording.zip` holds `baselines/<gpu-key>/recording/`, an `obtained.json` beside it and the compile caches of that key.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speedgate import cache_files, compile_cache, parts
from speedgate.baselines import OBTAINED, check_key, key_folder
from speedgate.files import replacing
from speedgate.recordings import FOLDER

NAME = "recording.zip"
_MANIFEST, _KIND, _SCHEMA, _CACHES = "manifest.json", "speedgate recording", 1, "compile-cache"
_MEMBER = re.compile(rf"{OBTAINED}|({FOLDER}|{_CACHES})/[A-Za-z0-9][A-Za-z0-9._-]*")
# Of one member, and of all together: what cases made at 1024 px is 33 MB each.
_MOST_BYTES, _LONGEST_MANIFEST = 2**31, 2**20
_BROKEN = (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, KeyError, OSError)


def pack(target: Path, *, root: Path, caches: Path, gpu_key: str | None, most_bytes: int) -> list[Path]:
    """Write what is there of a recording into the folder `target`, in files of `most_bytes` at most."""
    key = gpu_key or _only_key(root)
    members = dict(_members(root, caches, check_key(key)))
    if not members:
        raise ValueError(f"{root}: holds no recording of {key}: pytest bench --gate record begins one")
    path = target / NAME
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        sums = {}
        for name, file in sorted(members.items()):
            content = file.read_bytes()
            sums[name] = hashlib.sha256(content).hexdigest()
            packed = file.suffix == cache_files.SUFFIX
            archive.writestr(name, content, zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED)
        document = {"kind": _KIND, "schema": _SCHEMA, "gpu_key": key, "files": sums}
        archive.writestr(_MANIFEST, json.dumps(document, indent=2))
    return parts.split(path, most_bytes=most_bytes)


def unpack(source: Path, *, root: Path, caches: Path) -> tuple[str, list[Path]]:
    """Put everything where the same command goes on from it; the GPU key and the files.

    All of it is checked before any is written. A file that is there and is another one is renamed to `previous-...`: its
    hours are not ours to delete. Compile caches wait where the next start of their case loads them.
    """
    if not source.is_dir():
        raise ValueError(f"{source}: no folder; name the one that `speedgate recording pack` wrote")
    found = [path for path in source.iterdir() if path.name == NAME or path.name.startswith(f"{NAME}.")]
    with parts.joined(found) as archives:
        if len(archives) != 1:
            raise ValueError(f"{source}: expected {NAME} or its parts in it")
        try:
            with zipfile.ZipFile(archives[0]) as archive:
                key, contents = _checked(archive, path=source / NAME)
        except _BROKEN as error:
            raise ValueError(f"{source / NAME}: not a whole recording ({error})") from error
    written = []
    for name, content in contents.items():
        path = _place(name, root=root, caches=caches, key=key)
        if path.exists() and path.read_bytes() == content:
            continue
        if path.exists():
            path.replace(path.with_name(f"previous-{path.name}"))
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        written.append(path)
    return key, written


def _members(root: Path, caches: Path, key: str) -> Iterator[tuple[str, Path]]:
    folder = key_folder(root, key)
    if (folder / OBTAINED).is_file():
        yield OBTAINED, folder / OBTAINED
    for place, kind in ((folder / FOLDER, FOLDER), (caches / key, _CACHES)):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.is_file() and _MEMBER.fullmatch(f"{kind}/{path.name}"):
                yield f"{kind}/{path.name}", path
    # What was imported and no start has loaded yet; what was compiled since counts for more.
    waiting = caches / key / compile_cache.IMPORTED
    for path in sorted(waiting.iterdir()) if waiting.is_dir() else ():
        if not (caches / key / path.name).exists() and _MEMBER.fullmatch(f"{_CACHES}/{path.name}"):
            yield f"{_CACHES}/{path.name}", path


def _place(name: str, *, root: Path, caches: Path, key: str) -> Path:
    kind, _, file = name.partition("/")
    if kind == _CACHES:
        return caches / key / compile_cache.IMPORTED / file
    return key_folder(root, key) / name


def _checked(archive: zipfile.ZipFile, *, path: Path) -> tuple[str, dict[str, bytes]]:
    if archive.getinfo(_MANIFEST).file_size > _LONGEST_MANIFEST:
        raise ValueError(f"{path}: {_MANIFEST} is longer than {_LONGEST_MANIFEST} bytes")
    document: Any = json.loads(archive.read(_MANIFEST))
    if not isinstance(document, dict) or (document.get("kind"), document.get("schema")) != (_KIND, _SCHEMA):
        raise ValueError(f"{path}: no recording that this speedgate has packed")
    key, sums = check_key(str(document.get("gpu_key"))), document.get("files")
    infos = [info for info in archive.infolist() if info.filename != _MANIFEST]
    if not isinstance(sums, dict) or sorted(sums) != sorted(info.filename for info in infos):
        raise ValueError(f"{path}: holds other files than its manifest names")
    if sum(info.file_size for info in infos) > _MOST_BYTES or not all(_MEMBER.fullmatch(str(name)) for name in sums):
        raise ValueError(f"{path}: holds what no recording has")
    contents = {info.filename: archive.read(info) for info in infos}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise ValueError(f"{path}: {name}: not the bytes that its manifest describes; pack it anew")
    return key, contents


def _only_key(root: Path) -> str:
    folders = sorted(root.iterdir()) if root.is_dir() else []
    keys = [folder.name for folder in folders if (folder / FOLDER).is_dir() or (folder / OBTAINED).is_file()]
    if len(keys) != 1:
        said = ", ".join(keys) or "none"
        raise ValueError(f"{root}: which recording? name one with --gpu-key; there are: {said}")
    return keys[0]
