"""The ladder: what each stage is made of, in which order it is applied, and that it leaves no global behind."""

import dataclasses

import pytest

from fixtures import stages
from fixtures.case_key import Case
from fixtures.filters import SKIPPED_SHAPES, converts_to_linear, quantises
from fixtures.pipelines import pipelines
from fixtures.stages import STAGES, Phase, apply, dtype_of, inductor_options, lineage
from fixtures.structure import describe

LADDER = ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]


SDXL = pipelines()["sdxl"]


def skeleton(size="tiny"):
    import torch

    with torch.device("meta"):
        return SDXL.sizes[size].skeleton()


def test_the_ladder_is_the_published_chain():
    """Six stages, each on top of the one before."""
    assert [stage.name for stage in lineage("int8")] == LADDER
    assert list(stages.LADDER) == LADDER
    assert list(STAGES)[: len(LADDER)] == LADDER


def test_the_dtype_is_inherited():
    """fp32 is float32, everything above bf16 is bfloat16."""
    assert [dtype_of(name) for name in LADDER] == ["float32", *["bfloat16"] * 5]


def test_inductor_gets_the_mode_and_the_published_flags_on_cuda():
    """The options are max-autotune's own with the published flags that are alive; int8 adds its one."""
    compiled, int8 = (inductor_options(name, device="cuda") for name in ("compile", "int8"))

    assert compiled == {
        "max_autotune": True,
        "triton.cudagraphs": True,
        "coordinate_descent_tuning": True,
        "conv_1x1_as_mm": True,
        "epilogue_fusion": False,
        "coordinate_descent_check_all_directions": True,
    }
    assert int8 == {**compiled, "force_fuse_int_mm_with_mul": True}


def test_every_inductor_option_is_one_that_this_torch_knows():
    """A flag that inductor has dropped would be an error at compile time; it is one here."""
    import torch._inductor.config as known

    options = inductor_options("int8", device="cuda")

    assert set(options) <= set(known.get_config_copy())


def test_a_cpu_compiles_in_the_default_mode():
    """No option is passed on a CPU."""
    assert inductor_options("int8", device="cpu") is None


def test_steps_are_applied_by_phase_whatever_stage_they_belong_to(monkeypatch):
    """Fusing comes before the layout, quantising after it, compiling last, though the ladder has them otherwise."""
    applied = []
    names = list(STAGES)
    for name in names:
        steps = tuple(
            (phase, lambda *_, name=name, phase=phase: applied.append((name, phase))) for phase, _ in STAGES[name].steps
        )
        monkeypatch.setitem(STAGES, name, dataclasses.replace(STAGES[name], steps=steps))

    apply(object(), SDXL, "int8", device="cpu")

    assert applied == [
        ("fp32", Phase.ATTENTION),
        ("sdpa", Phase.ATTENTION),
        ("fused_qkv", Phase.FUSE),
        ("compile", Phase.LAYOUT),
        ("int8", Phase.QUANTISE),
        ("compile", Phase.COMPILE),
    ]


@pytest.mark.parametrize("stage", LADDER)
def test_the_tiny_pipeline_has_the_structure_that_is_promised(stage):
    """Every fact of every stage holds on the tiny pipeline, on the meta device."""
    import torch

    pipe = skeleton()
    pipe.to(dtype=getattr(torch, dtype_of(stage)))
    apply(pipe, SDXL, stage, device="cpu")

    assert describe(pipe, SDXL) == Case(pipeline="sdxl", size="tiny", stage=stage).expected_structure()


def break_quantisation(monkeypatch):
    monkeypatch.setitem(STAGES, "int8", dataclasses.replace(STAGES["int8"], steps=()))


def break_fusing(monkeypatch):
    monkeypatch.setitem(STAGES, "fused_qkv", dataclasses.replace(STAGES["fused_qkv"], steps=()))


def break_layout(monkeypatch):
    steps = tuple(step for step in STAGES["compile"].steps if step[0] is not Phase.LAYOUT)
    monkeypatch.setitem(STAGES, "compile", dataclasses.replace(STAGES["compile"], steps=steps))


def break_compiling(monkeypatch):
    steps = tuple(step for step in STAGES["compile"].steps if step[0] is not Phase.COMPILE)
    monkeypatch.setitem(STAGES, "compile", dataclasses.replace(STAGES["compile"], steps=steps))


def break_attention(monkeypatch):
    monkeypatch.setitem(STAGES, "sdpa", dataclasses.replace(STAGES["sdpa"], steps=()))


@pytest.mark.parametrize(
    ("broken", "stage", "facts"),
    [
        (break_quantisation, "int8", {"unet.int8_linears", "vae.int8_linears"}),
        (break_fusing, "fused_qkv", {"unet.fused_attention", "unet.attention", "unet.linears", "unet.parameters"}),
        (break_layout, "compile", {"unet.channels_last", "vae.channels_last", "vae.swapped_convolutions"}),
        (break_compiling, "compile", {"unet.compiled", "vae.compiled"}),
        (break_attention, "sdpa", {"unet.attention", "vae.attention"}),
    ],
)
def test_a_stage_that_was_skipped_is_seen_in_its_facts(monkeypatch, broken, stage, facts):
    """Leaving out what a stage does changes the facts that its recipe test compares."""
    import torch

    broken(monkeypatch)
    pipe = skeleton()
    pipe.to(dtype=getattr(torch, dtype_of(stage)))
    apply(pipe, SDXL, stage, device="cpu")
    observed, expected = describe(pipe, SDXL), Case(pipeline="sdxl", size="tiny", stage=stage).expected_structure()

    wrong = {name for name in expected if observed[name] != expected[name]}

    assert facts <= wrong


def test_applying_a_stage_leaves_no_global_changed():
    """Inductor's settings and the matmul precision are after int8 what they were before."""
    import torch
    import torch._inductor.config as inductor

    before = inductor.get_config_copy(), torch.get_float32_matmul_precision()
    pipe = skeleton()
    pipe.to(dtype=torch.bfloat16)
    apply(pipe, SDXL, "int8", device="cuda")

    assert (inductor.get_config_copy(), torch.get_float32_matmul_precision()) == before


def test_the_int8_filter_is_the_published_one():
    """Linears of at most 16 inputs and the nineteen listed shapes are left alone; everything else is quantised."""
    import torch

    assert len(SKIPPED_SHAPES) == 19
    with torch.device("meta"):
        assert not any(quantises(torch.nn.Linear(*shape)) for shape in SKIPPED_SHAPES)
        assert not quantises(torch.nn.Linear(16, 64))
        assert not quantises(torch.nn.Conv2d(64, 64, 1))
        assert quantises(torch.nn.Linear(17, 64))
        assert quantises(torch.nn.Linear(1280, 1280))
        assert quantises(torch.nn.Linear(5120, 640))


@pytest.mark.parametrize(
    ("shape", "kernel", "converted"),
    [((128, 64), 1, True), ((64, 128), 1, True), ((64, 64), 1, False), ((128, 128), 3, False)],
)
def test_the_convolution_filter_is_the_published_one(shape, kernel, converted):
    """A 1x1 convolution with 128 channels on either side becomes a linear."""
    import torch

    with torch.device("meta"):
        assert converts_to_linear(torch.nn.Conv2d(*shape, kernel)) is converted
