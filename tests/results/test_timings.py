"""What a timed image spends where: on real pipelines, at no cost, and named in a real worker whichever component is slowed."""

import contextlib
import dataclasses
import inspect
import math
import statistics
import time
from types import SimpleNamespace

import pytest

from fixtures.pipelines.registry import pipelines
from fixtures.worker import built_case, hooks
from speedgate.gate.explain import compare_runs
from speedgate.measure.monitor import HostMonitor
from speedgate.measure.rounds import Measurement, MeasurementPlan, measure_process
from speedgate.measure.worker import Worker
from speedgate.plugin.builder import import_paths
from speedgate.results.profile import told
from tests.support.baseline_samples import COLD, make_run
from tests.support.suite import ROOT

MOST = 0.005  # of an image, that the marks may cost
SLOWED_S = 0.6  # an image: several times what a busy machine adds to one


def named(pipeline):
    """What a pipeline's image is made of: of each part its encoders, denoisers, scheduler, gap and VAE."""
    reads = {"sd15-img2img": ["vae_encode"], "sd15-inpaint": ["vae_encode"]}.get(pipeline, [])
    return {
        part.prefixed(name)
        for part in pipelines()[pipeline].parts
        for name in (
            *("text_encoders", "denoiser", "scheduler", "host_gap"),
            *part.controlnets,
            *(["vae_decode"] if part.vae else []),
            *reads,
        )
    }


@pytest.mark.parametrize("pipeline", sorted(pipelines()))
def test_an_image_is_the_sum_of_its_components(build, pipeline):
    """Of every pipeline: each component is there, the denoiser once a step, and less than a third of the round is left."""
    case = build("sdpa", pipeline=pipeline)
    case.generate()
    round_ = case.generate()
    spent = round_["components"]

    assert set(spent) == named(pipeline)
    for part in case.pipeline_spec.parts:
        assert len(spent[part.prefixed("denoiser")]) == part.steps(case.workload)
    assert 2 / 3 * round_["seconds"] < math.fsum(map(math.fsum, spent.values())) <= round_["seconds"]


def test_the_gap_and_what_works_in_a_loop_are_the_loop(build):
    """Denoiser, scheduler and host gap add up to the seconds of the denoising loop."""
    round_ = build("sdpa").generate()
    within = [math.fsum(round_["components"][name]) for name in ("denoiser", "scheduler", "host_gap")]

    assert math.fsum(within) == pytest.approx(round_["loops"][""]["seconds"])


def test_a_component_within_another_counts_once():
    """What a component calls in turn is a part of it: nothing of a round is counted twice."""
    now_s = iter(range(10))
    spans = hooks._Spans(lambda: next(now_s))
    inner = spans.around(lambda: None, "inner")

    spans.around(inner, "outer")()
    inner()

    assert spans.marks == {"outer": [(0, 1)], "inner": [(2, 3)]}


def test_a_component_that_works_outside_of_its_loop_is_not_hidden():
    """More seconds of denoising than the loop took would be a gap below zero."""
    part = SimpleNamespace(name="", controlnets=(), prefixed=lambda name: name)

    with pytest.raises(AssertionError, match=r"denoiser worked outside of its loop, for 0\.5 s"):
        hooks.with_host_gaps({"denoiser": [1.5]}, {"": {"seconds": 1.0}}, [(part, None)])


def test_a_pipeline_sees_what_it_would_without_marks(build):
    """Pipelines read the signature of `scheduler.step` to know what it takes, and nothing is left afterwards."""
    case = build("sdpa")
    pipe = case.pipeline
    owners = (pipe, pipe.unet, pipe.scheduler, pipe.vae)
    before, signature = [set(vars(owner)) for owner in owners], inspect.signature(pipe.scheduler.step)

    with hooks.timing_components(case.parts, device="cpu"):
        assert inspect.signature(pipe.scheduler.step) == signature

    assert [set(vars(owner)) for owner in owners] == before


def test_a_round_that_fails_leaves_no_marks(build):
    """An exception in a component goes through, and the next round is timed as any other."""
    case = build("sdpa")
    spans = hooks._Spans(hooks.device_clock("cpu")[0])

    def fail():
        raise MemoryError

    with pytest.raises(MemoryError):
        spans.around(fail, "denoiser")()

    assert not spans.busy
    assert case.generate()["components"]["denoiser"]


def test_the_marks_of_an_image_cost_less_than_half_a_percent(build):
    """What a mark costs, times the marks of an image, is less than that share of the fastest tiny image there is."""
    case = build("fp32")
    rounds = [case.generate() for _ in range(4)]
    calls = sum(map(len, rounds[-1]["components"].values()))

    cost_s = calls * (_seconds_a_call(marked=True) - _seconds_a_call(marked=False))

    assert 0 < cost_s < MOST * min(round_["seconds"] for round_ in rounds)


def test_images_with_marks_and_without_take_the_same_time(build, monkeypatch):
    """In turns within one process, by the processor's seconds: the marks do not cost half a percent for sure."""
    case, spent = build("fp32"), []
    monkeypatch.setattr(built_case, "timed", lambda function: (_processor_s(function, spent), None))
    for turn in range(33):
        for marked in (True, False) if turn % 2 else (False, True):
            with contextlib.ExitStack() as stack:
                if not marked:
                    _without_marks(stack.enter_context(pytest.MonkeyPatch.context()))
                case.generate()
    pairs = list(zip(spent[2::2], spent[3::2], strict=True))
    turns = [sign * math.log(second / first) for (first, second), sign in zip(pairs, 16 * [-1, 1], strict=True)]

    error = statistics.stdev(turns) / math.sqrt(len(turns))

    assert statistics.fmean(turns) - 3 * error < MOST


def _without_marks(patch):
    patch.setattr(hooks, "timing_components", lambda parts, device: contextlib.nullcontext({}))
    patch.setattr(hooks, "with_host_gaps", lambda components, loops, parts: components)


def _processor_s(function, spent):
    started_s = time.thread_time()
    function()
    spent.append(time.thread_time() - started_s)
    return spent[-1]


def _seconds_a_call(*, marked):
    """The fewest of several, as other work on the machine only adds to it."""
    spans = hooks._Spans(hooks.device_clock("cpu")[0])
    function = spans.around(_nothing, "denoiser") if marked else _nothing
    best_s = math.inf
    for _ in range(20):
        started_s = time.perf_counter()
        for _ in range(500):
            function(1, 2, keyword=3)
        best_s = min(best_s, (time.perf_counter() - started_s) / 500)
        spans.marks.clear()
    return best_s


def _nothing(*args, **keywords):
    """What a mark is put around."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A real worker with the tiny `sdpa` stage, which can be told to become slower."""
    arguments = {
        "pipeline": "sdxl",
        "size": "tiny",
        "stage": "sdpa",
        "weights": {"source": "synthetic"},
        "device": "cpu",
    }
    worker = Worker(
        "tests.support.slow_case:SlowCase",
        arguments=arguments,
        paths=[*import_paths(ROOT), str(ROOT)],
        log=tmp_path_factory.mktemp("slow") / "worker.log",
        timeout_s=300.0,
    )
    worker.call("load")
    worker.call("first_image")
    yield worker
    worker.close()


def measured(worker):
    """A run of that worker's next rounds, as a case has them."""
    measurement = Measurement(
        worker=worker, cold_start=COLD, plan=MeasurementPlan(processes=1, rounds=3), monitor=HostMonitor()
    )
    run = dataclasses.replace(make_run(), processes=(measure_process(measurement),))
    return dataclasses.replace(run, attribution=told(worker.call("attribute")))


@pytest.fixture(scope="module")
def intact(worker):
    """The run before anything was changed."""
    return measured(worker)


@pytest.mark.parametrize(
    ("component", "calls"), [("text_encoders", 2), ("denoiser", 4), ("scheduler", 4), ("vae_decode", 1)]
)
def test_the_component_that_became_slower_is_named(worker, intact, component, calls):
    """A slowdown that is put into one component of a real worker is told as that component's, and first."""
    worker.call("slow", component=component, seconds=SLOWED_S / calls)
    try:
        lines = compare_runs(measured(worker), intact, name="0002_recorded")
    finally:
        worker.call("heal")

    assert lines[0].startswith(f"components: {component} "), lines


def test_the_step_that_became_slower_is_named(worker, intact):
    """Of a component that is called in each step, the one call that holds the slowdown is told."""
    worker.call("slow", component="denoiser", seconds=SLOWED_S, call=2)
    try:
        lines = compare_runs(measured(worker), intact, name="0002_recorded")
    finally:
        worker.call("heal")

    assert lines[1].startswith("call 3 of 4 of denoiser holds "), lines


def test_kernels_and_attention_that_changed_are_named(worker, intact):
    """Plain attention in place of one kernel: other operators appeared, and attention is told to be another."""
    worker.call("attend_plainly")

    lines = compare_runs(measured(worker), intact, name="0002_recorded")

    assert any(line.startswith("kernels appeared: aten::") for line in lines), lines
    assert any(line.startswith("attention: flash x") for line in lines), lines
