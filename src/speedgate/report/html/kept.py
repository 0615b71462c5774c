"""What a session leaves for its report beside its results, in `report/`: pictures, its command, and what it remarked.

Results are written as soon as there are any, and this when all is over. So it names the results that it belongs to by their
digests, and says nothing where the folder holds others by now.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from speedgate.report.html.pictures import Pictures
from speedgate.results import folder as untrusted
from speedgate.results import json_io
from speedgate.results.run import write_json

FOLDER, INDEX = "report", "index.json"
_KINDS = ("image", "difference", "similarity")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """`results` are the digests of the session's result files by name; `pictures` go by case key."""

    results: Mapping[str, str]
    made_by: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    pictures: Mapping[str, Pictures] = dataclasses.field(default_factory=dict)


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file by its name."""
    return {PurePosixPath(name).name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def save(kept: Kept, results: Path) -> None:
    """Write it below the folder of the results; the index last, which makes the rest count."""
    folder = results / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, Any] = {}
    for number, (key, pictures) in enumerate(kept.pictures.items()):
        files = {kind: data for kind in _KINDS if (data := getattr(pictures, kind)) is not None}
        for kind, data in files.items():
            (folder / _name(number, kind)).write_bytes(data)
        shown[key] = {
            "number": number,
            "reference": pictures.reference,
            "width_px": pictures.width_px,
            "kinds": list(files),
        }
    index = {"results": kept.results, "made_by": kept.made_by, "remarks": kept.remarks, "pictures": shown}
    write_json(folder / INDEX, index)


def load(results: Path, files: Mapping[str, bytes]) -> Kept | None:
    """What a session left there with these results, by whomever it was written; None where nothing was left, or other results
    lie there by now. A `ValueError` names what is wrong with it.
    """
    path = results / FOLDER / INDEX
    if not path.exists():
        return None
    if path.parent.is_symlink():
        raise ValueError(f"{path.parent}: a link; what a report left is a folder")
    match json_io.parsed(_read(path), path=path):
        case {"results": dict(known), "made_by": dict(made_by), "remarks": list(remarks), "pictures": dict(shown)}:
            found = digests(files)
            if not known or any(found.get(name) != digest for name, digest in known.items()):
                return None
            return Kept(
                results=known,
                made_by={name: str(value) for name, value in made_by.items()},
                remarks=tuple(map(str, remarks)),
                pictures={key: _pictures(path, key, entry) for key, entry in shown.items()},
            )
    raise ValueError(f"{path}: expected results, made_by, remarks and pictures")


def _pictures(path: Path, key: str, entry: Any) -> Pictures:
    match entry:
        case {"number": int(number), "reference": str(reference), "width_px": int(width_px), "kinds": ["image", *_]}:
            kinds = {kind: _read(path.with_name(_name(number, kind))) for kind in _KINDS if kind in entry["kinds"]}
            return Pictures(reference=reference, width_px=width_px, **kinds)
    raise ValueError(f"{path}: pictures: {key}: expected a number, a reference, a width and kinds")


def _name(number: int, kind: str) -> str:
    return f"{number:03d}-{kind}.png"


def _read(path: Path) -> bytes:
    data = untrusted.read_plain(path, path.name)
    if len(data) > untrusted.MAX_FILE_BYTES:  # 512 x 512 pixels are 0.8 MB without any compression
        raise ValueError(f"{path}: more than {untrusted.MAX_FILE_BYTES / 2**20:.0f} MiB")
    return data
