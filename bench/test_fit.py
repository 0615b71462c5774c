"""Each stage still fits into the device's memory."""

import pytest


def test_fit(case, gate):
    """A case that fitted in its baseline still fits; a case that ran out of memory there still does, or fits now."""
    verdict = case.fit()

    if verdict is None:
        pytest.skip(f"no baseline and no published figure says if {case.key} fits into memory")
    gate.check(verdict)
