"""A stage that names an attention kernel runs this kernel and no other."""


def test_attention(case, gate):
    """Every attention of the denoiser runs the named kernel in a profiled denoising step."""
    if case.spec.attention_kernel is None:
        gate.cannot_judge(
            case.key, "attention", "the stage promises none", f"{case.spec.stage} names no attention kernel"
        )

    expected = case.spec.expected_attention(case.start().structure)
    verdict = gate.facts(case.key, "attention", expected=expected, observed=case.counts())

    gate.check(verdict)
