"""The arm of a baseline is made again from its commit and its versions, or one line says why not."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from speedgate.baselines import origin
from speedgate.results.run import Baseline, Origin
from speedgate.versions import remake
from speedgate.versions.remake import ArmMaker
from tests.support.git_repository import Repository

HERE = {"torch": "2.0"}
PRESENT = "d" * 64


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "clone")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Replace the worker that imports what a case needs; return the interpreter and paths of each."""
    calls: list[tuple[str, tuple[str, ...]]] = []

    def ask_versions(python: str, *, paths: tuple[str, ...], **_: Any) -> dict[str, Any]:
        calls.append((python, paths))
        return dict(HERE)

    monkeypatch.setattr(remake, "ask_versions", ask_versions)
    monkeypatch.setattr(origin, "_installed_version", HERE.get)
    return calls


def arm_maker(repository: Repository, **fields: Any) -> ArmMaker:
    scratch = repository.root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    values = {"paths": (str(repository.root),), "code_digest": PRESENT, "versions": HERE, "factory": "module:name"}
    return ArmMaker(root=repository.root, scratch=scratch, cache=scratch / "cache", **values | fields)


def baseline(repository: Repository, **fields: Any) -> Baseline:
    """Make a baseline that another code of the repository's first commit recorded with the packages of this environment."""
    values = {
        "python": platform.python_version(),
        "packages": HERE,
        "code_digest": "0" * 64,
        "commit": repository.first,
    }
    return Baseline(
        path=str(repository.root / "baselines" / "cpu" / "0001_recorded.json"),
        gpu_key="cpu",
        case_key="toy/fast/one",
        source="recorded",
        process_medians_s=(1.0, 1.0, 1.0),
        peak_bytes=1,
        fingerprint="0" * 12,
        origin=Origin(**values | fields),
    )


def test_the_code_of_another_commit_is_unpacked_once(repository, asked):
    """All baselines of a commit share an arm with the commit's code, this interpreter, and one worker that shows its imports."""
    repository.commit({"fixtures/__init__.py": "LATER = 1\n"})
    maker = arm_maker(repository)

    arm, again = (maker.make(baseline(repository)) for _ in range(2))

    assert arm is again
    assert asked == [(sys.executable, arm.paths)]
    assert (Path(arm.paths[0]) / "fixtures" / "__init__.py").read_text() == ""
    assert arm.label == f"the arm of 0001_recorded (commit {repository.first[:12]})"


def test_the_same_code_and_versions_are_those_of_this_arm(repository, asked):
    """If only files that do not measure have changed since the recording, this checkout is used as it is."""
    arm = arm_maker(repository).make(baseline(repository, code_digest=PRESENT, commit="0" * 40))

    assert (arm.python, arm.paths, arm.versions) == (sys.executable, (str(repository.root),), HERE)
    assert asked == []
    assert arm.label == "the arm of 0001_recorded (the code and versions of this one)"
