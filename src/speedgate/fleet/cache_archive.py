"""Compile caches as files: a zip of a JSON manifest and, of each case, the bytes that torch saved.

Everything in such a file is checked, and none of it is proof of who made it: torch unpickles the bytes, so a file is to be
trusted like a program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import atomic_write

SCHEMA = 1
SUFFIX = ".zip"
# Compiled kernels are of one build: torch looks its caches up by most of these facts, and silently finds nothing.
FACTS = ("python", "torch", "torch_git", "cuda", "cudnn", "triton")
# Of one case; the tiny `compile` stage has 3.4 MB on a CPU.
MOST_BYTES = 2**30
_MANIFEST, _LONGEST_MANIFEST, _KIND = "manifest.json", 2**20, "speedgate compile cache"
_CASE_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){2}")
_WORD = re.compile(r"[A-Za-z0-9._+-]{1,100}")  # what a file says of itself is shown, and steers no terminal
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OverflowError, UnicodeError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheOrigin:
    """What compiled kernels are of: a GPU key, and the build that made them."""

    gpu_key: str
    build: Mapping[str, str | None]

    def differences(self, here: CacheOrigin) -> list[str]:
        """Each fact in which this is not what is `here`, with both values."""
        theirs, ours = ({"GPU key": one.gpu_key, **one.build} for one in (self, here))
        return [f"its {name} is {theirs[name]}, here it is {ours[name]}" for name in ours if theirs[name] != ours[name]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One case of a file: which recipe was compiled, and how its bytes are known again."""

    case_key: str
    fingerprint: str
    artifact_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The case as part of a file name."""
        return file_name(self.case_key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheFile:
    """A file whose manifest was read and checked; its bytes are checked when they are read."""

    path: Path
    origin: CacheOrigin
    entries: tuple[CacheEntry, ...]

    def artifacts(self, entry: CacheEntry) -> bytes:
        """The bytes of a case; a `ValueError` unless they are those of the manifest."""
        with _opened(self.path) as archive:
            content = _member(archive, entry.name, most=entry.artifact_bytes, path=self.path)
        if len(content) != entry.artifact_bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise ValueError(f"{self.path}: {entry.name}: not the bytes that its manifest describes; export it anew")
        return content


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheContent:
    """A case to be written."""

    case_key: str
    fingerprint: str
    artifacts: bytes = dataclasses.field(repr=False)


def origin(gpu_key: str, environment: Mapping[str, Any]) -> CacheOrigin:
    """Where kernels come from that were compiled in an environment with these `runtime_versions`."""
    build = {name: None if (value := environment.get(name)) is None else str(value) for name in FACTS}
    if build["python"] is not None:
        build["python"] = ".".join(build["python"].split(".")[:2])  # a bug-fix release compiles nothing differently
    return CacheOrigin(gpu_key=gpu_key, build=build)


def file_name(case_key: str) -> str:
    """A case key as part of a file name; a `ValueError` unless it is one."""
    if not _CASE_KEY.fullmatch(case_key):
        raise ValueError(
            f"case key {case_key!r}: expected pipeline/stage/workload in letters, digits, '.', '_' and '-'"
        )
    return CaseKey.parse(case_key).file_stem


def write(path: Path, *, origin: CacheOrigin, contents: Iterable[CacheContent]) -> CacheFile:
    """Write a file under a temporary name and rename it; `contents` may be made one after the other."""
    entries = []
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(temporary, "w", compression=zipfile.ZIP_DEFLATED) as archive,
    ):
        for content in contents:
            entries.append(entry := _entry(content))
            archive.writestr(entry.name, content.artifacts)
        document = {"kind": _KIND, "schema": SCHEMA, "gpu_key": origin.gpu_key, "build": dict(origin.build)}
        document["cases"] = [dataclasses.asdict(entry) for entry in entries]
        archive.writestr(_MANIFEST, json.dumps(document, indent=2))
    return CacheFile(path=path, origin=origin, entries=tuple(entries))


def read(path: Path) -> CacheFile:
    """A file's manifest; a `ValueError` that names `path` unless it is one of ours and holds what it says."""
    with _opened(path) as archive:
        try:
            document = json.loads(_member(archive, _MANIFEST, most=_LONGEST_MANIFEST, path=path))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: {_MANIFEST}: not JSON ({error})") from error
        found = _checked(document, path=path)
        if sorted(archive.namelist()) != sorted([_MANIFEST, *(entry.name for entry in found.entries)]):
            raise ValueError(f"{path}: holds other files than its manifest names")
    return found


def _entry(content: CacheContent) -> CacheEntry:
    if len(content.artifacts) > MOST_BYTES:
        raise ValueError(f"{content.case_key}: its compile cache has more than {MOST_BYTES} bytes: it cannot be kept")
    return CacheEntry(
        case_key=content.case_key,
        fingerprint=content.fingerprint,
        artifact_bytes=len(content.artifacts),
        sha256=hashlib.sha256(content.artifacts).hexdigest(),
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _BROKEN as error:
        raise ValueError(f"{path}: not a whole zip file ({error})") from error


def _member(archive: zipfile.ZipFile, name: str, *, most: int, path: Path) -> bytes:
    """A member's bytes, and no more than `most` and one of them, whatever the zip says of its size."""
    found = [info for info in archive.infolist() if info.filename == name]
    # Of the other methods some allocate what the file asks for, and an encrypted member is not ours.
    if (
        len(found) != 1
        or found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        or found[0].flag_bits & 1
    ):
        raise ValueError(f"{path}: no compile cache of speedgate: expected one plain {name} in it")
    with archive.open(found[0]) as member:
        content = member.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path}: {name} is longer than {most} bytes")
    return content


def _checked(document: Any, *, path: Path) -> CacheFile:
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise ValueError(f"{path}: no compile cache of speedgate")
    if document.get("schema") != SCHEMA:
        raise ValueError(
            f"{path}: its schema is {document.get('schema')!r}, this speedgate reads {SCHEMA}; export it anew"
        )
    gpu_key, build, cases = (document.get(name) for name in ("gpu_key", "build", "cases"))
    if not isinstance(build, dict) or set(build) != set(FACTS):
        raise ValueError(f"{path}: build: expected {', '.join(FACTS)}")
    _check_words(
        {"gpu_key": gpu_key, **{name: value for name, value in build.items() if value is not None}}, where=str(path)
    )
    if not isinstance(cases, list) or not cases:
        raise ValueError(f"{path}: cases: expected at least one")
    entries = tuple(_checked_entry(case, where=f"{path}: cases[{number}]") for number, case in enumerate(cases))
    return CacheFile(path=path, origin=CacheOrigin(gpu_key=str(gpu_key), build=build), entries=entries)


def _checked_entry(case: Any, *, where: str) -> CacheEntry:
    if not isinstance(case, dict) or set(case) != {field.name for field in dataclasses.fields(CacheEntry)}:
        raise ValueError(f"{where}: expected {', '.join(field.name for field in dataclasses.fields(CacheEntry))}")
    size = case["artifact_bytes"]
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MOST_BYTES:
        raise ValueError(f"{where}: artifact_bytes: expected a whole number up to {MOST_BYTES}, found {size!r}")
    _check_words({name: case[name] for name in ("fingerprint", "sha256")}, where=where)
    if not isinstance(case["case_key"], str) or not _CASE_KEY.fullmatch(case["case_key"]):
        raise ValueError(f"{where}: case_key: expected pipeline/stage/workload, found {case['case_key']!r}")
    return CacheEntry(**case)


def _check_words(values: Mapping[str, Any], *, where: str) -> None:
    for name, value in values.items():
        if not isinstance(value, str) or not _WORD.fullmatch(value):
            raise ValueError(
                f"{where}: {name}: expected one word of letters, digits, '.', '_', '+' and '-', found {value!r}"
            )
