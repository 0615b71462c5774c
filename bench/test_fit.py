"""Each stage fits into the device's memory if it did before."""

import pytest


def test_fit(case, gate):
    """A case that fitted in its baseline still does; one that is known to run out of memory does so, or has come to fit."""
    verdict = case.fit()

    if verdict is None:
        pytest.skip(f"nothing is known of whether {case.key} fits: no stored baseline or published figure says so")
    gate.check(verdict)
