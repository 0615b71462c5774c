"""Measure cases: build each one, repeat its rounds in fresh processes until the verdict is decided, and keep what it made.

Every failure comes back as a value, a `CaseFailure`. The fixtures in `case_fixtures.py` turn it into the outcome of a test.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from speedgate.baselines.checkpoint import CheckpointKey
from speedgate.measure.monitor import Monitor
from speedgate.measure.nvml import GpuError
from speedgate.measure.other_arm import OtherArm
from speedgate.measure.rounds import InvalidMeasurement, Measurement, measure_process
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
from speedgate.plugin.confirm import Confirmer
from speedgate.plugin.judgement import Gate
from speedgate.plugin.pairs import build_other, check_same_weights, measure_pairs
from speedgate.plugin.progress import Progress
from speedgate.plugin.session import Session
from speedgate.results.profile import Attribution
from speedgate.results.run import Baseline, Comparison, Process, Run, Verdict

# Activities of a case after its start, as progress shows them and the budget of a recording looks them up.
PROCESS, COLLECT, COUNT, END = "process", "collect outputs", "count graphs and recompiles", "end the worker"

T = TypeVar("T")


class FailureKind(enum.StrEnum):
    """Why an operation on a case returned no result."""

    LOST = "lost"  # the worker raised, died or did not answer
    OUT_OF_MEMORY = "out of memory"
    DISCARDED = "discarded"  # the measurement cannot be used
    FAILED_BEFORE = "failed before"  # an earlier operation of this case failed: nothing more is asked of it
    STALE = "stale"  # the baseline was recorded under other conditions: nothing is measured
    OUT_OF_TIME = "out of time"  # the budget of a recording is over


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseFailure:
    """The failure of one operation on a case. `verdict` is the verdict that the failure led to, `details` the worker's log."""

    kind: FailureKind
    case_key: str
    sentence: str
    verdict: Verdict | None = None
    details: str = ""


class _StaleError(Exception):
    """End the measurement of a case whose baseline is stale, with the verdict that says so."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.sentence)
        self.verdict = verdict


class Collector(Protocol):
    """Collects outputs of a case that other claims of a suite need, such as images. Called after the rounds of a process."""

    def collect(self, case: Any, built: BuiltWorker, *, other: bool) -> None:
        """Collect the outputs of one arm, once. Raises `WorkerFailure`."""

    def has(self, case: Any, *, other: bool = False) -> bool:
        """Return True if the outputs of that arm were collected."""

    def restore(self, case: Any, key: CheckpointKey) -> None:
        """Load the outputs that an interrupted recording stored under this key, if any."""


class Runner:
    """Builds and measures cases of one session. At most one worker of each arm is alive at a time.

    With `always_collect`, the outputs of every built case are collected before its worker ends, even if no claim asked for
    them: a report shows them. `make_arm` makes the code and versions of a baseline again, for live pairs that confirm a case.
    """

    def __init__(
        self,
        *,
        session: Session,
        gate: Gate,
        builder: Builder,
        progress: Progress,
        collector: Collector | None = None,
        always_collect: bool = False,
        make_arm: Callable[[Baseline], OtherArm] | None = None,
    ) -> None:
        self.session, self.gate, self.builder, self.progress = session, gate, builder, progress
        self.collector = collector
        self.always_collect = always_collect
        plan = session.options.confirmation
        self.confirmer = (
            Confirmer(session=session, gate=gate, builder=builder, progress=progress, plan=plan, make_arm=make_arm)
            if plan is not None and make_arm is not None
            else None
        )
        self.other_runs: dict[str, Run] = {}
        self._restored: set[str] = set()
        self._environment: Mapping[str, Any] | None = None

    def has_outputs(self, case: CaseSpec, *, other: bool = False) -> bool:
        """Return True if no output of that arm is left to collect."""
        return self.collector is None or self.collector.has(case, other=other)

    @contextlib.contextmanager
    def live(self, case: CaseSpec) -> Iterator[LiveCase]:
        """Yield the case. Its worker is started when something is first asked of it, and ended afterwards."""
        live = LiveCase(case=case, runner=self)
        try:
            yield live
        finally:
            live.close()

    def measure(self, case: CaseSpec) -> Run | CaseFailure:
        """Return the run of a case with its rounds: from earlier in the session, or measured now.

        It is not confirmed: only the tests of the case itself judge its latency.
        """
        with self.live(case) as live:
            return live.measure(confirm=False)

    def collect(self, case: CaseSpec, *, other: bool = False) -> CaseFailure | None:
        """Collect the outputs of one arm, unless they are there; builds the case for that alone if need be."""
        with self.live(case) as live:
            result = live.other_run() if other else live.collect_outputs()
        return result if isinstance(result, CaseFailure) else None

    def restore(self, case: CaseSpec) -> bool:
        """Take over a case that an interrupted recording finished; return True if its run and outputs are there."""
        if case.key not in self.session.outcome.runs and self.session.has_checkpoint(case.key):
            key = self._checkpoint_key(case)
            run = self.session.load_finished_run(key)
            if run is not None:
                self._restored.add(case.key)
                self.session.store_run(run)
                self.progress.note(f"{case.id}: finished by an interrupted recording, not built again")
                if self.collector is not None:
                    self.collector.restore(case, key)
        return case.key in self._restored

    def _checkpoint_key(self, case: CaseSpec) -> CheckpointKey:
        """Return the checkpoint key of a case that is not built. The first call asks a worker for its environment."""
        if self._environment is None:
            with self.progress.activity(f"{case.id}: read the versions of packages"):
                worker = self.builder.open(case)
                try:
                    self._environment = worker.call("versions")
                finally:
                    worker.close()
        return self.session.checkpoint_key(case.key, environment=self._environment, weights=self.builder.weights(case))


@dataclasses.dataclass(kw_only=True, repr=False)
class LiveCase:
    """A case with at most one worker of this arm. After a failure its worker is ended and nothing more is asked of it."""

    case: CaseSpec
    runner: Runner
    built: BuiltWorker | None = None
    is_measured: bool = False

    @property
    def session(self) -> Session:
        return self.runner.session

    @property
    def progress(self) -> Progress:
        return self.runner.progress

    def start(self) -> Run | CaseFailure:
        """Return the run, with or without rounds; a case that nobody started is built."""
        run = self.session.outcome.runs.get(self.case.key)
        return run if run is not None else self._attempt(self._start)

    @property
    def title(self) -> str:
        return "pair"

    @property
    def monitor(self) -> Monitor:
        return self.session.monitor

    def measure(self, *, confirm: bool = True) -> Run | CaseFailure:
        """Return the run with its rounds; measures once. With `confirm`, live pairs decide on a suspected case."""
        run = self.session.outcome.runs.get(self.case.key)
        is_measured = run is not None and run.processes and self.case.key not in self.session.outcome.broken
        result = run if run is not None and is_measured else self._attempt(self._measure)
        if confirm and isinstance(result, Run) and self._needs_confirmation(result):
            return self._attempt(self._confirm)
        return result

    def counts(self) -> dict[str, Any] | CaseFailure:
        """Return the facts that the worker counts over another generation, such as graphs and recompiles."""
        run = self.start()
        if isinstance(run, CaseFailure):
            return run
        return dict(run.counts) if run.counts is not None else self._attempt(self._count)

    def collect_outputs(self) -> CaseFailure | None:
        """Collect the outputs of this arm, once, after the rounds of its process."""
        if self.runner.has_outputs(self.case):
            return None
        return self._attempt(self._collect_outputs)

    def other_run(self) -> Run | CaseFailure:
        """Return the other arm's run without rounds: from its pairs, or built now for this alone."""
        return self._attempt(self._other_run)

    def fit(self) -> Verdict | CaseFailure | None:
        """Return the verdict on whether the case fits into memory, after its rounds; None if no expectation is known."""
        key, session, gate = self.case.key, self.session, self.runner.gate
        if key not in session.outcome.broken and not gate.expects_fit(key):
            return None
        if key not in session.outcome.broken:
            result = self.measure()
            if isinstance(result, CaseFailure) and (result.verdict is None or not gate.accepts(result.verdict)):
                return result
        if key not in session.outcome.broken:
            return gate.fit(key, fits=True)
        accepted = [v for v in session.outcome.verdicts[key] if v.claim == "fit" and gate.accepts(v)]
        return accepted[-1] if accepted else self._failed_before()

    def close(self) -> None:
        """End the worker of this arm, if one is alive."""
        if self.built is not None:
            with self.session.budget.time(self.case.id, END):
                self.built.worker.close()
        self.built, self.is_measured = None, False

    # Used by pairs.py.

    def build_fresh(self, *, other: bool) -> BuiltWorker:
        """Return a worker in which no round was measured. The caller closes a worker of the other arm."""
        if other:
            return build_other(self.runner.builder, self.case, check=self._check_other)
        if self.is_measured:
            self.close()
        if self.built is None:
            self.built = self.runner.builder.build(self.case)
        return self.built

    def _check_other(self, other_run: Run) -> None:
        run = self.session.outcome.runs.get(self.case.key)
        if run is not None:
            check_same_weights(run, other_run, other_name=self.other_label())

    def measurement(self, built: BuiltWorker, *, other: bool) -> Measurement:
        """Return the rounds of a worker, none of which is measured yet."""
        self.is_measured = self.is_measured or not other
        return Measurement(
            worker=built.worker,
            cold_start=built.cold_start,
            plan=self.session.options.plan,
            monitor=self.session.monitor,
            name=self.session.inputs.other_arm if other else None,
        )

    def collect(self, built: BuiltWorker, *, other: bool) -> Run:
        """Collect outputs and kernels of one arm, once, after its rounds; return the arm's run without new rounds."""
        key, runner = self.case.key, self.runner
        self._collect_from(built, other=other)
        if other:
            if key not in runner.other_runs:
                attribution = self._attribution(built, other=True)
                runner.other_runs[key] = msgspec.structs.replace(built.run, attribution=attribution)
            return runner.other_runs[key]
        run = self.session.outcome.runs[key]
        if run.attribution is None:
            run = self.session.store_run(
                msgspec.structs.replace(run, attribution=self._attribution(built, other=False))
            )
        return run

    def other_label(self) -> str:
        """Return the text that names the other arm."""
        assert self.runner.builder.other is not None, "a live comparison has another arm"
        return self.runner.builder.other.label

    def wanted(self) -> int:
        """Return how many processes are wanted, given those measured so far."""
        run, confirmer = self.session.outcome.runs[self.case.key], self.runner.confirmer
        if confirmer is not None and self.runner.gate.suspects(run) and confirmer.can_confirm(self.case):
            return len(run.processes)  # live pairs decide
        return self.runner.gate.processes_wanted(run)

    def at_most(self) -> int:
        """Return how many processes are measured if the verdict stays undecided."""
        return self.runner.gate.processes_at_most(self.case.key)

    def store(self, processes: tuple[Process, ...], comparison: Comparison | None) -> None:
        """Store the pairs of a live comparison so far."""
        if comparison is None:
            self.session.outcome.comparisons.pop(self.case.key, None)
        else:
            self.session.store_comparison(comparison)
        self.session.store_run(msgspec.structs.replace(self.session.outcome.runs[self.case.key], processes=processes))

    # The operations themselves: they raise, and `_attempt` turns what they raise into a value.

    def _start(self) -> Run:
        if not self.runner.restore(self.case):
            self._open()
        return self.session.outcome.runs[self.case.key]

    def _measure(self) -> Run:
        run = self.session.outcome.runs.get(self.case.key) or self._start()
        if run.processes:
            return run
        if self.runner.builder.other is None:
            return self._measure_alone(run)
        measure_pairs(self)
        return self.session.outcome.runs[self.case.key]

    def _needs_confirmation(self, run: Run) -> bool:
        if self.runner.confirmer is None or self.case.key in self.session.outcome.confirmations:
            return False
        return self.runner.gate.suspects(run)

    def _confirm(self) -> Run:
        """Measure live pairs. The worker of this arm ends for them, and the last one of the pairs takes its place."""
        confirmer, run = self.runner.confirmer, self.session.outcome.runs[self.case.key]
        assert confirmer is not None, "only a session with a plan confirms"
        if confirmer.can_confirm(self.case):
            self.close()
        built = confirmer.confirm(self.case, run)
        if built is not None:
            self.built, self.is_measured = built, True
        return run

    def _measure_alone(self, run: Run) -> Run:
        if (verdict := self.runner.gate.stale_conditions(run)) is not None:
            raise _StaleError(verdict)
        run = self.session.store_run(self.session.resume_run(run))
        if run.processes:
            self.progress.note(f"{self.case.id}: {len(run.processes)} processes of an interrupted recording count")
        while (count := len(run.processes)) < (wanted := self.wanted()):
            most = max(wanted, self.at_most())
            of = f"of {wanted}" if wanted == most else f"of at most {most}"
            needs_start = self.built is None or self.is_measured
            self._afford(*(self._start_activities() if needs_start else ()), PROCESS)
            measurement = self.measurement(self.build_fresh(other=False), other=False)
            with self.progress.activity(f"{self.case.id}: {PROCESS} {count + 1} {of}"):
                process = measure_process(measurement)
            self.session.store_run(msgspec.structs.replace(run, processes=(*run.processes, process)))
            self._collect_all()
            run = self.session.outcome.runs[self.case.key]
        self._collect_all()  # the worker of a run that was complete already has not been asked for its outputs
        return self.session.outcome.runs[self.case.key]

    def _collect_all(self) -> None:
        self._collect_outputs()
        if self.built is not None:  # outputs that a recording stored need no worker again
            self.collect(self.built, other=False)

    def _collect_outputs(self) -> None:
        if self.runner.has_outputs(self.case):
            return
        built = self._open()
        self._afford(COLLECT)
        self._collect_from(built, other=False)

    def _collect_from(self, built: BuiltWorker, *, other: bool) -> None:
        collector = self.runner.collector
        if collector is not None and not collector.has(self.case, other=other):
            with self.progress.activity(f"{arm_name(self.case, other=other)}: {COLLECT}"):
                collector.collect(self.case, built, other=other)

    def _other_run(self) -> Run:
        if self.case.key not in self.runner.other_runs:
            built = self.build_fresh(other=True)
            try:
                self.collect(built, other=True)
            finally:
                built.worker.close()
        return self.runner.other_runs[self.case.key]

    def _count(self) -> dict[str, Any]:
        built = self._open()
        self._afford(COUNT)
        with self.progress.activity(f"{self.case.id}: {COUNT}"):
            counts: dict[str, Any] = built.worker.call("count")
        self.session.store_run(msgspec.structs.replace(self.session.outcome.runs[self.case.key], counts=counts))
        return dict(counts)

    def _attribution(self, built: BuiltWorker, *, other: bool) -> Attribution | None:
        name = arm_name(self.case, other=other)
        return read_attribution(built, name=name, session=self.session, progress=self.progress)

    def _open(self) -> BuiltWorker:
        """Return the worker that is alive, or start one."""
        if self.built is None:
            self._afford(*self._start_activities())
            self.built = self.runner.builder.build(self.case)
        if self.case.key not in self.session.outcome.runs:
            self.session.store_run(self.built.run)
        return self.built

    def _start_activities(self) -> tuple[str, str]:
        return LOAD, FIRST_IMAGE_COMPILING if self.case.compiles else FIRST_IMAGE

    def _afford(self, *activities: str) -> None:
        self.session.budget.afford(self.case.id, *activities)

    def _attempt(self, operation: Callable[[], T]) -> T | CaseFailure:
        """Return the result of the operation, or its failure. After a failure the worker is ended."""
        key, session = self.case.key, self.session
        if key in session.outcome.broken:
            return self._failed_before()
        try:
            return operation()
        except OutOfTime as error:
            self.close()
            return CaseFailure(kind=FailureKind.OUT_OF_TIME, case_key=key, sentence=str(error))
        except WorkerFailure as failure:
            self.close()  # its memory would be taken for that of another case
            verdict = (
                self.runner.gate.fit(key, fits=False)
                if failure.reported_out_of_memory(session.machine.device)
                else None
            )
            if verdict is None:
                self.runner.gate.mark_worker_lost(key, failure.reason)
                return CaseFailure(kind=FailureKind.LOST, case_key=key, sentence=failure.reason, details=str(failure))
            return CaseFailure(
                kind=FailureKind.OUT_OF_MEMORY,
                case_key=key,
                sentence=verdict.sentence,
                verdict=verdict,
                details=str(failure),
            )
        except _StaleError as error:
            return CaseFailure(
                kind=FailureKind.STALE, case_key=key, sentence=error.verdict.sentence, verdict=error.verdict
            )
        except (InvalidMeasurement, GpuError) as error:
            verdict = self.runner.gate.discard(key, str(error))
            return CaseFailure(kind=FailureKind.DISCARDED, case_key=key, sentence=verdict.sentence, verdict=verdict)

    def _failed_before(self) -> CaseFailure:
        return CaseFailure(
            kind=FailureKind.FAILED_BEFORE, case_key=self.case.key, sentence=self.session.outcome.broken[self.case.key]
        )
