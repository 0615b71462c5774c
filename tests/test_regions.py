"""Regional compilation of every pipeline: how many modules are compiled, and how many graphs a step makes of them.

Traced on the meta device with the shapes that a pipeline calls its denoisers with, so that full sizes cost no memory. What
comes out of it has the strides that it has on CUDA: fake CUDA tensors made as many graphs (torch 2.11). On a CPU it has others.
"""

from __future__ import annotations

import pytest

from fixtures.case_key import Case
from fixtures.flops import Counting
from fixtures.flops import _each as each_tensor
from fixtures.pipelines import pipelines
from fixtures.stages import STAGES, apply, process_state
from fixtures.structure import describe
from fixtures.torch_state import MANY_SHAPES, compiler_counts

REGIONAL = ("compile_regional", "compile_regions")
CASES = [
    case
    for name in pipelines()
    for size in ("tiny", "full")
    for stage in REGIONAL
    if not (case := Case(pipeline=name, size=size, stage=stage)).lacks
]


def skeleton(case):
    """The pipeline without weights."""
    import torch

    with torch.device("meta"):
        return case.spec.skeleton()


def models(case, pipe):
    """What is called in each step, by its name in the structure facts."""
    return {
        part.prefixed(name): getattr(one, name)
        for part, one in case.pipe.each(pipe)
        for name in (part.denoiser, *part.helpers)
    }


def calls(case):
    """A call of each denoiser for every set of shapes that an image asks of it."""
    pipe, seen = skeleton(case), {}

    def hook(name):
        def see(_, arguments, keywords):
            shapes = repr(each_tensor((arguments, keywords), lambda tensor: (tuple(tensor.shape), tensor.dtype)))
            seen.setdefault((name, shapes), (name, arguments, keywords))

        return see

    for name, model in models(case, pipe).items():
        model.register_forward_pre_hook(hook(name), with_kwargs=True)
    Counting(pipe, case.pipe, case.workload).image()
    return list(seen.values())


def count(case, monkeypatch, *, stage=None):
    """Apply the stage, make each call twice with a compiler that only traces, and return the structure and the graphs."""
    import torch

    compiling, in_place = torch.compile, torch.nn.Module.compile
    tracing = {"fullgraph": True, "backend": "eager"}
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiling(model, **tracing))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model, **_: in_place(model, **tracing))
    asked, pipe = calls(case), skeleton(case)
    pipe.to(dtype=torch.bfloat16)
    apply(pipe, case.pipe, case.stage, device="cpu")
    torch.compiler.reset()
    before = compiler_counts()["graphs"]
    with torch.no_grad(), torch.device("meta"), process_state(stage or case.stage):
        for name, arguments, keywords in [call for call in asked for _ in range(2)]:
            inputs, named = each_tensor((arguments, keywords), shortened)
            models(case, pipe)[name](*inputs, **named)
        found = describe(pipe, case.pipe)
    torch.compiler.reset()
    return found, compiler_counts()["graphs"] - before


def shortened(tensor):
    """A tensor of the request as the stage has it."""
    import torch

    return tensor.to("meta", torch.bfloat16) if tensor.is_floating_point() else tensor.to("meta")


@pytest.mark.parametrize(
    "region",
    [
        pytest.param(case, marks=() if case.label == "sdxl-tiny" else pytest.mark.exhaustive, id=case.id)
        for case in CASES
    ],
)
def test_regions_and_graphs_are_those_that_are_expected(region, monkeypatch):
    """Exact counts: a region more or less, or a shape that is compiled again, is seen before any GPU is."""
    found, graphs = count(region, monkeypatch)

    expected = {
        name: fact for name, fact in region.expected_structure().items() if "regions" in name or "limit" in name
    }
    assert expected
    assert {name: found.get(name) for name in expected} == expected
    assert graphs == region.spec.graphs[region.stage]["cuda"]


def test_every_pipeline_has_both_or_says_why():
    """Nothing is left out in silence."""
    reasons = {
        (name, stage): Case(pipeline=name, size="full", stage=stage).lacks for name in pipelines() for stage in REGIONAL
    }

    assert {key for key, reason in reasons.items() if reason} == {
        ("deepfloyd-if", "compile_regional"),
        ("pixart-alpha", "compile_regional"),
        ("ssd-1b", "compile_regions"),
    }
    assert not any("written down" in reason for reason in reasons.values() if reason)


@pytest.mark.exhaustive
def test_the_usual_limit_is_too_low_for_the_full_size(monkeypatch):
    """Why the stage sets it: torch refuses the ninth shape of residual blocks that share their code."""
    import torch

    assert STAGES["compile_regions"].process
    assert torch._dynamo.config.recompile_limit < MANY_SHAPES

    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        count(Case(pipeline="sdxl", size="full", stage="compile_regions"), monkeypatch, stage="sdpa")


def test_accelerate_still_compiles_an_empty_list():
    """Why SSD-1B has no such stage: once this fails, give it one."""
    from accelerate.utils import compile_regions

    unet = skeleton(Case(pipeline="ssd-1b", size="tiny", stage="sdpa")).unet
    assert list(unet.mid_block.attentions) == []

    with pytest.raises(TypeError, match="'OptimizedModule' object is not iterable"):
        list(compile_regions(unet, backend="eager").mid_block.attentions)
