"""Each stage still makes the same picture."""

import pytest


def test_parity(recorded, lab, gate):
    """SSIM against bf16 lies in the stage's band; the denoiser's first output is as close to fp32 as it may be."""
    if recorded.workload_override is not None:
        gate.judged_elsewhere(recorded.key, "parity")
        pytest.skip(f"the picture of {recorded.stage} is judged at the ladder's workload: --stage {recorded.stage}")

    verdict = lab.parity(recorded)

    assert gate.accepts(verdict), verdict.sentence
