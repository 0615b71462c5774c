"""Regional compilation is ready much sooner than full compilation, and about as fast."""

import pytest

from speedgate.gate.judge import judge_regional

pytestmark = pytest.mark.rounds


def test_regional(selected_case, runner, gate):
    """The first image is ready at least five times sooner than with full compilation; an image takes at most 10 % longer."""
    if selected_case.cold_start_reference is None:
        gate.cannot_judge(
            selected_case.key,
            "regional",
            "the stage promises none",
            f"{selected_case.stage} does not compile regionally",
        )
    if gate.is_live:
        gate.cannot_judge(selected_case.key, "regional", "live comparison", "the other arm runs at the same time")

    reference = selected_case.cold_start_reference
    verdict = judge_regional(runner.measured(selected_case), runner.measured(reference))

    if verdict is None:
        gate.cannot_judge(
            selected_case.key, "regional", "compile cache in another state", f"as {reference.stage} started"
        )
    if gate.machine.device == "cpu":
        gate.cannot_judge(selected_case.key, "regional", "CPU", verdict.sentence)
    gate.check(gate.add(verdict))
