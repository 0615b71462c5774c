"""Another suite can use speedgate without `fixtures`: two functions with a sleep are measured, recorded and gated."""

import pytest

from speedgate.measure.machine import resolve_machine
from tests.support.suite import ROOT, red

SUITE = """
import time
import pytest
from speedgate.measure.rounds import worker_clock
from speedgate.plugin.function_cases import FunctionCase

def short():
    time.sleep(0.01)

def long():
    time.sleep(0.03)

@pytest.mark.benchmark(timer=worker_clock)
@pytest.mark.parametrize("case", [FunctionCase(short), FunctionCase(long)], indirect=True, scope="session")
def test_latency(case, benchmark, gate):
    gate.check(gate.latency(case.measure(benchmark)))
"""

PLUGINS = """
import os, sys, tempfile

sys.path[:0] = {paths!r}
tempfile.tempdir = os.getcwd()  # the lock of a recording in here must not hold up another test

pytest_plugins = ["speedgate.plugin", "speedgate.plugin.function_cases"]
"""


def test_two_functions_are_measured_recorded_and_gated(pytester):
    """Recorded and promoted, the unchanged function passes and the one that sleeps a third longer is one red test."""
    (pytester.path / "conftest.py").write_text(PLUGINS.format(paths=[str(ROOT / "src")]))
    suite = pytester.path / "test_naps.py"
    suite.write_text(SUITE)

    recorded = pytester.runpytest_subprocess("--gate=record", "--processes=5", "--rounds=5", "--device=cpu")
    key = resolve_machine("cpu").key
    promoted = pytester.run("python", "-m", "speedgate", "promote", key)
    suite.write_text(SUITE.replace("sleep(0.03)", "sleep(0.04)"))
    judged = pytester.runpytest_subprocess("--benchmark-compare", "--rounds=5", "--tolerance=10", "--device=cpu")

    assert (recorded.ret, promoted.ret) == (pytest.ExitCode.OK, 0)
    assert red(judged) == ["test_latency[long]"]
    judged.stdout.re_match_lines([r"SLOWER test_naps/long/call latency: .* s against .* s in 0001_recorded: .*"])
    judged.stdout.re_match_lines([r"test_naps/short/call .* PASS$"])
