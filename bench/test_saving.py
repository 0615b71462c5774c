"""A stage that promises a lower peak has one."""

import pytest

from speedgate.gate.judge import judge_saving

pytestmark = pytest.mark.rounds


def test_saving(selected_case, runner, gate):
    """The peak memory of the rounds is lower than that of the parent stage by the promised part of the denoiser's weights."""
    promised_bytes = selected_case.promised_saving_bytes
    if promised_bytes is None:
        gate.cannot_judge(
            selected_case.key, "saving", "the stage promises none", f"{selected_case.stage} promises no lower peak"
        )
    if gate.machine.device == "cpu":
        gate.cannot_judge(selected_case.key, "saving", "CPU", "its peak cannot be reset before each round")

    parent = runner.measured(selected_case.parent)
    verdict = gate.add(judge_saving(runner.measured(selected_case), parent, least_bytes=promised_bytes))

    gate.check(verdict)
