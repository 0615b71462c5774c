"""The folder of a site: made whole beside its place and then put there, over nothing but an earlier site of ours."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MARKER = ".speedgate-site"
_SCHEMA = 1


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well, and is gone when it does not.

    A `ValueError` where `target` is a file, or a folder with anything in it that an earlier generation has not written.
    """
    target = target.resolve()  # what a link leads to is replaced, not the link
    check(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that a rename is enough; a dot, so that no server that lists the parent shows it.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent) as scratch:
        made = Path(scratch) / "new"
        made.mkdir()
        yield made
        _mark(made)
        check(target)  # again: writing took a while
        _swap(made, target, aside=Path(scratch) / "old")


def check(target: Path) -> None:
    """A `ValueError` unless `target` is free, empty or a site of ours with no file of anyone else's."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target}: is a file; name a folder for the site")
    if not any(target.iterdir()):
        return
    marker = target / MARKER
    if not marker.is_file():
        raise ValueError(f"{target}: holds files that speedgate site did not write; name an empty or a new folder")
    foreign = sorted(set(_names(target)) - set(_written(marker)) - {MARKER})
    if foreign:
        raise ValueError(f"{target}: {foreign[0]} is not of the site that was written there; move it elsewhere first")


def _mark(folder: Path) -> None:
    """Leave a list of what was written, by which the next generation knows its own."""
    document = {"schema": _SCHEMA, "files": sorted(_names(folder))}
    (folder / MARKER).write_text(json.dumps(document), encoding="utf-8")


def _written(marker: Path) -> list[str]:
    try:
        document = json.loads(marker.read_text(encoding="utf-8"))
        return [str(name) for name in document["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{marker}: is not what speedgate site leaves ({error}); name another folder") from error


def _names(folder: Path) -> Iterator[str]:
    """Every file, and every folder that is empty or a link, by its path below `folder`."""
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink() or not any(path.iterdir()):
            yield path.relative_to(folder).as_posix()


def _swap(made: Path, target: Path, *, aside: Path) -> None:
    """Two renames, for POSIX has none that replaces a folder with files in it; the earlier site returns if the second fails."""
    made.chmod(0o755)
    if not target.exists():
        made.rename(target)
        return
    target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside)
