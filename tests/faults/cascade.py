"""Faults of one part of a case that runs several diffusers pipelines in a row."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.faults.parts import attentions, scale


@dataclasses.dataclass(frozen=True)
class OnePart:
    """One part of a built case, with what faults look for in a case: its pipeline, its denoiser and its description."""

    pipe: Any
    denoiser: Any
    part: Any


def part_of(case, name):
    """The part of that name."""
    ((part, pipe),) = [(part, pipe) for part, pipe in case.parts if part.name == name]
    return OnePart(pipe, getattr(pipe, part.denoiser), part)


def ignored_prompt(one):
    """The prompt's embedding is the negative prompt's."""
    encode = one.pipeline.encode_prompt
    one.pipeline.encode_prompt = lambda *inputs, **keywords: encode(*inputs, **keywords)[1:] * 2


def prompt_left_out_of_attention(one):
    """The attentions' values of the prompt are nothing: what it adds to the time embedding stays."""
    for attention in attentions(one):
        scale(attention.add_v_proj, 0.0)


def dropped_image(one):
    """The image that is to be enlarged is black for the denoiser."""
    import torch

    def drop(_, inputs):
        kept = inputs[0][:, : one.part.channels]
        black = torch.zeros_like(inputs[0][:, one.part.channels :])
        return (torch.cat([kept, black], dim=1), *inputs[1:])

    one.denoiser.register_forward_pre_hook(drop)


def other_noise_levels(one):
    """The steps are at other noise levels than the reference's."""
    one.pipeline.scheduler.register_to_config(use_karras_sigmas=True)
