"""A stage that promises an attention kernel has no other."""

import pytest


def test_attention(case, gate):
    """Every attention of the denoiser ran the promised kernel in a profiled denoising step."""
    expected = case.spec.expected_attention(case.start().structure)
    if expected is None:
        pytest.skip(f"{case.spec.stage} promises no attention kernel: which of them ran is kept with its counts")

    verdict = gate.facts(case.key, "attention", expected=expected, observed=case.counts())

    gate.check(verdict)
