"""Each stage is as much faster than its parent stage as in the baselines of this machine."""

import pytest

pytestmark = pytest.mark.rounds


def test_ladder(selected_case, runner, gate):
    """The speed-up over the parent stage reaches the ratio of the two baselines, within the tolerance."""
    if gate.machine.device == "cpu":
        pytest.skip("speed-ups are only reported on a CPU: a stage need not be faster than its parent there")
    if gate.is_live:
        pytest.skip("the ladder is judged with baselines; a live comparison judges each stage with the other arm")
    if selected_case.parent is None:
        pytest.skip(f"{selected_case.stage} is the first stage at this workload: it has no parent")

    verdict = gate.ladder(runner.measured(selected_case), runner.measured(selected_case.parent))

    gate.check(verdict)
