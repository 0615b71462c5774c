"""A stage off the ladder that is not what it promises is caught, and what is private to torch is still there."""

import dataclasses
from types import SimpleNamespace

import pytest

from fixtures import kernels
from fixtures.live import OTHER_PROMPT, OTHER_SEED, LiveCase
from fixtures.stage import Phase
from fixtures.stages import STAGES, process_state
from fixtures.steps import attend_with
from fixtures.structure import describe
from fixtures.torch_state import is_compiled_in_place
from speedgate import gate
from speedgate.environment import resolve_machine
from speedgate.records import Outcome
from tests.variants import sdxl, skeleton


def recipe(case, observed):
    """The verdict of the recipe test."""
    return gate.judge_facts(
        case.key, "recipe", expected=case.expected_structure(), observed=observed, outcome=Outcome.NOT_APPLIED
    )


def live(case, structure):
    """A live case that has been started, as far as expectations read it."""
    session = SimpleNamespace(runs={case.key: SimpleNamespace(structure=structure)}, machine=resolve_machine("cpu"))
    return LiveCase(case=case, lab=SimpleNamespace(session=session))


def judge_counts(case, claim, expected, observed):
    return gate.judge_facts(case.key, claim, expected=expected, observed=observed, outcome=Outcome.NOT_APPLIED)


def test_processors_that_were_reset_are_caught():
    """fp16 with the default attention is not the published eager column."""
    spec, pipe = skeleton(sdxl("fp16"))
    pipe.unet.set_default_attn_processor()

    assert "unet.attention is {'AttnProcessor': 16}" in recipe(sdxl("fp16"), describe(pipe, spec)).sentence


def test_activations_that_are_quantised_are_caught():
    """int8_weight_only with int8 activations is the ladder's int8."""
    spec, pipe = skeleton(sdxl("int8"))

    verdict = recipe(sdxl("int8_weight_only"), describe(pipe, spec))

    assert "unet.int8_weight_only_linears is 'not reported', expected 117" in verdict.sentence


@pytest.mark.parametrize("stage", ["compile_regional"])
def test_regions_that_were_not_compiled_are_caught(monkeypatch, stage):
    """A regional stage of which nothing was compiled has no regions."""
    steps = tuple(step for step in STAGES[stage].steps if step[0] is not Phase.COMPILE)
    monkeypatch.setitem(STAGES, stage, dataclasses.replace(STAGES[stage], steps=steps))
    spec, pipe = skeleton(sdxl(stage))

    assert "unet.compiled_regions is 'not reported'" in recipe(sdxl(stage), describe(pipe, spec)).sentence


def test_tf32_that_was_left_on_is_caught():
    """fp32_ieee in a process that has TF32 in one of matmul and convolution is what the ladder calls fp32."""
    import torch

    spec, pipe = skeleton(sdxl("fp32_ieee"))
    with process_state("fp32_ieee"):
        assert recipe(sdxl("fp32_ieee"), describe(pipe, spec)).outcome is Outcome.PASS
        torch.set_float32_matmul_precision("high")
        assert "process.tf32" in recipe(sdxl("fp32_ieee"), describe(pipe, spec)).sentence
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        assert "process.tf32" in recipe(sdxl("fp32_ieee"), describe(pipe, spec)).sentence


@pytest.mark.parametrize("ran", ["flash", "math"])
def test_a_kernel_that_was_not_promised_is_caught(build, ran):
    """What ran is read from a profile: sdpa_flash passes with flash in all of its 16 attentions and not with another."""
    case = build("sdpa_flash")
    attend_with(ran)(case.pipe, case.pipeline.parts[0], {})
    expected = live(sdxl("sdpa_flash"), describe(case.pipe, case.pipeline)).expected_attention()

    verdict = judge_counts(sdxl("sdpa_flash"), "attention", expected, case.count(prompt="another", seed=5))

    assert verdict.outcome is (Outcome.PASS if ran == "flash" else Outcome.NOT_APPLIED)
    assert ran == "flash" or "attention_kernels is {'math': 16}, expected {'flash': 16}" in verdict.sentence


def test_a_stage_without_a_promise_has_its_kernels_counted(build):
    """What ran is kept for every stage: none in fp32, which has no scaled dot-product attention."""
    assert live(sdxl("fp32"), {}).expected_attention() is None
    assert build("fp32").attention_kernels() == {}


def test_an_operator_that_is_new_counts_under_its_own_name(monkeypatch):
    """A kernel that torch will have tomorrow is not taken for one that was promised."""
    import torch

    monkeypatch.setattr(kernels, "_NAMES", {})
    with kernels.watching_attention([attention := Attention()]) as ran:
        attention.forward(torch.zeros(1, 1, 4, 8))

    assert dict(ran) == {"flash_attention_for_cpu": 1}


class Attention:
    def forward(self, x):
        import torch

        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_recompilation_for_another_resolution_is_caught(build, dynamic):
    """compile_dynamic is tried at three resolutions: a block that was compiled for one of them alone is compiled again."""
    import torch

    torch.compiler.reset()
    case = build("compile_dynamic")
    case.pipe.unet.mid_block.attentions[0].transformer_blocks[-1].compile(backend="eager", dynamic=dynamic)
    case.first_image()
    expected = live(sdxl("compile_dynamic"), {"unet.compiled": True}).expected_counts()
    observed = case.count(prompt=OTHER_PROMPT, seed=OTHER_SEED)
    torch.compiler.reset()
    relevant = {name: expected[name] for name in ("recompiles", "resolutions", "denoiser_calls")}

    verdict = judge_counts(sdxl("compile_dynamic"), "compile", relevant, observed)

    assert verdict.outcome is (Outcome.PASS if dynamic else Outcome.NOT_APPLIED), verdict.sentence
    assert dynamic or "recompiles is" in verdict.sentence


def test_a_size_that_equals_another_stays_its_own():
    """`use_duck_shape` is private: with it off a square input and an oblong one share a graph, with it on they do not."""
    import torch
    from torch.fx.experimental import _config

    def graphs():
        torch.compiler.reset()
        seen = []
        function = torch.compile(
            lambda x: x * 2, dynamic=True, backend=lambda graph, _: seen.append(graph) or graph.forward
        )
        function(torch.ones(4, 4))
        function(torch.ones(4, 6))
        torch.compiler.reset()
        return len(seen)

    with _config.patch(use_duck_shape=True):  # a case that was built before may still hold it off
        assert graphs() == 2
        with process_state("compile_dynamic"):
            assert graphs() == 1


def test_a_module_that_was_compiled_in_place_is_seen():
    """`_compiled_call_impl` is private: a module that has been told to compile itself still shows it there."""
    import torch

    module = torch.nn.Linear(2, 2)
    before = is_compiled_in_place(module)
    module.compile(backend="eager")

    assert (before, is_compiled_in_place(module)) == (False, True)
