"""Each stage makes the same image as the references."""

import pytest


def test_parity(selected_case, parity, gate):
    """The SSIM with bf16 is in the stage's range, and the error of the first denoising step against fp32 is within its bound."""
    if selected_case.workload_override is not None:
        gate.judged_elsewhere(selected_case.key, "parity")
        pytest.skip(
            f"the image of {selected_case.stage} is judged at the ladder's workload: --stage {selected_case.stage}"
        )

    verdict = parity.judge(selected_case)

    gate.check(verdict)
