"""Another suite can use speedgate without `fixtures`: two functions are measured, recorded and gated."""

import pytest

from speedgate.baselines.promote import promote
from speedgate.measure.machine import resolve_machine
from tests.support.suite import ROOT, red

NAPS = """
import time

now_s = [time.perf_counter()]
if __name__ == "speedgate_function_case":  # in a worker, seconds do not depend on how busy this machine is
    time.perf_counter = lambda: now_s[0]

def short():
    now_s[0] += 0.01

def long():
    now_s[0] += 0.03
"""
SUITE = """
import pytest
import naps
from speedgate.measure.rounds import worker_clock
from speedgate.plugin.function_cases import FunctionCase

@pytest.mark.benchmark(timer=worker_clock)
@pytest.mark.parametrize("case", [FunctionCase(naps.short), FunctionCase(naps.long)], indirect=True, scope="session")
def test_latency(case, benchmark, gate):
    gate.check(gate.latency(case.measure(benchmark)))
"""
PLUGINS = """
import os, sys, tempfile

sys.path[:0] = {paths!r}
tempfile.tempdir = os.getcwd()  # the lock of a recording in here must not hold up another test

pytest_plugins = ["speedgate.plugin", "speedgate.plugin.function_cases"]
"""
QUICK = ("-p", "benchmark", "--rounds=5", "--device=cpu", "--allow-busy")


def test_two_functions_are_measured_recorded_and_gated(pytester, monkeypatch):
    """Recorded and promoted, the unchanged function passes and the one that takes a third longer is one red test."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # plugins of dependencies would take seconds
    (pytester.path / "conftest.py").write_text(PLUGINS.format(paths=[str(ROOT / "src")]))
    (pytester.path / "test_naps.py").write_text(SUITE)
    (pytester.path / "naps.py").write_text(NAPS)

    recorded = pytester.runpytest_subprocess(*QUICK, "--gate=record", "--budget=600", "--processes=3")
    promote(pytester.path / "baselines", resolve_machine("cpu").key)
    (pytester.path / "naps.py").write_text(NAPS.replace("+= 0.03", "+= 0.04"))
    judged = pytester.runpytest_subprocess(*QUICK, "--benchmark-compare", "--max-processes=1", "--tolerance=10")

    assert recorded.ret == pytest.ExitCode.OK
    assert red(judged) == ["test_latency[long]"]
    judged.stdout.re_match_lines([r"SLOWER naps/long/call latency: .* s against .* s in 0001_recorded: .*"])
    judged.stdout.re_match_lines([r"naps/short/call .* PASS$"])
