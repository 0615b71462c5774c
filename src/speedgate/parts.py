"""A file in parts that are each below a limit, for a way that carries no larger one: `c.zip.1-of-3` and its siblings."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from speedgate.files import replacing

MEGABYTE = 1_000_000
_PART = re.compile(r"(?P<whole>.+)\.(?P<number>[0-9]{1,4})-of-(?P<count>[0-9]{1,4})")
_MOST_PARTS = 1000


def split(path: Path, *, most_bytes: int) -> list[Path]:
    """Replace a file by its parts, where it is larger than one may be; what an earlier split of it has left is removed."""
    size = path.stat().st_size
    count = math.ceil(size / most_bytes)
    if count > _MOST_PARTS:
        raise ValueError(f"{path}: {size} bytes are more than {_MOST_PARTS} parts of {most_bytes}; allow larger ones")
    parts = [path.with_name(f"{path.name}.{number}-of-{count}") for number in range(1, count + 1)] if count > 1 else []
    for old in siblings(path):
        old.unlink()
    with path.open("rb") as stream:
        for part in parts:
            with replacing(part) as temporary:
                temporary.write_bytes(stream.read(most_bytes))
    if parts:
        path.unlink()
    return parts or [path]


def siblings(path: Path) -> list[Path]:
    """The parts of earlier splits of a file that lie where it lies."""
    found = [(_PART.fullmatch(old.name), old) for old in sorted(path.parent.iterdir())]
    return [old for match, old in found if match and match["whole"] == path.name]


@contextlib.contextmanager
def joined(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """The whole files of `paths`, whatever their order: those that are no parts as they are, parts put together in a
    temporary folder. A `ValueError` where a part is missing, or parts of several splits lie together.
    """
    groups: dict[Path, dict[int, dict[int, Path]]] = {}
    whole = []
    for path in paths:
        found = _PART.fullmatch(path.name)
        if found is None:
            whole.append(path)
        else:
            of = groups.setdefault(path.with_name(found["whole"]), {}).setdefault(int(found["count"]), {})
            of[int(found["number"])] = path
    for name, counts in groups.items():
        if len(counts) > 1 or name in whole:
            raise ValueError(f"{name}: parts of several exports lie together; keep those of one")
        for count, parts in counts.items():
            if missing := [number for number in range(1, count + 1) if number not in parts]:
                said = ", ".join(f"{name.name}.{number}-of-{count}" for number in missing)
                raise ValueError(f"{name}: its part {said} is missing: nothing is taken from the others")
    with tempfile.TemporaryDirectory(prefix="speedgate-parts-") as folder:
        for number, (name, counts) in enumerate(groups.items()):
            target = Path(folder) / str(number) / name.name
            target.parent.mkdir()
            ((_, parts),) = counts.items()
            with target.open("wb") as stream:
                for key in sorted(parts):
                    with parts[key].open("rb") as part:
                        shutil.copyfileobj(part, stream)
            whole.append(target)
        yield whole
