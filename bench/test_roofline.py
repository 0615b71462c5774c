"""No image is made sooner than the machine can make it."""

import pytest

pytestmark = pytest.mark.rounds


def test_roofline(selected_case, runner, operations, ceilings, gate):
    """An image takes at least as long as its operations do at the ceilings that were measured on this machine."""
    counted = operations(selected_case)
    if gate.machine.device == "cpu":
        gate.operations(selected_case.key, counted)
        pytest.skip("on a CPU no ceiling is measured: how many operations an image takes is reported")

    verdict = gate.roofline(selected_case.roofline(runner.measured(selected_case), counted, ceilings))

    gate.check(verdict)
