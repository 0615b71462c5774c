"""Both arms of a live comparison (--against) build the same thing and make the same picture."""

import pytest

pytestmark = pytest.mark.usefixtures("other_arm")


@pytest.mark.rounds
def test_same_structure(case, gate):
    """The stage has the same structure in both arms: a faster one that left something out is no gain."""
    verdict = gate.facts(case.key, "same structure", expected=case.other().structure, observed=case.start().structure)

    assert gate.accepts(verdict), verdict.sentence


def test_same_picture(recorded, lab, gate):
    """The stage's output is as close to fp32 as the other arm's, and the same picture."""
    verdict = lab.same_picture(recorded)

    assert gate.accepts(verdict), verdict.sentence
