"""The other arm of a live comparison: another interpreter, another checkout, or both (`--against`, `--against-rootdir`)."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate.worker import Worker, WorkerFailure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other:
    """What builds the other arm: its interpreter, where that finds `fixtures` and `speedgate`, and what it holds."""

    python: str
    paths: tuple[str, ...]
    versions: Mapping[str, Any]
    label: str


def interpreter(asked: str) -> str:
    """The path of `--against`; a `ValueError` where it is not a file that can be run."""
    found = shutil.which(asked)
    if found is not None:
        return str(Path(found).absolute())  # not resolved: a virtual environment is known by its link's place
    path = Path(asked)
    if path.is_dir():
        candidate = path / "bin" / "python"
        hint = f"name {candidate}" if candidate.exists() else "name the interpreter in it"
        raise ValueError(f"--against {asked}: a folder; {hint}")
    problem = "cannot be run" if path.exists() else "does not exist"
    raise ValueError(f"--against {asked}: {problem}; name the python of an environment that holds torch and diffusers")


def checkout(asked: Path) -> tuple[str, ...]:
    """Where the other arm finds `fixtures` and `speedgate` for `--against-rootdir`."""
    paths = (asked.resolve(), asked.resolve() / "src")
    for package in (paths[0] / "fixtures", paths[1] / "speedgate"):
        if not package.is_dir():
            raise ValueError(f"--against-rootdir {asked}: no {package}; name the root of a checkout of this repository")
    return tuple(str(path) for path in paths)


def isolated(paths: tuple[str, ...], *, scratch: Path) -> tuple[str, ...]:
    """`paths` with each that holds more than our packages replaced by a folder of links to those alone.

    A package installed beside torch would otherwise bring this environment's torch into the other interpreter.
    """
    cleaned = []
    for number, path in enumerate(paths):
        if not any((Path(path) / library).exists() for library in ("torch", "numpy")):
            cleaned.append(path)
            continue
        links = scratch / f"packages-{number}"
        links.mkdir(exist_ok=True)
        for package in ("speedgate", "fixtures"):
            if (Path(path) / package).is_dir() and not (links / package).exists():
                (links / package).symlink_to(Path(path) / package)
        cleaned.append(str(links))
    return tuple(cleaned)


def resolve(
    python: str | None, *, paths: tuple[str, ...], own: Mapping[str, Any], factory: str, log: Path, timeout_s: float
) -> Other:
    """Start the other arm's interpreter once, let it import what it needs, and ask it for its versions.

    `factory` names what is imported and answers `versions`, `own` holds this arm's. A `ValueError` quotes the import error
    of that side.
    """
    chosen = interpreter(python) if python is not None else sys.executable
    try:
        worker = Worker(factory, arguments={}, paths=paths, log=log, timeout_s=timeout_s, python=chosen)
        try:
            versions = worker.call("versions")
        finally:
            worker.close()
    except WorkerFailure as failure:
        raise ValueError(
            f"--against {python or paths[0]}: that side cannot build a case: {failure.reason}; it needs Python 3.11 or"
            " later, torch, diffusers, torchao and transformers in versions that this suite supports"
        ) from failure
    return Other(python=chosen, paths=paths, versions=versions, label=label(own, versions))


def label(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The other arm, by the packages in which it differs from this one."""
    differing = [f"{name} {other.get(name)}" for name in own if other.get(name) != own[name]]
    return f"the other arm ({', '.join(differing[:4]) or 'the same versions'})"
