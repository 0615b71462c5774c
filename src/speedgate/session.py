"""One pytest session's state: the policy, the machine, what was measured and how it was judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate import gate
from speedgate.clock import Plan
from speedgate.environment import Machine
from speedgate.records import Baseline, Outcome, Run, Verdict, to_json, write_json


@dataclasses.dataclass(kw_only=True, repr=False)
class Session:
    """What the `gate` fixture hands to a test. Each run is on disk in `results` as soon as it is kept."""

    policy: gate.Policy
    machine: Machine
    plan: Plan
    isolation: str
    worker_timeout_s: float
    root: Path
    results: Path
    load_before: float = 0.0
    baselines: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    verdicts: dict[str, list[Verdict]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    benchmarks: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<gate {self.policy.mode.value}>"

    @property
    def baselines_root(self) -> Path:
        return self.root / "baselines"

    def accepts(self, verdict: Verdict) -> bool:
        """Whether the verdict leaves its test green under `--gate`."""
        return self.policy.accepts(verdict)

    def keep(self, run: Run) -> Run:
        """Remember a run, or what has been added to it, and write it to its file."""
        self.runs[run.case_key] = run
        self._write(run.case_key)
        return run

    def attach(self, case_key: str, benchmark: Any) -> None:
        """Let pytest-benchmark's JSON carry this case: its `extra_info` is filled before the session ends."""
        self.benchmarks[case_key] = benchmark
        self._write(case_key)

    def lose(self, case_key: str, reason: str) -> None:
        """A case's worker is gone: what it left is INVALID, and the case stays in the report."""
        self.broken[case_key] = reason
        self._add(Verdict(case_key=case_key, claim="worker", outcome=Outcome.INVALID, sentence=reason))

    def unjudged(self, claims: frozenset[str]) -> dict[str, str]:
        """The measured cases of which some of these claims were never judged (deselected, interrupted), and which."""
        judged = {key: {verdict.claim for verdict in verdicts} for key, verdicts in self.verdicts.items()}
        missing = {key: sorted(claims - judged.get(key, set())) for key, run in self.runs.items() if run.processes}
        return {key: f"never judged: {', '.join(names)}" for key, names in missing.items() if names}

    def latency(self, run: Run) -> Verdict:
        """The latency verdict against this machine's baseline."""
        return self._add(gate.judge_latency(run, self._baseline(run), self.policy))

    def memory(self, run: Run) -> Verdict:
        """The memory verdict against this machine's baseline."""
        return self._add(gate.judge_memory(run, self._baseline(run), self.policy))

    def ladder(self, run: Run, parent: Run) -> Verdict:
        """The speed-up verdict against the ratio that this machine's baselines hold for the two stages."""
        own, other = self._baseline(run), self._baseline(parent)
        for measured, baseline in ((run, own), (parent, other)):
            if baseline is not None and gate.is_stale(measured, baseline):
                return self._add(gate.judge_stale(measured, baseline, "ladder"))
        comparable = own is not None and other is not None and own.source == other.source
        expected = other.median_s / own.median_s if comparable and own is not None and other is not None else None
        return self._add(gate.judge_ladder(run, parent, expected, self.policy))

    def facts(self, case_key: str, claim: str, *, expected: Mapping[str, Any], observed: Mapping[str, Any]) -> Verdict:
        """NOT_APPLIED unless each expected fact was observed exactly."""
        return self._add(
            gate.judge_facts(case_key, claim, expected=expected, observed=observed, outcome=Outcome.NOT_APPLIED)
        )

    def parity(self, verdict: Verdict, figures: Mapping[str, float]) -> Verdict:
        """Keep a parity verdict with the figures that it was made from; JSON has no NaN, so one is kept as null."""
        kept = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        self.keep(dataclasses.replace(self.runs[verdict.case_key], parity=kept))
        return self._add(verdict)

    def _add(self, verdict: Verdict) -> Verdict:
        self.verdicts.setdefault(verdict.case_key, []).append(verdict)
        if verdict.case_key in self.runs:
            self._write(verdict.case_key)
        return verdict

    def _baseline(self, run: Run) -> Baseline | None:
        return self.baselines.get(run.case_key)

    def _write(self, case_key: str) -> None:
        document = {
            "gpu_key": self.machine.key,
            "machine": to_json(self.machine),
            "load_average_before": self.load_before,
            "run": to_json(self.runs[case_key]),
            "verdicts": [to_json(verdict) for verdict in self.verdicts.get(case_key, ())],
        }
        if case_key in self.benchmarks:
            self.benchmarks[case_key].extra_info["speedgate"] = document
        write_json(self.results / f"{case_key.replace('/', '__')}.json", document)
