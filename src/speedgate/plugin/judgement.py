"""How one pytest session judges what it has measured: each claim by the policy, this machine's baselines or the other arm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

from speedgate.baselines import benchmark_json, checkpoint
from speedgate.gate import explain, judge, roofline
from speedgate.gate.fit import Expectation, Fit, expect_fit, judge_fit
from speedgate.gate.roofline import Operations, Roofline
from speedgate.plugin.session import Ledger
from speedgate.results.json_io import to_json
from speedgate.results.run import Baseline, Outcome, Run, Verdict


@dataclasses.dataclass(kw_only=True, repr=False)
class Session(Ledger):
    """What the `gate` fixture hands to a test. Each verdict is in its case's file as soon as it is reached."""

    def accepts(self, verdict: Verdict) -> bool:
        """Whether the verdict leaves its test green under `--gate`."""
        return self.policy.accepts(verdict)

    def missing(self, *, known: Collection[str], expected: Collection[str]) -> list[Verdict]:
        """MISSING for each case of this machine's baselines that the suite does not have, or was to measure and did not.

        A publication holds what its authors chose to measure: the suite need not have all of it.
        """
        found = []
        for key, name in self.oom_before.items():
            if key not in known:
                sentence = f"{name} holds it, out of memory, and the suite does not: restore the case, or record one without it"
                found.append(Verdict(case_key=key, claim="baseline", outcome=Outcome.MISSING, sentence=sentence))
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
        return [self.add(verdict) for verdict in found]

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
        if self.holds(case_key):
            reason = f"{reason}; processes of it that did not fail are kept in {self.machine.key}/{checkpoint.FOLDER}/"
        self.broken[case_key] = reason
        self.add(Verdict(case_key=case_key, claim="worker", outcome=Outcome.INVALID, sentence=reason))

    def expects_fit(self, case_key: str) -> bool:
        """Whether anything is known of what becomes of the case on this machine."""
        return self._known(case_key) is not None

    def fit(self, case_key: str, *, fits: bool) -> Verdict | None:
        """The verdict on a case that ran, or that ran out of memory and is over; None where nothing is known of that.

        A recording on a GPU keeps that a case is out of memory, whatever was known of it; not of one that has fitted in the
        same recording, be it in an earlier session. That is a lost worker, and so is one that fitted a moment ago where it is
        expected not to. A host's memory is no part of its key: on a CPU nothing is kept.
        """
        known = self._known(case_key)
        keeps = self.recording and not fits
        if (known is None and not keeps) or (not fits and self._is_lost(case_key, known)):
            return None
        verdict = judge_fit(
            case_key,
            known,
            fits=fits,
            device_bytes=self.machine.memory_bytes,
            alone=fits or self.monitor.is_exclusive(),
        )
        if not fits:
            self.broken[case_key] = verdict.sentence
        if keeps and verdict.outcome is not Outcome.INVALID:
            self.oom_now[case_key] = verdict.sentence
        # Out of memory beside other processes is red for its own sake; whatever else a family's figure leads to is not.
        gates = known is None or known.gates or verdict.outcome is Outcome.INVALID
        return self.add(dataclasses.replace(verdict, gates=gates))

    def _is_lost(self, case_key: str, known: Expectation | None) -> bool:
        """Whether that the case ran out of memory says nothing of whether it fits: see `fit`."""
        run = self.runs.get(case_key)
        has_fitted = (run is not None and bool(run.processes)) or self.holds(case_key)
        if self.recording:
            return has_fitted or self.machine.device == "cpu"
        return has_fitted and (known is None or known.fit is not Fit.OK)

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
        if case_key in self.runs:
            self._write(case_key)

    def latency(self, run: Run) -> Verdict:
        """The latency verdict against the other arm, or this machine's baseline."""
        return self._explained(run, self._judge_latency(run))

    def memory(self, run: Run) -> Verdict:
        """The memory verdict against the other arm, or this machine's baseline."""
        if self.against is not None:
            comparison = self.comparisons[run.case_key]
            return self._explained(run, judge.judge_memory_against(run, comparison, self._memory_tolerance))
        return self._explained(run, judge.judge_memory(run, self._baseline(run), self.policy))

    def cold_start(self, run: Run) -> Verdict | None:
        """The verdict on what the stage costs at a start; None where the baseline holds no start of the same kind."""
        baseline = self._baseline(run)
        if baseline is None:
            return self.add(judge.judge_no_baseline(run, "cold start", f"{run.cold_start.stage_s:.3g} s"))
        verdict = judge.judge_cold_start(run, baseline, self.policy)
        return None if verdict is None else self.add(verdict)

    def ladder(self, run: Run, parent: Run) -> Verdict:
        """The speed-up verdict against the ratio that this machine's baselines hold for the two stages."""
        own, other = self._baseline(run), self._baseline(parent)
        for measured, baseline in ((run, own), (parent, other)):
            if baseline is not None and judge.is_stale(measured, baseline):
                return self.add(judge.judge_stale(measured, baseline, "ladder"))
        comparable = own is not None and other is not None and own.source == other.source
        expected = other.latency_s / own.latency_s if comparable and own is not None and other is not None else None
        return self.add(judge.judge_ladder(run, parent, expected, self.policy))

    def facts(self, case_key: str, claim: str, *, expected: Mapping[str, Any], observed: Mapping[str, Any]) -> Verdict:
        """NOT_APPLIED unless each expected fact was observed exactly; kept of a case that is not built, too."""
        return self.add(
            judge.judge_facts(case_key, claim, expected=expected, observed=observed, outcome=Outcome.NOT_APPLIED)
        )

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
        return self.add(roofline.judge_roofline(found))

    def told(self, verdict: Verdict) -> str:
        """The text of a test that failed by this verdict: its sentence, and what changed."""
        lines = self.explanations.get(verdict.case_key, [])
        shown = lines if explain.explains_verdict(lines, claim=verdict.claim, outcome=verdict.outcome) else []
        return "\n  ".join([verdict.sentence, *shown])

    def _explained(self, run: Run, verdict: Verdict) -> Verdict:
        """The verdict, remembered with what changed where it says that something did, or might have."""
        by = self.comparisons.get(run.case_key) or self.baselines.get(run.case_key)
        if by is not None and explain.needs_explanation(verdict):
            self.explanations[run.case_key] = explain.explain_change(run, by)
        if by is not None and verdict.outcome is Outcome.UNDECIDED:
            found = explain.explain_undecided(run, by, tolerance=self.policy.tolerance(run.stage))
            self.explanations.setdefault(run.case_key, found)  # another verdict of the case may have been decided
        return self.add(verdict)

    def _judge_latency(self, run: Run) -> Verdict:
        if self.against is not None:
            return judge.judge_latency_against(run, self.comparisons[run.case_key], self.policy)
        return judge.judge_latency(run, self._baseline(run), self.policy)

    def _known(self, case_key: str) -> Expectation | None:
        if self.against is not None:  # what was stored is not compared with, and which arm ran out is not told
            return None
        return expect_fit(
            self.baselines.get(case_key),
            self.family.get(case_key, ()),
            out_of_memory=self.oom_before.get(case_key),
        )

    @property
    def _memory_tolerance(self) -> float:
        # A CPU has no allocator peak: resident memory holds every library that was imported.
        return self.policy.memory_tolerance if self.machine.device == "cuda" else self.policy.resident_tolerance

    def _baseline(self, run: Run) -> Baseline | None:
        return self.baselines.get(run.case_key)
