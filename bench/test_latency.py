"""Each stage is as fast as its baseline on this machine says."""

import pytest

from speedgate.measure.rounds import worker_clock


@pytest.mark.benchmark(timer=worker_clock)
def test_latency(case, benchmark, gate):
    """Seconds per image, as the worker measured them, are not above the baseline's by more than the tolerance."""
    benchmark.group = case.spec.label

    verdict = gate.latency(case.measure(benchmark))

    gate.check(verdict)
