"""Apply a change and have it judged by the gates themselves."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures import parity
from fixtures.cases import Case
from fixtures.faults import injectable
from fixtures.faults.modules import block
from fixtures.faults.registry import Change, Refusal
from fixtures.pipelines.definition import Workload
from fixtures.stages.ladder import Phase, steps_of
from fixtures.stages.torch_state import compiler_counts
from fixtures.worker.built_case import PROBES
from fixtures.worker.process_globals import read_globals
from speedgate.gate import judge
from speedgate.measure.monitor import HostMonitor
from speedgate.measure.rounds import InvalidMeasurement, Measurement, MeasurementPlan, measure_process
from speedgate.plugin.judgement import Gate
from speedgate.results.run import Outcome, Verdict
from tests.faults import sessions
from tests.faults.measurement import Device
from tests.support.baseline_samples import COLD
from tests.support.fake_bench import FakeBench
from tests.support.sessions import make_session

FEW_PROBES = 1  # enough for a fault; an intact int8 is too close to its bound


class Rig:
    """Apply and judge changes. The registry names the method for each change, and each method returns verdicts.

    A change of a pipeline edits a copy of a case that is built once. `build` and `make_output` are fixtures of the tests.
    """

    def __init__(self, build: Callable[..., Any], make_output: Callable[..., Any], folder: Path) -> None:
        self.build, self._make_output, self.folder = build, make_output, folder
        self.bench: Callable[[], FakeBench] = NotImplemented  # set by the fixture `rig`, anew for each test
        self.undo = contextlib.ExitStack()  # restores the settings that a harmless change has changed
        self.figures: parity.Parity | None = None  # of the last judgement of parity
        self._cases: dict[tuple[str, str], Any] = {}
        self._references: dict[tuple[Workload, int, str], tuple[parity.Output, parity.Output]] = {}

    def verdicts(self, change: Change, stage: str, *, pipeline: str = "sdxl") -> list[Verdict | Refusal]:
        """Apply the change and return the verdicts."""
        keywords = {} if pipeline == "sdxl" else {"pipeline": pipeline}
        verdicts: list[Verdict | Refusal] = getattr(self, change.method)(change, stage, **keywords)
        return verdicts

    def parity(self, change: Change, stage: str, *, pipeline: str = "sdxl") -> list[Verdict]:
        """Judge the image of an edited case by the references of the workload before the edit."""
        case = self.copy(stage, pipeline=pipeline)
        intact_workload = case.workload
        change.apply(case)
        return [self._judge_parity(case, intact_workload, probes=FEW_PROBES)]

    def weights_and_parity(
        self, apply: Callable[..., Any], stage: str, *, probes: int, pipeline: str = "sdxl"
    ) -> list[Verdict]:
        """Judge structure and image of an edited case, whichever of them must show the edit."""
        case = self.copy(stage, pipeline=pipeline)
        intact_workload = case.workload
        expected = Case(pipeline=pipeline, size="tiny", stage=stage).expected_structure()
        with _restored_inductor():
            apply(case)
            case.compare_weights()
            recipe = _judge_recipe(case, expected | {name: False for name in expected if name.endswith(".compiled")})
        return [recipe, self._judge_parity(case, intact_workload, probes=probes)]

    def recipe(self, change: Change, stage: str, *, pipeline: str = "sdxl") -> list[Verdict]:
        """Judge the structure of an edited case, with its compile steps applied but not run."""
        case = self.copy(stage, pipeline=pipeline)
        for step in _compile_steps(stage):
            step(case.pipeline, case.pipeline_spec.parts[0], {})
        with _restored_inductor():
            change.apply(case)
            case.compare_weights()
            return [_judge_recipe(case, Case(pipeline=pipeline, size="tiny", stage=stage).expected_structure())]

    def compile(self, change: Change, stage: str) -> list[Verdict]:
        """Judge the counts of an edited case with one compiled transformer block. Inductor, which takes minutes, is left out."""
        case = self.copy(stage)
        block(case).compile(backend="eager")
        change.apply(case)
        with _fresh_counts() as since_start:
            case.first_image()
            counts = since_start(case.count())
        return [_judge_compile(case, counts, structure={"unet.compiled": True})]

    def gates(self, change: Change, stage: str) -> list[Verdict]:
        """Judge structure, counts and image of a changed case by the references of its workload after the change."""
        case = self.copy(stage)
        with contextlib.ExitStack() as self.undo:
            change.apply(case, self)
            case.globals_before = read_globals()  # a user or machine changed them, not the stage
            expected = Case(pipeline="sdxl", size="tiny", stage=stage).expected_structure()
            compiled = {name: False for name in expected if name.endswith(".compiled")}
            with _fresh_counts() as since_start:
                counts = since_start(case.count())
            return [
                _judge_recipe(case, expected | compiled),
                _judge_compile(case, counts, structure=compiled),
                self._judge_parity(case, case.workload, probes=PROBES),
            ]

    def drill(self, name: str, stage: str, *, pipeline: str) -> list[Verdict]:
        """Judge structure, counts and image of a case into which a fault was injected with its default amount."""
        case = self.copy(stage, pipeline=pipeline)
        intact_workload = case.workload
        expected = Case(pipeline=pipeline, size="tiny", stage=stage).expected_structure()
        eager = {fact: False for fact in expected if fact.endswith(".compiled")}
        fault = injectable.catalogue().faults[name]
        with _restored_inductor(), _fresh_counts() as since_start:
            injectable.inject(case, name=name, amount=fault.amount.default if fault.amount else None)
            if injectable.is_structural(name):
                case.compare_weights()
            recipe = _judge_recipe(case, expected | eager)
            counts = since_start(case.count())
        probes = PROBES if stage.startswith("int8") else FEW_PROBES
        return [
            recipe,
            _judge_compile(case, counts, structure=eager),
            self._judge_parity(case, intact_workload, probes=probes),
        ]

    def measurement(self, change: Change, stage: str) -> list[Verdict]:
        """Judge four rounds of a worker with a simulated device; no verdict if they can be used."""
        worker = Device()
        plan = MeasurementPlan(processes=1, rounds=4)
        gate = Gate(make_session(self.folder, plan=plan, isolation="none"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("speedgate.measure.rounds.time.perf_counter", lambda: worker.now_s)
            change.apply(worker, patch)
            try:
                measure_process(Measurement(worker=worker, cold_start=COLD, plan=plan, monitor=HostMonitor()))
            except InvalidMeasurement as error:
                return [gate.discard(Case(pipeline="sdxl", size="tiny", stage=stage).key, str(error))]
        return []

    def session(self, change: Change, stage: str) -> list[Verdict]:
        """Judge all claims of the suite on fake workers."""
        return sessions.verdicts(sessions.run(self.bench(), change, stage), stage)

    def refusal(self, change: Change, stage: str) -> list[Refusal]:
        """Start a session that must end before it measures anything."""
        return [sessions.refuse(self.bench(), change)]

    def copy(self, stage: str, *, pipeline: str = "sdxl") -> Any:
        """Return a case to edit; the pipeline that it was copied from stays intact."""
        if (stage, pipeline) not in self._cases:
            self._cases[stage, pipeline] = self.build(stage, pipeline=pipeline)
        case = copy.copy(self._cases[stage, pipeline])
        case.pipeline = copy.deepcopy(case.pipeline)
        case.globals_before = read_globals()
        return case

    def _judge_parity(self, case: Any, workload: Workload, *, probes: int) -> Verdict:
        """Judge by intact references; a case that is a reference itself is compared with its own output, as in a session."""
        output = self._make_output(case, precise=case.stage == parity.STEP_REFERENCE, probes=probes)
        step_reference, image_reference = (
            output if case.stage == stage else reference
            for stage, reference in zip(
                (parity.STEP_REFERENCE, parity.IMAGE_REFERENCE),
                self.references(workload, probes, pipeline=case.pipeline_spec.name),
                strict=True,
            )
        )
        size = case.size
        self.figures = parity.compare(
            output,
            image_reference=image_reference,
            step_reference=step_reference,
            max_reference_step_error=size.max_reference_error[0],
        )
        return parity.judge(
            case.stage,
            self.figures,
            ssim_range=size.ssim_ranges[case.stage],
            factor=size.step_error_factor[case.stage],
            max_reference_error=size.max_reference_error,
        )

    def references(
        self, workload: Workload, probes: int, *, pipeline: str = "sdxl"
    ) -> tuple[parity.Output, parity.Output]:
        """Return the outputs of fp32, with its precise steps, and of bf16."""
        key = workload, probes, pipeline
        if key not in self._references:
            stages = parity.STEP_REFERENCE, parity.IMAGE_REFERENCE
            fp32, bf16 = (self.copy(stage, pipeline=pipeline) for stage in stages)
            fp32.workload = bf16.workload = workload
            self._references[key] = (
                self._make_output(fp32, precise=True, probes=probes),
                self._make_output(bf16, probes=probes),
            )
        return self._references[key]


def _compile_steps(stage: str) -> list[Callable[..., Any]]:
    return [step for phase, step in steps_of(stage) if phase is Phase.COMPILE]


def _judge_recipe(case: Any, expected: dict[str, object]) -> Verdict:
    return judge.judge_facts(
        case.stage,
        "recipe",
        expected=expected,
        observed=case.structure(),
        outcome=Outcome.NOT_APPLIED,
        exact=True,
    )


def _judge_compile(case: Any, counts: dict[str, Any], *, structure: dict[str, Any]) -> Verdict:
    key = Case(pipeline=case.pipeline_spec.name, size="tiny", stage=case.stage)
    expected = key.expected_counts(structure, device="cpu")
    assert expected is not None
    del expected["inductor_graphs"]  # see `compile`
    return judge.judge_facts(case.stage, "compile", expected=expected, observed=counts, outcome=Outcome.NOT_APPLIED)


@contextlib.contextmanager
def _restored_inductor():
    """Put inductor's settings back that a fault has changed."""
    from torch._inductor import config

    before = config.get_config_copy()
    try:
        yield
    finally:
        after = config.get_config_copy()
        for name, value in before.items():
            if after[name] != value:
                setattr(config, name, value)


@contextlib.contextmanager
def _fresh_counts():
    """Reset the compiler and yield a function that subtracts the counts of earlier compilations in this process."""
    import torch

    torch.compiler.reset()
    before = compiler_counts()
    try:
        yield lambda counts: {
            name: value - before[name] if name in before and value is not None else value
            for name, value in counts.items()
        }
    finally:
        torch.compiler.reset()
