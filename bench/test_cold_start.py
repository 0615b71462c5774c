"""Each stage is ready as soon as in its baseline."""

import pytest

pytestmark = pytest.mark.rounds


def test_cold_start(case, gate):
    """Applying the stage and its first image take at most the baseline's time, with the compile cache in the same state."""
    if gate.is_live:
        pytest.skip("a live comparison only reports cold starts: the other arm runs at the same time")

    verdict = gate.cold_start(case.measure())

    if verdict is None:
        pytest.skip(f"the baseline of {case.key} has no cold start with the compile cache in the same state")
    gate.check(verdict)
