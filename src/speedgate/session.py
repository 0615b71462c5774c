"""One pytest session's state: the policy, the machine, what was measured and how it was judged."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from speedgate import benchmark_json, components, expected, explain, gate, recordings, roofline
from speedgate.budget import Budget
from speedgate.clock import Plan
from speedgate.environment import Machine
from speedgate.families import FamilyFigure
from speedgate.health import HostMonitor, Monitor
from speedgate.policy import Mode, Policy
from speedgate.records import Baseline, Comparison, Outcome, Run, Verdict, to_json, write_json
from speedgate.roofline import Operations, Roofline
from speedgate.web.pictures import Look


@dataclasses.dataclass(kw_only=True, repr=False)
class Session:
    """What the `gate` fixture hands to a test. Each run is on disk in `results` as soon as it is kept."""

    policy: Policy
    machine: Machine
    plan: Plan
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
    family: Mapping[str, tuple[FamilyFigure, ...]] = dataclasses.field(default_factory=dict)
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    comparisons: dict[str, Comparison] = dataclasses.field(default_factory=dict)
    verdicts: dict[str, list[Verdict]] = dataclasses.field(default_factory=dict)
    explanations: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    elsewhere: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    rooflines: dict[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    benchmarks: dict[str, Any] = dataclasses.field(default_factory=dict)
    written: dict[str, Path] = dataclasses.field(default_factory=dict)
    looks: dict[str, Look] = dataclasses.field(default_factory=dict)

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
        return self.results / f"{case_key.replace('/', '__')}.json"

    def accepts(self, verdict: Verdict) -> bool:
        """Whether the verdict leaves its test green under `--gate`."""
        return self.policy.accepts(verdict)

    def keep(self, run: Run) -> Run:
        """Remember a run, or what has been added to it, and write it to its file."""
        before = self.runs.get(run.case_key)
        run = dataclasses.replace(run, components_s=components.centre_s(run.processes))
        self.runs[run.case_key] = run
        self._write(run.case_key)
        if self.recording and run.processes and run != before:
            recordings.keep(self.baselines_root, self.machine.key, conditions=self.conditions_of(run), run=run)
        return run

    def resumed(self, run: Run) -> Run:
        """A run that was just started, with what an interrupted recording of it has left: same recipe, versions and code."""
        if not self.recording:
            return run
        found = recordings.kept(
            self.baselines_root, self.machine.key, conditions=self.conditions_of(run), fingerprint=run.fingerprint
        )
        if found is None:
            return run
        return dataclasses.replace(found, environment=run.environment, cold_start=run.cold_start)

    def finished(self, conditions: recordings.Conditions) -> Run | None:
        """The run that an interrupted recording has left of a case, if no process of it is wanting: it is not built again."""
        found = recordings.kept(self.baselines_root, self.machine.key, conditions=conditions)
        return None if found is None or len(found.processes) < self.plan.processes else found

    def holds(self, case_key: str) -> bool:
        """Whether an interrupted recording has left anything of the case."""
        return self.recording and recordings.holds(self.baselines_root, self.machine.key, case_key)

    def conditions(
        self, case_key: str, *, environment: Mapping[str, Any], weights: Mapping[str, Any] | None
    ) -> recordings.Conditions:
        """What must be the same for what is kept of the case to count."""
        return recordings.Conditions(
            case_key=case_key,
            rounds=self.plan.rounds,
            environment=environment,
            source=self.source,
            weights=weights or {},
        )

    def missing(self, *, known: Collection[str], expected: Collection[str]) -> list[Verdict]:
        """MISSING for each case of this machine's baselines that the suite does not have, or was to measure and did not.

        A publication holds what its authors chose to measure: the suite need not have all of it.
        """
        found = []
        for key, baseline in self.baselines.items():
            measured = key in self.runs and bool(self.runs[key].processes)
            if key not in known and baseline.source == benchmark_json.PUBLISHED:
                continue
            if key not in known:
                sentence = f"{baseline.name} holds it and the suite does not: restore the case, or record a baseline without it"
            elif key in expected and not measured and key not in self.broken:  # a lost case is one red test already
                sentence = f"{baseline.name} holds it and it was not measured"
            else:
                continue
            found.append(Verdict(case_key=key, claim="baseline", outcome=Outcome.MISSING, sentence=sentence))
        for verdict in found:
            self.add(verdict)
            if verdict.case_key not in self.runs:
                self._write(verdict.case_key)
        return found

    def attach(self, case_key: str, benchmark: Any) -> None:
        """Let pytest-benchmark's JSON carry this case: its `extra_info` is filled before the session ends."""
        self.benchmarks[case_key] = benchmark
        self._write(case_key)

    def compare(self, comparison: Comparison) -> Comparison:
        """Remember what the other arm of a live comparison measured, and write it beside the run."""
        self.comparisons[comparison.case_key] = comparison
        self._write(comparison.case_key)
        return comparison

    def wanted(self, run: Run) -> int:
        """How many processes are wanted of this run by what is known: more, look by look, while it is undecided."""
        count, looks = len(run.processes), self.policy.looks
        if not self._has_interval(run):
            return max(count, self.plan.processes)
        following = looks.following(count)
        # Between two looks nothing is judged: a verdict that was tried there would not be one that the error rate counts.
        decided = count in looks.counts and self._judge_latency(run).outcome is not Outcome.UNDECIDED
        return count if following is None or decided else following

    def _has_interval(self, run: Run) -> bool:
        baseline = self._baseline(run)
        judged = self.against is not None or (baseline is not None and baseline.source == "recorded")
        return judged and not self.recording

    def void(self, case_key: str, reason: str) -> Verdict:
        """What was measured of the case cannot be used: INVALID, and its other claims are not judged."""
        self.broken[case_key] = reason
        return self.add(Verdict(case_key=case_key, claim="measurement", outcome=Outcome.INVALID, sentence=reason))

    def lose(self, case_key: str, reason: str) -> None:
        """A case's worker is gone: what it left is INVALID, and the case stays in the report and on disk."""
        self.broken[case_key] = reason
        self.add(Verdict(case_key=case_key, claim="worker", outcome=Outcome.INVALID, sentence=reason))
        if case_key not in self.runs:
            self._write(case_key)

    def expects_fit(self, case_key: str) -> bool:
        """Whether anything is known of what becomes of the case on this machine."""
        return self._known(case_key) is not None

    def fit(self, case_key: str, *, fits: bool) -> Verdict | None:
        """The verdict on a case that ran, or that ran out of memory and is over; None where nothing is known of that.

        A recording has no place yet for a case that no longer fits: there it is a lost worker, and nothing is promoted.
        """
        known = self._known(case_key)
        if known is None or (known.gates and not fits and self.recording):
            return None
        verdict = expected.judge_fit(
            case_key,
            expected=known.expected,
            fits=fits,
            baseline=known.baseline,
            device_bytes=self.machine.memory_bytes,
            alone=fits or self.monitor.alone(),
        )
        if not fits:
            self.broken[case_key] = verdict.sentence
        # Out of memory beside other processes is red for its own sake; whatever else a family's figure leads to is not.
        gates = known.gates or verdict.outcome is Outcome.INVALID
        return self.add(dataclasses.replace(verdict, gates=gates))

    def unjudged(self, claims: frozenset[str]) -> dict[str, str]:
        """The measured cases of which some of these claims were never judged (deselected, interrupted), and which."""
        judged = {key: {verdict.claim for verdict in verdicts} for key, verdicts in self.verdicts.items()}
        missing = {
            key: sorted(claims - judged.get(key, set()) - self.elsewhere.get(key, set()))
            for key, run in self.runs.items()
            if run.processes
        }
        return {key: f"never judged: {', '.join(names)}" for key, names in missing.items() if names}

    def judged_elsewhere(self, case_key: str, claim: str) -> None:
        """A claim that is not this case's to make: it is judged at another workload of the same stage."""
        self.elsewhere.setdefault(case_key, set()).add(claim)

    def latency(self, run: Run) -> Verdict:
        """The latency verdict against the other arm, or this machine's baseline."""
        return self._explained(run, self._judge_latency(run))

    def memory(self, run: Run) -> Verdict:
        """The memory verdict against the other arm, or this machine's baseline."""
        if self.against is not None:
            comparison = self.comparisons[run.case_key]
            return self._explained(run, gate.judge_memory_against(run, comparison, self._memory_tolerance))
        return self._explained(run, gate.judge_memory(run, self._baseline(run), self.policy))

    def cold_start(self, run: Run) -> Verdict | None:
        """The verdict on what the stage costs at a start; None where the baseline holds no start of the same kind."""
        baseline = self._baseline(run)
        if baseline is None:
            return self.add(gate.no_baseline(run, "cold start", f"{run.cold_start.stage_s:.3g} s"))
        verdict = gate.judge_cold_start(run, baseline, self.policy)
        return None if verdict is None else self.add(verdict)

    def ladder(self, run: Run, parent: Run) -> Verdict:
        """The speed-up verdict against the ratio that this machine's baselines hold for the two stages."""
        own, other = self._baseline(run), self._baseline(parent)
        for measured, baseline in ((run, own), (parent, other)):
            if baseline is not None and gate.is_stale(measured, baseline):
                return self.add(gate.judge_stale(measured, baseline, "ladder"))
        comparable = own is not None and other is not None and own.source == other.source
        expected = other.latency_s / own.latency_s if comparable and own is not None and other is not None else None
        return self.add(gate.judge_ladder(run, parent, expected, self.policy))

    def facts(self, case_key: str, claim: str, *, expected: Mapping[str, Any], observed: Mapping[str, Any]) -> Verdict:
        """NOT_APPLIED unless each expected fact was observed exactly; kept of a case that is not built, too."""
        verdict = gate.judge_facts(case_key, claim, expected=expected, observed=observed, outcome=Outcome.NOT_APPLIED)
        self.add(verdict)
        if case_key not in self.runs:
            self._write(case_key)
        return verdict

    def parity(self, verdict: Verdict, figures: Mapping[str, float]) -> Verdict:
        """Keep a parity verdict with the figures that it was made from; JSON has no NaN, so one is kept as null."""
        kept = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        self.keep(dataclasses.replace(self.runs[verdict.case_key], parity=kept))
        return self.add(verdict)

    def operations(self, case_key: str, counted: Mapping[str, Operations]) -> None:
        """Keep what an image of the case takes, on a machine whose ceilings are not known."""
        self.rooflines[case_key] = {"operations": {name: to_json(one) for name, one in counted.items()}}
        if case_key in self.runs:
            self._write(case_key)

    def roofline(self, found: Roofline) -> Verdict:
        """Keep what share of its machine a case reaches, and judge that it is possible."""
        self.rooflines[found.case_key] = to_json(found)
        return self.add(roofline.judge(found))

    def told(self, verdict: Verdict) -> str:
        """The text of a test that failed by this verdict: its sentence, and what changed."""
        lines = self.explanations.get(verdict.case_key, []) if explain.is_explained(verdict) else []
        return "\n  ".join([verdict.sentence, *lines])

    def add(self, verdict: Verdict) -> Verdict:
        """Remember a verdict that was reached elsewhere."""
        self.verdicts.setdefault(verdict.case_key, []).append(verdict)
        if verdict.case_key in self.runs:
            self._write(verdict.case_key)
        return verdict

    def _explained(self, run: Run, verdict: Verdict) -> Verdict:
        """The verdict, remembered with what changed where it says that something did."""
        if explain.is_explained(verdict):
            by = self.comparisons.get(run.case_key) or self.baselines[run.case_key]
            self.explanations[run.case_key] = explain.against(run, by)
        return self.add(verdict)

    def _judge_latency(self, run: Run) -> Verdict:
        if self.against is not None:
            return gate.judge_against(run, self.comparisons[run.case_key], self.policy)
        return gate.judge_latency(run, self._baseline(run), self.policy)

    def _known(self, case_key: str) -> expected.Known | None:
        if self.against is not None:  # what was stored is not compared with, and which arm ran out is not told
            return None
        return expected.known(self.baselines.get(case_key), self.family.get(case_key, ()))

    def conditions_of(self, run: Run) -> recordings.Conditions:
        """Those under which a run was measured."""
        return self.conditions(run.case_key, environment=run.environment, weights=run.recipe.get("weights"))

    @property
    def _memory_tolerance(self) -> float:
        # A CPU has no allocator peak: resident memory holds every library that was imported.
        return self.policy.memory_tolerance if self.machine.device == "cuda" else self.policy.resident_tolerance

    def _baseline(self, run: Run) -> Baseline | None:
        return self.baselines.get(run.case_key)

    def _write(self, case_key: str) -> None:
        run = self.runs.get(case_key)
        document = {
            "gpu_key": self.machine.key,
            "measured_at": self.measured_at,
            "commit": dict(self.commit),
            "machine": to_json(self.machine),
            "health": dict(self.health),
            "run": to_json(run) if run is not None else None,
            "iterations_per_s": dict(run.iterations_per_s) if run is not None else {},
            "verdicts": [to_json(verdict) for verdict in self.verdicts.get(case_key, ())],
            "explanation": self.explanations.get(case_key, []),
        }
        if case_key in self.comparisons:
            document["against"] = to_json(self.comparisons[case_key])
        if case_key in self.rooflines:
            document["roofline"] = dict(self.rooflines[case_key])
        if case_key in self.benchmarks:
            self.benchmarks[case_key].extra_info["speedgate"] = document
        path = self.written[case_key] = self.file_of(case_key)
        write_json(path, document)
