"""Noise that a pipeline draws itself: every stage starts from the same, whatever torch draws in its dtype."""

from __future__ import annotations

import pytest

from fixtures.noise import drawn_in_float32
from fixtures.pipelines import pipelines


@pytest.mark.parametrize("pipeline", list(pipelines()))
def test_no_pipeline_draws_in_half_precision(build, monkeypatch, pipeline):
    """Neither the class nor its VAE or scheduler: torch 2.11 would give them another noise than fp32's on a CPU."""
    import torch

    case = build("bf16", pipeline=pipeline)
    drawn, randn = [], torch.randn

    def watched(*arguments, **keywords):
        if keywords.get("generator") is not None:
            drawn.append(keywords.get("dtype"))
        return randn(*arguments, **keywords)

    monkeypatch.setattr(torch, "randn", watched)
    case._image()

    assert set(drawn) <= {None, torch.float32}
    assert drawn, "nothing was seen of what every pipeline or its request draws"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_short_dtype_has_the_noise_of_float32(build, dtype):
    """The numbers are those of float32, rounded, and the generator stands where it would have stood."""
    import torch
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as module
    from diffusers.utils.torch_utils import randn_tensor

    pipe = build("bf16", pipeline="sd15-img2img").pipe
    wide, short = (torch.Generator("cpu").manual_seed(3) for _ in range(2))
    cpu = torch.device("cpu")

    with drawn_in_float32(pipe):
        found = module.randn_tensor((2, 4, 8, 8), generator=short, device=cpu, dtype=getattr(torch, dtype))

    assert torch.equal(found, randn_tensor((2, 4, 8, 8), generator=wide, device=cpu).to(found.dtype))
    assert found.dtype is getattr(torch, dtype)
    assert torch.equal(wide.get_state(), short.get_state())
    assert module.randn_tensor is randn_tensor, "it is put back"
