"""The arm of a baseline is made again from its commit and its versions, or one line says why not."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from speedgate.baselines import origin, source
from speedgate.measure.worker import WorkerFailure
from speedgate.results.run import Baseline, Origin
from speedgate.versions import environment, remake
from speedgate.versions.environment import IndexFailure, InstallFailure, OverlayEnvironment
from speedgate.versions.remake import ArmMaker, CannotRemake
from tests.support import baseline_samples
from tests.support.git_repository import Repository
from tests.support.stub_index import Index

ROOT = Path(__file__).parents[2]
HERE = {"torch": "2.0", "pluggy": "1.5"}
PRESENT = "d" * 64
PATH = "baselines/cpu/0001_recorded.json"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("template"))


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    repository = template.copied(tmp_path / "clone")
    repository.write({PATH: "{}"})
    return repository


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Replace the worker that imports what a case needs; return the interpreter and paths of each."""
    calls: list[tuple[str, tuple[str, ...]]] = []

    def ask_versions(python: str, *, paths: tuple[str, ...], **_: Any) -> dict[str, Any]:
        calls.append((python, paths))
        return dict(HERE) if python == sys.executable else {}

    monkeypatch.setattr(remake, "ask_versions", ask_versions)
    monkeypatch.setattr(origin, "installed_version", HERE.get)
    return calls


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, asked: list[Any]) -> list[OverlayEnvironment]:
    """Replace pip by one that gets what it is asked for; return the environments that were made."""
    overlays: list[OverlayEnvironment] = []

    def build(overlay: OverlayEnvironment, *, cache: Path) -> Path:
        overlays.append(overlay)
        return cache / "bin" / "python"

    monkeypatch.setattr(environment, "build", build)
    monkeypatch.setattr(
        remake,
        "installed_packages",
        lambda _: HERE | dict(pin.split("==") for pin in overlays[-1].requirements),
    )
    return overlays


def arm_maker(repository: Repository, **fields: Any) -> ArmMaker:
    scratch = repository.root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    values = {"paths": (str(repository.root),), "code_digest": PRESENT, "versions": HERE, "factory": "module:name"}
    return ArmMaker(root=repository.root, scratch=scratch, cache=scratch / "cache", **values | fields)


def make_baseline(repository: Repository, *, has_origin: bool = True, **fields: Any) -> Baseline:
    """Make a baseline that another code of the repository's first commit recorded with the packages of this environment."""
    values = {
        "python": platform.python_version(),
        "packages": HERE,
        "code_digest": "0" * 64,
        "commit": repository.first,
    }
    made_by = Origin(**values | fields) if has_origin else None
    return msgspec.structs.replace(
        baseline_samples.make_baseline(1.0), path=str(repository.root / PATH), origin=made_by
    )


def refusal(repository: Repository, baseline: Baseline) -> str:
    """Return the one line that says why an arm cannot be made."""
    with pytest.raises(CannotRemake) as caught:
        arm_maker(repository).make(baseline)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_code_of_another_commit_is_unpacked_once(repository, asked, monkeypatch):
    """All cases of a commit share its code, and each arm has shown with this interpreter that it imports."""
    repository.commit({"fixtures/__init__.py": "LATER = 1\n"})
    maker = arm_maker(repository)

    arm = maker.make(make_baseline(repository))
    monkeypatch.setattr(source, "read_commit", None)
    assert maker.make(make_baseline(repository)) == arm

    assert asked == [(sys.executable, arm.paths)] * 2
    assert (Path(arm.paths[0]) / "fixtures" / "__init__.py").read_text() == ""
    assert (Path(arm.paths[1]) / "speedgate" / "measure" / "worker.py").read_text() == "VERSION = 1\n"
    assert arm.label == f"the arm of 0001_recorded (commit {repository.first[:12]})"


def test_code_in_no_commit_comes_from_the_archive(repository, asked):
    """The archive beside the baseline is unpacked as it was recorded, whatever the checkout has become."""
    name, data = source.pack(source.read_folders(repository.code))
    (repository.root / PATH).with_name(name).write_bytes(data)
    repository.commit({"fixtures/__init__.py": "LATER = 1\n"})

    arm = arm_maker(repository).make(make_baseline(repository, commit=None, archive=name))

    assert (Path(arm.paths[0]) / "fixtures" / "__init__.py").read_text() == ""
    assert arm.label == f"the arm of 0001_recorded ({name})"


def test_the_same_code_and_versions_are_those_of_this_arm(repository, asked):
    """If only files that do not measure have changed since the recording, this checkout is used as it is."""
    arm = arm_maker(repository).make(make_baseline(repository, code_digest=PRESENT, commit="0" * 40))

    assert (arm.python, arm.paths, arm.versions) == (sys.executable, (str(repository.root),), HERE)
    assert asked == []
    assert arm.label == "the arm of 0001_recorded (the code and versions of this one)"


def test_only_the_packages_that_differ_are_installed(repository, asked, built):
    """Each is pinned to its release, no other package is installed with it, and nothing is built from source."""
    repository.commit({})

    arm = arm_maker(repository).make(make_baseline(repository, packages={**HERE, "torch": "1.9", "gone": "3"}))

    assert built == [OverlayEnvironment(requirements=("gone==3", "torch==1.9"), is_exact=True)]
    assert asked == [(arm.python, arm.paths)] and arm.python != sys.executable
    assert arm.label == f"the arm of 0001_recorded (commit {repository.first[:12]}, torch 1.9, gone 3)"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"has_origin": False}, "0001_recorded does not state its code and its packages; record it again"),
        ({"python": "2.7.18"}, "it was recorded with Python 2.7.18, and this is Python 3."),
        (
            {"commit": "--upload-pack=x"},
            "commit '--upload-pack=x': expected a full name of 40 or 64 hexadecimal digits",
        ),
        ({"commit": "0" * 40}, "commit 000000000000 is not in this clone: fetch it, or it is of another repository"),
        ({"commit": None}, "0001_recorded was measured by code that is in no commit, and no archive has it"),
        ({"commit": None, "archive": "../../x.zip"}, "archive 'x.zip': expected a name as source-0123456789abcdef.zip"),
        ({"packages": {"--index-url=x": "1"}}, "'--index-url=x' '1': expected a package and its version"),
        (
            {"packages": {"torch": "@ https://x/y.whl"}},
            "'torch' '@ https://x/y.whl': expected a package and its version",
        ),
        ({"packages": {"torch": "1.9"}}, "torch 1.9 would be installed, but 0001_recorded is not committed on the"),
    ],
)
def test_a_baseline_that_cannot_be_made_again_is_one_line(repository, built, fields, problem):
    """Each bad origin has its own line, and nothing of it reaches git or pip as an option."""
    assert refusal(repository, make_baseline(repository, **fields)).startswith(problem)
    assert built == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            InstallFailure("No matching distribution found (from versions: 1.0, 1.1)"),
            "torch 1.9 cannot be installed: No matching distribution found",
        ),
        (IndexFailure("the index cannot be reached: x"), "the index cannot be reached: x"),
        (ValueError("python has no pip"), "python has no pip"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache"), "/cache: No space left on device"),
    ],
)
def test_an_environment_that_cannot_be_made_is_one_line(repository, built, monkeypatch, error, line):
    """Wheels that are gone, an index that does not answer, no pip and a full disk are told apart."""
    repository.commit({})
    monkeypatch.setattr(environment, "build", _raise(error))

    assert refusal(repository, make_baseline(repository, packages={"torch": "1.9"})) == line


def test_without_git_no_code_is_read(repository, asked, monkeypatch):
    """The line says what to install."""
    monkeypatch.setenv("PATH", str(repository.root))

    assert refusal(repository, make_baseline(repository)).startswith("git is not installed, or not on PATH")


@pytest.mark.parametrize(
    ("has", "reports", "line"),
    [
        ({"torch": "2.0"}, {}, "its environment has torch 2.0, and it was recorded with 1.9"),
        ({"torch": "1.9"}, {"torch": "2.0"}, "its worker has torch 2.0, and it was recorded with 1.9"),
        ({"torch": "1.9"}, WorkerFailure("No module\n trace"), "its environment does not import: No module"),
    ],
)
def test_an_environment_with_other_versions_is_not_used(repository, built, monkeypatch, has, reports, line):
    """What was installed, and what a worker imports of it, must be what the recording had."""
    repository.commit({})
    answer = _raise(reports) if isinstance(reports, WorkerFailure) else lambda *_, **__: reports
    monkeypatch.setattr(remake, "installed_packages", lambda _: has)
    monkeypatch.setattr(remake, "ask_versions", answer)

    assert refusal(repository, make_baseline(repository, packages={"torch": "1.9"})) == line


def test_half_of_the_code_is_never_used(repository, asked, monkeypatch):
    """A disk that is full while the code is written ends in one line, and the code is whole once there is room again."""
    maker, write_bytes = arm_maker(repository), Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        if path.name == "worker.py":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write_bytes(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        with pytest.raises(CannotRemake, match=r"worker.py: No space left on device$"):
            maker.make(make_baseline(repository))

    arm = maker.make(make_baseline(repository))
    assert (Path(arm.paths[1]) / "speedgate" / "measure" / "worker.py").exists()


PROBE = """
import importlib.metadata

import iniconfig
import speedgate


class Probe:
    def versions(self):
        return {"iniconfig": importlib.metadata.version("iniconfig"), "files": [__file__, speedgate.__file__]}

    def close(self):
        pass
"""


@pytest.mark.slow
def test_a_worker_of_the_arm_has_its_code_and_its_packages(tmp_path, monkeypatch):
    """In a clone of this project, a real worker imports the commit's modules and the recorded version of a package."""
    repository = Repository(tmp_path / "clone")
    shutil.copytree(ROOT / "src" / "speedgate", repository.root / "src" / "speedgate", dirs_exist_ok=True)
    commit = repository.commit({"fixtures/probe.py": PROBE, PATH: "{}"})
    repository.commit({"fixtures/probe.py": "raise ImportError"})
    index = Index(tmp_path / "index")
    index.add("iniconfig", "99.0", requires=["a-package-that-does-not-exist"])
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    baseline = make_baseline(repository, commit=commit, packages={"iniconfig": "99.0"})

    arm = arm_maker(repository, factory="fixtures.probe:Probe").make(baseline)

    code = Path(arm.paths[0])
    assert code.is_relative_to(tmp_path / "scratch")
    assert arm.versions == {
        "iniconfig": "99.0",
        "files": [str(code / "fixtures" / "probe.py"), str(code / "src" / "speedgate" / "__init__.py")],
    }


def _raise(error: Exception) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising
