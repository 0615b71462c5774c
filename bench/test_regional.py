"""Regional compilation is ready much sooner than the compilation of the whole, and as fast."""

import pytest

from speedgate.gate.judge import judge_regional

pytestmark = pytest.mark.rounds


def test_regional(selected_case, runner, gate):
    """The first image comes at least five times sooner than where the whole is compiled; an image takes 10 % longer at most."""
    if selected_case.slower_start is None:
        pytest.skip(f"{selected_case.stage} is not promised to be ready sooner than another stage")
    if gate.is_live:
        pytest.skip("the starts of a live comparison are reported, not gated: one arm starts beside the other")

    reference = selected_case.slower_start
    verdict = judge_regional(runner.measured(selected_case), runner.measured(reference))

    if verdict is None:
        pytest.skip(f"{selected_case.stage} and {reference.stage} found the compile cache in different states")
    if gate.machine.device == "cpu":
        pytest.skip(f"on a CPU no stage is promised to be ready sooner than another: {verdict.sentence}")
    gate.check(gate.add(verdict))
