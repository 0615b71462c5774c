"""The stages off the ladder: what each is made of, what it tells of itself, and which device has it."""

import dataclasses
import sys

import pytest

from fixtures import regional
from fixtures.built import BuiltCase
from fixtures.case_key import Case
from fixtures.filters import quantises_to_float8
from fixtures.pipelines import pipelines
from fixtures.stages import LADDER, STAGES, inductor_options, process_state
from fixtures.structure import describe
from speedgate.environment import compute_capability
from speedgate.records import Outcome
from tests.baseline_samples import COLD, make_run
from tests.fake_nvml import FakeNvml, answers
from tests.variants import sdxl, skeleton

VARIANTS = [name for name in STAGES if name not in LADDER]
TINY = [
    Case(pipeline=name, size="tiny", stage=stage)
    for name in pipelines()
    for stage in VARIANTS
    if stage in pipelines()[name].sizes["tiny"].bands and Case(pipeline=name, size="tiny", stage=stage).lacks is None
]


def test_the_ladder_is_what_is_left_of_the_variants():
    """Each variant has its parent, and none of them is one of the published chain."""
    parents = {name: STAGES[name].parent for name in VARIANTS}

    assert parents.pop("compile_reduce_overhead") == "fp16"
    assert {"fp16", "fp32_ieee", "compile_dynamic", "compile_regional", "fp8"} <= set(parents)
    assert set(parents.values()) == {"fp32", "sdpa", "fused_qkv"}


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(case, id=case.id, marks=[] if case.pipeline == "sdxl" else pytest.mark.exhaustive)
        for case in TINY
        if case.stage != "fp8"
    ],
)
def test_each_variant_has_the_structure_that_is_promised(variant):
    """Every fact of every variant holds on the tiny pipeline, on the meta device."""
    spec, pipe = skeleton(variant)

    with process_state(variant.stage):
        assert describe(pipe, spec) == variant.expected_structure()


@pytest.mark.parametrize("size", ["full", "tiny"])
@pytest.mark.parametrize("pipeline", sorted({case.pipeline for case in TINY if case.stage == "fp8"}))
def test_the_float8_linears_are_those_that_the_kernel_takes(pipeline, size):
    """Where torchao refuses to quantise because there is no GPU, the filter alone says which linears it would be."""
    promised = Case(pipeline=pipeline, size=size, stage="fp8")
    spec, pipe = skeleton(promised.at("fused_qkv"))
    counted = {
        f"{part.prefixed(name)}.float8_linears": sum(quantises_to_float8(module) for module in model.modules())
        for part, one in spec.each(pipe)
        for name, model in part.models(one).items()
    }

    assert {name: count for name, count in counted.items() if count}.items() <= promised.expected_structure().items()


@pytest.mark.parametrize("stage", ["fp16", "sdpa_flash", "sdpa_math", "int8_weight_only", "fp32_ieee"])
def test_an_intact_variant_passes(judge, stage):
    """Parity lets every variant pass that is what it claims to be and that a CPU has, without compiling it."""
    verdict = judge(stage)

    assert verdict.outcome is Outcome.PASS, verdict.sentence


def test_each_mode_reaches_inductor_as_options():
    """The mode is the stage's own, what is built on `compile` inherits its options, and a CPU gets neither."""
    options = {name: inductor_options(name, device="cuda") for name in VARIANTS}

    assert options["compile_reduce_overhead"] == {"triton.cudagraphs": True}
    assert [options[name] for name in VARIANTS if name.startswith(("compile_d", "compile_reg"))] == [None] * 4
    assert options["int8_weight_only"] == options["fp8"] == inductor_options("compile", device="cuda")
    assert {inductor_options(name, device="cpu") for name in VARIANTS} == {None}


def test_what_a_device_lacks_is_said(monkeypatch):
    """A CPU has neither memory-efficient nor cuDNN attention nor float8, and a GPU needs the compute capability."""
    assert "needs a CUDA GPU" in sdxl("sdpa_cudnn").lacks_on("cpu")
    assert "needs a CUDA GPU" in sdxl("fp8").lacks_on("cpu")
    assert [sdxl(stage).lacks_on("cpu") for stage in (*LADDER, "sdpa_flash", "fp16")] == [None] * 8

    def gpu(*capability):
        answered = answers("idle_h200") | {"nvmlDeviceGetCudaComputeCapability": [list(capability)]}
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(answered))
        return {stage for stage in VARIANTS if sdxl(stage).lacks_on("cuda") and not sdxl(stage).lacks}

    assert gpu(9, 0) == gpu(8, 9) == set()
    assert gpu(8, 0) == {"fp8"}
    assert gpu(7, 5) == {"fp8", "sdpa_flash", "sdpa_cudnn"}
    assert compute_capability() == (7, 5)


def test_a_variant_may_be_missing_from_a_pipeline():
    """PixArt names no repeated blocks, so there is nothing that regional compilation could compile."""
    assert "names no repeated blocks" in Case(pipeline="pixart-alpha", size="tiny", stage="compile_regional").lacks


def test_the_recipe_tells_what_the_ladder_does_not_have():
    """What changes a stage's compilation, attention or process stands in its recipe, and nothing more in the ladder's."""

    def told(stage):
        case = BuiltCase(
            pipeline="sdxl", size="tiny", stage=stage, weights={"source": "synthetic"}, device="cpu", workload=None
        )
        with process_state(stage):
            return case._recipe()

    usual = set(told("int8"))
    assert usual == {"stages", "inductor", "float32_matmul_precision", "workload", "weights"}
    assert told("sdpa_math")["attention"] == "math"
    assert told("compile_dynamic")["dynamic"] is True
    assert told("fp32_ieee")["process"] == {"process.tf32": False}
    assert told("fp32_ieee")["float32_matmul_precision"] == "highest"


@pytest.mark.parametrize(
    ("first_image_s", "seconds", "outcome"),
    [(2.0, 0.44, Outcome.PASS), (4.1, 0.44, Outcome.SLOWER), (2.0, 0.46, Outcome.SLOWER)],
)
def test_regional_compilation_has_to_be_sooner_and_as_fast(first_image_s, seconds, outcome):
    """Five times sooner at its first image and at most 10 % slower passes; one of the two missed does not."""
    start = dataclasses.replace(COLD, apply_s=0.0, first_image_s=20.0)
    whole = dataclasses.replace(make_run("sdxl/compile/a", medians_s=[0.41]), cold_start=start)
    run = dataclasses.replace(
        make_run("sdxl/compile_regional/a", medians_s=[seconds]),
        cold_start=dataclasses.replace(start, first_image_s=first_image_s),
    )

    assert regional.judge(run, whole).outcome is outcome
    warm = dataclasses.replace(start, cache_misses=0, cache_hits=2)
    assert regional.judge(run, dataclasses.replace(whole, cold_start=warm)) is None
