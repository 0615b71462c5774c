"""Faults of rounding: wrong quantisation, and bf16 in place of fp32."""

from __future__ import annotations

import dataclasses

from tests.faults.modules import downcast, linears
from tests.faults.registry import case_fault


@case_fault("parity", "int8")
def one_scale_per_tensor(case):
    """Activations are quantised with one scale for the whole tensor instead of one scale per token."""
    from torchao.quantization import PerTensor

    for linear in linears(case, int8=True):
        settings = linear.weight.act_quant_kwargs
        linear.weight.act_quant_kwargs = dataclasses.replace(settings, granularity=PerTensor())


@case_fault("parity", "int8")
def one_weight_scale_per_tensor(case):
    """Weights are quantised with one scale for the whole tensor instead of one scale per channel."""
    for linear in linears(case, int8=True):
        weight = linear.weight
        coarse = weight.scale.amax().expand_as(weight.scale)
        weight.qdata.copy_((weight.qdata * (weight.scale / coarse)).round())
        weight.scale.copy_(coarse)


@case_fault("parity", "int8")
def saturated_activations(case):
    """Activations above half of their token's maximum are clipped."""

    def clip(_, inputs):
        bound = inputs[0].abs().amax(dim=-1, keepdim=True) / 2
        return (inputs[0].clamp(-bound, bound), *inputs[1:])

    for linear in linears(case, int8=True):
        linear.register_forward_pre_hook(clip)


@case_fault("parity", "sdpa")
def four_bit_weights(case):
    """The weights of every linear layer are rounded to 4 bits, with one scale per row."""
    for linear in linears(case):
        weight = linear.weight.data.float()
        step = weight.abs().amax(dim=1, keepdim=True) / 7
        linear.weight.data.copy_((weight / step).round() * step)


@case_fault("recipe", "fp32", reason="vae.dtypes is ['bfloat16', 'float32']")
def vae_in_bf16(case):
    """In fp32 the VAE decodes in bf16."""
    downcast(case.pipeline.vae.decoder)


@case_fault("recipe", "fp32", reason="unet.dtypes is ['bfloat16', 'float32']")
def group_norm_in_bf16(case):
    """In fp32 the group norms are computed in bf16."""
    import torch

    for module in case.pipeline.unet.modules():
        if isinstance(module, torch.nn.GroupNorm):
            downcast(module)


@case_fault("parity", "bf16", "sdpa")
def timestep_in_bf16(case):
    """In bf16 the timestep's sine embedding is computed from a timestep in bf16 instead of fp32."""
    case.pipeline.unet.time_proj.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(),))


@case_fault("parity", "sdpa")
def matmul_adds_up_in_bf16(case):
    """Matrix products are summed in bf16, three products at a time, instead of in fp32."""
    import torch

    def forward(linear):
        def add_up(hidden, *_):
            parts = zip(hidden.split(3, dim=-1), linear.weight.split(3, dim=1), strict=True)
            total = sum(torch.nn.functional.linear(*part) for part in parts)
            return total if linear.bias is None else total + linear.bias

        return add_up

    for linear in linears(case):
        linear.forward = forward(linear)
