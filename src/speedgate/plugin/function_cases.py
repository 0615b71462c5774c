"""Measure plain functions with speedgate: a pytest plugin for suites that need no pipelines or stages.

pytest_plugins = ["speedgate.plugin", "speedgate.plugin.function_cases"]

@pytest.mark.parametrize("case", [FunctionCase(sort_a_list)], indirect=True, scope="session")
def test_latency(case, benchmark, gate):
    gate.check(gate.latency(case.measure(benchmark)))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from speedgate.measure.function_target import file_digest
from speedgate.plugin.case_fixtures import CaseFixture, RunnerFixture, open_runner


class FunctionCase:
    """A case that calls one function of a module, without arguments. A worker imports the function's file to call it."""

    compiles = False

    def __init__(self, function: Callable[[], object]) -> None:
        self.file = str(Path(str(inspect.getsourcefile(function))).resolve())
        self.id = function.__name__

    @property
    def key(self) -> str:
        """The case key: the name of the file, the name of the function, and the only workload."""
        return f"{Path(self.file).stem}/{self.id}/call"

    @property
    def __name__(self) -> str:
        """The id of the parameter: pytest takes it from here."""
        return self.id


@pytest.fixture(scope="session")
def runner(request: pytest.FixtureRequest) -> Iterator[RunnerFixture]:
    """Build and measure function cases."""
    with open_runner(
        request.config,
        factory="speedgate.measure.function_target:FunctionTarget",
        arguments=lambda case: {"file": case.file, "name": case.id},
        weights=lambda case: file_digest(case.file),
    ) as opened:
        yield opened


@pytest.fixture(scope="session")
def case(request: pytest.FixtureRequest, runner: RunnerFixture) -> Iterator[CaseFixture[FunctionCase]]:
    """Share a case and its worker between all tests of that case."""
    with runner.live(request.param) as live:
        yield live
