"""The other arm of a live comparison: each kind of refused interpreter or checkout has its own error line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from speedgate.measure.other_arm import checkout_paths, find_interpreter, isolate_packages, resolve_other_arm
from tests.support.suite import environment

ROOT = Path(__file__).parents[2]
HINT = "; name the python of an environment that holds torch and diffusers"


def test_each_kind_of_bad_interpreter_has_its_own_message(tmp_path, monkeypatch):
    """A missing path, a folder, a file that cannot be run, a program that is no Python and an old one differ in the message."""
    monkeypatch.chdir(tmp_path)
    environment(tmp_path / "bare", packages=False)
    (tmp_path / "bench").mkdir()
    (tmp_path / "a-file").touch()
    (tmp_path / "old").write_text("#!/bin/sh\necho Python 3 10\n")
    (tmp_path / "old").chmod(0o755)
    lines = []

    for name in ("nowhere", "bare", "bench", "a-file", "/bin/true", f"{tmp_path}/old"):
        with pytest.raises(ValueError) as raised:
            find_interpreter(name)
        lines.append(str(raised.value))

    assert lines == [
        f"--against nowhere: does not exist{HINT}",
        "--against bare: a folder; name bare/bin/python",
        "--against bench: a folder; name the interpreter in it",
        f"--against a-file: cannot be run{HINT}",
        f"--against /bin/true: is no Python interpreter{HINT}",
        f"--against {tmp_path}/old: is Python 3.10, this suite needs 3.11 or later{HINT}",
    ]


def test_the_path_of_an_interpreter_keeps_its_links(monkeypatch):
    """A bare name is looked up in PATH, and the link of a virtual environment is not followed."""
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin")

    assert find_interpreter("python") == f"{sys.prefix}/bin/python"


def test_a_folder_that_is_no_recent_checkout_is_refused(tmp_path):
    """The message names the package that the folder lacks, or says that its worker module has another place."""
    with pytest.raises(
        ValueError, match=rf"^--against-rootdir \S+: no {tmp_path}/fixtures; name the root of a checkout"
    ):
        checkout_paths(tmp_path)
    for package in ("fixtures", "src/speedgate"):
        (tmp_path / package).mkdir(parents=True)

    with pytest.raises(ValueError, match=r"^--against-rootdir \S+: this checkout is too old"):
        checkout_paths(tmp_path)


@pytest.mark.parametrize(
    ("package", "error"),
    [
        (None, "ModuleNotFoundError: No module named "),
        ("torchao", "ImportError: cannot import name 'Int8DynamicActivationInt8WeightConfig' from 'torchao.quan"),
    ],
)
def test_an_environment_that_cannot_build_a_case_is_refused(tmp_path, package, error):
    """The import error of that side is quoted: a package is missing, or its version lacks what a case needs."""
    python = environment(tmp_path / "other", packages=package is not None)
    if package is not None:
        (site_packages,) = (tmp_path / "other").glob("lib/python*/site-packages")
        (site_packages / package / "quantization").mkdir(parents=True)
        (site_packages / package / "__init__.py").touch()
        (site_packages / package / "quantization" / "__init__.py").touch()

    with pytest.raises(ValueError, match="cannot build a case") as raised:
        resolve_other_arm(
            str(python),
            rootdir=None,
            paths=(str(ROOT), str(ROOT / "src")),
            this_versions={},
            factory="fixtures.worker.meta:ImportCheck",
            log=tmp_path / "other.log",
            timeout_s=300.0,
        )

    line = str(raised.value)
    assert line.startswith(
        f"--against {python}: that side cannot build a case: 'versions' of the worker raised {error}"
    )
    assert line.endswith("; it needs torch, diffusers, torchao and transformers in versions that this suite supports")


def test_a_package_folder_is_narrowed_to_our_packages(tmp_path):
    """The other interpreter gets our packages alone from a folder that also has torch."""
    for name in ("torch", "speedgate", "fixtures", "numpy"):
        (tmp_path / "site-packages" / name).mkdir(parents=True)

    first, links = isolate_packages((str(ROOT), str(tmp_path / "site-packages")), scratch=tmp_path)

    assert first == str(ROOT)
    assert sorted(path.name for path in Path(links).iterdir()) == ["fixtures", "speedgate"]
