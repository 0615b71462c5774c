"""Regional compilation is ready much sooner than the compilation of the whole, and as fast."""

import pytest

pytestmark = pytest.mark.rounds


def test_regional(recorded, lab, gate):
    """The first image comes at least five times sooner than where the whole is compiled; an image takes 10 % longer at most."""
    if recorded.slower_start is None:
        pytest.skip(f"{recorded.stage} is not promised to be ready sooner than another stage")
    if gate.against is not None:
        pytest.skip("the starts of a live comparison are reported, not gated: one arm starts beside the other")

    verdict = lab.regional(recorded)

    if verdict is None:
        pytest.skip(f"{recorded.stage} and {recorded.slower_start.stage} found the compile cache in different states")
    if gate.machine.device == "cpu":
        pytest.skip(f"on a CPU no stage is promised to be ready sooner than another: {verdict.sentence}")
    assert gate.accepts(gate.add(verdict)), verdict.sentence
