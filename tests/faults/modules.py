"""Find and edit the modules of a built case that faults act on."""

from __future__ import annotations


def attentions(case, *kinds):
    """Return the denoiser's attentions: self (`attn1`), cross (`attn2`) or both by default, and those that combine both."""
    from diffusers.models.attention_processor import Attention

    suffixes = kinds or ("attn1", "attn2")
    named = [(name, module) for name, module in case.denoiser.named_modules() if isinstance(module, Attention)]
    return [module for name, module in named if name.endswith(suffixes) or module.added_kv_proj_dim is not None]


def block(case):
    """Return the last transformer block in the middle of the denoiser."""
    return case.denoiser.mid_block.attentions[0].transformer_blocks[-1]


def linears(case, *, int8=False):
    """Return the denoiser's linear layers, or only the quantised ones."""
    import torch
    from torchao.quantization import Int8Tensor

    layers = [module for module in case.denoiser.modules() if isinstance(module, torch.nn.Linear)]
    return [layer for layer in layers if isinstance(layer.weight, Int8Tensor)] if int8 else layers


def silence(attention):
    """Make an attention add nothing."""
    scale(attention.to_out[0], 0.0)


def scale(module, factor):
    """Multiply the output of a linear layer or convolution."""
    module.weight.data.mul_(factor)
    if module.bias is not None:
        module.bias.data.mul_(factor)


def downcast(module):
    """Compute a module in bf16 and return its output in fp32."""
    import torch

    module.bfloat16()
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(), *inputs[1:]))
    module.register_forward_hook(lambda _, __, output: output.to(torch.float32))
