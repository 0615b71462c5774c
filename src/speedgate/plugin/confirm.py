"""Confirm a case that its stored figure suspects: measure it live, in pairs, against the very code of its baseline.

A stored figure cannot tell a slower program from a machine that has drifted; a live pair can.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from speedgate.measure.budget import Budget
from speedgate.measure.monitor import Monitor
from speedgate.measure.nvml import GpuError
from speedgate.measure.other_arm import OtherArm
from speedgate.measure.rounds import InvalidMeasurement, Measurement
from speedgate.measure.worker import OutOfTime, WorkerFailure
from speedgate.plugin.builder import (
    FIRST_IMAGE,
    FIRST_IMAGE_COMPILING,
    LOAD,
    Builder,
    BuiltWorker,
    CaseSpec,
    arm_name,
    read_attribution,
)
from speedgate.plugin.judgement import Gate
from speedgate.plugin.pairs import ROUNDS_IN_TURN, build_other, check_same_weights, measure_pairs
from speedgate.plugin.progress import Progress
from speedgate.plugin.session import ConfirmationPlan, Session
from speedgate.results.run import Baseline, Comparison, Confirmation, Process, Run


@dataclasses.dataclass(kw_only=True, repr=False)
class Confirmer:
    """Makes the arms of baselines again, each once in a session, and measures suspected cases against them.

    `make_arm` raises `ValueError` if the code or the versions of a baseline cannot be made again.
    """

    session: Session
    gate: Gate
    builder: Builder
    progress: Progress
    plan: ConfirmationPlan
    make_arm: Callable[[Baseline], OtherArm]
    clock: Callable[[], float] = time.monotonic
    _arms: dict[bytes, OtherArm | str] = dataclasses.field(default_factory=dict)
    _making_s: float = 0.0  # of an arm that no confirmation has counted yet

    def can_confirm(self, case: CaseSpec) -> bool:
        """Return True if the arm of the case's baseline is there. The first call for an origin makes it."""
        return isinstance(self._arm(case), OtherArm)

    def confirm(self, case: CaseSpec, run: Run) -> BuiltWorker | None:
        """Measure pairs until their verdict is decided, and store the confirmation after each, or the reason why not.

        Returns the last worker of this arm, which is alive; None if there is none.
        """
        baseline = self.gate.baselines[case.key]
        stored = self.gate.stored_latency(run)
        confirmation = self.session.store_confirmation(
            Confirmation(
                case_key=case.key,
                stored=stored.outcome,
                stored_ratio=run.latency_s / baseline.latency_s,
                baseline=os.path.relpath(baseline.path, self.session.options.root),
            )
        )
        arm = self._arm(case)
        making_s, self._making_s = self._making_s, 0.0
        budget = self._budget()
        if isinstance(arm, str):
            self.session.store_confirmation(msgspec.structs.replace(confirmation, reason=arm, seconds=making_s))
            return None
        confirmed = ConfirmedCase(
            case=case,
            run=run,
            baseline=baseline,
            session=self.session,
            gate=self.gate,
            builder=self.builder.against(arm, budget=budget),
            budget=budget,
            progress=self.progress,
            plan=self.plan,
            elapsed_s=_stopwatch(self.clock, already_s=making_s),
        )
        try:
            measure_pairs(confirmed)
        except OutOfTime as error:
            confirmed.close()
            confirmed.change(reason=str(error))
        except (WorkerFailure, InvalidMeasurement, GpuError) as error:
            confirmed.close()
            reason = error.reason if isinstance(error, WorkerFailure) else str(error)
            confirmed.change(reason=f"the pairs cannot be measured: {reason}")
        except BaseException:  # Ctrl-C too: nobody else knows of this worker yet
            confirmed.close()
            raise
        finally:
            self.session.monitor.expected_workers = 1
        return confirmed.built

    def _budget(self) -> Budget:
        return Budget(seconds=self.plan.budget_s, log=self.progress.log)

    def _arm(self, case: CaseSpec) -> OtherArm | str:
        """Return the arm of the case's baseline, or the reason why there is none."""
        baseline = self.gate.baselines[case.key]
        if self._budget().left_s <= 0:
            return "the budget is over"
        if baseline.source != "recorded":
            return f"{baseline.name} holds a published figure, which cannot be measured again"
        if baseline.origin is None:
            return f"{baseline.name} does not say with which code and versions it was recorded; record it anew"
        key = msgspec.json.encode((str(Path(baseline.path).parent), baseline.origin), order="sorted")
        if key not in self._arms:
            elapsed_s = _stopwatch(self.clock)
            try:
                with self.progress.activity(f"{case.id}: make the code and versions of {baseline.name} again"):
                    self._arms[key] = self.make_arm(baseline)
            except (OSError, ValueError) as error:
                self._arms[key] = f"the code and versions of {baseline.name} cannot be made again: {error}"
            self._making_s += elapsed_s()
        return self._arms[key]


def _stopwatch(clock: Callable[[], float], *, already_s: float = 0.0) -> Callable[[], float]:
    """Return a function that returns the seconds since now, added to those that were spent before."""
    started_s = clock() - already_s
    return lambda: clock() - started_s


@dataclasses.dataclass(kw_only=True, repr=False)
class ConfirmedCase:
    """The two arms of a case that is confirmed: this commit, and the code of the baseline. Satisfies `PairedCase`.

    `run` is the run by stored figures. Its processes stay as they are: those of the pairs are in the confirmation.
    """

    case: CaseSpec
    run: Run
    baseline: Baseline
    session: Session
    gate: Gate
    builder: Builder
    progress: Progress
    plan: ConfirmationPlan
    budget: Budget
    elapsed_s: Callable[[], float]
    built: BuiltWorker | None = None
    title: str = "confirm: pair"
    _is_measured: bool = False
    _other_run: Run | None = None

    @property
    def monitor(self) -> Monitor:
        return self.session.monitor

    @property
    def confirmation(self) -> Confirmation:
        return self.session.outcome.confirmations[self.case.key]

    def build_fresh(self, *, other: bool) -> BuiltWorker:
        """Return a worker in which no round was measured; a weights or recipe that differs is `InvalidMeasurement`."""
        if other:
            return build_other(self.builder, self.case, check=self._check_other)
        if self._is_measured:
            self.close()
        if self.built is None:
            self.built = self.builder.build(self.case)
        return self.built

    def _check_other(self, run: Run) -> None:
        check_same_weights(self.built.run if self.built else self.run, run, other_name=self.other_label())
        if self.baseline.fingerprint not in (None, run.fingerprint):
            raise InvalidMeasurement(
                f"{self.other_label()} builds recipe {run.fingerprint} here, not {self.baseline.fingerprint} as recorded"
            )

    def close(self) -> None:
        """End the worker of this arm, if one is alive."""
        if self.built is not None:
            self.built.worker.close()
        self.built, self._is_measured = None, False

    def measurement(self, built: BuiltWorker, *, other: bool) -> Measurement:
        """Return the rounds of a worker, as many as in a live comparison."""
        self._is_measured = self._is_measured or not other
        return Measurement(
            worker=built.worker,
            cold_start=built.cold_start,
            plan=self.plan.measurement,
            monitor=self.monitor,
            name=self.other_label() if other else None,
        )

    def collect(self, built: BuiltWorker, *, other: bool) -> Run:
        """Read the kernels of the other arm once; those of this arm were read with its own processes."""
        if not other:
            return self.run
        if self._other_run is None:
            name = arm_name(self.case, other=True)
            attribution = read_attribution(built, name=name, session=self.session, progress=self.progress)
            self._other_run = msgspec.structs.replace(built.run, attribution=attribution)
        return self._other_run

    def other_label(self) -> str:
        """Return the text that names the code of the baseline."""
        assert self.builder.other is not None, "a confirmation has another arm"
        return self.builder.other.label

    def wanted(self) -> int:
        """Return how many pairs are wanted: more, look by look, while their verdict is undecided.

        Raises `OutOfTime` if the budget is not expected to last for another one.
        """
        wanted = self.gate.pairs_wanted(self.run)
        if wanted > len(self.confirmation.processes):
            first_image = FIRST_IMAGE_COMPILING if self.case.compiles else FIRST_IMAGE
            self.budget.afford(self.case.id, LOAD, first_image, ROUNDS_IN_TURN)
        return wanted

    def at_most(self) -> int:
        return self.plan.looks.last

    def store(self, processes: tuple[Process, ...], comparison: Comparison | None) -> None:
        """Store the pairs so far, so that nothing is lost if the session is interrupted."""
        self.change(processes=processes, comparison=comparison)

    def change(self, **fields: object) -> None:
        """Store the confirmation with these fields, and the seconds that it has cost so far."""
        changed = msgspec.structs.replace(self.confirmation, seconds=self.elapsed_s(), **fields)
        self.session.store_confirmation(changed)
