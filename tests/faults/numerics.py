"""Faults of the numbers: the pipeline makes another image than the stage's reference."""

from __future__ import annotations

import dataclasses

from fixtures.weights.synthetic import last_layer
from tests.faults.modules import attentions, block, scale, silence
from tests.faults.registry import case_fault


@case_fault("parity", "sdpa")
def attention_scale(case):
    """Attention logits are 1.5 times too large."""
    for attention in attentions(case):
        scale(attention.to_q, 1.5)


@case_fault("parity", "sdpa")
def causal_mask(case):
    """Self-attention sees earlier positions only."""
    import torch

    def mask(attention, inputs, keywords):
        tokens = inputs[0].shape[1]
        forbidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        bias = torch.zeros(tokens, tokens, dtype=inputs[0].dtype).masked_fill(forbidden, -1e4)
        return inputs, keywords | {"attention_mask": bias.expand(inputs[0].shape[0] * attention.heads, -1, -1)}

    for attention in attentions(case, "attn1"):
        attention.register_forward_pre_hook(mask, with_kwargs=True)


@case_fault("parity", "sdpa")
def masked_prompt(case):
    """Cross-attention does not see the last ten tokens."""
    for attention in attentions(case, "attn2"):
        attention.register_forward_pre_hook(
            lambda _, inputs, keywords: (
                inputs,
                keywords | {"encoder_hidden_states": keywords["encoder_hidden_states"][:, :-10]},
            ),
            with_kwargs=True,
        )


@case_fault("parity", "sdpa")
def dropped_self_attention(case):
    """One of the self-attentions adds nothing."""
    silence(attentions(case, "attn1")[2])


@case_fault("parity", "sdpa")
def dropped_cross_attention(case):
    """The prompt is ignored."""
    for attention in attentions(case, "attn2"):
        silence(attention)


@case_fault("parity", "sdpa")
def dropped_block(case):
    """One transformer block is skipped."""
    block(case).forward = lambda hidden, **_: hidden


@case_fault("parity", "sdpa")
def swapped_keys_and_values(case):
    """Keys and values are swapped in every attention."""
    for attention in attentions(case):
        attention.to_k, attention.to_v = attention.to_v, attention.to_k


@case_fault("parity", "sdpa", "int8")
def last_convolution_too_large(case):
    """The denoiser's last convolution is 2 % too large."""
    scale(last_layer(case.denoiser), 1.02)


@case_fault("parity", "sdpa", "int8")
def decoder_too_bright(case):
    """The VAE's last convolution is 2 % too large."""
    scale(case.pipeline.vae.decoder.conv_out, 1.02)


@case_fault("parity", "bf16", "sdpa")
def dropped_decoder_attention(case):
    """The VAE's attention adds nothing."""
    silence(case.pipeline.vae.decoder.mid_block.attentions[0])


@case_fault("parity", "sdpa")
def vae_scaling(case):
    """The latents are scaled by SD 1.5's factor instead of SDXL's."""
    case.pipeline.vae.register_to_config(scaling_factor=0.18215)


@case_fault("parity", "sdpa")
def swapped_colours(case):
    """Red and blue are swapped in the image."""
    postprocess = case.pipeline.image_processor.postprocess
    case.pipeline.image_processor.postprocess = lambda image, **keywords: postprocess(image.flip(1), **keywords)


@case_fault("parity", "sdpa")
def seed_drift(case):
    """The noise is that of the next seed."""
    case.workload = dataclasses.replace(case.workload, seed=case.workload.seed + 1)


@case_fault("parity", "sdpa")
def noise_drawn_anew(case):
    """The pipeline draws its own noise instead of taking the one that it was given."""
    import torch

    def prepare(batch, channels, height, width, dtype, device, generator, latents):
        return torch.randn(latents.shape, generator=torch.Generator().manual_seed(99)).to(dtype)

    case.pipeline.prepare_latents = prepare


@case_fault("parity", "sdpa")
def scheduler_off_by_one(case):
    """The timesteps are too low by one of a thousand: `steps_offset` 0 instead of 1."""
    case.pipeline.scheduler.register_to_config(steps_offset=0)


@case_fault("parity", "sdpa")
def sigmas_off_by_one(case):
    """Each step uses the noise level of the next one."""
    import torch

    set_timesteps = case.pipeline.scheduler.set_timesteps

    def shifted(*args, **keywords):
        set_timesteps(*args, **keywords)
        sigmas = case.pipeline.scheduler.sigmas
        case.pipeline.scheduler.sigmas = torch.cat([sigmas[1:-1], sigmas[-2:]]).clamp(min=1e-3)

    case.pipeline.scheduler.set_timesteps = shifted


@case_fault("parity", "sdpa")
def swapped_guidance(case):
    """Guidance is reversed: the image is led away from the prompt."""
    encode = case.pipeline.encode_prompt

    def swapped(**keywords):
        prompt, negative, pooled, negative_pooled = encode(**keywords)
        return negative, prompt, negative_pooled, pooled

    case.pipeline.encode_prompt = swapped


@case_fault("parity", "sdpa")
def wrong_image_size(case):
    """The denoiser is told that the image was cropped out of a larger one."""
    ids = case.pipeline._get_add_time_ids
    case.pipeline._get_add_time_ids = lambda size, crop, target, **keywords: ids(
        (256, 256), (64, 64), target, **keywords
    )


@case_fault("parity", "fused_qkv")
def stale_fused_weights(case):
    """The fused projection keeps the old weights of Q after an update by 10 %."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for attention in attentions(case, "attn1"):
        weight = attention.to_qkv.weight.data[: attention.to_q.out_features]
        weight.add_(0.1 * weight.std() * torch.randn(weight.shape, generator=generator).to(weight.dtype))


@case_fault("parity", "sdpa")
def nan_in_one_weight(case):
    """One weight of the denoiser is not a number."""
    case.pipeline.unet.conv_out.weight.data[0, 0, 0, 0] = float("nan")
