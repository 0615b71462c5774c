"""Faults of the cost: the stage has the right structure and makes the right image, but needs more time or memory."""

from __future__ import annotations

from speedgate.results.run import Outcome
from tests.faults.registry import case_fault, session_fault


@session_fault("latency", Outcome.SLOWER, "fp32")
def step_six_percent_slower():
    """A step takes 6 % longer, twice the tolerance."""
    return {"slower": 1.06}


@session_fault("latency", Outcome.SLOWER, "sdpa", arguments=("--tolerance=sdpa=1",))
def step_three_percent_slower():
    """A step takes 3 % longer, judged with `--tolerance sdpa=1`."""
    return {"slower": 1.03}


@session_fault("latency", Outcome.UNDECIDED, "sdpa")
def step_slower_by_the_tolerance():
    """A step takes 3 % longer, which is the tolerance: undecided after all processes, and never a pass."""
    return {"slower": 1.03}


@session_fault("ladder", Outcome.SLOWER, "compile")
def gain_lost():
    """The compiled stage is no faster than the one before it."""
    return {"slower": 3.315 / 2.538}


@session_fault("memory", Outcome.BIGGER, "bf16")
def five_percent_more_memory():
    """The peak of a round is 5 % higher."""
    return {"bigger": 1.05}


@session_fault("cold start", Outcome.SLOWER, "fused_qkv")
def slower_first_call():
    """The first image, which compiles, takes 5 s instead of 1.5."""
    return {"first_image_s": 5.0}


@case_fault("compile", "sdpa", reason="vae_decode_calls is 2, expected 1")
def second_vae_decode(case):
    """The VAE decodes twice for one image."""
    decode, postprocess = case.pipeline.vae.decode, case.pipeline.image_processor.postprocess
    latents = []

    def keep(given, **keywords):
        latents[:] = [given]
        return decode(given, **keywords)

    def preview(image, **keywords):
        case.pipeline.vae.decode(latents[0], return_dict=False)
        return postprocess(image, **keywords)

    case.pipeline.vae.decode, case.pipeline.image_processor.postprocess = keep, preview


@case_fault("compile", "sdpa", reason="denoiser_calls is 5, expected 4")
def one_step_more(case):
    """The scheduler makes one step too many."""
    set_timesteps = case.pipeline.scheduler.set_timesteps
    case.pipeline.scheduler.set_timesteps = lambda steps, **keywords: set_timesteps(steps + 1, **keywords)
