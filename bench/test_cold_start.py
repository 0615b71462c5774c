"""Each stage is ready as soon as in its baseline."""

import pytest

pytestmark = pytest.mark.rounds


def test_cold_start(case, gate):
    """Applying the stage and its first image take at most the baseline's time, with the compile cache in the same state."""
    if gate.is_live:
        gate.cannot_judge(case.key, "cold start", "live comparison", "the other arm runs at the same time")

    verdict = gate.cold_start(case.measure())

    if verdict is None:
        has_start = bool(gate.baselines[case.key].cold_starts)
        reason = "compile cache in another state" if has_start else "a published figure has no start"
        gate.cannot_judge(case.key, "cold start", reason, f"the baseline of {case.key} has no such start")
    gate.check(verdict)
