"""The suite inside a suite: the real `bench/` and plugins, run by pytest in a folder of its own with fake workers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from speedgate.environment import resolve_machine

ROOT = Path(__file__).parents[1]

CONFTEST = """
import sys
sys.path[:0] = {paths!r}

import pytest

pytest_plugins = ["speedgate.plugin", "fixtures.case"]


@pytest.fixture(scope="session")
def worker_factory():
    return "tests.fake_case:FakeCase"
"""


FAKE_PYNVML = """
class NVMLError(Exception): pass
class NVMLError_NotSupported(NVMLError): pass
class Memory: total = 81920 * 2**20
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 1
nvmlDeviceGetHandleByIndex = lambda index: index
nvmlDeviceGetName = lambda handle: "NVIDIA A100-SXM4-80GB"
nvmlDeviceGetMemoryInfo = lambda handle: Memory
nvmlDeviceGetEnforcedPowerLimit = lambda handle: 400_000
nvmlSystemGetDriverVersion = lambda: "580.0"
"""


class Suite:
    """A copy of `bench/` whose workers are `tests.fake_case.FakeCase`."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        shutil.copytree(ROOT / "bench", self.path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
        (self.path / "conftest.py").write_text(CONFTEST.format(paths=[str(ROOT), str(ROOT / "src")]))
        (self.path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
        self.machine = resolve_machine("cpu")
        self.device = "cpu"

    def pretend_a100(self) -> None:
        """Make this machine an A100 of the published key, as far as NVML and torch are asked, with its published file."""
        (self.path / "pynvml.py").write_text(FAKE_PYNVML)
        with (self.path / "conftest.py").open("a") as conftest:
            conftest.write(
                "\nsys.path.insert(0, '.')\nimport fixtures.case\nfixtures.case._check_torch = lambda device: None\n"
            )
        folder = Path("baselines") / "nvidia-a100-sxm4-80gb-400w"
        shutil.copytree(ROOT / folder, self.path / folder)
        self.device = "cuda"

    def misbehave(self, **stages: dict[str, Any]) -> None:
        """What is wrong with which stage in the next run."""
        (self.path / "behaviour.json").write_text(json.dumps(stages))

    def run(self, *arguments: str) -> pytest.RunResult:
        """`pytest bench` without the full-size skeletons, which need torch."""
        return self.pytester.runpytest_subprocess(*self.arguments(*arguments))

    def arguments(self, *arguments: str) -> list[str]:
        return [
            "bench",
            f"--device={self.device}",
            "--results=results",
            "-k",
            "not full_recipe",
            "-p",
            "no:cacheprovider",
            "-ra",
            *arguments,
        ]

    def record(self, *arguments: str) -> pytest.RunResult:
        """Record the whole ladder, as a baseline is."""
        return self.run("--gate=record", "--processes=3", "--rounds=4", *arguments)

    def builds(self) -> list[str]:
        """The stages in the order in which workers built them."""
        return [line.split()[0] for line in (self.path / "builds.log").read_text().splitlines()]

    def result(self, stage: str) -> dict[str, Any]:
        """What the session left on disk of one case."""
        path = self.path / "results" / f"sdxl-tiny__{stage}__64px-4steps-b1.json"
        document: dict[str, Any] = json.loads(path.read_text())
        return document

    def results(self) -> list[str]:
        return sorted(path.name.split("__")[1] for path in (self.path / "results").glob("*.json"))


def red(result: pytest.RunResult) -> list[str]:
    """The ids of the tests that failed, without their folder."""
    lines = [line for line in result.outlines if line.startswith(("FAILED ", "ERROR "))]
    return [line.split()[1].split("::")[-1] for line in lines]
