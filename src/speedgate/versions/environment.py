"""Environments that hold other versions: a thin one of their own, behind it the packages of the one that runs this."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from speedgate.results.json_io import write_json

CACHE = Path(".speedgate/environments")
_DONE = "layer.json"
_LONGEST_ERROR = 300  # pip lists every version that it knows
# What pip's log says of a page that it went on without. An index in a bucket answers 403 where it has no such package.
_NO_PAGE = re.compile(
    r"Could not fetch URL (?P<url>\S+): (?!40[34]\b|410\b)(?P<why>.+?)(?: - skipping)?$", re.MULTILINE
)
_NO_FILE = re.compile(
    r"HTTP error (?:401|407|408|429|5\d\d) while|HTTPS?ConnectionPool\(|Connection (?:timed out|broken|aborted|reset)"
    r"|ReadTimeout|IncompleteRead|ncomplete download|No space left on device"
)


class InstallFailure(ValueError):
    """A candidate that cannot be installed; the message is pip's first error."""


class IndexFailure(ValueError):
    """pip got no answer of an index, or could not keep it: no candidate is to blame, and none is to be judged by it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverlayEnvironment:
    """What an environment holds of its own, and which pins keep their version: `requirements` and `constraints` of pip's."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    index_url: str | None = None

    @property
    def digest(self) -> str:
        """Names its folder: another one where the layer, this Python or anything installed here is another."""
        what = [self.requirements, self.constraints, self.index_url, sys.version, sys.prefix, _installed()]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def build(layer: OverlayEnvironment, *, cache: Path) -> Path:
    """The interpreter of the layer's environment below `cache`, made where it is not there yet.

    Only what `requirements` change is installed: torch is neither installed again nor copied while the pins keep it, for a
    path file leads to this environment's packages, which come second. `InstallFailure` where pip fails, `IndexFailure` where
    that is not the candidate's fault.
    Of two commands that ask for the same layer at once the second waits until the first has made it.
    """
    folder = cache.absolute() / layer.digest
    cache.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:  # closing it lets go, and so does the end of this process
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _DONE).exists():
            _make(layer, folder)
    return folder / "bin" / "python"


def _make(layer: OverlayEnvironment, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what an interruption has left
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "speedgate.pth").write_text("".join(f"{place}\n" for place in places()), encoding="utf-8")
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in layer.constraints), encoding="utf-8")
    index = ["--index-url", layer.index_url] if layer.index_url else []
    said = _pip(
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "--no-compile",
        *index,
        "--constraint",
        str(constraints),
        *layer.requirements,
    )
    write_json(folder / _DONE, dataclasses.asdict(layer) | {"pip": said.splitlines()[-1:]})


def places(python: Path | None = None) -> list[str]:
    """Where an environment's packages lie: of this one, or of a layer's interpreter, whose own come first."""
    below = [place for place in map(str, sys.path) if place and any(Path(place).glob("*.dist-info"))]
    own = [] if python is None else [str(path) for path in python.parents[1].glob("lib/python*/site-packages")]
    return [*own, *dict.fromkeys(below)]


def check_base(stable: Mapping[str, str], *, where: Path) -> None:
    """A `ValueError` where this environment is not the one that the stable pins describe: it is an arm, or below both."""
    wrong = []
    for name, line in stable.items():
        found = _version(name)
        if found is None or not Requirement(line).specifier.contains(found, prereleases=True):
            wrong.append(f"{name} is {found or 'missing'}, pinned {line}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"this environment is not the one of {where}: {'; '.join(wrong[:3])}{more}; install it with"
            f" pip install -c {where} -e ."
        )


def check_writable(folder: Path, *, what: str) -> None:
    """Make a folder and write to it once; a `ValueError` says `what` it is for. Hours later it would be too late."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}); {what}") from error


def versions_of(package: str, *, index_url: str | None, prereleases: bool) -> list[str]:
    """Every version of `package` that pip finds for this Python, in the index or where its own configuration says.

    The words of `pip index versions` are read, which has no other form in every pip that is about.
    """
    index = ["--index-url", index_url] if index_url else []
    said = _pip("index", "versions", package, *index, *(["--pre"] if prereleases else []))
    for line in said.splitlines():
        label, _, versions = line.partition(":")
        if label == "Available versions":
            return [version.strip() for version in versions.split(",")]
    raise ValueError(f"pip index versions {package}: no line 'Available versions:' in what it said")


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without PYTHONPATH, which would bring this environment's packages before a layer's own."""
    return {name: value for name, value in environment.items() if name != "PYTHONPATH"}


def _pip(*arguments: str) -> str:
    """What this environment's pip says; `InstallFailure` with its first error, the cause of the others, where it fails.

    `IndexFailure` where no index answered: pip itself says then, as of a version that there is not, that it found none.
    """
    if importlib.util.find_spec("pip") is None:
        raise ValueError(f"{sys.executable} has no pip, which installs the other versions: python -m ensurepip")
    with tempfile.TemporaryDirectory(prefix="speedgate-pip-") as scratch:
        log = Path(scratch) / "log"
        options = ["--disable-pip-version-check", "--no-input", "--log", str(log)]
        command = [sys.executable, "-m", "pip", *options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean(os.environ))  # noqa: S603
        logged = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if done.returncode != 0:
        if unreachable := _unreachable(done.stderr, logged):
            raise IndexFailure(f"{unreachable[:_LONGEST_ERROR]}; no version is to blame: try again when it answers")
        raise InstallFailure(_first_error(done.stderr) or f"pip ended with exit status {done.returncode}")
    return done.stdout


def _unreachable(stderr: str, logged: str) -> str:
    """What kept pip from an index or from a file that it lists; nothing where it had what it asked for."""
    if page := _NO_PAGE.search(logged):
        return f"the index cannot be reached: {page['url']}: {page['why']}"
    failed = [line for line in stderr.splitlines() if not line.startswith("WARNING:") and _NO_FILE.search(line)]
    return (
        f"the index cannot be reached, or its file kept: {failed[0].removeprefix('ERROR:').strip()}" if failed else ""
    )


def _first_error(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    return errors[0].removeprefix("ERROR:").strip()[:_LONGEST_ERROR] if errors else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _installed() -> Sequence[str]:
    return sorted({f"{found.name}=={found.version}" for found in importlib.metadata.distributions(path=places())})
