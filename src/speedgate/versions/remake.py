"""Make the other arm again that a baseline was recorded with: its code, and the versions of its packages.

Runs only code that is in the history of the default branch, or in this checkout.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from speedgate.baselines import source
from speedgate.baselines.origin import differing_packages, name_packages, python_problem
from speedgate.measure.other_arm import OtherArm, ask_versions, isolate_packages
from speedgate.measure.worker import WorkerFailure
from speedgate.results.run import Baseline, Origin
from speedgate.versions import environment
from speedgate.versions.environment import InstallFailure, OverlayEnvironment


class CannotRemake(ValueError):
    """The code or the environment of a baseline cannot be made again; the message is one line that says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmMaker:
    """Makes the arms of baselines again, for one session.

    `root` is the checkout, `paths` the folders where workers find the code, `code_digest` the digest of the code that
    measures, and `versions` the versions of this arm. `factory` is a worker target that answers `versions`. `cache` keeps
    environments for later sessions; `scratch`, a folder of this session alone, gets the code.
    """

    root: Path
    paths: tuple[str, ...]
    code_digest: str
    versions: Mapping[str, Any]
    factory: str
    scratch: Path
    cache: Path = environment.CACHE
    timeout_s: float = 300.0

    def make(self, baseline: Baseline) -> OtherArm:
        """Return the arm that the baseline was recorded with; raise `CannotRemake` with one line that says why there is none.

        Code and interpreter are those of this arm, and nothing is started, where they are the same as in the recording.
        """
        origin = baseline.origin
        if origin is None:
            raise CannotRemake(f"{baseline.name} does not state its code and its packages; record it again")
        if (problem := python_problem(origin)) is not None:
            raise CannotRemake(problem)
        try:
            return self._make(baseline, origin)
        except CannotRemake:
            raise
        except WorkerFailure as failure:
            raise CannotRemake(f"its environment does not import: {failure.reason}") from failure
        except OSError as error:  # a full disk
            raise CannotRemake(f"{error.filename or self.scratch}: {error.strerror or error}") from error
        except ValueError as error:
            raise CannotRemake(str(error).partition("\n")[0]) from error

    def _make(self, baseline: Baseline, origin: Origin) -> OtherArm:
        changes = differing_packages(origin)
        paths = self._code_paths(baseline, origin)
        python = self._interpreter(baseline, origin, changes)
        label = _label(baseline, changes, is_other_code=paths != self.paths)
        if python == sys.executable and paths == self.paths:
            return OtherArm(python=python, paths=paths, versions=self.versions, label=label)
        if python != sys.executable:
            paths = isolate_packages(paths, scratch=self.scratch)
        log = self.scratch / f"{baseline.name}.log"
        versions = ask_versions(python, paths=paths, factory=self.factory, log=log, timeout_s=self.timeout_s)
        _check_same(versions, origin, what="its worker")
        return OtherArm(python=python, paths=paths, versions=versions, label=label)

    def _code_paths(self, baseline: Baseline, origin: Origin) -> tuple[str, ...]:
        """Return the paths with the code of the baseline, which is unpacked once in a session, unless this checkout has it."""
        if origin.code_digest == self.code_digest:
            return self.paths
        key = origin.commit or f"{Path(baseline.path).parent}/{origin.archive}"
        folder = self.scratch / f"code-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        if not folder.exists():
            source.write_files(self._read_code(baseline, origin), folder)
        return tuple(str((folder / place).parent) for place in (source.FIXTURES, source.SPEEDGATE))

    def _read_code(self, baseline: Baseline, origin: Origin) -> Mapping[str, bytes]:
        if origin.commit is not None:
            return source.read_commit(self.root, origin.commit)
        if origin.archive is not None:
            return source.read_archive(self.root, Path(baseline.path).parent / Path(origin.archive).name)
        raise CannotRemake(f"{baseline.name} was measured by code that is in no commit, and no archive has it")

    def _interpreter(self, baseline: Baseline, origin: Origin, changes: Mapping[str, str]) -> str:
        """Return this interpreter if all packages agree, else that of an environment with the ones that differ."""
        if not changes:
            return sys.executable
        pins = tuple(_pin(name, version) for name, version in sorted(changes.items()))
        named = name_packages(changes)
        if not source.is_committed(self.root, Path(baseline.path)):
            raise CannotRemake(
                f"{named} would be installed, but {baseline.name} is not committed on the default branch"
            )
        try:
            python = environment.build(OverlayEnvironment(requirements=pins, is_exact=True), cache=self.cache)
        except InstallFailure as error:
            reason = str(error).partition(" (from versions: ")[0]  # pip lists all that it has
            raise CannotRemake(f"{named} cannot be installed: {reason}") from error
        here = installed_packages(environment.package_folders(python))
        _check_same(dict.fromkeys(origin.packages) | here, origin, what="its environment")
        return str(python)


def installed_packages(folders: Sequence[str]) -> dict[str, str]:
    """Return the version of each package in these folders, by canonical name; of two the first counts, as for an import."""
    packages: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=list(folders)):
        packages.setdefault(canonicalize_name(distribution.name), distribution.version)
    return packages


def _check_same(versions: Mapping[str, Any], origin: Origin, *, what: str) -> None:
    """Raise `CannotRemake` if a package that `versions` names has another version than in the recording."""
    for name, version in origin.packages.items():
        if name in versions and versions[name] != version:
            raise CannotRemake(f"{what} has {name} {versions[name]}, and it was recorded with {version}")


def _label(baseline: Baseline, changes: Mapping[str, str], *, is_other_code: bool) -> str:
    """Name the arm by the baseline's file, and by what differs from this arm."""
    assert baseline.origin is not None, "an arm was made of it"
    commit = baseline.origin.commit
    code = [f"commit {commit[:12]}" if commit else str(baseline.origin.archive)] if is_other_code else []
    packages = [name_packages(changes)] if changes else []
    return f"the arm of {baseline.name} ({', '.join([*code, *packages]) or 'the code and versions of this one'})"


def _pin(name: str, version: str) -> str:
    """Return pip's requirement of one release; a `CannotRemake` for a text that could be anything else."""
    try:
        return f"{canonicalize_name(name, validate=True)}=={Version(version)}"
    except (InvalidName, InvalidVersion) as error:
        raise CannotRemake(f"{name[:40]!r} {version[:40]!r}: expected a package and its version") from error
