"""Both arms of a live comparison (--against) build the same thing and make the same picture."""

import pytest

pytestmark = pytest.mark.usefixtures("other_arm")


@pytest.mark.rounds
def test_same_structure(case, gate):
    """The stage has the same structure in both arms: a faster one that left something out is no gain."""
    verdict = gate.facts(
        case.key, "same structure", expected=case.other_run().structure, observed=case.start().structure
    )

    gate.check(verdict)


def test_same_picture(selected_case, parity, gate):
    """The stage's output is as close to fp32 as the other arm's, and the same picture."""
    verdict = parity.judge_arms(selected_case)

    gate.check(verdict)
