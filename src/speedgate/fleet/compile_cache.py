"""Keep the compile cache of each case on this machine, and load imported ones.

`.speedgate/compile-cache/<gpu-key>/` has one file for each case, from its last compilation. `imported/` in it has the files that
the next start of a case loads. After that start, torch's own cache on disk has the content, so each file is loaded once: only
that start counts as "imported", and the later ones are warm.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from speedgate.fleet.cache_archive import (
    SUFFIX,
    CacheContent,
    CacheFile,
    CacheOrigin,
    file_stem,
    read_cache_file,
    write_cache_file,
)
from speedgate.measure.machine import check_gpu_key

if TYPE_CHECKING:
    from speedgate.measure.worker import Target

FOLDER = Path(".speedgate") / "compile-cache"
IMPORTED = "imported"
_EXPORTED = re.compile(rf"[a-z0-9][a-z0-9._-]*(__[a-z0-9][a-z0-9._-]*){{2}}{re.escape(SUFFIX)}")


@dataclasses.dataclass(kw_only=True)
class CaseCache:
    """The compile cache of one case around its first image: loaded into the worker before it, saved after it.

    `activity` returns a context manager that shows what goes on and its seconds; `note` shows one line to the user.
    """

    folder: Path
    origin: CacheOrigin
    case_key: str
    fingerprint: str
    activity: Callable[[str], contextlib.AbstractContextManager[None]]
    note: Callable[[str], None]

    def load_into(self, worker: Target) -> float:
        """Let the worker load the imported cache and return the seconds; 0 where there is none.

        A cache of another case, recipe or build stays where it is, with a note. Raises `ValueError` for a broken file.
        """
        if not self._imported_path.exists():
            return 0.0
        file = read_cache_file(self._imported_path)
        (entry,) = file.entries
        reasons = file.origin.differences(self.origin)
        if entry.fingerprint != self.fingerprint:
            reasons.append(f"its recipe is {entry.fingerprint}, this is {self.fingerprint}")
        if entry.case_key != self.case_key:
            reasons.append(f"it is of {entry.case_key}")
        if reasons:
            self.note(f"the imported compile cache is not used: {'; '.join(reasons)}")
            return 0.0
        with self.activity("load the imported compile cache"):
            return float(worker.call("load_cache", artifacts=file.artifacts(entry)))

    def save_from(self, worker: Target, *, loaded: bool, missed: bool) -> None:
        """Save what the worker compiled, unless the same is saved already. Call this after the first image.

        `loaded` is true if `load_into` loaded a file, `missed` if the worker compiled something that no cache had.
        """
        if loaded and not missed:
            self._imported_path.replace(self._saved_path)
        if self._is_saved() and not missed:
            return
        with self.activity("keep the compile cache"):
            artifacts = worker.call("save_cache")
            if artifacts is not None:
                content = CacheContent(case_key=self.case_key, fingerprint=self.fingerprint, artifacts=artifacts)
                write_cache_file(self._saved_path, origin=self.origin, contents=[content])
        if artifacts is None:
            self.note("torch has no compile cache to keep: its caches are off")
        elif loaded:
            self._imported_path.unlink()

    @property
    def _saved_path(self) -> Path:
        return self.folder / self.origin.gpu_key / f"{file_stem(self.case_key)}{SUFFIX}"

    @property
    def _imported_path(self) -> Path:
        return self._saved_path.parent / IMPORTED / self._saved_path.name

    def _is_saved(self) -> bool:
        try:
            file = read_cache_file(self._saved_path)
        except ValueError:  # absent, broken or of another schema: it is replaced
            return False
        saved = [(entry.case_key, entry.fingerprint) for entry in file.entries]
        return file.origin == self.origin and saved == [(self.case_key, self.fingerprint)]


def export_to(target: Path, *, folder: Path, here: CacheOrigin) -> tuple[list[CacheFile], list[str]]:
    """Pack the caches of this machine and build into the file `target`; if it is a folder, one file for each case.

    Returns the files, and the reason for each cache that was left out. Raises `ValueError` if there is no cache, if the folder
    of `target` does not exist, or if a file would be replaced that is no compile cache of speedgate.
    """
    if not target.parent.is_dir():
        raise ValueError(f"{target}: {target.parent} is no folder; make it first, or name a file in an existing one")
    files_by_name: dict[str, CacheFile] = {}
    left_out = []
    for path in _cache_paths(folder / check_gpu_key(here.gpu_key)):
        file = read_cache_file(path)
        if reasons := file.origin.differences(here):
            left_out.append(f"{path}: {'; '.join(reasons)}")
        else:
            files_by_name[path.name] = file
    if not files_by_name:
        reason = f" ({'; '.join(left_out)})" if left_out else ""
        raise ValueError(
            f"{folder}: holds nothing compiled by this build on {here.gpu_key}{reason}: run pytest bench/ first"
        )
    if target.is_dir():
        sources = {target / name: [files_by_name[name]] for name in sorted(files_by_name)}
    else:
        sources = {target: list(files_by_name.values())}
    for path in sources:
        _check_replaceable(path)
    return [write_cache_file(path, origin=here, contents=_contents(sources[path])) for path in sources], left_out


def exported_files(folder: Path) -> list[Path]:
    """List the files that an export into the folder wrote, recognised by their names; a `ValueError` if there is none."""
    paths = [path for path in sorted(folder.iterdir()) if _EXPORTED.fullmatch(path.name)]
    if not paths:
        raise ValueError(
            f"{folder}: holds no file that an export into a folder makes (PIPELINE__STAGE__WORKLOAD{SUFFIX}); name the file"
        )
    return paths


def import_from(path: Path, *, folder: Path, here: CacheOrigin) -> CacheFile:
    """Store each case of an exported file where its next start loads it. The whole file is checked before anything is written.

    Raises `ValueError` if the file is broken, or is of another build or GPU key.
    """
    file = read_cache_file(path)
    if reasons := file.origin.differences(here):
        raise ValueError(f"{path}: {'; '.join(reasons)}: export one of this build on this machine")
    for _ in _contents([file]):
        pass
    for content in _contents([file]):
        target = folder / check_gpu_key(here.gpu_key) / IMPORTED / f"{file_stem(content.case_key)}{SUFFIX}"
        write_cache_file(target, origin=here, contents=[content])
    return file


def _check_replaceable(path: Path) -> None:
    if not path.exists():
        return
    try:
        read_cache_file(path)
    except ValueError as error:
        raise ValueError(f"{error}: it is not replaced; name another file, or remove it") from error


def _cache_paths(folder: Path) -> list[Path]:
    """List the imported files that no start has loaded yet, then those of this machine, which replace them."""
    return [path for place in (folder / IMPORTED, folder) for path in sorted(place.glob(f"[!.]*{SUFFIX}"))]


def _contents(files: Iterable[CacheFile]) -> Iterator[CacheContent]:
    for file in files:
        for entry in file.entries:
            yield CacheContent(case_key=entry.case_key, fingerprint=entry.fingerprint, artifacts=file.artifacts(entry))
