"""The state of one pytest session: options, inputs and outcome. Each case is written to its file as soon as it changes."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from speedgate.baselines import checkpoint
from speedgate.baselines.acknowledged import Acknowledged
from speedgate.baselines.checkpoint import CheckpointKey
from speedgate.baselines.origin import RecordedCode
from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.budget import Budget
from speedgate.measure.machine import Machine
from speedgate.measure.monitor import HostMonitor, Monitor
from speedgate.measure.rounds import MeasurementPlan
from speedgate.report.html.pictures import CaseImage
from speedgate.report.terminal import Recording
from speedgate.results import timings
from speedgate.results.case_key import CaseKey
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.gpu_code import GeneratedCode, GpuCode
from speedgate.results.json_io import to_json, write_json
from speedgate.results.run import Baseline, Comparison, Confirmation, Run, Verdict
from speedgate.results.run_marks import INJECTED, QUICK, Injection


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfirmationPlan:
    """How a suspected case is confirmed: the looks, in pairs, at which its verdict is tried, and the rounds of a process.

    No pair is measured after the command has run for `budget_s` seconds.
    """

    looks: Looks
    measurement: MeasurementPlan
    budget_s: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """The options of a session.

    `root` is pytest's root directory, `results` the folder of this session's result files, and `tests` the arguments of pytest
    that name the tests. `is_quick` is true for `--quick`, which times nothing. `confirmation` is None if stored figures are
    not confirmed by live pairs.
    """

    policy: Policy
    plan: MeasurementPlan
    root: Path
    results: Path
    isolation: str = "process"
    worker_timeout_s: float = 1800.0
    tests: str = "bench/"
    is_quick: bool = False
    confirmation: ConfirmationPlan | None = None

    @property
    def baselines_root(self) -> Path:
        return self.root / "baselines"

    @property
    def is_recording(self) -> bool:
        return self.policy.mode is Mode.RECORD


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionInputs:
    """Everything that a session reads before it measures.

    `acknowledged` has the red claims that people decided to live with. `out_of_memory` names, for each case that is stored
    as out of memory, the baseline that says so. `other_arm` is the label of the other arm of a live comparison, and
    `other_versions` the versions of its packages. `code_digest` is the digest of the code that measures, `code` where a
    recording's code can be read again, None if the suite does not say, and `machine_facts` describes the machine's state
    before the first case.
    """

    measured_at: str = dataclasses.field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat())
    commit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    code_digest: str = ""
    code: RecordedCode | None = None
    machine_facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    out_of_memory: Mapping[str, str] = dataclasses.field(default_factory=dict)
    acknowledged: Acknowledged = dataclasses.field(default_factory=Acknowledged)
    family_figures: Mapping[str, tuple[FamilyFigure, ...]] = dataclasses.field(default_factory=dict)
    other_arm: str | None = None
    other_versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(kw_only=True)
class SessionOutcome:
    """Everything that a session found out so far, by case key.

    `broken` has the reason why nothing more is asked of a case, `failed_tests` the test that failed, `out_of_memory` the
    sentence of a case that a recording found to be out of memory, `unfinished` the reason why the budget of a recording
    did not last, `judged_elsewhere` the claims that are judged at another workload, and `images` the images for a report.
    `gpu_codes` has the generated code of a case by target, and `confirmations` the live pairs of a case that its stored
    figure suspects.
    `not_judged` has the reason of each claim that cannot be judged here, under "" for claims of the session; `not_built` has
    the reason of each case that this machine cannot have. `unwritten` maps a file that could not be written, as on a full
    disk, to the reason.
    """

    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    comparisons: dict[str, Comparison] = dataclasses.field(default_factory=dict)
    confirmations: dict[str, Confirmation] = dataclasses.field(default_factory=dict)
    verdicts: dict[str, list[Verdict]] = dataclasses.field(default_factory=dict)
    explanations: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    rooflines: dict[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    failed_tests: dict[str, str] = dataclasses.field(default_factory=dict)
    out_of_memory: dict[str, str] = dataclasses.field(default_factory=dict)
    unfinished: dict[str, str] = dataclasses.field(default_factory=dict)
    judged_elsewhere: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    images: dict[str, CaseImage] = dataclasses.field(default_factory=dict)
    not_judged: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    gpu_codes: dict[str, dict[str, GeneratedCode]] = dataclasses.field(default_factory=dict)
    not_built: dict[str, str] = dataclasses.field(default_factory=dict)
    recording: Recording | None = None
    unwritten: dict[str, str] = dataclasses.field(default_factory=dict)


class Session:
    """One pytest session. Stores each run and verdict in `outcome` and in the case's result file.

    `required_claims` must be judged for each case before its figures may become a baseline, `claims` are all that the tests of
    a suite make of a case, and `injection` says which cases have a fault; a suite sets them.
    """

    def __init__(self, *, options: SessionOptions, machine: Machine, inputs: SessionInputs | None = None) -> None:
        self.options, self.machine = options, machine
        self.inputs = inputs or SessionInputs()
        self.outcome = SessionOutcome()
        self.required_claims: frozenset[str] = frozenset()
        self.claims: tuple[str, ...] = ()
        self.promised: dict[str, list[str]] = {}  # the claims of each selected case that this command judges
        self.injection: Injection | None = None
        self.monitor: Monitor = HostMonitor()
        self.budget = Budget()
        self.benchmarks: dict[str, Any] = {}  # pytest-benchmark's fixtures by case key
        self.selected_keys: frozenset[str] = frozenset()  # cases that this command judges; empty if nobody said
        self.first_sessions: dict[str, Mapping[str, Any]] = {}  # time and commit of the session that began with a case
        self.result_files: dict[str, Path] = {}

    def result_file(self, case_key: str) -> Path:
        """Return the path of the case's result file, written or not."""
        return self.options.results / CaseKey.parse(case_key).file_name

    def store_run(self, run: Run) -> Run:
        """Store a run, or what was added to it. A recording also stores a checkpoint of a run with rounds."""
        before = self.outcome.runs.get(run.case_key)
        run = msgspec.structs.replace(run, components_s=timings.component_means_s(run.processes))
        self.outcome.runs[run.case_key] = run
        self._write(run.case_key)
        if self.options.is_recording and run.processes and run != before:
            self._store_checkpoint(run)
        return run

    def _store_checkpoint(self, run: Run) -> None:
        root, gpu_key = self.options.baselines_root, self.machine.key
        key, session = self.checkpoint_key_of(run), self._time_and_commit(run.case_key)
        try:
            checkpoint.store_run(root, gpu_key, key=key, run=run, session=session)
        except OSError as error:  # the recording itself goes on, and obtained.json may have room again
            self.outcome.unwritten[str(checkpoint.checkpoint_path(root, gpu_key, run.case_key))] = str(error.strerror)

    def is_reference(self, case_key: str) -> bool:
        """Return True for a case that nobody selected, and that was built only for others to be compared with."""
        run = self.outcome.runs.get(case_key)
        is_unused = run is not None and not run.processes and not self.outcome.verdicts.get(case_key)
        return is_unused and bool(self.selected_keys) and case_key not in self.selected_keys

    def store_comparison(self, comparison: Comparison) -> None:
        """Store the other arm's figures of a live comparison beside the run."""
        self.outcome.comparisons[comparison.case_key] = comparison
        self._write(comparison.case_key)

    def store_confirmation(self, confirmation: Confirmation) -> Confirmation:
        """Store the live pairs of a suspected case so far, or why there are none."""
        self.outcome.confirmations[confirmation.case_key] = confirmation
        self._write(confirmation.case_key)
        return confirmation

    def store_verdict(self, verdict: Verdict) -> Verdict:
        """Store a verdict. A case that was not built gets a result file too."""
        self.outcome.verdicts.setdefault(verdict.case_key, []).append(verdict)
        self._write(verdict.case_key)
        return verdict

    def store_gpu_code(self, code: GpuCode, *, other: GpuCode | None) -> None:
        """Store the generated code of a case for a target, with the other arm's in a live comparison."""
        self.outcome.gpu_codes.setdefault(code.case_key, {})[code.target] = GeneratedCode(this=code, other=other)

    def store_roofline(self, case_key: str, roofline: Mapping[str, Any]) -> None:
        """Store the operations of an image, and the share of the machine that they reached if its ceilings are known."""
        self.outcome.rooflines[case_key] = roofline
        if case_key in self.outcome.runs:
            self._write(case_key)

    def store_judged_elsewhere(self, case_key: str, claim: str) -> None:
        """Store that a claim is judged at another workload of the same stage, so that it is not missing here."""
        self.outcome.judged_elsewhere.setdefault(case_key, set()).add(claim)
        if case_key in self.outcome.runs:
            self._write(case_key)

    def store_not_judged(self, case_key: str, claim: str, reason: str) -> None:
        """Store why a claim of a case is not judged here; `case_key` is empty for a claim of the whole session."""
        self.outcome.not_judged.setdefault(case_key, {})[claim] = reason
        if case_key in self.outcome.runs:
            self._write(case_key)

    def attach_benchmark(self, case_key: str, benchmark: Any) -> None:
        """Let pytest-benchmark's JSON carry this case in the `extra_info` of its fixture."""
        self.benchmarks[case_key] = benchmark
        self._write(case_key)

    def has_checkpoint(self, case_key: str) -> bool:
        """Return True if this is a recording, and an interrupted one has left something of the case."""
        return self.options.is_recording and checkpoint.has_checkpoint(
            self.options.baselines_root, self.machine.key, case_key
        )

    def resume_run(self, run: Run) -> Run:
        """Return a run that was just started, with the processes of an interrupted recording of the same recipe and code."""
        if not self.options.is_recording:
            return run
        stored = checkpoint.load_run(
            self.options.baselines_root,
            self.machine.key,
            key=self.checkpoint_key_of(run),
            fingerprint=run.fingerprint,
        )
        if stored is None:
            return run
        self._remember_first_session(run.case_key)
        now = {"environment": run.environment, "cold_start": run.cold_start, "packages": run.packages}
        return msgspec.structs.replace(stored, **now)

    def load_finished_run(self, key: CheckpointKey) -> Run | None:
        """Return the run of an interrupted recording that has all its processes: the case is not built again."""
        stored = checkpoint.load_run(self.options.baselines_root, self.machine.key, key=key)
        if stored is None or len(stored.processes) < self.options.plan.processes:
            return None
        self._remember_first_session(key.case_key)
        return stored

    def checkpoint_key(
        self, case_key: str, *, environment: Mapping[str, Any], weights: Mapping[str, Any] | None
    ) -> CheckpointKey:
        """Return the conditions that must be the same for a stored process of the case to count."""
        return CheckpointKey(
            case_key=case_key,
            rounds=self.options.plan.rounds,
            environment=environment,
            source=self.inputs.code_digest,
            weights=weights or {},
        )

    def checkpoint_key_of(self, run: Run) -> CheckpointKey:
        """Return the conditions under which a run was measured."""
        return self.checkpoint_key(run.case_key, environment=run.environment, weights=run.weights)

    def unjudged_cases(self) -> dict[str, str]:
        """Return the measured cases that lack a verdict on a required claim, each with the claims that are missing."""
        missing = {key: sorted(self._missing_claims(key)) for key, run in self.outcome.runs.items() if run.processes}
        return {key: f"not judged: {', '.join(claims)}" for key, claims in missing.items() if claims}

    def _missing_claims(self, case_key: str) -> set[str]:
        judged = {verdict.claim for verdict in self.outcome.verdicts.get(case_key, ())}
        return set(self.required_claims) - judged - self.outcome.judged_elsewhere.get(case_key, set())

    def _remember_first_session(self, case_key: str) -> None:
        self.first_sessions[case_key] = checkpoint.load_session(
            self.options.baselines_root, self.machine.key, case_key=case_key
        )

    def _time_and_commit(self, case_key: str) -> dict[str, Any]:
        """Return the time and commit of the session that began with the case."""
        now = {"measured_at": self.inputs.measured_at, "commit": dict(self.inputs.commit)}
        return now | dict(self.first_sessions.get(case_key, {}))

    def _is_unfinished(self, run: Run) -> bool:
        """Return True if the same recording, started again, would add processes or required verdicts."""
        if run.case_key in self.outcome.out_of_memory:
            return False
        return len(run.processes) < self.options.plan.processes or bool(self._missing_claims(run.case_key))

    def _write(self, case_key: str) -> None:
        outcome = self.outcome
        run = outcome.runs.get(case_key)
        document = {
            "gpu_key": self.machine.key,
            **self._time_and_commit(case_key),
            "machine": to_json(self.machine),
            "health": dict(self.inputs.machine_facts),
            "run": to_json(run) if run is not None else None,
            "iterations_per_s": dict(run.iterations_per_s) if run is not None else {},
            "verdicts": [to_json(verdict) for verdict in outcome.verdicts.get(case_key, ())],
            "explanation": outcome.explanations.get(case_key, []),
        }
        if self.options.is_recording and run is not None and self._is_unfinished(run):
            document["unfinished"] = True
        if case_key in outcome.not_judged:
            document["not_judged"] = dict(outcome.not_judged[case_key])
        if self.is_reference(case_key):
            document["reference"] = True
        if self.injection is not None:
            document[INJECTED] = to_json(self.injection)
        if self.options.is_quick:
            document[QUICK] = True
        if case_key in outcome.comparisons:
            document["against"] = to_json(outcome.comparisons[case_key])
        if case_key in outcome.confirmations:
            document["confirmation"] = to_json(outcome.confirmations[case_key])
        if case_key in outcome.rooflines:
            document["roofline"] = dict(outcome.rooflines[case_key])
        if case_key in outcome.gpu_codes:
            document["gpu_code"] = {target: to_json(code) for target, code in outcome.gpu_codes[case_key].items()}
        if case_key in self.benchmarks:
            self.benchmarks[case_key].extra_info["speedgate"] = document
        self._write_result(case_key, document)

    def _write_result(self, case_key: str, document: Mapping[str, Any]) -> None:
        """Write a result file; on a full disk, to the folder for temporary files. What was measured is never lost for it."""
        path = self.result_file(case_key)
        elsewhere = Path(tempfile.gettempdir()) / f"speedgate-{self.options.results.name}" / path.name
        reason = ""
        for place in (path, elsewhere):
            try:
                write_json(place, document)
            except OSError as error:
                reason = reason or str(error.strerror)
                continue
            self.result_files[case_key] = place
            self.outcome.unwritten.pop(str(path), None)
            if place == elsewhere:
                self.outcome.unwritten[str(path)] = f"{reason}; it is in {elsewhere.parent}"
            return
        self.result_files.pop(case_key, None)
        self.outcome.unwritten[str(path)] = f"{reason}; it is nowhere else"
