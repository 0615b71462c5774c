"""Faults in a model that make a GPU do more, or something else, are red on the code that is generated; harmless changes are not.

Slow, because it needs a CUDA build of torch: `tox -e gpu_code` runs it. A block takes two seconds.
"""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import gelu, linear, silu

from speedgate.gpu_code import claims
from speedgate.gpu_code.claims import Promise
from speedgate.gpu_code.compare import judge_work
from speedgate.results.run import Outcome
from tests.gpu_code.toy import CHANNELS, OPTIONS, Attention, Block, generate, int8

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch"),
]

_CODE = {}


def code_of(block, how):
    """Return the code of a block, which is generated once."""
    key = block, repr(how)
    if key not in _CODE:
        _CODE[key] = generate(block, **how)
    return _CODE[key]


class Unfused(Block):
    """Q, K and V are projected one by one."""

    is_fused = False


class InFloat32(Block):
    """A `.float()` between two bfloat16 layers: the second product takes float32."""

    def feed_forward(self, tokens):
        """Compute the second layer in float32."""
        hidden = gelu(self.up(tokens)).float()
        return linear(hidden, self.down.weight.float(), self.down.bias.float()).bfloat16()


class OnTheCpu(Block):
    """A table stays on the CPU and is copied in each call."""

    def __init__(self):
        super().__init__()
        self.table = torch.empty(CHANNELS, device="cpu")

    def feed_forward(self, tokens):
        """Add the table."""
        return super().feed_forward(tokens + self.table.to(tokens))


class Contiguous(Block):
    """A `.contiguous()` undoes channels_last before a convolution."""

    def convolve(self, image):
        """Convolve an image whose channels come first again."""
        return super().convolve(silu(image).contiguous())


class MathAttention(Block):
    """Attention takes the kernel of plain products and softmax."""

    def attend(self, tokens):
        """Attend with the math kernel."""
        with sdpa_kernel(SDPBackend.MATH):
            return super().attend(tokens)


class Broken(Block):
    """A graph break in the middle."""

    def attend(self, tokens):
        """Break the graph before the attention."""
        torch._dynamo.graph_break()
        return super().attend(tokens)


def all_but_one(block):
    """Leave one layer unquantised."""
    int8(block, accepts=lambda name: name != "down")


WHOLE, INT8 = {}, {"quantise": int8}
# The faulty block, how it is compiled, how the healthy one is, and the part of the verdict that names the fault.
MORE_WORK = {
    "a layer left unquantised": (Block, {"quantise": all_but_one}, INT8, "products of at most 8 bits 4 -> 3"),
    "QKV not fused": (Unfused, WHOLE, WHOLE, "launches 17 -> 19"),
    "a layer in float32": (InFloat32, WHOLE, WHOLE, "products of at most 16 bits 7 -> 6"),
    "a tensor on the CPU": (OnTheCpu, WHOLE, WHOLE, "CPU tensors 0 -> 1"),
    "channels_last undone": (Contiguous, WHOLE, WHOLE, "bytes moved 13.888 MB -> 14.413 MB"),
    "math attention": (MathAttention, WHOLE, WHOLE, "bytes moved 13.888 MB -> 83.619 MB"),
    "an inductor option dropped": (Block, {"options": {}}, WHOLE, "launches 17 -> 18"),
    "no fusion": (Block, {"options": {**OPTIONS, "max_fusion_size": 1}}, WHOLE, "launches 17 -> 19"),
    "a graph break": (Broken, {"fullgraph": False}, WHOLE, "graphs 1 -> 3"),
}


@pytest.mark.parametrize(("block", "how", "before", "reason"), MORE_WORK.values(), ids=MORE_WORK)
def test_a_fault_is_more_work(block, how, before, reason):
    """The comparison with the healthy code is red and names what rose."""
    verdict, _ = judge_work(code_of(block, how), code_of(Block, before), label="the healthy block")

    assert verdict.outcome is Outcome.MORE_WORK
    assert reason in verdict.sentence


PROMISE = {"graphs": 1, "whole_modules": True, "cuda_graphs": True}
FLASH = {**PROMISE, "attentions": 1, "attention_kernel": "flash"}
PRODUCTS = {**PROMISE, "product": "_int_mm", "quantised_layers": 4}
# The claim, what is promised, the faulty block and how it is compiled, how the healthy one is, and what the verdict says.
BROKEN_PROMISES = {
    "quantised": (
        claims.judge_quantised,
        PRODUCTS,
        (Block, {"quantise": all_but_one}),
        INT8,
        "3 layers are quantised, expected 4",
    ),
    "placement": (claims.judge_placement, PROMISE, (OnTheCpu, WHOLE), WHOLE, "denoiser has 1 CPU tensors"),
    "attention": (claims.judge_attention, FLASH, (MathAttention, WHOLE), WHOLE, "none, expected flash x1"),
    "graphs": (claims.judge_graphs, PROMISE, (Broken, {"fullgraph": False}), WHOLE, "3 graphs, expected 1"),
    "counts": (
        lambda code, _: claims.judge_counts(code, claims.counts_of(code_of(Block, WHOLE)), version="2.14"),
        PROMISE,
        (Block, {"options": {}}),
        WHOLE,
        "denoiser.launches",
    ),
}


@pytest.mark.parametrize(("judge", "promise", "faulty", "how", "reason"), BROKEN_PROMISES.values(), ids=BROKEN_PROMISES)
def test_a_broken_promise_is_red_without_a_comparison(judge, promise, faulty, how, reason):
    """The claim about one record is green for the healthy block and red for the faulty one, and says why."""
    verdict = judge(code_of(*faulty), Promise(**promise))

    assert judge(code_of(Block, how), Promise(**promise)).outcome is Outcome.PASS
    assert verdict.outcome is Outcome.NOT_APPLIED
    assert reason in verdict.sentence


@pytest.mark.parametrize(("block", "outcome"), [(Block, Outcome.PASS), (Unfused, Outcome.NOT_APPLIED)])
def test_fused_projections_save_two_products(block, outcome):
    """A fused projection is one product in place of three; a stage whose projections are still separate is red."""
    promise = Promise(**PROMISE, parent="compile", saved_products=2)

    verdict = claims.judge_fused_products(code_of(block, WHOLE), code_of(Unfused, WHOLE), promise)

    assert verdict.outcome is outcome


class Scaled(Block):
    """A layer is scaled by a Python float of the module."""

    def __init__(self):
        super().__init__()
        self.factor = 0.3

    def feed_forward(self, tokens):
        """Scale the layer's output."""
        return super().feed_forward(tokens) * self.factor


@pytest.mark.parametrize(("dynamic", "scalars"), [(None, 0), (True, 1)])
def test_a_number_from_the_cpu_is_no_tensor_there(dynamic, scalars):
    """For sizes that change torch.compile keeps a module's float variable: a kernel gets it by value, and nothing is copied."""
    (module,) = code_of(Scaled, {"dynamic": dynamic}).modules

    assert (module.cpu_scalars, module.cpu_tensors, module.device_copies) == (scalars, 0, 0)


class Renamed(Block):
    """A layer has another name."""

    def __init__(self):
        super().__init__()
        self.widen = self.up
        del self.up

    def feed_forward(self, tokens):
        """Call the layer by its new name."""
        return self.down(gelu(self.widen(tokens)))


class ValuesFirst(Attention):
    """Independent statements stand in another order."""

    def project(self, tokens):
        """Project the values before the queries."""
        value, key = self.to_v(tokens), self.to_k(tokens)
        return self.to_q(tokens), key, value


class Reordered(Unfused):
    """A block whose projections stand in another order."""

    attention_class = ValuesFirst


class CastThereAndBack(Block):
    """A `.float()` within kernels that compute in float32 anyway: nothing is written in float32."""

    def feed_forward(self, tokens):
        """Apply the activation in float32."""
        return self.down(gelu(self.up(tokens).float()).bfloat16())


class Idle(Block):
    """Statements that do nothing at inference."""

    def convolve(self, image):
        """Drop nothing."""
        return torch.nn.functional.dropout(super().convolve(image), training=False)


@pytest.mark.parametrize(
    ("block", "before"), [(Renamed, Block), (Reordered, Unfused), (CastThereAndBack, Block), (Idle, Block)]
)
def test_a_harmless_change_is_left_alone(block, before):
    """The code does the same work to the digit, and no kernel is named as different."""
    verdict, lines = judge_work(code_of(block, WHOLE), code_of(before, WHOLE), label="the healthy block")

    assert verdict.outcome is Outcome.PASS
    assert "equal to the digit" in verdict.sentence
    assert lines == []


def test_epilogue_fusion_is_not_seen():
    """`epilogue_fusion` concerns templates, which are chosen by time: docs/gpu-code.md names it as a limit."""
    off = code_of(Block, {"options": {**OPTIONS, "epilogue_fusion": False}})

    verdict, lines = judge_work(off, code_of(Block, WHOLE), label="the healthy block")

    assert verdict.outcome is Outcome.PASS
    assert lines == []
