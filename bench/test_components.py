"""No component of an image is slower than in its baseline on this machine."""

import pytest

pytestmark = pytest.mark.rounds


def test_components(case, gate):
    """Each component, and the rest of the image, takes at most the seconds of the baseline plus the tolerance."""
    verdict = gate.components(case.measure())

    if verdict is None:
        gate.cannot_judge(
            case.key, "components", "no components", f"{case.key} or its baseline has no seconds of components"
        )
    gate.check(verdict)
