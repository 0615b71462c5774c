"""In a live comparison (--against), both arms build the same structure and make the same image."""

import pytest

pytestmark = pytest.mark.usefixtures("other_arm")


@pytest.mark.rounds
def test_same_structure(case, gate):
    """The stage has the same structure in both arms, so that no arm is faster because it leaves something out."""
    verdict = gate.facts(
        case.key, "same structure", expected=case.other_run().structure, observed=case.start().structure
    )

    gate.check(verdict)


def test_same_picture(selected_case, parity, gate):
    """The stage's output is as close to fp32 as the other arm's, and its image is the same."""
    verdict = parity.judge_arms(selected_case)

    gate.check(verdict)
