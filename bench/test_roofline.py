"""No image is made sooner than the machine can make it."""

import pytest

pytestmark = pytest.mark.rounds


def test_roofline(recorded, lab, operations, ceilings, gate):
    """An image takes at least as long as its operations do at the ceilings that were measured on this machine."""
    counted = operations(recorded)
    if gate.machine.device == "cpu":
        gate.operations(recorded.key, counted)
        pytest.skip("on a CPU no ceiling is measured: how many operations an image takes is reported")

    verdict = gate.roofline(recorded.roofline(lab.measured(recorded), counted, ceilings))

    assert gate.accepts(verdict), verdict.sentence
