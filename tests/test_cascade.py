"""DeepFloyd IF, three pipelines in a row: what each is given, and that a fault in one of them alone is seen."""

import dataclasses

import numpy as np
import pytest

from fixtures import parity
from fixtures.pipelines import pipelines
from speedgate.records import Outcome
from tests.faults import cascade, numerics, numerics_precision

NAME = "deepfloyd-if"
SPEC = pipelines()[NAME]
TINY = SPEC.sizes["tiny"]
# tests/test_pipelines.py puts the faults that every pipeline must show into the first part.
LATER = [numerics.attention_scale, numerics.dropped_self_attention, numerics.last_convolution_too_large]
FAULTS = [
    *((part, fault) for part in ("stage2", "stage3") for fault in (*LATER, cascade.dropped_image)),
    *((part, cascade.prompt_left_out_of_attention) for part in ("stage1", "stage2")),
    *((part, cascade.ignored_prompt) for part in ("stage1", "stage2", "stage3")),
    *((part, cascade.other_noise_levels) for part in ("stage2", "stage3")),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("part", "fault"), FAULTS, ids=lambda it: getattr(it, "__name__", it))
def test_a_fault_in_one_part_is_caught(judge, part, fault):
    """Parity says DIFFERENT for each fault, whichever part has it."""
    verdict = judge("sdpa", lambda case: fault(cascade.part_of(case, part)), pipeline=NAME)

    assert verdict.outcome is Outcome.DIFFERENT, verdict.sentence


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", ["stage1", "stage2", "stage3"])
def test_a_fault_that_bf16_has_too_is_caught(build, look, references, part):
    """A part whose bf16 is worse than bf16 should be counts for its bound only, though the other parts are intact."""
    case = build("bf16", pipeline=NAME)
    numerics_precision.timestep_in_bf16(cascade.part_of(case, part))
    output = look(case)

    figures = parity.compare(
        output,
        image_reference=output,
        step_reference=references(NAME)[0],
        reference_bound=TINY.reference_bounds[0],
    )
    verdict = parity.judge(
        "bf16",
        figures,
        band=TINY.bands["bf16"],
        factor=TINY.step_error_factor["bf16"],
        reference_bounds=TINY.reference_bounds,
    )

    assert verdict.outcome is Outcome.DIFFERENT, verdict.sentence


def test_the_last_part_is_looked_at_in_the_dtype_that_it_decodes_in(build):
    """Its class decodes in float32 what it has denoised in float16; the VAE is left as it was."""
    case = build("fp16", pipeline=NAME)
    (_, last) = case.parts[-1]

    made = case.inspect()

    assert np.isfinite(np.frombuffer(made["decoded"], dtype=np.float32)).all()
    assert str(last.vae.dtype) == "torch.float16"


def test_the_later_parts_enlarge_the_image_of_the_first(build):
    """Both are given what the first made, the third not what the second made, as in the published script."""
    import torch

    case = build("sdpa", pipeline=NAME)
    made = {"stage1": torch.rand(2, 3, 16, 16), "stage2": torch.rand(1, 3, 32, 32)}

    asked = [part.asks(pipe, case._request(), made) for part, pipe in case.parts[1:]]

    assert all(torch.equal(keywords["image"], made["stage1"][:1]) for keywords in asked)


def test_a_part_alone_is_given_an_image_of_the_seed(build):
    """Without a first part each seed has its own image, the same one each time, and it is not the generator's noise."""
    import torch

    case = build("sdpa", pipeline=NAME)
    part, pipe = case.parts[2]
    one, again, other = (part.asks(pipe, case._request(seed=seed), {})["image"] for seed in (1, 1, 2))
    noise = torch.randn(one.shape, generator=case._request(seed=1).generator())

    assert one.shape == (1, 3, 16, 16)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert abs(torch.corrcoef(torch.stack([one.float().flatten(), noise.flatten()]))[0, 1]) < 0.2


def test_a_batch_is_the_first_part_s(build):
    """Of a batch of two the later parts take the first image, and each part does its share of the steps."""
    case = build("sdpa", pipeline=NAME)
    case.workload = TINY.throughput[0]
    made = {}
    images = case._image(made=made)

    assert case.workload.key != TINY.workload.key
    assert [len(made["stage1"]), len(made["stage2"]), len(images)] == [2, 1, 1]
    assert case.count(prompt="another", seed=5)["denoiser_calls"] == 6 + 3 + 4


def test_the_published_steps_are_the_classes_own():
    """A hundred steps of the first part are the defaults of all three classes."""
    published = SPEC.sizes["full"].throughput[0]

    assert published.key == "64px-100steps-b1"
    assert [part.steps(published) for part in SPEC.parts] == [100, 50, 75]


def test_a_fault_of_an_earlier_image_is_seen_in_the_ssim():
    """The image that is least like its reference speaks for the case, and NaN for nothing."""
    import numpy as np

    rng = np.random.default_rng(0)
    image, other = rng.random((2, 32, 32, 3), dtype=np.float32)
    step = rng.standard_normal((2, 2, 3, 8, 8), dtype=np.float32)
    intact = parity.Output(image=image, earlier=(2 * image - 1,), steps=(step,), decoded=step)
    precise = dataclasses.replace(intact, precise=intact)
    ssim = [
        parity.compare(
            dataclasses.replace(intact, earlier=(earlier,)), image_reference=intact, step_reference=precise
        ).ssim
        for earlier in (2 * image - 1, 2 * other - 1, np.full_like(image, np.nan))
    ]

    assert ssim[0] == pytest.approx(1.0)
    assert ssim[1] < 0.5
    assert np.isnan(ssim[2])


def test_the_part_that_is_furthest_beyond_its_bound_is_judged():
    """Where bf16 has a part's fault too, that part is the worst, though no part is further from fp32 than bf16 is."""
    import numpy as np

    rng = np.random.default_rng(0)
    image, step = rng.random((16, 16, 3), dtype=np.float32), rng.standard_normal((2, 2, 3, 8, 8), dtype=np.float32)
    truth = parity.Output(image=image, steps=(step, step), decoded=step)
    faulty = dataclasses.replace(truth, steps=(step + np.float32(0.01), step + np.float32(0.03)))

    figures = parity.compare(
        faulty,
        image_reference=faulty,
        step_reference=dataclasses.replace(truth, precise=truth),
        reference_bound=0.02,
    )

    assert figures.step_error == pytest.approx(0.03, rel=1e-3)


def test_the_schedulers_of_the_weights_are_replaced_and_keep_what_they_say():
    """The solver takes over noise schedule and thresholding; only the cosine schedule, which ends in nothing, is clipped."""
    from types import SimpleNamespace

    from diffusers import DDIMScheduler, DDPMScheduler

    shipped = [
        DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range", sample_max_value=1.5),
        DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
    ]
    pipes = [SimpleNamespace(scheduler=scheduler) for scheduler in shipped]
    for part, pipe in zip((SPEC.parts[0], SPEC.parts[2]), pipes, strict=True):
        part.adapt(pipe)

    cosine, linear = (pipe.scheduler.config for pipe in pipes)
    assert {type(pipe.scheduler).__name__ for pipe in pipes} == {"DPMSolverMultistepScheduler"}
    assert (cosine.beta_schedule, cosine.sample_max_value, cosine.lambda_min_clipped) == (
        "squaredcos_cap_v2",
        1.5,
        -5.1,
    )
    assert (linear.prediction_type, linear.lambda_min_clipped) == ("v_prediction", -float("inf"))
