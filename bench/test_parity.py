"""Each stage still makes the same picture."""


def test_parity(recorded, lab, gate):
    """SSIM against bf16 lies in the stage's band; the denoiser's first output is as close to fp32 as it may be."""
    verdict = lab.parity(recorded)

    assert gate.accepts(verdict), verdict.sentence
