"""Read a zip file that a stranger may have made: bounded number and sizes, plain files only, nothing unpacked to disk.

Every error is a `ValueError` of one line that begins with the name of the archive.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # some of the others allocate as much memory as the file asks for
# zipfile raises all of these for damaged bytes; `UnicodeError` and others are a `ValueError`.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError, ValueError)


class ZipReader:
    """An open archive whose entries were all checked. `archive_name` is only used in errors."""

    def __init__(self, source: Path | IO[bytes], *, archive_name: str, max_files: int) -> None:
        self._archive_name = archive_name
        with self._clear_errors():
            self._archive = zipfile.ZipFile(source)
        try:
            self._entries = self._checked_entries(max_files)
        except ValueError:
            self._archive.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._archive.close()

    @property
    def names(self) -> list[str]:
        """The names of the files, in the archive's order. They are never used as paths."""
        return list(self._entries)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Unpack one of `names` in memory; a `ValueError` if it has more bytes, whatever size the archive states."""
        with self._clear_errors(), self._archive.open(self._entries[name]) as stream:
            data = stream.read(max_bytes + 1)
        if len(data) > max_bytes:
            size = f"{max_bytes / 2**20:.0f} MiB" if max_bytes % 2**20 == 0 else f"{max_bytes} bytes"
            raise ValueError(f"{self._archive_name}: {name}: more than {size}")
        return data

    def _checked_entries(self, max_files: int) -> dict[str, zipfile.ZipInfo]:
        infos = self._archive.infolist()
        if len(infos) > max_files:
            raise ValueError(f"{self._archive_name}: more than {max_files} files")
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            problem = "stands in the archive twice" if info.filename in entries else _problem(info)
            if problem:
                raise ValueError(f"{self._archive_name}: {info.filename}: {problem}")
            if not info.is_dir():
                entries[info.filename] = info
        return entries

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(f"{self._archive_name}: cannot be read ({error.strerror or error})") from error
        except _DAMAGED as error:
            raise ValueError(f"{self._archive_name}: not a readable zip file ({error})") from error


def _problem(info: zipfile.ZipInfo) -> str | None:
    """Return why the entry is refused; None for a plain file or a folder with a harmless name."""
    name = info.filename
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or "\\" in name or ":" in name or not all(parts) or {".", ".."} & set(parts):
        return "a name that leads out of the archive"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or a device; expected plain files"
    if info.flag_bits & 1 or info.compress_type not in _METHODS:
        return "encrypted, or packed by another method than deflate"
    return None
