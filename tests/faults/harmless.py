"""Changes that no gate may fire on: a machine, a session or a user may make them without making anything worse."""

from __future__ import annotations

import dataclasses
import gc
import os
from pathlib import Path

from fixtures.faults.registry import harmless_change

OTHER_PROMPT = "Lighthouse on a rock, warm color palette, vivid colors, painting, 16k"


@harmless_change("gates", "int8")
def another_thread_count(case, rig):
    """Torch uses one thread instead of several, or two instead of one."""
    import torch

    threads = torch.get_num_threads()
    rig.undo.callback(torch.set_num_threads, threads)
    torch.set_num_threads(1 if threads > 1 else 2)


@harmless_change("gates", "int8")
def another_seed(case, rig):
    """The workload has another seed, and so have the references."""
    case.workload = dataclasses.replace(case.workload, seed=7)


@harmless_change("gates", "sdpa")
def another_prompt(case, rig):
    """The workload has another prompt of the same length, and so have the references."""
    assert len(OTHER_PROMPT) == len(case.workload.prompt)
    case.workload = dataclasses.replace(case.workload, prompt=OTHER_PROMPT)


@harmless_change("gates", "fp32", "bf16", "sdpa", "fused_qkv", "int8")
def later_in_the_same_process(case, rig):
    """The process has made another image before."""
    case.generate()


@harmless_change("gates", "sdpa")
def built_again(case, rig):
    """The case is built a second time, in a process with warm caches."""
    case.pipeline = rig.build(case.stage).pipeline


@harmless_change("gates", "sdpa")
def weights_from_a_folder(case, rig):
    """The same weights are written by `save_pretrained` and loaded again."""
    rig.copy("fp32").pipeline.save_pretrained(rig.folder / "weights")
    case.pipeline = rig.build(
        case.stage, weights={"source": "folder", "folders": {"pipeline": str(rig.folder / "weights")}}
    ).pipeline


@harmless_change("gates", "sdpa")
def no_garbage_collection(case, rig):
    """Python's garbage collector is switched off."""
    gc.disable()
    rig.undo.callback(gc.enable)


@harmless_change("gates", "sdpa")
def another_working_directory(case, rig):
    """The session runs in another working directory."""
    rig.undo.callback(os.chdir, Path.cwd())
    os.chdir(rig.folder)


@harmless_change("gates", "sdpa")
def denormals_flushed(case, rig):
    """Denormal numbers become zero."""
    import torch

    assert torch.set_flush_denormal(True)
    rig.undo.callback(torch.set_flush_denormal, False)


@harmless_change("gates", "sdpa")
def latents_in_channels_last(case, rig):
    """The denoiser's input has another memory layout."""
    import torch

    case.pipeline.unet.register_forward_pre_hook(
        lambda _, inputs: (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])
    )


@harmless_change("gates", "sdpa", "int8")
def sigmas_in_half_precision(case, rig):
    """The scheduler's noise levels are rounded to fp16."""
    scheduler = case.pipeline.scheduler
    set_timesteps = scheduler.set_timesteps

    def rounding(*args, **keywords):
        set_timesteps(*args, **keywords)
        scheduler.sigmas = scheduler.sigmas.half().float()

    scheduler.set_timesteps = rounding


@harmless_change("gates", "sdpa")
def deterministic_algorithms(case, rig):
    """Torch is told to use deterministic algorithms."""
    import torch

    torch.use_deterministic_algorithms(True)
    rig.undo.callback(torch.use_deterministic_algorithms, False)


@harmless_change("gates", "sdpa")
def global_generator_moved(case, rig):
    """Something else has drawn from torch's global random numbers."""
    import torch

    rig.undo.enter_context(torch.random.fork_rng())
    torch.manual_seed(1234)


@harmless_change("session", "fp32")
def rerun():
    """The case is measured again in fresh processes."""
    return {}


@harmless_change("session", "bf16")
def another_round_order():
    """The slower rounds come first."""
    return {"turned": True}


@harmless_change("session", "sdpa")
def one_percent_more_memory():
    """The allocator's peak is 1 % higher."""
    return {"bigger": 1.01}


@harmless_change("session", "compile")
def warm_compile_cache():
    """The compile cache is warm, and it was cold when the baseline was recorded."""
    return {"cache_hits": 2, "first_image_s": 0.7}


@harmless_change("session", "fused_qkv")
def half_a_percent_slower():
    """Each process takes 0.5 % longer."""
    return {"slower": 1.005}


@harmless_change("session", "int8")
def busy_start():
    """The first image takes one second longer, as on a busy machine."""
    return {"first_image_s": 2.5}
