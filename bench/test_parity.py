"""Each stage still makes the same picture."""

import pytest


def test_parity(selected_case, parity, gate):
    """SSIM against bf16 lies in the stage's band; the denoiser's first output is as close to fp32 as it may be."""
    if selected_case.workload_override is not None:
        gate.judged_elsewhere(selected_case.key, "parity")
        pytest.skip(
            f"the picture of {selected_case.stage} is judged at the ladder's workload: --stage {selected_case.stage}"
        )

    verdict = parity.judge(selected_case)

    gate.check(verdict)
