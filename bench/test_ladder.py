"""Each stage is worth its place: as much faster than its parent as the baselines of this machine say."""

import pytest

pytestmark = pytest.mark.rounds


def test_ladder(selected_case, runner, gate):
    """The speed-up over the parent stage reaches the ratio of the two baselines, within the tolerance."""
    if gate.machine.device == "cpu":
        pytest.skip("on a CPU no stage is promised to be faster than its parent: speed-ups are reported, not gated")
    if gate.is_live:
        pytest.skip("the ladder is judged by stored baselines; a live comparison judges each stage by the other arm")
    if selected_case.parent is None:
        pytest.skip(f"{selected_case.stage} is the first stage at this workload: it has no parent to be faster than")

    verdict = gate.ladder(runner.measured(selected_case), runner.measured(selected_case.parent))

    gate.check(verdict)
