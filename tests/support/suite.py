"""Run the real `bench/` and its plugins in a nested pytest session, in another folder and with fake workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Any

import pytest

from speedgate.measure.machine import resolve_machine
from speedgate.results.run import Outcome, Verdict

ROOT = Path(__file__).parents[2]

CONFTEST = """
import os
import sys
import tempfile

sys.path[:0] = {paths!r}
tempfile.tempdir = os.getcwd()  # the lock of a recording: only for this folder

import pytest

pytest_plugins = ["speedgate.plugin.hooks", "fixtures.plugin"]


@pytest.fixture(scope="session")
def worker_factory():
    return "tests.support.fake_case:FakeCase"


@pytest.fixture(scope="session")
def handed_weights():
    return None  # fake workers load none
"""


FAKE_IMPORT_CHECK = """
import fixtures.plugin

fixtures.plugin.IMPORT_CHECK = "tests.support.fake_case:FakeImportCheck"
"""


# Plugins of dependencies would cost 0.3 s in each session, so only those that a session names are loaded.
NESTED = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def environment(prefix: Path, *, packages: bool = True) -> Path:
    """Create a virtual environment, with or without the packages of this one; return its interpreter."""
    venv.create(prefix, symlinks=True)
    (site_packages,) = prefix.glob("lib/python*/site-packages")
    if packages:
        (site_packages / "this.pth").write_text(
            "\n".join({sysconfig.get_path(name) for name in ("purelib", "platlib")})
        )
    return prefix / "bin" / "python"


class Suite:
    """A copy of `bench/` whose workers are `tests.support.fake_case.FakeCase`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = dict(NESTED)
        shutil.copytree(ROOT / "bench", path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
        (path / "conftest.py").write_text(CONFTEST.format(paths=[str(ROOT), str(ROOT / "src")]))
        (path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
        self.machine = resolve_machine("cpu")

    def misbehave(self, **stages: dict[str, Any]) -> None:
        """Set the faults of each stage, from the next run on; see `FakeCase`."""
        (self.path / "behaviour.json").write_text(json.dumps(stages))

    def against(self, **stages: dict[str, Any]) -> str:
        """Return the option `--against` of another environment, with the faults of each stage there and its `versions`."""
        prefix = self.path / "other"
        if not prefix.exists():
            environment(prefix)
            with (self.path / "conftest.py").open("a") as conftest:
                conftest.write(FAKE_IMPORT_CHECK)
        (prefix / "behaviour.json").write_text(json.dumps(stages))
        return f"--against={prefix / 'bin' / 'python'}"

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run `pytest bench` and return its exit status and output."""
        started_s = time.monotonic()
        with self.start(*arguments, stderr=subprocess.PIPE) as process:
            output, errors = process.communicate()
        seconds = time.monotonic() - started_s
        return pytest.RunResult(process.returncode, output.splitlines(), errors.splitlines(), seconds)

    def start(self, *arguments: str, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        """Start `pytest bench` in a process group of its own, without the tests that need torch in a meta worker."""
        options = (
            *["bench", "--device=cpu", "--allow-busy", "--results=results", "-ra", "-k"],
            "not full_recipe and not roofline",
        )
        plugins = ("-p", "benchmark", "-p", "no:cacheprovider")
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *plugins, *arguments],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            process_group=0,
        )

    def wait_for_builds(self, count: int) -> list[int]:
        """Wait until so many workers have begun to load a case; return their process ids."""
        log, deadline_s = self.path / "builds.log", time.monotonic() + 120
        while len(lines := log.read_text().splitlines() if log.exists() else []) < count:
            assert time.monotonic() < deadline_s, f"{len(lines)} of {count} workers were started"
            time.sleep(0.02)
        return [int(line.split()[1]) for line in lines]

    def builds(self) -> list[str]:
        """Return the stages in the order in which workers built them."""
        return [line.split()[0] for line in (self.path / "builds.log").read_text().splitlines()]

    def arms(self, stage: str) -> list[str]:
        """Return the arm ("this" or "other") of each worker of a stage, in the order of their start."""
        lines = [line.split() for line in (self.path / "builds.log").read_text().splitlines()]
        return [arm for name, _, arm in lines if name == stage]

    def latency(self, stage: str) -> Verdict:
        """Return the latency verdict in the result file of a stage."""
        (verdict,) = [entry for entry in self.result(stage)["verdicts"] if entry["claim"] == "latency"]
        return Verdict(**verdict | {"outcome": Outcome(verdict["outcome"])})

    def result(self, stage: str) -> dict[str, Any]:
        """Read the result file of a stage."""
        (path,) = (self.path / "results").glob(f"*__{stage}__*.json")
        document: dict[str, Any] = json.loads(path.read_text())
        return document


def red(result: pytest.RunResult) -> list[str]:
    """Return the ids of the tests that failed, without their file."""
    lines = [line for line in result.outlines if line.startswith(("FAILED ", "ERROR "))]
    return [line.split()[1].split("::")[-1] for line in lines]
