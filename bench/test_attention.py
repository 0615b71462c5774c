"""A stage that names an attention kernel runs this kernel and no other."""

import pytest


def test_attention(case, gate):
    """Every attention of the denoiser runs the named kernel in a profiled denoising step."""
    if case.spec.attention_kernel is None:
        pytest.skip(
            f"{case.spec.stage} names no attention kernel; the kernels that ran are in the counts of the result file"
        )

    expected = case.spec.expected_attention(case.start().structure)
    verdict = gate.facts(case.key, "attention", expected=expected, observed=case.counts())

    gate.check(verdict)
