"""Faults in one part of a case that runs several diffusers pipelines in a row."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.faults.modules import attentions, scale


@dataclasses.dataclass(frozen=True)
class BuiltPart:
    """One part of a built case with the attributes of a case that faults use."""

    pipeline: Any
    denoiser: Any
    part: Any


def part_of(case, name):
    """Return the part of that name."""
    ((part, pipeline),) = [(part, pipeline) for part, pipeline in case.parts if part.name == name]
    return BuiltPart(pipeline, getattr(pipeline, part.denoiser), part)


def ignored_prompt(built):
    """The prompt's embedding is replaced by the negative prompt's."""
    encode = built.pipeline.encode_prompt
    built.pipeline.encode_prompt = lambda *inputs, **keywords: encode(*inputs, **keywords)[1:] * 2


def prompt_left_out_of_attention(built):
    """The attentions' values of the prompt are zero; its part in the time embedding stays."""
    for attention in attentions(built):
        scale(attention.add_v_proj, 0.0)


def dropped_image(built):
    """The denoiser sees black in place of the image to enlarge."""
    import torch

    def drop(_, inputs):
        latents = inputs[0][:, : built.part.channels]
        black = torch.zeros_like(inputs[0][:, built.part.channels :])
        return (torch.cat([latents, black], dim=1), *inputs[1:])

    built.denoiser.register_forward_pre_hook(drop)


def other_noise_levels(built):
    """The steps use other noise levels than the reference."""
    built.pipeline.scheduler.register_to_config(use_karras_sigmas=True)
