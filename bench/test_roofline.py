"""No image is made faster than the machine can make it."""

import pytest

pytestmark = pytest.mark.rounds


def test_roofline(selected_case, runner, operations, ceilings, gate):
    """An image takes at least as long as its operations take at the peak throughput that was measured on this machine."""
    counted = operations(selected_case)
    if gate.machine.device == "cpu":
        gate.operations(selected_case.key, counted)
        gate.cannot_judge(selected_case.key, "roofline", "CPU", "peak throughput is not measured there")

    verdict = gate.roofline(selected_case.roofline(runner.measured(selected_case), counted, ceilings))

    gate.check(verdict)
