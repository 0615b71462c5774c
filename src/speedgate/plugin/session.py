"""What one pytest session has of its own and has found out: options, machine, runs and verdicts, each case on disk at once."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate.baselines import checkpoint
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.budget import Budget
from speedgate.measure.machine import Machine
from speedgate.measure.monitor import HostMonitor, Monitor
from speedgate.measure.rounds import MeasurementPlan
from speedgate.report.html.pictures import CaseImage
from speedgate.results import timings
from speedgate.results.case_key import CaseKey
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.json_io import to_json, write_json
from speedgate.results.run import Baseline, Comparison, Run, Verdict

# What must have been judged of a case before its figures may become a baseline.
REQUIRED_CLAIMS = frozenset({"recipe", "compile", "parity"})


@dataclasses.dataclass(kw_only=True, repr=False)
class Ledger:
    """Everything that is kept of a session. Each run is in its case's file in `results` as soon as it is kept.

    `oom_before` names of each case that is stored as out of memory what says so; `oom_now` has the sentence of each that a
    recording found to be.
    """

    policy: Policy
    machine: Machine
    plan: MeasurementPlan
    isolation: str
    worker_timeout_s: float
    root: Path
    results: Path
    against: str | None = None
    other_versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measured_at: str = dataclasses.field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat())
    source: str = ""
    budget: Budget = dataclasses.field(default_factory=Budget)
    unfinished: dict[str, str] = dataclasses.field(default_factory=dict)
    monitor: Monitor = dataclasses.field(default_factory=HostMonitor)
    health: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    oom_before: Mapping[str, str] = dataclasses.field(default_factory=dict)
    family: Mapping[str, tuple[FamilyFigure, ...]] = dataclasses.field(default_factory=dict)
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    comparisons: dict[str, Comparison] = dataclasses.field(default_factory=dict)
    verdicts: dict[str, list[Verdict]] = dataclasses.field(default_factory=dict)
    explanations: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    oom_now: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    elsewhere: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    rooflines: dict[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    benchmarks: dict[str, Any] = dataclasses.field(default_factory=dict)
    earlier: dict[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    written: dict[str, Path] = dataclasses.field(default_factory=dict)
    images: dict[str, CaseImage] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<gate {self.policy.mode.value}>"

    @property
    def baselines_root(self) -> Path:
        return self.root / "baselines"

    @property
    def recording(self) -> bool:
        """Whether a baseline is being recorded."""
        return self.policy.mode is Mode.RECORD

    def file_of(self, case_key: str) -> Path:
        """Where the case's results lie as soon as there are any."""
        return self.results / CaseKey.parse(case_key).file_name

    def keep(self, run: Run) -> Run:
        """Remember a run, or what has been added to it, and write it to its file."""
        before = self.runs.get(run.case_key)
        run = dataclasses.replace(run, components_s=timings.centre_s(run.processes))
        self.runs[run.case_key] = run
        self._write(run.case_key)
        if self.recording and run.processes and run != before:
            checkpoint.store_run(
                self.baselines_root,
                self.machine.key,
                key=self.conditions_of(run),
                run=run,
                session=self._when(run.case_key),
            )
        return run

    def resumed(self, run: Run) -> Run:
        """A run that was just started, with what an interrupted recording of it has left: same recipe, versions and code."""
        if not self.recording:
            return run
        found = checkpoint.load_run(
            self.baselines_root, self.machine.key, key=self.conditions_of(run), fingerprint=run.fingerprint
        )
        if found is None:
            return run
        self._goes_on(run.case_key)
        return dataclasses.replace(found, environment=run.environment, cold_start=run.cold_start)

    def finished(self, conditions: checkpoint.CheckpointKey) -> Run | None:
        """The run that an interrupted recording has left of a case, if no process of it is wanting: it is not built again."""
        found = checkpoint.load_run(self.baselines_root, self.machine.key, key=conditions)
        if found is None or len(found.processes) < self.plan.processes:
            return None
        self._goes_on(conditions.case_key)
        return found

    def holds(self, case_key: str) -> bool:
        """Whether an interrupted recording has left anything of the case."""
        return self.recording and checkpoint.has_checkpoint(self.baselines_root, self.machine.key, case_key)

    def conditions(
        self, case_key: str, *, environment: Mapping[str, Any], weights: Mapping[str, Any] | None
    ) -> checkpoint.CheckpointKey:
        """What must be the same for what is kept of the case to count."""
        return checkpoint.CheckpointKey(
            case_key=case_key,
            rounds=self.plan.rounds,
            environment=environment,
            source=self.source,
            weights=weights or {},
        )

    def conditions_of(self, run: Run) -> checkpoint.CheckpointKey:
        """Those under which a run was measured."""
        return self.conditions(run.case_key, environment=run.environment, weights=run.recipe.get("weights"))

    def attach(self, case_key: str, benchmark: Any) -> None:
        """Let pytest-benchmark's JSON carry this case: its `extra_info` is filled before the session ends."""
        self.benchmarks[case_key] = benchmark
        self._write(case_key)

    def compare(self, comparison: Comparison) -> Comparison:
        """Remember what the other arm of a live comparison measured, and write it beside the run."""
        self.comparisons[comparison.case_key] = comparison
        self._write(comparison.case_key)
        return comparison

    def add(self, verdict: Verdict) -> Verdict:
        """Remember a verdict; a case that was not built has a file by it too."""
        self.verdicts.setdefault(verdict.case_key, []).append(verdict)
        self._write(verdict.case_key)
        return verdict

    def _goes_on(self, case_key: str) -> None:
        """The case was measured by an earlier session, and has its time and commit, however many go on with it."""
        self.earlier[case_key] = checkpoint.load_session(self.baselines_root, self.machine.key, case_key=case_key)

    def _when(self, case_key: str) -> dict[str, Any]:
        return {"measured_at": self.measured_at, "commit": dict(self.commit), **self.earlier.get(case_key, {})}

    def _is_unfinished(self, run: Run) -> bool:
        """Whether the same command, given again, adds anything to what is recorded of the case."""
        judged = {verdict.claim for verdict in self.verdicts.get(run.case_key, ())}
        claims = REQUIRED_CLAIMS - judged - self.elsewhere.get(run.case_key, set())
        return run.case_key not in self.oom_now and (len(run.processes) < self.plan.processes or bool(claims))

    def _write(self, case_key: str) -> None:
        run = self.runs.get(case_key)
        document = {
            "gpu_key": self.machine.key,
            **self._when(case_key),
            "machine": to_json(self.machine),
            "health": dict(self.health),
            "run": to_json(run) if run is not None else None,
            "iterations_per_s": dict(run.iterations_per_s) if run is not None else {},
            "verdicts": [to_json(verdict) for verdict in self.verdicts.get(case_key, ())],
            "explanation": self.explanations.get(case_key, []),
        }
        if self.recording and run is not None and self._is_unfinished(run):
            document["unfinished"] = True
        if case_key in self.comparisons:
            document["against"] = to_json(self.comparisons[case_key])
        if case_key in self.rooflines:
            document["roofline"] = dict(self.rooflines[case_key])
        if case_key in self.benchmarks:
            self.benchmarks[case_key].extra_info["speedgate"] = document
        path = self.written[case_key] = self.file_of(case_key)
        write_json(path, document)
