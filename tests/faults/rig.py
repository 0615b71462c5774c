"""What makes a change, and has it judged by the gates themselves."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures import parity
from fixtures.cases import Case
from fixtures.pipelines.definition import Workload
from fixtures.stages.ladder import STAGES, Phase, lineage
from fixtures.stages.torch_state import compiler_counts
from fixtures.worker.structure import describe
from speedgate.gate import judge
from speedgate.measure.monitor import HostMonitor
from speedgate.measure.rounds import InvalidMeasurement, Measurement, MeasurementPlan, measure_process
from speedgate.plugin.judgement import Gate
from speedgate.results.run import Outcome, Verdict
from tests.faults.measurement import Device
from tests.faults.parts import block
from tests.faults.registry import REFUSED, Change, Refusal
from tests.faults.sessions import Sessions
from tests.support.baseline_samples import COLD
from tests.support.sessions import make_session


class Rig:
    """Each public method but `verdicts` is a way of judging, named in the registry; it gives the verdicts that were reached.

    What acts on a pipeline gets a copy of one that is built once: `build` and `look` are the fixtures of the tests.
    """

    def __init__(self, build: Callable[..., Any], look: Callable[..., Any], folder: Path) -> None:
        self.build, self.look, self.folder = build, look, folder
        (folder / "session").mkdir()
        self.sessions = Sessions(folder / "session")
        self.undo = contextlib.ExitStack()  # what a harmless change puts back afterwards
        self._built: dict[str, Any] = {}
        self._kept: dict[Workload, tuple[parity.Output, parity.Output]] = {}

    def verdicts(self, change: Change, stage: str) -> list[Verdict | Refusal]:
        """What the gates say of the change."""
        verdicts: list[Verdict | Refusal] = getattr(self, change.by)(change, stage)
        return verdicts

    def parity(self, change: Change, stage: str) -> list[Verdict]:
        """The picture of an edited case, by references of the workload that it had before."""
        case = self.copy(stage)
        intact = case.workload
        change.act(case)
        return [self._parity(case, intact)]

    def recipe(self, change: Change, stage: str) -> list[Verdict]:
        """The structure of an edited case, compiled as far as that goes without running it."""
        case = self.copy(stage)
        for step in _compiling(stage):
            step(case.pipeline, case.pipeline_spec.parts[0], {})
        change.act(case)
        return [_recipe(case, Case(pipeline="sdxl", size="tiny", stage=stage).expected_structure())]

    def compile(self, change: Change, stage: str) -> list[Verdict]:
        """The counts of an edited case of which one transformer block is compiled, without inductor, which takes minutes."""
        case = self.copy(stage)
        block(case).compile(backend="eager")
        change.act(case)
        with _counting_anew() as since:
            case.first_image()
            counted = since(case.count())
        return [_compile(case, counted, structure={"unet.compiled": True})]

    def gates(self, change: Change, stage: str) -> list[Verdict]:
        """Structure, counts and picture of a changed case, against references of the workload that it has then."""
        case = self.copy(stage)
        with contextlib.ExitStack() as self.undo:
            change.act(case, self)
            expected = Case(pipeline="sdxl", size="tiny", stage=stage).expected_structure()
            compiled = {name: False for name in expected if name.endswith(".compiled")}
            with _counting_anew() as since:
                counted = since(case.count())
            return [
                _recipe(case, expected | compiled),
                _compile(case, counted, structure=compiled),
                self._parity(case, case.workload),
            ]

    def measurement(self, change: Change, stage: str) -> list[Verdict]:
        """Four rounds of a worker whose device has a time of its own; no verdict where they can be used."""
        worker = Device()
        plan = MeasurementPlan(processes=1, rounds=4)
        gate = Gate(make_session(self.folder, plan=plan, isolation="none"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("speedgate.measure.rounds.time.perf_counter", lambda: worker.now_s)
            change.act(worker, patch)
            try:
                measure_process(Measurement(worker=worker, cold_start=COLD, plan=plan, monitor=HostMonitor()))
            except InvalidMeasurement as void:
                return [gate.discard(stage, str(void))]
        return []

    def session(self, change: Change, stage: str) -> list[Verdict]:
        """A session of the suite with fake workers."""
        return self.sessions.verdicts(change, stage)

    def refusal(self, change: Change, stage: str) -> list[Refusal]:
        """A command that must end before anything is measured."""
        result = self.sessions.refusal(change)
        outcome = REFUSED if result.ret == pytest.ExitCode.USAGE_ERROR else "accepted"
        return [Refusal(claim="baseline", outcome=outcome, sentence=" ".join(result.errlines))]

    def copy(self, stage: str) -> Any:
        """A case to edit; the pipeline that it was copied from stays intact."""
        if stage not in self._built:
            self._built[stage] = self.build(stage)
        twin = copy.copy(self._built[stage])
        twin.pipeline = copy.deepcopy(twin.pipeline)
        return twin

    def _parity(self, case: Any, workload: Workload) -> Verdict:
        """By intact references, and where the case is one itself by its own output, as a session has it."""
        output = self.look(case, precise=case.stage == parity.STEP_REFERENCE)
        step_reference, image_reference = (
            output if case.stage == stage else reference
            for stage, reference in zip(
                (parity.STEP_REFERENCE, parity.IMAGE_REFERENCE), self.references(workload), strict=True
            )
        )
        figures = parity.compare(output, image_reference=image_reference, step_reference=step_reference)
        size = case.size
        return parity.judge(
            case.stage,
            figures,
            band=size.ssim_ranges[case.stage],
            factor=size.step_error_factor[case.stage],
            max_reference_error=size.max_reference_error,
        )

    def references(self, workload: Workload) -> tuple[parity.Output, parity.Output]:
        """fp32 with its precise outputs, and bf16."""
        if workload not in self._kept:
            fp32, bf16 = (self.copy(stage) for stage in (parity.STEP_REFERENCE, parity.IMAGE_REFERENCE))
            fp32.workload = bf16.workload = workload
            self._kept[workload] = self.look(fp32, precise=True), self.look(bf16)
        return self._kept[workload]


def _compiling(stage: str) -> list[Callable[..., Any]]:
    return [step for one in lineage(stage) for phase, step in STAGES[one.name].steps if phase is Phase.COMPILE]


def _recipe(case: Any, expected: dict[str, object]) -> Verdict:
    return judge.judge_facts(
        case.stage,
        "recipe",
        expected=expected,
        observed=describe(case.pipeline, case.pipeline_spec),
        outcome=Outcome.NOT_APPLIED,
    )


def _compile(case: Any, counted: dict[str, Any], *, structure: dict[str, Any]) -> Verdict:
    key = Case(pipeline="sdxl", size="tiny", stage=case.stage)
    expected = key.expected_counts(structure, device="cpu")
    assert expected is not None
    del expected["inductor_graphs"]  # see `compile`
    return judge.judge_facts(case.stage, "compile", expected=expected, observed=counted, outcome=Outcome.NOT_APPLIED)


@contextlib.contextmanager
def _counting_anew():
    """What a case has counted without what was compiled in this process before."""
    import torch

    torch.compiler.reset()
    before = compiler_counts()
    try:
        yield lambda counted: {
            name: value - before[name] if name in before and value is not None else value
            for name, value in counted.items()
        }
    finally:
        torch.compiler.reset()
