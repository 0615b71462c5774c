"""Each stage is ready as soon as its baseline says."""

import pytest

pytestmark = pytest.mark.rounds


def test_cold_start(case, gate):
    """Applying the stage and its first image take no longer than in the baseline, with the compile cache in the same state."""
    if gate.is_live:
        pytest.skip("the starts of a live comparison are reported, not gated: one arm starts beside the other")

    verdict = gate.cold_start(case.measure())

    if verdict is None:
        pytest.skip(f"the baseline of {case.key} holds no start with the compile cache in the state of this one")
    gate.check(verdict)
