"""Overlay environments: a small virtual environment with other versions, on top of the packages of the running one."""

from __future__ import annotations

import dataclasses
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

from filelock import FileLock
from packaging.requirements import Requirement

from speedgate.measure.machine import installed_version
from speedgate.results.json_io import write_json

CACHE = Path(".speedgate/environments")
CACHE_PURPOSE = "environments are kept there: name another folder with --cache"
_COMPLETE = "layer.json"  # written last: an environment without it was interrupted
_MAX_ERROR_CHARACTERS = 300  # pip lists every version that it knows
# A page that pip went on without. 403 and 404 are excluded: an index in a bucket answers 403 where it has no such package.
_NO_PAGE = re.compile(
    r"Could not fetch URL (?P<url>\S+): (?!40[34]\b|410\b)(?P<why>.+?)(?: - skipping)?$", re.MULTILINE
)
_NO_FILE = re.compile(
    r"HTTP error (?:401|407|408|429|5\d\d) while|HTTPS?ConnectionPool\(|Connection (?:timed out|broken|aborted|reset)"
    r"|ReadTimeout|IncompleteRead|ncomplete download|No space left on device"
)


class InstallFailure(ValueError):
    """A version cannot be installed; the message is pip's first error."""


class IndexFailure(ValueError):
    """An index did not answer, or its file could not be stored: this says nothing about any version."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverlayEnvironment:
    """The packages to install on top of this environment, as pip's requirements and constraints.

    `is_exact`: nothing but the requirements is installed, and only from wheels, because building a package runs its code.
    """

    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    index_url: str | None = None
    is_exact: bool = False

    @property
    def digest(self) -> str:
        """Identify the environment in the name of its folder; a change of Python or of any installed package changes it."""
        pip = [self.requirements, self.constraints, self.index_url, self.is_exact]
        facts = [*pip, sys.version, sys.prefix, _installed()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def build(overlay: OverlayEnvironment, *, cache: Path) -> Path:
    """Return the interpreter of the environment below `cache`, which is made if it is missing.

    Installs only what `requirements` change: a path file adds the packages of this environment, so torch is neither installed
    again nor copied while the pins keep it. A second command that needs the same environment waits for the first.
    Raises `InstallFailure` if pip fails, `IndexFailure` if that is not the version's fault.
    """
    folder = cache.absolute() / overlay.digest
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / _COMPLETE).exists():
            try:
                _install(overlay, folder)
            except BaseException:  # a full disk: half of an environment would keep it full
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return folder / "bin" / "python"


def _install(overlay: OverlayEnvironment, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted command
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "speedgate.pth").write_text("".join(f"{path}\n" for path in package_folders()), encoding="utf-8")
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in overlay.constraints), encoding="utf-8")
    python = str(folder / "bin" / "python")
    index = ["--index-url", overlay.index_url] if overlay.index_url else []
    exact = ["--no-deps", "--only-binary", ":all:"] if overlay.is_exact else []
    options = ["--no-compile", *index, *exact, "--constraint", str(constraints)]
    output = _run_pip("--python", python, "install", *options, *overlay.requirements)
    write_json(folder / _COMPLETE, dataclasses.asdict(overlay) | {"pip": output.splitlines()[-1:]})


def package_folders(python: Path | None = None) -> list[str]:
    """List the folders with the packages of this environment; for an overlay's interpreter, its own folder comes first."""
    base = [path for path in map(str, sys.path) if path and any(Path(path).glob("*.dist-info"))]
    overlay = [] if python is None else [str(path) for path in python.parents[1].glob("lib/python*/site-packages")]
    return [*overlay, *dict.fromkeys(base)]


def check_stable_pins(stable: Mapping[str, str], *, where: Path) -> None:
    """Raise a `ValueError` unless this environment, which every arm builds on, holds the stable pins."""
    wrong = []
    for name, line in stable.items():
        version = installed_version(name)
        if version is None or not Requirement(line).specifier.contains(version, prereleases=True):
            wrong.append(f"{name} is {version or 'missing'}, pinned {line}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"this environment is not the one of {where}: {'; '.join(wrong[:3])}{more}; install it with"
            f" pip install -c {where} -e ."
        )


def check_writable(folder: Path, *, purpose: str) -> None:
    """Create a folder and a file in it, because an error after hours would be too late; a `ValueError` names the purpose."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}); {purpose}") from error


def list_versions(package: str, *, index_url: str | None, prereleases: bool) -> list[str]:
    """List every version of `package` that pip finds for this Python, highest first.

    Reads the text of `pip index versions`: not every pip that is in use can print JSON.
    """
    index = ["--index-url", index_url] if index_url else []
    output = _run_pip("index", "versions", package, *index, *(["--pre"] if prereleases else []))
    for line in output.splitlines():
        label, _, versions = line.partition(":")
        if label == "Available versions":
            return [version.strip() for version in versions.split(",")]
    raise ValueError(f"pip index versions {package}: its output has no line 'Available versions:'")


def clean_variables() -> dict[str, str]:
    """Return the environment variables without PYTHONPATH, which would hide the packages of an overlay."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _run_pip(*arguments: str) -> str:
    """Run pip and return its output. `InstallFailure` holds its first error, which caused the others.

    `IndexFailure` if no index answered: pip then reports the same as for a version that does not exist.
    """
    if importlib.util.find_spec("pip") is None:
        raise ValueError(f"{sys.executable} has no pip, which installs the other versions: python -m ensurepip")
    with tempfile.TemporaryDirectory(prefix="speedgate-pip-") as scratch:
        log_path = Path(scratch) / "log"
        options = ["--disable-pip-version-check", "--no-input", "--log", str(log_path)]
        command = [sys.executable, "-m", "pip", *options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_variables())  # noqa: S603
        log = log_path.read_text(encoding="utf-8", errors="replace") if log_path.exists() else ""
    if done.returncode != 0:
        if unreachable := _index_error(done.stderr, log):
            raise IndexFailure(
                f"{unreachable[:_MAX_ERROR_CHARACTERS]}; no version is to blame: try again when it answers"
            )
        raise InstallFailure(_first_error(done.stderr) or f"pip ended with exit status {done.returncode}")
    return done.stdout


def _index_error(stderr: str, log: str) -> str:
    """Describe what kept pip from an index or one of its files; empty if pip got everything that it asked for."""
    if page := _NO_PAGE.search(log):
        return f"the index cannot be reached: {page['url']}: {page['why']}"
    for line in stderr.splitlines():
        if not line.startswith("WARNING:") and _NO_FILE.search(line):
            return f"the index cannot be reached, or its file stored: {line.removeprefix('ERROR:').strip()}"
    return ""


def _first_error(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    return errors[0].removeprefix("ERROR:").strip()[:_MAX_ERROR_CHARACTERS] if errors else ""


def _installed() -> Sequence[str]:
    distributions = importlib.metadata.distributions(path=package_folders())
    return sorted({f"{distribution.name}=={distribution.version}" for distribution in distributions})
