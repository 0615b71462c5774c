"""A small network with what a UNet has, and the code that is generated for it in seconds. It needs a CUDA build of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from speedgate.gpu_code.targets import TARGETS
from speedgate.results.gpu_code import GpuCode, QuantisedLayers

BATCH, CHANNELS, HEADS, SIDE = 2, 64, 2, 32
OPTIONS = {"conv_1x1_as_mm": True}


class Attention(nn.Module):
    """Self-attention of an image's pixels, with separate projections or a fused one."""

    def __init__(self, *, is_fused: bool = True) -> None:
        super().__init__()
        self.is_fused = is_fused
        if is_fused:
            self.to_qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        else:
            self.to_q, self.to_k, self.to_v = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.to_out = nn.Linear(CHANNELS, CHANNELS)

    def project(self, tokens: Any) -> Any:
        """Return queries, keys and values."""
        if self.is_fused:
            return self.to_qkv(tokens).chunk(3, -1)
        return self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)

    def forward(self, tokens: Any) -> Any:
        """Attend; tokens are [batch, pixels, channels]."""
        heads = (part.view(*part.shape[:-1], HEADS, -1).transpose(1, 2) for part in self.project(tokens))
        return self.to_out(scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Convolutions, a norm, a 1x1 convolution, an attention and a feed-forward layer, as in a UNet. Faults override a method."""

    attention_class: type[Attention] = Attention
    is_fused = True

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm = nn.GroupNorm(8, CHANNELS)
        self.mix = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.attention = self.attention_class(is_fused=self.is_fused)
        self.up, self.down = nn.Linear(CHANNELS, 4 * CHANNELS), nn.Linear(4 * CHANNELS, CHANNELS)
        self.conv_out = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def convolve(self, image: Any) -> Any:
        """Return the input of the attention, as an image."""
        return self.mix(silu(self.norm(self.conv_in(image))))

    def attend(self, tokens: Any) -> Any:
        """Return the attention's output."""
        return self.attention(tokens)

    def feed_forward(self, tokens: Any) -> Any:
        """Return the feed-forward layer's output."""
        return self.down(gelu(self.up(tokens)))

    def forward(self, image: Any) -> Any:
        """Return an image of the same shape."""
        tokens = self.convolve(image).flatten(2).transpose(1, 2)
        tokens = tokens + self.attend(tokens)
        tokens = tokens + self.feed_forward(tokens)
        return self.conv_out(image + tokens.transpose(1, 2).view(image.shape))


def int8(block: Block, *, accepts: Callable[[str], bool] = lambda name: True) -> None:
    """Quantise the linears whose name is accepted, as the stage `int8` does."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(
        block,
        Int8DynamicActivationInt8WeightConfig(set_inductor_config=False),
        filter_fn=lambda module, name: isinstance(module, nn.Linear) and accepts(name),
    )


def generate(
    make: Callable[[], Block] = Block,
    *,
    quantise: Callable[[Block], None] | None = None,
    options: Mapping[str, Any] = OPTIONS,
    fullgraph: bool = True,
    dynamic: bool | None = None,
) -> GpuCode:
    """Return the code of a block for an A100, in bfloat16 and channels_last."""
    from fixtures.gpu_code.generate import Calls, describe_module
    from speedgate.gpu_code.lowering import Lowering

    with Lowering(TARGETS["a100"]) as low:
        with low.mode, torch.device("cuda"), torch.no_grad():
            block = make().eval().requires_grad_(False).to(torch.bfloat16).to(memory_format=torch.channels_last)
            if quantise is not None:
                quantise(block)
            image = torch.empty(BATCH, CHANNELS, SIDE, SIDE, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
            torch.compile(block, fullgraph=fullgraph, dynamic=dynamic, options=dict(options))(image)
        layers = QuantisedLayers(called=_quantised(block), dead=0, dead_bytes=0) if quantise else None
        return GpuCode(
            case_key="toy/stage/32px-1steps-b1",
            target="a100",
            versions={"torch": torch.__version__},
            modules=(describe_module("denoiser", Calls(count=1, graphs=[(graph, 1) for graph in low.graphs])),),
            quantised=layers,
        )


def _quantised(block: Block) -> int:
    from torchao.quantization import Int8Tensor

    return sum(isinstance(module, nn.Linear) and isinstance(module.weight, Int8Tensor) for module in block.modules())
