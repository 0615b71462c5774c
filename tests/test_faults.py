"""The faults that parity must catch, injected into the tiny pipeline, and the intact stages that it must let pass.

They are the ones for which default initialisation leaves SSIM alone blind. Each acts on a built stage in place.
"""

import dataclasses

import numpy as np
import pytest

from fixtures import parity
from fixtures.pipelines import pipelines
from speedgate.records import Outcome

TINY = pipelines()["sdxl"].sizes["tiny"]


def attentions(case, suffix=("attn1", "attn2")):
    return [module for name, module in case.pipe.unet.named_modules() if name.endswith(suffix)]


def silence(attention):
    attention.to_out[0].weight.data.zero_()
    attention.to_out[0].bias.data.zero_()


def attention_scale(case):
    """Logits 1.5 times too large."""
    for attention in attentions(case):
        attention.to_q.weight.data.mul_(1.5)


def dropped_self_attention(case):
    """One of the self-attentions adds nothing."""
    silence(attentions(case, ("attn1",))[2])


def dropped_cross_attention(case):
    """The prompt is ignored."""
    for attention in attentions(case, ("attn2",)):
        silence(attention)


def swapped_keys_and_values(case):
    """K and V change places everywhere."""
    for attention in attentions(case):
        attention.to_k, attention.to_v = attention.to_v, attention.to_k


def four_bit_weights(case):
    """Every linear's weights rounded to 4 bits, one scale a row."""
    import torch

    for module in case.pipe.unet.modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.data.float()
            scale = weight.abs().amax(dim=1, keepdim=True) / 7
            module.weight.data.copy_((weight / scale).round() * scale)


def last_convolution_too_large(case):
    """The prediction is 2 % too large."""
    case.pipe.unet.conv_out.weight.data.mul_(1.02)
    case.pipe.unet.conv_out.bias.data.mul_(1.02)


def one_scale_per_tensor(case):
    """Activations quantised with one scale for the whole tensor instead of one a token."""
    import torch
    from torchao.quantization import Int8Tensor, PerTensor

    for module in case.pipe.unet.modules():
        if isinstance(module, torch.nn.Linear) and isinstance(module.weight, Int8Tensor):
            kept = module.weight.act_quant_kwargs
            module.weight.act_quant_kwargs = dataclasses.replace(kept, granularity=PerTensor())


def dropped_decoder_attention(case):
    """The VAE's attention adds nothing."""
    silence(case.pipe.vae.decoder.mid_block.attentions[0])


def decoder_too_bright(case):
    """The VAE's last convolution is 2 % too large."""
    case.pipe.vae.decoder.conv_out.weight.data.mul_(1.02)
    case.pipe.vae.decoder.conv_out.bias.data.mul_(1.02)


FAULTS = [
    ("sdpa", dropped_decoder_attention),
    ("sdpa", decoder_too_bright),
    ("int8", decoder_too_bright),
    ("sdpa", attention_scale),
    ("sdpa", dropped_self_attention),
    ("sdpa", dropped_cross_attention),
    ("sdpa", swapped_keys_and_values),
    ("sdpa", four_bit_weights),
    ("sdpa", last_convolution_too_large),
    ("int8", one_scale_per_tensor),
    ("int8", last_convolution_too_large),
]


@pytest.fixture(scope="module")
def references(build, look):
    """fp32 with its precise step, and bf16."""
    return look(build("fp32"), precise=True), look(build("bf16"))


@pytest.fixture
def judge(build, look, references):
    """Build a stage, break it, and judge it by the stage's own band and factor."""

    def verdict(stage, fault=None):
        case = build(stage)
        if fault is not None:
            fault(case)
        output = look(case)
        step_reference, image_reference = references
        figures = parity.compare(output, image_reference=image_reference, step_reference=step_reference)
        return parity.judge(stage, figures, band=TINY.bands[stage], factor=TINY.step_error_factor[stage])

    return verdict


@pytest.mark.parametrize("stage", ["fp32", "bf16", "sdpa", "fused_qkv", "int8"])
def test_an_intact_stage_passes(judge, stage):
    """Parity lets every stage pass that is what it claims to be."""
    verdict = judge(stage)

    assert verdict.outcome is Outcome.PASS, verdict.sentence


@pytest.mark.parametrize(("stage", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_caught(judge, stage, fault):
    """Parity says DIFFERENT for each fault."""
    verdict = judge(stage, fault)

    assert verdict.outcome is Outcome.DIFFERENT, verdict.sentence


def test_an_unquantised_image_is_too_good_for_int8(build, look, references):
    """The upper end of the band: bf16's own image under the name of int8 is DIFFERENT."""
    step_reference, image_reference = references
    figures = parity.compare(image_reference, image_reference=image_reference, step_reference=step_reference)

    verdict = parity.judge("int8", figures, band=TINY.bands["int8"], factor=TINY.step_error_factor["int8"])

    assert verdict.outcome is Outcome.DIFFERENT


def test_nan_is_never_a_pass(references):
    """An image of NaN has no SSIM, and no SSIM is no pass."""
    step_reference, image_reference = references
    broken = dataclasses.replace(image_reference, image=np.full_like(image_reference.image, np.nan))
    figures = parity.compare(broken, image_reference=image_reference, step_reference=step_reference)

    assert parity.judge("bf16", figures, band=(0.0, 1.0), factor=9.0).outcome is Outcome.DIFFERENT
