"""Each stage is as much faster than its parent stage as in the baselines of this machine."""

import pytest

pytestmark = pytest.mark.rounds


def test_ladder(selected_case, runner, gate):
    """The speed-up over the parent stage reaches the ratio of the two baselines, within the tolerance."""
    if gate.machine.device == "cpu":
        gate.cannot_judge(selected_case.key, "ladder", "CPU", "a stage need not be faster than its parent there")
    if gate.is_live:
        gate.cannot_judge(selected_case.key, "ladder", "live comparison", "each stage is judged by the other arm")
    if selected_case.parent is None:
        gate.cannot_judge(
            selected_case.key, "ladder", "first stage", f"{selected_case.stage} has no parent at this workload"
        )

    verdict = gate.ladder(runner.measured(selected_case), runner.measured(selected_case.parent))

    gate.check(verdict)
