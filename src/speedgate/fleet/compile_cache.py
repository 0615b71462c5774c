"""The compile caches of one machine: what runs have left, what was imported, and how a worker comes by it.

`.speedgate/compile-cache/<gpu-key>/` holds a file a case, of its last compilation; `imported/` in it what the next start of
a case is to load. Once that start has made its image torch's own cache on disk holds it, so that it is loaded once: the
starts that load are figures of their own, and those after them are warm.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from speedgate.fleet import cache_archive
from speedgate.fleet.cache_archive import SUFFIX, CacheContent, CacheFile, CacheOrigin
from speedgate.measure.machine import check_gpu_key

if TYPE_CHECKING:
    from speedgate.measure.worker import Target
    from speedgate.plugin.progress import Progress

FOLDER = Path(".speedgate") / "compile-cache"
IMPORTED = "imported"
_EXPORTED = re.compile(rf"[a-z0-9][a-z0-9._-]*(__[a-z0-9][a-z0-9._-]*){{2}}{re.escape(SUFFIX)}")


@dataclasses.dataclass(kw_only=True)
class CaseCache:
    """The compile cache of one built case, `name` in its progress: given to its worker before it compiles, taken after."""

    folder: Path
    origin: CacheOrigin
    case_key: str
    fingerprint: str
    name: str
    progress: Progress

    def load_into(self, worker: Target) -> float:
        """Let the worker load what was imported for this case, recipe and build; its seconds, 0 where there is nothing.

        What was imported for another is left where it is, and said. A `ValueError` where its file is broken.
        """
        if not self._imported.exists():
            return 0.0
        file = cache_archive.read(self._imported)
        (entry,) = file.entries
        reasons = file.origin.differences(self.origin)
        if entry.fingerprint != self.fingerprint:
            reasons.append(f"its recipe is {entry.fingerprint}, this is {self.fingerprint}")
        if entry.case_key != self.case_key:
            reasons.append(f"it is of {entry.case_key}")
        if reasons:
            self.progress.note(f"{self.name}: the imported compile cache is not used: {'; '.join(reasons)}")
            return 0.0
        with self.progress.activity(f"{self.name}: load the imported compile cache"):
            return float(worker.call("load_cache", artifacts=file.artifacts(entry)))

    def keep_from(self, worker: Target, *, loaded: bool, missed: bool) -> None:
        """After the first image: keep what the worker has compiled, where that is not kept already.

        `loaded` says that `load_into` had something, `missed` that the worker compiled what no cache had.
        """
        if loaded and not missed:
            self._imported.replace(self._left)
        if self._is_kept() and not missed:
            return
        with self.progress.activity(f"{self.name}: keep the compile cache"):
            artifacts = worker.call("save_cache")
            if artifacts is not None:
                content = CacheContent(case_key=self.case_key, fingerprint=self.fingerprint, artifacts=artifacts)
                cache_archive.write(self._left, origin=self.origin, contents=[content])
        if artifacts is None:
            self.progress.note(f"{self.name}: torch has no compile cache to keep: its caches are off")
        elif loaded:
            self._imported.unlink()

    @property
    def _left(self) -> Path:
        return self.folder / self.origin.gpu_key / f"{cache_archive.file_name(self.case_key)}{SUFFIX}"

    @property
    def _imported(self) -> Path:
        return self._left.parent / IMPORTED / self._left.name

    def _is_kept(self) -> bool:
        try:
            file = cache_archive.read(self._left)
        except ValueError:  # absent, broken or of another schema: it is replaced
            return False
        kept = [(entry.case_key, entry.fingerprint) for entry in file.entries]
        return file.origin == self.origin and kept == [(self.case_key, self.fingerprint)]


def export_to(target: Path, *, folder: Path, here: CacheOrigin) -> tuple[list[CacheFile], list[str]]:
    """Pack what is kept of this machine and build into the file `target`, or a file a case where it is a folder.

    Returns the files, and of each kept case that was left out why. A `ValueError` where nothing is left, where the target's
    folder is not there, and where a file that is no compile cache of ours would be replaced.
    """
    if not target.parent.is_dir():
        raise ValueError(f"{target}: {target.parent} is no folder; make it first, or name a file in one that is there")
    kept: dict[str, CacheFile] = {}
    left_out = []
    for path in _files(folder / check_gpu_key(here.gpu_key)):
        file = cache_archive.read(path)
        if reasons := file.origin.differences(here):
            left_out.append(f"{path}: {'; '.join(reasons)}")
        else:
            kept[path.name] = file
    if not kept:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise ValueError(
            f"{folder}: holds nothing compiled by this build on {here.gpu_key}{why}: run pytest bench/ first"
        )
    packed = {target / name: [kept[name]] for name in sorted(kept)} if target.is_dir() else {target: [*kept.values()]}
    for path in packed:
        _check_ours(path)
    return [cache_archive.write(path, origin=here, contents=_contents(packed[path])) for path in packed], left_out


def exported(folder: Path) -> list[Path]:
    """List the files that an export into the folder wrote, recognised by their names; a `ValueError` where there is none."""
    found = [path for path in sorted(folder.iterdir()) if _EXPORTED.fullmatch(path.name)]
    if not found:
        raise ValueError(
            f"{folder}: holds no file that an export into a folder makes (PIPELINE__STAGE__WORKLOAD{SUFFIX}); name the file"
        )
    return found


def _check_ours(path: Path) -> None:
    """Raise a `ValueError` where the export would replace a file that is no compile cache of speedgate."""
    if not path.exists():
        return
    try:
        cache_archive.read(path)
    except ValueError as error:
        raise ValueError(f"{error}: it is not replaced; name another file, or remove it") from error


def import_from(path: Path, *, folder: Path, here: CacheOrigin) -> CacheFile:
    """Put each case of an exported file where its next start loads it; all of it is checked before any is written.

    A `ValueError` where the file is broken, or is of another build or GPU key.
    """
    file = cache_archive.read(path)
    if reasons := file.origin.differences(here):
        raise ValueError(f"{path}: {'; '.join(reasons)}: export one of this build on this machine")
    for _ in _contents([file]):
        pass
    for content in _contents([file]):
        target = (
            folder / check_gpu_key(here.gpu_key) / IMPORTED / f"{cache_archive.file_name(content.case_key)}{SUFFIX}"
        )
        cache_archive.write(target, origin=here, contents=[content])
    return file


def _files(folder: Path) -> list[Path]:
    """What was imported and no start has loaded yet, then what was compiled or loaded here, which counts for more."""
    return [path for place in (folder / IMPORTED, folder) for path in sorted(place.glob(f"[!.]*{SUFFIX}"))]


def _contents(files: Iterable[CacheFile]) -> Iterator[CacheContent]:
    for file in files:
        for entry in file.entries:
            yield CacheContent(case_key=entry.case_key, fingerprint=entry.fingerprint, artifacts=file.artifacts(entry))
