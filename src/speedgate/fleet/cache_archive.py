"""Compile caches as a file: a zip of a JSON manifest and, for each case, the bytes that torch saved.

Everything in the file is checked, but no check proves who made it. Torch unpickles the bytes, so trust a file like a program.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import as_object, atomic_write, decode, parse_json, to_json
from speedgate.results.zip_reader import ZipReader

SUFFIX = ".zip"
MAX_CASE_BYTES = 2**30  # the tiny `compile` stage has 3.4 MB on a CPU
_MANIFEST_FILE, _MAX_MANIFEST_BYTES, _MAX_FILES = "manifest.json", 2**20, 1000
_KIND: Final = "speedgate compile cache"
_SCHEMA: Final = 1
_CASE_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){2}")
# The commands print what the file says, so no character may control a terminal.
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._+-]{1,100}\Z")]


class Build(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The versions that compiled kernels depend on. With another version torch ignores its caches without a message."""

    python: Word | None
    torch: Word | None
    torch_git: Word | None
    cuda: Word | None
    cudnn: Word | None
    triton: Word | None

    @classmethod
    def from_versions(cls, versions: Mapping[str, Any]) -> Build:
        """Take the build from `speedgate.measure.machine.runtime_versions`; a bug-fix release of Python changes nothing."""
        texts = {name: None if (value := versions.get(name)) is None else str(value) for name in cls.__struct_fields__}
        if texts["python"] is not None:
            texts["python"] = ".".join(texts["python"].split(".")[:2])
        return cls(**texts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheOrigin:
    """The GPU key and the build that made a compile cache, and that alone can use it."""

    gpu_key: str
    build: Build

    def differences(self, here: CacheOrigin) -> list[str]:
        """Describe each fact that differs from `here`, with both values."""
        theirs, ours = ({"GPU key": origin.gpu_key, **to_json(origin.build)} for origin in (self, here))
        return [f"its {name} is {theirs[name]}, here it is {ours[name]}" for name in ours if theirs[name] != ours[name]]


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case in the manifest: the recipe that was compiled, and the size and digest of its bytes."""

    case_key: str
    fingerprint: Word
    artifact_bytes: Annotated[int, Meta(gt=0, le=MAX_CASE_BYTES)]
    sha256: Word

    def __post_init__(self) -> None:
        file_stem(self.case_key)

    @property
    def name(self) -> str:
        """The name of the case's bytes in the archive."""
        return file_stem(self.case_key)


class _CacheManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["speedgate compile cache"]
    schema: Literal[1]
    gpu_key: Word
    build: Build
    cases: Annotated[tuple[CacheEntry, ...], Meta(min_length=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheFile:
    """A file with a checked manifest. The bytes of a case are checked when they are read."""

    path: Path
    origin: CacheOrigin
    entries: tuple[CacheEntry, ...]

    def artifacts(self, entry: CacheEntry) -> bytes:
        """Read the bytes of a case; a `ValueError` unless they are those that the manifest describes."""
        with _open(self.path) as archive:
            artifacts = archive.read(entry.name, max_bytes=entry.artifact_bytes)
        if len(artifacts) != entry.artifact_bytes or hashlib.sha256(artifacts).hexdigest() != entry.sha256:
            raise ValueError(f"{self.path}: {entry.name}: not the bytes that its manifest describes; export it anew")
        return artifacts


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheContent:
    """The compile cache of one case, to be written into a file."""

    case_key: str
    fingerprint: str
    artifacts: bytes = dataclasses.field(repr=False)


def file_stem(case_key: str) -> str:
    """Return a case key as a file name without extension; a `ValueError` unless it is a plain one."""
    if not _CASE_KEY.fullmatch(case_key):
        raise ValueError(
            f"case key {case_key!r}: expected pipeline/stage/workload in letters, digits, '.', '_' and '-'"
        )
    return CaseKey.parse(case_key).file_stem


def write_cache_file(path: Path, *, origin: CacheOrigin, contents: Iterable[CacheContent]) -> CacheFile:
    """Write a file under a temporary name and rename it. `contents` may be a generator, so one case is in memory at a time."""
    entries = []
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for content in contents:
            size = len(content.artifacts)
            if size > MAX_CASE_BYTES:
                raise ValueError(
                    f"{content.case_key}: its compile cache has more than {MAX_CASE_BYTES} bytes: too large to keep"
                )
            sha256 = hashlib.sha256(content.artifacts).hexdigest()
            entry = CacheEntry(
                case_key=content.case_key, fingerprint=content.fingerprint, artifact_bytes=size, sha256=sha256
            )
            archive.writestr(entry.name, content.artifacts)
            entries.append(entry)
        manifest = _CacheManifest(
            kind=_KIND, schema=_SCHEMA, gpu_key=origin.gpu_key, build=origin.build, cases=tuple(entries)
        )
        archive.writestr(_MANIFEST_FILE, json.dumps(to_json(manifest), indent=2))
    return CacheFile(path=path, origin=origin, entries=tuple(entries))


def read_cache_file(path: Path) -> CacheFile:
    """Read the manifest; a `ValueError` names `path` unless it is a compile cache that holds the cases that it names."""
    with _open(path) as archive:
        if _MANIFEST_FILE not in archive.names:
            raise ValueError(f"{path}: no compile cache of speedgate")
        data = archive.read(_MANIFEST_FILE, max_bytes=_MAX_MANIFEST_BYTES)
        manifest = _decode_manifest(parse_json(data, path=path / _MANIFEST_FILE), where=str(path))
        if sorted(archive.names) != sorted([_MANIFEST_FILE, *(entry.name for entry in manifest.cases)]):
            raise ValueError(f"{path}: holds other files than its manifest names")
    origin = CacheOrigin(gpu_key=manifest.gpu_key, build=manifest.build)
    return CacheFile(path=path, origin=origin, entries=manifest.cases)


def _open(path: Path) -> ZipReader:
    return ZipReader(path, archive_name=str(path), max_files=_MAX_FILES)


def _decode_manifest(document: Any, *, where: str) -> _CacheManifest:
    fields = as_object(document)
    if fields.get("kind") != _KIND:
        raise ValueError(f"{where}: no compile cache of speedgate")
    schema = fields.get("schema")
    if schema != _SCHEMA:
        raise ValueError(f"{where}: its schema is {schema!r}, this speedgate reads {_SCHEMA}; export it anew")
    return decode(document, _CacheManifest, where=where)
