"""The parts of a built case that faults act on."""

from __future__ import annotations


def attentions(case, *kinds):
    """The denoiser's attentions: self (`attn1`), cross (`attn2`) or, unless told, both; those that are both in one."""
    from diffusers.models.attention_processor import Attention

    suffixes = kinds or ("attn1", "attn2")
    named = [(name, module) for name, module in case.denoiser.named_modules() if isinstance(module, Attention)]
    return [module for name, module in named if name.endswith(suffixes) or module.added_kv_proj_dim is not None]


def block(case):
    """The last transformer block of the denoiser's middle."""
    return case.denoiser.mid_block.attentions[0].transformer_blocks[-1]


def linears(case, *, int8=False):
    """The denoiser's linears, or those of them that are quantised."""
    import torch
    from torchao.quantization import Int8Tensor

    found = [module for module in case.denoiser.modules() if isinstance(module, torch.nn.Linear)]
    return [linear for linear in found if isinstance(linear.weight, Int8Tensor)] if int8 else found


def silence(attention):
    """Let an attention add nothing."""
    scale(attention.to_out[0], 0.0)


def scale(module, factor):
    """Multiply what a linear or convolution puts out."""
    module.weight.data.mul_(factor)
    if module.bias is not None:
        module.bias.data.mul_(factor)


def downcast(module):
    """Compute a module in bf16 and hand its output on in fp32."""
    import torch

    module.bfloat16()
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(), *inputs[1:]))
    module.register_forward_hook(lambda _, __, output: output.to(torch.float32))
