"""Each stage makes the same image as the references."""


def test_parity(selected_case, parity, gate):
    """The SSIM with bf16 is in the stage's range, and the error of the first denoising step against fp32 is within its bound."""
    if selected_case.workload_override is not None:
        gate.judged_elsewhere(selected_case.key, "parity")
        gate.cannot_judge(
            selected_case.key,
            "parity",
            "at this workload",
            f"--stage {selected_case.stage} judges the image at the ladder's",
        )

    verdict = parity.judge(selected_case)

    gate.check(verdict)
