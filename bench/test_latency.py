"""Each stage is as fast as in its baseline on this machine."""

import pytest

from speedgate.measure.rounds import worker_clock


@pytest.mark.benchmark(timer=worker_clock)
def test_latency(case, benchmark, gate):
    """The seconds per image are at most those of the baseline plus the tolerance."""
    benchmark.group = case.spec.label

    verdict = gate.latency(case.measure(benchmark))

    gate.check(verdict)
