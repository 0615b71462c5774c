"""Faults of several sizes, and intact stages of every pipeline: the figures are those of docs/parity.md."""

import contextlib
import dataclasses
import json

import pytest

from fixtures import parity
from fixtures.faults import numerics, structure
from fixtures.pipelines.registry import pipelines
from fixtures.weights import synthetic
from fixtures.worker.built_case import PROBES, BuiltCase
from speedgate.results.run import Outcome
from tests.faults.harmless import sigmas_in_half_precision
from tests.proof.parity_page import LOSSY

pytestmark = pytest.mark.exhaustive

STAGES = ("sdpa", "int8")
# Each size of a fault, with the gate that shows it and the stages that can have it.
FAULTS = [
    (fault, amount, gate, stage)
    for fault, amounts, gate, stages in (
        (numerics.later_steps_too_large, (2, 5, 50), "parity", STAGES),
        (numerics.guidance_too_strong, (2, 10, 20), "parity", STAGES),
        (numerics.last_step_skipped, (None,), "parity", STAGES),
        (numerics.clamped_decoder, (None,), "parity", STAGES),
        (structure.another_epsilon, (None,), "recipe", STAGES),
        (structure.one_linear_too_large, (None,), "recipe", ("sdpa",)),
        (structure.scales_of_the_next_channel, (None,), "recipe", ("int8",)),
    )
    for amount in amounts
    for stage in stages
]
INTACT = {
    "diffusion-fast": ("fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8", "fp16", "fp32_ieee", "int8_weight_only"),
    "flux-fast": ("fp32", "bf16", "fused_projections", "vae_channels_last", "int8_per_token", *LOSSY),
}
# Stages that are compiled for the same claim: a ladder of each kind.
COMPILED = {
    "sdxl": ("compile", "fused_qkv", "int8"),
    "flux-schnell": ("compile_whole", "fused_projections", "int8_per_token"),
}
SEEDS = range(5)


def record(record_property, name, figures, verdicts):
    """Put the figures of a case into pytest's JUnit file, from which the document is written."""
    row = {"name": name, "verdicts": {it.claim: str(it.outcome) for it in verdicts}, **dataclasses.asdict(figures)}
    record_property("parity", json.dumps(row))


@pytest.mark.parametrize(
    ("fault", "amount", "gate", "stage"), FAULTS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_fault_of_this_size_is_caught(rig, record_property, fault, amount, gate, stage):
    """The gate of the fault is red at each stage that can have it."""
    arguments = () if amount is None else (amount,)

    verdicts = rig.weights_and_parity(lambda case: fault(case, *arguments), stage, probes=PROBES)

    name = f"{fault.__name__.replace('_', ' ')}{'' if amount is None else f', {amount} %'} ({stage})"
    record(record_property, name, rig.figures, verdicts)
    assert gate in {verdict.claim for verdict in verdicts if verdict.outcome is not Outcome.PASS}, verdicts


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("change", [None, sigmas_in_half_precision], ids=["none", "sigmas_in_half_precision"])
def test_what_is_harmless_passes(rig, record_property, change, stage):
    """No gate is red without a fault, nor if the noise levels are rounded."""
    verdicts = rig.weights_and_parity(lambda case: change and change(case, rig), stage, probes=PROBES)

    record(
        record_property, f"{change.__name__.replace('_', ' ') if change else 'none'} ({stage})", rig.figures, verdicts
    )
    assert [verdict for verdict in verdicts if verdict.outcome is not Outcome.PASS] == []


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("pipeline", pipelines())
def test_no_seed_and_no_number_of_threads_makes_an_intact_stage_different(
    build, make_output, record_property, monkeypatch, pipeline, threads
):
    """Parity passes every stage with five seeds of the weights, the image, the prompts and the latents."""
    spec = pipelines()[pipeline]
    stages = [
        stage for stage in INTACT[spec.ladder] if stage not in {*spec.unsupported, *spec.sizes["tiny"].unsupported}
    ]
    alarms = []
    for seed in SEEDS:
        monkeypatch.setattr(synthetic, "SEED", seed)
        with set_threads(threads):
            outputs = {stage: inspect(build(stage, pipeline=pipeline), make_output, seed) for stage in stages}
        for stage in stages:
            figures, verdict = judge_intact(f"{pipeline} {stage} seed {seed} threads {threads}", outputs, stage, spec)
            record(record_property, verdict.case_key, figures, [verdict])
            alarms += [verdict] if verdict.outcome is not Outcome.PASS else []

    assert alarms == []


@pytest.mark.parametrize("pipeline", COMPILED)
def test_no_seed_makes_a_compiled_stage_different(build, make_output, record_property, monkeypatch, pipeline):
    """Parity passes stages that are compiled with five seeds of the weights, the image, the prompts and the latents."""
    import torch

    spec = pipelines()[pipeline]
    alarms = []
    for seed in SEEDS:
        monkeypatch.setattr(synthetic, "SEED", seed)
        outputs = {stage: inspect(build(stage, pipeline=pipeline), make_output, seed) for stage in ("fp32", "bf16")}
        for stage in COMPILED[pipeline]:
            with monkeypatch.context() as patch:
                # `build` has put a slower convolution in its place, which would be compiled too.
                patch.setattr(torch.nn.functional, "conv2d", torch.nn.functional.conv2d.__wrapped__)
                case = BuiltCase(
                    pipeline=pipeline, size="tiny", stage=stage, weights={"source": "synthetic"}, device="cpu"
                )
                case.load()
                outputs[stage] = inspect(case, make_output, seed)
            case.close()
            torch._dynamo.reset()
            figures, verdict = judge_intact(f"{pipeline} {stage} seed {seed} compiled", outputs, stage, spec)
            record(record_property, verdict.case_key, figures, [verdict])
            alarms += [verdict] if verdict.outcome is not Outcome.PASS else []

    assert alarms == []


def inspect(case, make_output, seed):
    """Return the output of a case with a seed of the image, its prompts and its latents."""
    case.workload = dataclasses.replace(case.workload, seed=seed)
    return make_output(case, precise=case.stage == parity.STEP_REFERENCE, probes=PROBES)


def judge_intact(key, outputs, stage, spec):
    """Return the figures of a stage's output and parity's verdict on them."""
    size = spec.sizes["tiny"]
    figures = parity.compare(
        outputs[stage],
        image_reference=outputs["bf16"],
        step_reference=outputs["fp32"],
        max_reference_step_error=size.max_reference_error[0],
    )
    return figures, parity.judge(
        key,
        figures,
        ssim_range=size.ssim_ranges[stage],
        factor=size.step_error_factor[stage],
        max_reference_error=size.max_reference_error,
        gain_tolerance=size.gain_tolerances.get(stage, (parity.GAIN_TOLERANCE, parity.STEP_GAIN_TOLERANCE)),
    )


@contextlib.contextmanager
def set_threads(threads):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
