"""Set up the other arm of a live comparison: another interpreter, another checkout, or both.

The options are `--against` and `--against-rootdir`.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate.measure.worker import Worker, WorkerFailure

_MIN_PYTHON = (3, 11)
_VERSION_TIMEOUT_S = 60.0  # for an interpreter to print its version; one on a cold network disk is slow
_HINT = "name the python of an environment that holds torch and diffusers"
_MAX_LABEL_VERSIONS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherArm:
    """Hold the other arm's interpreter, the paths where it finds `fixtures` and `speedgate`, and its versions."""

    python: str
    paths: tuple[str, ...]
    versions: Mapping[str, Any]
    label: str


def find_interpreter(name: str) -> str:
    """Return the path of the interpreter that `--against` names; raise `ValueError` if it is no recent enough Python."""
    executable = shutil.which(name)
    if executable is not None:
        _check_python(executable, name)
        return str(Path(executable).absolute())  # keep links: a virtual environment is identified by the link's folder
    path = Path(name)
    if path.is_dir():
        candidate = path / "bin" / "python"
        hint = f"name {candidate}" if candidate.exists() else "name the interpreter in it"
        raise ValueError(f"--against {name}: a folder; {hint}")
    problem = "cannot be run" if path.exists() else "does not exist"
    raise ValueError(f"--against {name}: {problem}; {_HINT}")


def _check_python(executable: str, name: str) -> None:
    """Run it with a time limit before anything else waits for it: another program may print nothing or never end."""
    code = "import sys; print('Python', *sys.version_info[:2])"
    try:
        words = subprocess.run(  # noqa: S603 - the user named this program to be run
            [executable, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        ).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        words = []
    if len(words) != 3 or words[0] != b"Python":
        raise ValueError(f"--against {name}: is no Python interpreter; {_HINT}")
    version = int(words[1]), int(words[2])
    if version < _MIN_PYTHON:
        needed, actual = (".".join(map(str, numbers)) for numbers in (_MIN_PYTHON, version))
        raise ValueError(f"--against {name}: is Python {actual}, this suite needs {needed} or later; {_HINT}")


def checkout_paths(rootdir: Path) -> tuple[str, ...]:
    """Return the paths where the other arm finds `fixtures` and `speedgate` in the checkout of `--against-rootdir`."""
    root = rootdir.resolve()
    for package in (root / "fixtures", root / "src" / "speedgate"):
        if not package.is_dir():
            raise ValueError(
                f"--against-rootdir {rootdir}: no {package}; name the root of a checkout of this repository"
            )
    # A worker of the other arm imports this module of its checkout, which older checkouts do not have.
    if not (root / "src" / "speedgate" / "measure" / "worker.py").is_file():
        raise ValueError(f"--against-rootdir {rootdir}: this checkout is too old; compare with a newer commit")
    return (str(root), str(root / "src"))


def isolate_packages(paths: tuple[str, ...], *, scratch: Path) -> tuple[str, ...]:
    """Replace each path that also holds torch or numpy by a folder of links to our packages.

    Otherwise, if speedgate is installed beside torch, the other interpreter would import this environment's torch.
    """
    isolated = []
    for number, path in enumerate(paths):
        if not any((Path(path) / library).exists() for library in ("torch", "numpy")):
            isolated.append(path)
            continue
        links = scratch / f"packages-{number}"
        links.mkdir(exist_ok=True)
        for package in ("speedgate", "fixtures"):
            if (Path(path) / package).is_dir() and not (links / package).exists():
                (links / package).symlink_to(Path(path) / package)
        isolated.append(str(links))
    return tuple(isolated)


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
    """Start the other arm's interpreter once, import what a case needs, and ask for its versions.

    `python` and `rootdir` are the options' values, `factory` is a worker target that answers `versions`. Raises `ValueError`
    with the import error of the other arm.
    """
    executable = find_interpreter(python) if python is not None else sys.executable
    option = f"--against {python}" if python is not None else f"--against-rootdir {rootdir}"
    try:
        versions = ask_versions(executable, paths=paths, factory=factory, log=log, timeout_s=timeout_s)
    except WorkerFailure as failure:
        raise ValueError(
            f"{option}: that side cannot build a case: {failure.reason}; it needs torch, diffusers, torchao and"
            " transformers in versions that this suite supports"
        ) from failure
    label = other_arm_label(this_versions, versions, rootdir=rootdir)
    return OtherArm(python=executable, paths=paths, versions=versions, label=label)


def ask_versions(
    python: str, *, paths: tuple[str, ...], factory: str, log: Path, timeout_s: float
) -> Mapping[str, Any]:
    """Import what a case needs in an interpreter, and return its versions. Raises `WorkerFailure`."""
    worker = Worker(factory, arguments={}, paths=paths, log=log, timeout_s=timeout_s, python=python)
    try:
        versions: Mapping[str, Any] = worker.call("versions")
    finally:
        worker.close()
    return versions


def other_arm_label(
    this_versions: Mapping[str, Any], other_versions: Mapping[str, Any], *, rootdir: Path | None = None
) -> str:
    """Name the other arm by its checkout and by the packages whose versions differ from this arm's."""
    differing = [
        f"{package} {other_versions.get(package)}"
        for package, version in this_versions.items()
        if other_versions.get(package) != version
    ]
    checkout = [f"checkout {rootdir}"] if rootdir else []
    return f"the other arm ({', '.join([*checkout, *(differing[:_MAX_LABEL_VERSIONS] or ['the same versions'])])})"
