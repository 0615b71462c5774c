"""Each claim about generated code fails by its own fault, and by no other difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from speedgate.gpu_code import claims
from speedgate.gpu_code.claims import Promise
from speedgate.results.gpu_code import GpuCode, ModuleCode, QuantisedLayers
from speedgate.results.run import Outcome, Verdict
from tests.support.gpu_codes import make_code, make_kernel, make_module

PROMISE = Promise(
    graphs=2, whole_modules=True, cuda_graphs=True, product="_int_mm", quantised_layers=117, attentions=16,
    parent="compile", saved_products=3, fallbacks={"aten.sort": "no lowering", "aten.mul complex64": "complex numbers"},
)  # fmt: skip
LAYERS = QuantisedLayers(called=76, dead=41, dead_bytes=1_200_000)
EXTERNAL = {"_int_mm int8": 76, "convolution bfloat16": 24, "flash_attention bfloat16": 16}


def int8(**fields: Any) -> ModuleCode:
    """Make the denoiser of an int8 stage."""
    return make_module(**{"external": EXTERNAL, **fields})


def make(module: ModuleCode | None = None, *, layers: QuantisedLayers | None = LAYERS, **decoder: Any) -> GpuCode:
    """Make the code of an int8 stage: a denoiser, and a decoder with an attention kernel of its own."""
    decoder = {"external": {"efficient_attention bfloat16": 1}, **decoder}
    return make_code(module or int8(), make_module("vae_decode", **decoder), quantised=layers)


def parent(products: int = 103) -> GpuCode:
    """Make the code of the parent stage with so many products."""
    return make_code(make_module(external={"mm bfloat16": products}))


JUDGES: Mapping[str, Callable[[GpuCode], Verdict | None]] = {
    "gpu code": claims.judge_generated,
    "gpu graphs": lambda code: claims.judge_graphs(code, PROMISE),
    "gpu placement": lambda code: claims.judge_placement(code, PROMISE),
    "gpu fallbacks": lambda code: claims.judge_fallbacks(code, PROMISE),
    "gpu quantised products": lambda code: claims.judge_quantised(code, PROMISE),
    "gpu fused scale": lambda code: claims.judge_fused_scale(code, PROMISE),
    "gpu fused products": lambda code: claims.judge_fused_products(code, parent(), PROMISE),
    "gpu spills": claims.judge_spills,
    "gpu attention": lambda code: claims.judge_attention(code, PROMISE),
    "gpu CUDA graphs": lambda code: claims.judge_cuda_graphs(code, PROMISE),
}


def judge_all(code: GpuCode) -> dict[str, Verdict]:
    """Judge every claim; return the verdicts that are no PASS."""
    verdicts = [judge(code) for judge in JUDGES.values()]
    return {v.claim: v for v in verdicts if v is not None and v.outcome is not Outcome.PASS}


def test_a_stage_that_keeps_its_promises_passes_every_claim() -> None:
    """No claim is red for the code that is promised, and the layers that nobody calls are counted with their bytes."""
    assert judge_all(make()) == {}
    verdict = claims.judge_quantised(make(), PROMISE)
    assert verdict is not None
    assert verdict.sentence == "each of 76 called layers is one _int_mm; 41 more are never called and hold 1.2 MB"


@pytest.mark.parametrize(
    ("code", "claim", "sentence"),
    [
        (make(int8(graphs=2)), "gpu graphs", "3 graphs, expected 2; denoiser has 2 graphs"),
        (make(int8(graphs=0)), "gpu graphs", "1 graphs, expected 2"),
        (make(int8(cpu_tensors=1)), "gpu placement", "denoiser has 1 CPU tensors"),
        (make(int8(cpu_scalars=7)), "gpu placement", "kernels of denoiser get 7 numbers from the CPU"),
        (make(device_copies=2), "gpu placement", "vae_decode copies 2 times between devices"),
        (
            make(int8(fallbacks={"aten.sort int64": 1, "aten.mul complex64": 1, "aten.unique int64": 2})),
            "gpu fallbacks", "denoiser falls back to aten.unique int64 2 times, and no reason is listed",
        ),
        (
            make(layers=QuantisedLayers(called=76, dead=40, dead_bytes=1)),
            "gpu quantised products", "116 layers are quantised, expected 117",
        ),
        (
            make(layers=None),
            "gpu quantised products",
            "0 layers are quantised, expected 117; 76 products by _int_mm for 0 quantised layers that are called",
        ),
        (
            make(layers=QuantisedLayers(called=77, dead=40, dead_bytes=1)),
            "gpu quantised products", "76 products by _int_mm for 77 quantised layers that are called",
        ),
        (
            make(int8(external={**EXTERNAL, "convolution bfloat16": 25})),
            "gpu fused products", "103 -> 101 products from compile, expected 3 fewer",
        ),
        (make(int8(kernels=(make_kernel("a", spilled_bytes=8),))), "gpu spills", "triton_poi_fused_silu_1 spills 8 bytes"),
        (
            make(int8(external={**EXTERNAL, "flash_attention bfloat16": 15})),
            "gpu attention", "flash x15, expected any kernel but math x16",
        ),
        (make(cudagraph_skips=("cpu device (mul)",)), "gpu CUDA graphs", "vae_decode: cpu device (mul)"),
    ],
)  # fmt: skip
def test_each_fault_fails_its_claim_alone(code: GpuCode, claim: str, sentence: str) -> None:
    """A fault makes one claim NOT_APPLIED, and the sentence has its figures."""
    red = judge_all(code)

    assert {name: verdict.outcome for name, verdict in red.items()} == {f"{claim} on a100": Outcome.NOT_APPLIED}
    assert red[f"{claim} on a100"].sentence == sentence


def test_an_unfused_scale_needs_a_reason() -> None:
    """External int8 products are red where a fusion is promised; with a listed reason the verdict shows it."""
    promise = dataclasses.replace(PROMISE, fused_scale=True)
    reason = dataclasses.replace(promise, unfused_scale="nothing reads the option")
    verdicts = [
        claims.judge_fused_scale(make(), promise),
        claims.judge_fused_scale(make(), reason),
        claims.judge_fused_scale(make(int8(external={})), promise),
    ]

    assert [(v.outcome, v.sentence) for v in verdicts if v] == [
        (Outcome.NOT_APPLIED, "a later kernel multiplies the scale of 76 products, and no reason is listed"),
        (Outcome.PASS, "a later kernel multiplies the scale of 76 products: nothing reads the option"),
        (Outcome.PASS, "no product leaves its scale to a later kernel"),
    ]


def test_numbers_from_the_cpu_may_have_a_reason() -> None:
    """With a listed reason they pass, the verdict shows it, and a tensor on the CPU stays red."""
    promise = dataclasses.replace(PROMISE, cpu_scalars="a size may change")
    verdicts = [
        claims.judge_placement(make(int8(cpu_scalars=7, **fields)), promise) for fields in ({}, {"cpu_tensors": 1})
    ]

    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASS, Outcome.NOT_APPLIED]
    assert verdicts[0].sentence.endswith("; 7 numbers from the CPU: a size may change")


def test_a_named_attention_kernel_is_the_only_one() -> None:
    """If the stage names a kernel, the same number of calls of another one is red."""
    promise = Promise(graphs=2, whole_modules=True, cuda_graphs=False, attentions=16, attention_kernel="efficient")

    verdict = claims.judge_attention(make(), promise)

    assert verdict is not None
    assert (verdict.outcome, verdict.sentence) == (Outcome.NOT_APPLIED, "flash x16, expected efficient x16")


def test_regions_may_have_several_graphs() -> None:
    """A denoiser whose regions are compiled has one graph for each set of shapes."""
    promise = Promise(graphs=4, whole_modules=False, cuda_graphs=False)

    assert claims.judge_graphs(make(int8(graphs=3)), promise).outcome is Outcome.PASS


@pytest.mark.parametrize(("products", "outcome"), [(73, Outcome.PASS), (76, Outcome.NOT_APPLIED)])
def test_each_graph_of_a_denoiser_has_a_product_for_each_layer_that_it_uses(products: int, outcome: Outcome) -> None:
    """Two graphs have each product twice, and a compiler leaves out the layers whose outputs nothing reads."""
    promise = dataclasses.replace(PROMISE, graphs_per_layer=2, unused_layers=3)
    denoiser = make_module(external={"_int_mm int8": products})

    verdict = claims.judge_quantised(make_code(denoiser, denoiser, quantised=LAYERS), promise)

    assert verdict is not None
    assert verdict.outcome is outcome


def test_a_claim_without_a_promise_or_a_fact_is_not_judged() -> None:
    """Nothing is judged that a stage does not promise, or that was not compiled to machine code."""
    nothing = Promise(graphs=2, whole_modules=True, cuda_graphs=False)
    code = make(int8(kernels=(make_kernel("a", spilled_bytes=None),)))

    assert claims.judge_quantised(code, nothing) is None
    assert claims.judge_fused_products(code, parent(), nothing) is None
    assert claims.judge_attention(code, nothing) is None
    assert claims.judge_cuda_graphs(code, nothing) is None
    assert claims.judge_spills(code) is None


def test_unknown_code_is_never_a_pass() -> None:
    """Code that could not be generated is UNKNOWN with its reason, and so is what is compared with an unknown parent."""
    unknown = make_code(unknown="a stub does not fit", modules=())
    fused = claims.judge_fused_products(make(), unknown, PROMISE)

    assert fused is not None
    assert [(v.outcome, v.sentence) for v in (claims.judge_generated(unknown), fused)] == [
        (Outcome.UNKNOWN, "a stub does not fit"),
        (Outcome.UNKNOWN, "compile is unknown: a stub does not fit"),
    ]


def test_counts_are_exact() -> None:
    """Equal counts pass; another count, a fact that is gone and one that is new are red; without stored counts nothing is."""
    stored = claims.counts_of(make())
    changed = {**stored, "denoiser.moved_bytes": 4_000_001, "denoiser.gone": 1}
    changed.pop("quantised")

    outcomes = [claims.judge_counts(make(), expected, version="2.14.1") for expected in (stored, changed, None)]

    assert [verdict.outcome for verdict in outcomes] == [Outcome.PASS, Outcome.NOT_APPLIED, Outcome.NO_BASELINE]
    assert "denoiser.moved_bytes is 4000000, expected 4000001; denoiser.gone is missing, expected 1" in (
        outcomes[1].sentence
    )
    assert "quantised is {'called': 76" in outcomes[1].sentence
    assert outcomes[2].sentence == "no counts are stored for torch 2.14.1: --regen-expected writes them"


def test_modules_of_one_name_are_counted_apart() -> None:
    """A module that is called with two sets of shapes has counts for each."""
    counts = claims.counts_of(make_code(make_module(), make_module(moved_bytes=5)))

    assert (counts["denoiser.moved_bytes"], counts["denoiser#2.moved_bytes"]) == (4_000_000, 5)


def test_a_fallback_that_is_allowed_in_one_dtype_is_seen_in_another():
    """A reason that holds for complex numbers excuses no other product."""
    code = make(int8(fallbacks={"aten.mul complex64": 1, "aten.mul bfloat16": 2}))

    verdict = claims.judge_fallbacks(code, PROMISE)

    assert verdict.outcome is Outcome.NOT_APPLIED
    assert verdict.sentence.endswith("denoiser falls back to aten.mul bfloat16 2 times, and no reason is listed")
