"""Each stage needs no more memory than in its baseline."""

import pytest

pytestmark = pytest.mark.rounds


def test_memory(case, gate):
    """The peak memory of the rounds is at most that of the baseline plus the tolerance."""
    if gate.machine.device == "cpu" and not gate.is_live:
        gate.cannot_judge(case.key, "memory", "CPU", "its peak cannot be reset before each round")

    verdict = gate.memory(case.measure())

    gate.check(verdict)
