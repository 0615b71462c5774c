"""The faults of `--inject`: each one is there or has a reason, and in a worker it turns its gate red and no other."""

from __future__ import annotations

import functools
import inspect
import math
from types import SimpleNamespace

import pytest

from fixtures.faults import injectable, worker
from fixtures.selection import stage_of_fault
from fixtures.worker.built_case import BuiltCase
from speedgate.gate.drill import judge_drill
from speedgate.gate.policy import Policy
from speedgate.measure.monitor import HostMonitor
from speedgate.measure.rounds import InvalidMeasurement, Measurement, MeasurementPlan, measure_process
from speedgate.results.run import Outcome
from speedgate.results.run_marks import Injection
from tests.faults import FAULTS
from tests.support.baseline_samples import COLD

FAULT_BY_NAME = injectable.catalogue().faults
MEASURING = [name for name, fault in FAULT_BY_NAME.items() if fault.gate == "measurement"]
# They undo or redo `torch.compile`, which takes minutes.
COMPILED = {"denoiser_not_compiled", "decoder_not_compiled", "recompile_every_image", "graph_break", "another_backend"}
DRILLED_BY_DEFAULT = {("processors_reset", "sdxl", "sdpa"), ("dropped_cross_attention", "sdxl", "sdpa")}
DRILLS = [
    pytest.param(name, *case, marks=[] if (name, *case) in DRILLED_BY_DEFAULT else [pytest.mark.exhaustive])
    for name, change in injectable.changes().items()
    if change.gate in ("parity", "recipe", "compile") and change.device is None and name not in COMPILED
    for case in change.cases
]


def test_every_fault_can_be_injected_or_has_a_reason():
    """No fault of the tests is forgotten, and no reason is left over of a fault that is gone."""
    names = {fault.name for fault in FAULTS}

    assert names <= {*FAULT_BY_NAME, *injectable.IMPOSSIBLE}
    assert injectable.IMPOSSIBLE.keys() <= names
    assert not FAULT_BY_NAME.keys() & injectable.IMPOSSIBLE.keys()


def test_the_default_amount_is_that_of_the_function():
    """A fault without a value on the command line is the one that the tests know."""
    for name, change in injectable.changes().items():
        defaults = [parameter.default for parameter in inspect.signature(change.apply).parameters.values()][1:]

        assert defaults == ([change.amount.default] if change.amount else []), name


@pytest.mark.parametrize(("name", "pipeline", "stage"), DRILLS)
def test_an_injected_fault_turns_its_gate_red_and_no_other(rig, name, pipeline, stage):
    """Recipe, compile and parity judge the case, and the drill has passed."""
    verdicts = rig.drill(name, stage, pipeline=pipeline)

    key, fault = verdicts[0].case_key, FAULT_BY_NAME[name]
    injection = Injection(fault=name, gate=fault.gate, outcome=fault.outcome, case_keys=(key,))
    drill = judge_drill(injection, {key: verdicts}, accepts=Policy().accepts)
    assert drill.has_passed, drill.sentence


def test_a_worker_applies_its_fault_before_it_describes_the_case():
    """The structure that the worker reports is that of the case with the fault."""
    fault, weights = {"name": "processors_reset", "amount": None}, {"source": "synthetic"}
    case = BuiltCase(pipeline="sdxl", size="tiny", stage="sdpa", weights=weights, device="cpu", fault=fault)

    reply = case.load()
    case.close()

    assert reply["structure"]["unet.attention"] == {"AttnProcessor": 4}


class FakeClock:
    """Stands for the module `time`: sleeping moves the clock on."""

    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    """Let faults sleep on a clock of the test."""
    clock = FakeClock()
    monkeypatch.setattr(worker, "time", clock)
    return clock


def make_case(**attributes):
    """Make a case of one part whose denoiser does nothing."""
    denoiser = SimpleNamespace(forward=lambda: "output")
    part = SimpleNamespace(denoiser="unet")
    return SimpleNamespace(device="cpu", parts=[(part, SimpleNamespace(unet=denoiser))], **attributes)


def test_a_slower_step_takes_its_percent_longer(clock):
    """A denoising step of one second takes 1.4 with `slower_step=40`, and returns what it did."""
    case = make_case()
    (_, pipe), *_ = case.parts
    pipe.unet.forward = lambda: clock.sleep(1.0) or "output"

    injectable.inject(case, name="slower_step", amount=40)

    assert pipe.unet.forward() == "output"
    assert math.isclose(clock.now_s, 1.4)


def test_leaked_memory_is_a_share_of_the_peak_and_ends(monkeypatch):
    """Three images leave a third of 30 % of the peak behind each, and further images nothing: the worker stays alive."""
    import torch

    leaked = []
    monkeypatch.setattr(torch, "ones", lambda count, **_: leaked.append(count))
    case = make_case(_image=lambda: "images", _peak_bytes=lambda: 1000)

    injectable.inject(case, name="leaked_memory", amount=30)

    assert [case._image() for _ in range(5)] == ["images"] * 5
    assert leaked == [100, 100, 100]


class CountingCase:
    """A built case whose image takes no time."""

    def __init__(self):
        self._images = 0

    def first_image(self):
        self._images += 1
        return {}

    def generate(self):
        self._images += 1
        return {"seconds": 0.001, "peak_bytes": 1, "images": self._images}


@pytest.mark.parametrize("name", [None, *MEASURING])
def test_a_fault_of_the_measuring_makes_the_measurement_invalid(name):
    """Each of them is found by the checks of a round or of a process, and a case without a fault is measured."""
    case = CountingCase()
    if name is not None:
        injectable.inject(case, name=name, amount=None)
    case.first_image()
    measurement = Measurement(
        worker=SimpleNamespace(pid=None, call=lambda operation: getattr(case, operation)()),
        cold_start=COLD,
        plan=MeasurementPlan(processes=1, rounds=4),
        monitor=HostMonitor(),
    )

    if name is None:
        assert len(measure_process(measurement).seconds) == 4
        return
    with pytest.raises(InvalidMeasurement):
        measure_process(measurement)
    assert FAULT_BY_NAME[name].outcome is Outcome.INVALID


def test_another_backend_compiles_the_same_denoiser_as_one_graph(monkeypatch):
    """The denoiser itself is compiled, not the one that inductor compiles, and by a backend that generates no code."""
    import torch

    calls = []
    monkeypatch.setattr(torch, "compile", lambda model, **keywords: calls.append((model, keywords)))
    case = make_case(stage="compile")
    (_, pipe), *_ = case.parts
    pipe.unet = SimpleNamespace(_orig_mod="the denoiser")

    injectable.inject(case, name="another_backend", amount=None)

    assert calls == [("the denoiser", {"fullgraph": True, "backend": "eager"})]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "fact", "least"),
    [("graph_break", "graph_breaks", 1), ("recompile_every_image", "graphs", 2)],
)
def test_a_fault_of_the_compiler_is_counted(build, monkeypatch, name, fact, least):
    """The worker counts what the fault does to the graphs of a denoiser that is compiled as one."""
    import torch

    from fixtures.stages.torch_state import compiler_counts

    compile_with = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", lambda model, *, fullgraph, **_: compile_with(model, fullgraph=fullgraph))
    torch.compiler.reset()
    before = compiler_counts()
    case = build("sdpa")
    case.pipeline.unet = torch.compile(case.pipeline.unet, fullgraph=True)

    injectable.inject(case, name=name, amount=None)
    case.first_image()
    case.generate()
    counts = case.count()
    torch.compiler.reset()

    assert counts[fact] - before[fact] >= least


@pytest.mark.parametrize(
    ("named", "stage"),
    [
        ([], "sdpa"),
        (["flux-schnell"], "attention_native"),
        (["all"], "sdpa"),
        (["wan21-1.3b", "sdxl"], "attention_native"),
    ],
)
def test_a_fault_is_injected_into_a_stage_that_the_pipeline_has(named, stage):
    """Without `--stage` the selected stage is one of the pipeline's own ladder."""
    assert stage_of_fault(FAULT_BY_NAME["attention_scale"], named) == stage
