"""Each stage needs no more memory than its baseline says."""

import pytest

pytestmark = pytest.mark.rounds


def test_memory(case, gate):
    """The peak over all rounds, reset before each, is within the tolerance of the baseline's."""
    if gate.machine.device == "cpu" and not gate.is_live:
        pytest.skip("a CPU has no allocator peak to reset: the worker's peak resident memory is reported, not gated")

    verdict = gate.memory(case.measure())

    gate.check(verdict)
