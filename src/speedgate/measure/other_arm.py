"""The other arm of a live comparison: another interpreter, another checkout, or both (`--against`, `--against-rootdir`)."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate.measure.worker import Worker, WorkerFailure

_LEAST_PYTHON = (3, 11)
_ANSWERS_S = 60.0  # within which an interpreter says what it is; one on a cold network disk takes its time
_NEEDS = "name the python of an environment that holds torch and diffusers"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherArm:
    """What builds the other arm: its interpreter, where that finds `fixtures` and `speedgate`, and what it holds."""

    python: str
    paths: tuple[str, ...]
    versions: Mapping[str, Any]
    label: str


def find_interpreter(asked: str) -> str:
    """The path of `--against`; a `ValueError` where it is no Python interpreter that is recent enough."""
    found = shutil.which(asked)
    if found is not None:
        _check_python(found, asked)
        return str(Path(found).absolute())  # not resolved: a virtual environment is known by its link's place
    path = Path(asked)
    if path.is_dir():
        candidate = path / "bin" / "python"
        hint = f"name {candidate}" if candidate.exists() else "name the interpreter in it"
        raise ValueError(f"--against {asked}: a folder; {hint}")
    problem = "cannot be run" if path.exists() else "does not exist"
    raise ValueError(f"--against {asked}: {problem}; {_NEEDS}")


def _check_python(found: str, asked: str) -> None:
    """Let it say its version before anything waits for it: what is no Python may say nothing, or never end."""
    question = "import sys; print('Python', *sys.version_info[:2])"
    try:
        said = subprocess.run(  # noqa: S603 - what the user named, to be run as an interpreter anyway
            [found, "-I", "-c", question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWERS_S,
            check=False,
        ).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        said = []
    if len(said) != 3 or said[0] != b"Python":
        raise ValueError(f"--against {asked}: is no Python interpreter; {_NEEDS}")
    version = int(said[1]), int(said[2])
    if version < _LEAST_PYTHON:
        wanted, has = (".".join(map(str, numbers)) for numbers in (_LEAST_PYTHON, version))
        raise ValueError(f"--against {asked}: is Python {has}, this suite needs {wanted} or later; {_NEEDS}")


def checkout_paths(asked: Path) -> tuple[str, ...]:
    """Where the other arm finds `fixtures` and `speedgate` for `--against-rootdir`."""
    paths = (asked.resolve(), asked.resolve() / "src")
    for package in (paths[0] / "fixtures", paths[1] / "speedgate"):
        if not package.is_dir():
            raise ValueError(f"--against-rootdir {asked}: no {package}; name the root of a checkout of this repository")
    return tuple(str(path) for path in paths)


def isolate_packages(paths: tuple[str, ...], *, scratch: Path) -> tuple[str, ...]:
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


def resolve_other_arm(
    python: str | None,
    *,
    rootdir: Path | None,
    paths: tuple[str, ...],
    this_versions: Mapping[str, Any],
    factory: str,
    log: Path,
    timeout_s: float,
) -> OtherArm:
    """Start the other arm's interpreter once, let it import what it needs, and ask it for its versions.

    `factory` names what is imported and answers `versions`, `this_versions` holds this arm's, `rootdir` is the checkout that was asked
    for. A `ValueError` quotes the import error of that side.
    """
    chosen = find_interpreter(python) if python is not None else sys.executable
    option = f"--against {python}" if python is not None else f"--against-rootdir {rootdir}"
    try:
        worker = Worker(factory, arguments={}, paths=paths, log=log, timeout_s=timeout_s, python=chosen)
        try:
            versions = worker.call("versions")
        finally:
            worker.close()
    except WorkerFailure as failure:
        raise ValueError(
            f"{option}: that side cannot build a case: {failure.reason}; it needs torch, diffusers, torchao and transformers"
            " in versions that this suite supports"
        ) from failure
    return OtherArm(
        python=chosen, paths=paths, versions=versions, label=label(this_versions, versions, rootdir=rootdir)
    )


def label(own: Mapping[str, Any], other: Mapping[str, Any], *, rootdir: Path | None = None) -> str:
    """The other arm, by its checkout and the packages in which it differs from this one."""
    differing = [f"{name} {other.get(name)}" for name in own if other.get(name) != own[name]]
    what = ([f"checkout {rootdir}"] if rootdir else []) + (differing[:4] or ["the same versions"])
    return f"the other arm ({', '.join(what)})"
