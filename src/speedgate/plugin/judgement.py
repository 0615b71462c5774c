"""The `gate` fixture: judges each claim by the policy and by this machine's baselines or the other arm of a live comparison."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import pytest

from speedgate.baselines import benchmark_json, checkpoint
from speedgate.gate import acknowledgement, compile_seconds, components, explain, judge, roofline
from speedgate.gate.fit import Expectation, Fit, expect_fit, judge_fit
from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Policy
from speedgate.gate.roofline import Operations, Roofline
from speedgate.measure.machine import Machine
from speedgate.plugin.github import safe_line
from speedgate.plugin.session import Session
from speedgate.results.case_key import CaseKey
from speedgate.results.gpu_code import GpuCode
from speedgate.results.json_io import to_json
from speedgate.results.run import Baseline, Confirmation, Outcome, Run, Verdict


class Gate:
    """Reaches verdicts on the cases of a session and stores them in it. `check` ends a test by a verdict."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __repr__(self) -> str:
        return f"<gate {self.session.options.policy.mode.value}>"

    @property
    def machine(self) -> Machine:
        return self.session.machine

    @property
    def baselines(self) -> Mapping[str, Baseline]:
        return self.session.inputs.baselines

    @property
    def is_live(self) -> bool:
        """True in a live comparison (`--against`), which is judged by the other arm instead of by baselines."""
        return self.session.inputs.other_arm is not None

    def accepts(self, verdict: Verdict) -> bool:
        """Return True if the verdict leaves its test green under `--gate`."""
        return self.session.options.policy.accepts(verdict)

    def check(self, verdict: Verdict) -> None:
        """Fail the test if the verdict is red under `--gate`. The text is the verdict and what changed since the baseline."""
        __tracebackhide__ = True
        if not self.accepts(verdict):
            pytest.fail(self.failure_text(verdict), pytrace=False)

    def cannot_judge(self, case_key: str | None, claim: str, reason: str, details: str) -> NoReturn:
        """Skip the test of a claim that cannot be judged here. The terminal counts such claims by `reason`, in one line.

        `case_key` is None for a claim of the whole session.
        """
        __tracebackhide__ = True
        self.session.store_not_judged(case_key or "", claim, reason)
        pytest.skip(f"{claim} is not judged here ({reason}): {details}")

    def failure_text(self, verdict: Verdict) -> str:
        """Return the text of a test that fails by this verdict: the verdict, then what changed."""
        changes = self.session.outcome.explanations.get(verdict.case_key, [])
        has_changes = explain.explains_verdict(changes, claim=verdict.claim, outcome=verdict.outcome)
        return "\n  ".join(map(safe_line, [str(verdict), *(changes if has_changes else [])]))

    def add(self, verdict: Verdict) -> Verdict:
        """Store a verdict that was reached elsewhere."""
        return self.session.store_verdict(verdict)

    def store_gpu_code(self, code: GpuCode, *, other: GpuCode | None) -> None:
        """Store the generated code of a case for a target, and the other arm's in a live comparison."""
        self.session.store_gpu_code(code, other=other)

    def explain(self, case_key: str, lines: Sequence[str]) -> None:
        """Add lines that are shown below the verdict on the work of a case's generated code."""
        stored = self.session.outcome.explanations.setdefault(case_key, [])
        stored += [line for line in lines if line not in stored][: explain.MAX_LINES - len(stored)]

    def latency(self, run: Run) -> Verdict:
        """Judge the latency against the other arm or this machine's baseline."""
        return self._explained(run, self._judge("latency", run, lambda policy: self._judge_latency(run, policy)))

    def components(self, run: Run) -> Verdict | None:
        """Judge each component against the other arm or this machine's baseline; None if either timed no component.

        Live pairs decide if the case was confirmed.
        """
        if self._stored_components(run) is None:
            return None
        return self._explained(run, self._judge(components.CLAIM, run, lambda by: self._judge_components(run, by)))

    def memory(self, run: Run) -> Verdict:
        """Judge the peak memory against the other arm or this machine's baseline."""
        policy = self.session.options.policy
        if self.is_live:
            # A CPU has no allocator peak: its resident memory holds every library that was imported.
            tolerance = policy.memory_tolerance if self.machine.device == "cuda" else policy.resident_tolerance
            comparison = self.session.outcome.comparisons[run.case_key]
            return self._explained(run, judge.judge_memory_against(run, comparison, tolerance))
        return self._explained(
            run, self._judge("memory", run, lambda by: judge.judge_memory(run, self._baseline(run), by))
        )

    def cold_start(self, run: Run) -> Verdict | None:
        """Judge what the stage costs at a start. None if the baseline has no start with the cache in the same state."""
        baseline = self._baseline(run)
        if baseline is None:
            figure = f"{run.cold_start.stage_s:.3g} s"
            return self.add(judge.judge_no_baseline(run, "cold start", figure, self.session.options.policy))
        verdict = judge.judge_cold_start(run, baseline, self.session.options.policy)
        return None if verdict is None else self.add(verdict)

    def compile_seconds(self, run: Run) -> Verdict | None:
        """Judge the seconds of the compiler. None if the baseline has none with the cache in the same state."""
        baseline, policy = self._baseline(run), self.session.options.policy
        if baseline is None:
            seconds = compile_seconds.seconds_by_cache(run.cold_starts)
            figure = ", ".join(f"{cache}: {statistics.median(all_s):.3g} s" for cache, all_s in seconds.items())
            return self.add(judge.judge_no_baseline(run, compile_seconds.CLAIM, figure or "not recorded", policy))
        verdict = compile_seconds.judge_compile_seconds(run, baseline, policy)
        return None if verdict is None else self.add(verdict)

    def ladder(self, run: Run, parent: Run) -> Verdict:
        """Judge the speed-up over the parent stage against the ratio of the two baselines of this machine."""
        baseline, parent_baseline = self._baseline(run), self._baseline(parent)
        expected = None
        if baseline is not None and parent_baseline is not None and baseline.source == parent_baseline.source:
            expected = parent_baseline.latency_s / baseline.latency_s
        for measured, stored in ((run, baseline), (parent, parent_baseline)):
            if stored is not None and judge.is_stale(measured, stored):
                return self.add(judge.judge_stale(measured, stored, "ladder"))
        return self.add(judge.judge_ladder(run, parent, expected, self.session.options.policy))

    def stale_conditions(self, run: Run) -> Verdict | None:
        """Return STALE, stored once, if a CPU's threads or other limits differ from those of the recorded baseline.

        A GPU's own limits are part of its key, and its work hardly depends on those of the host.
        """
        baseline = self._baseline(run)
        if baseline is None or self.machine.device != "cpu" or not self._adds_processes(run.case_key):
            return None
        changes = judge.changed_conditions(run, baseline)
        if not changes:
            return None
        verdict = judge.judge_conditions(run, baseline, changes)
        stored = self.session.outcome.verdicts.get(run.case_key, ())
        return verdict if verdict in stored else self.add(verdict)

    def facts(
        self,
        case_key: str,
        claim: str,
        *,
        expected: Mapping[str, Any],
        observed: Mapping[str, Any],
        exact: bool = False,
    ) -> Verdict:
        """Judge facts: NOT_APPLIED unless each expected fact was observed, and with `exact` no other one."""
        outcome = Outcome.NOT_APPLIED
        return self.add(
            judge.judge_facts(case_key, claim, expected=expected, observed=observed, outcome=outcome, exact=exact)
        )

    def parity(self, verdict: Verdict, figures: Mapping[str, float]) -> Verdict:
        """Store a parity verdict with the figures that it was made from. JSON has no NaN, so NaN is stored as null."""
        # Floats, also for whole numbers: so they are read back from a checkpoint, and a history takes both for one run.
        finite = {name: float(value) if math.isfinite(value) else None for name, value in figures.items()}
        run = self.session.outcome.runs[verdict.case_key]
        self.session.store_run(msgspec.structs.replace(run, parity=finite))
        return self.add(self._with_weights(verdict, run))

    def _with_weights(self, verdict: Verdict, run: Run) -> Verdict:
        """Say in a verdict of DIFFERENT that the weights are not the baseline's: a library may draw others than before."""
        baseline = self._baseline(run)
        before = baseline.run.weights_digest if baseline is not None and baseline.run is not None else None
        if (
            verdict.outcome is not Outcome.DIFFERENT
            or None in (before, run.weights_digest)
            or before == run.weights_digest
        ):
            return verdict
        assert baseline is not None
        note = (
            f"; this run has other weights than {baseline.name} (digest {before} -> {run.weights_digest}): if they are"
            " synthetic, a library draws them in another way, and only a comparison (--against) has the same on both sides"
        )
        return msgspec.structs.replace(verdict, sentence=verdict.sentence + note)

    def operations(self, case_key: str, operations: Mapping[str, Operations]) -> None:
        """Store how many operations an image takes, on a machine whose ceilings are not known."""
        by_component = {name: to_json(component) for name, component in operations.items()}
        self.session.store_roofline(case_key, {"operations": by_component})

    def roofline(self, reached: Roofline) -> Verdict:
        """Store the share of the machine that a case reaches, and judge that it is possible."""
        self.session.store_roofline(reached.case_key, to_json(reached))
        return self.add(roofline.judge_roofline(reached))

    def judged_elsewhere(self, case_key: str, claim: str) -> None:
        """State that a claim is judged at another workload of the same stage."""
        self.session.store_judged_elsewhere(case_key, claim)

    def missing(
        self, *, suite_keys: Collection[str], required_keys: Collection[str], loops: Collection[str] = ()
    ) -> list[Verdict]:
        """Return MISSING for each stored case that the suite lacks, or that is required and was not measured.

        A published figure of a GPU family may be of one loop of a case: `loops` are the pipelines that such a figure names.
        """
        outcome = self.session.outcome
        restore, correct = "restore the case, or record a baseline without it", "correct or remove its row"
        verdicts = [
            _missing(key, f"{name} has this case (out of memory), but the suite does not: {restore}")
            for key, name in self.session.inputs.out_of_memory.items()
            if key not in suite_keys
        ]
        verdicts += [
            _missing(
                key, f"a figure published for {figures[0].family} has this case, but the suite does not: {correct}"
            )
            for key, figures in self.session.inputs.family_figures.items()
            if key not in suite_keys and CaseKey.parse(key).pipeline not in loops
        ]
        for key, baseline in self.baselines.items():
            is_measured = key in outcome.runs and bool(outcome.runs[key].processes)
            # The own test of a lost case is red already, and a stale one says why it was not measured.
            is_lost = key in outcome.broken or any(
                verdict.outcome is Outcome.STALE for verdict in outcome.verdicts.get(key, ())
            )
            if key not in suite_keys:
                remedy = correct if baseline.source == benchmark_json.PUBLISHED else restore
                verdicts.append(_missing(key, f"{baseline.name} has this case, but the suite does not: {remedy}"))
            elif key in required_keys and key in suite_keys and not is_measured and not is_lost:
                verdicts.append(_missing(key, f"{baseline.name} has this case, but it was not measured"))
        return [self.add(verdict) for verdict in verdicts]

    def processes_wanted(self, run: Run) -> int:
        """Return how many processes are wanted for a verdict on this run: more, look by look, while it is undecided."""
        options = self.session.options
        if not self._adds_processes(run.case_key):
            return max(len(run.processes), options.plan.processes)
        judge_now = functools.partial(self._judge_unconfirmed, run, options.policy)
        return _next_look(
            options.policy.looks, len(run.processes), lambda: judge_now().outcome is not Outcome.UNDECIDED
        )

    def pairs_wanted(self, run: Run) -> int:
        """Return how many live pairs are wanted: more, look by look, while anything that was suspected is undecided."""
        plan, confirmation = self.session.options.confirmation, self._confirmation(run)
        assert plan is not None, "only a session with a plan confirms"
        return _next_look(plan.looks, len(confirmation.processes), lambda: self._is_decided_by_pairs(run))

    def _is_decided_by_pairs(self, run: Run) -> bool:
        policy, confirmation = self.session.options.policy, self._confirmation(run)
        if judge.is_suspicious(confirmation.stored) and self._judge_pairs(run, policy).outcome is Outcome.UNDECIDED:
            return False
        return not self._unclear_components(run, policy)

    def _unclear_components(self, run: Run, policy: Policy) -> set[str]:
        """Return the components that stored figures call slower, and that the pairs neither convict nor clear."""
        confirmation, baseline = self._confirmation(run), self._baseline(run)
        assert baseline is not None and confirmation.comparison is not None, "pairs were measured"
        this_run, by = confirmation.this_run(run), self._for_pairs(policy)
        unclear = components.unclear_components(this_run, confirmation.comparison, by)
        return unclear & components.slower_components(run, baseline, policy)

    def suspects(self, run: Run) -> bool:
        """Return True if stored figures say SLOWER, or will stay undecided, so that live pairs have to decide.

        An undecided run goes to the pairs at once unless more processes are expected to acquit it: so the session takes the
        least processor time, because pairs take the time of several processes. The error rate stays the same: a stored
        figure can only acquit then, at the looks that its error rate counts. A claim that people acknowledged is no suspect.
        """
        looks, count = self.session.options.policy.looks, len(run.processes)
        baseline = self._baseline(run)
        if self.is_live or baseline is None or count == 0 or self.session.options.is_recording:
            return False
        if self._adds_processes(run.case_key) and count not in looks.counts:
            return False
        stored = self._judge("latency", run, lambda policy: judge.judge_latency(run, baseline, policy))
        if stored.outcome is Outcome.UNDECIDED and stored.gates:
            return looks.following(count) is None or not judge.may_be_acquitted(
                run, baseline, self.session.options.policy
            )
        return (stored.outcome is Outcome.SLOWER and stored.gates) or self._suspects_component(run)

    def _suspects_component(self, run: Run) -> bool:
        if self._stored_components(run) is None:
            return False
        return components.needs_confirmation(
            self._judge(components.CLAIM, run, lambda by: self._judge_components(run, by))
        )

    def stored_latency(self, run: Run) -> Verdict:
        """Return the verdict on the latency by the stored figure alone; it is not stored."""
        return judge.judge_latency(run, self._baseline(run), self.session.options.policy)

    def processes_at_first(self, case_key: str) -> int:
        """Return how many processes a case has before its first verdict."""
        options = self.session.options
        return options.policy.looks.first if self._adds_processes(case_key) else options.plan.processes

    def processes_at_most(self, case_key: str) -> int:
        """Return how many processes a case has if its verdict stays undecided."""
        options = self.session.options
        return options.policy.looks.last if self._adds_processes(case_key) else options.plan.processes

    def _adds_processes(self, case_key: str) -> bool:
        """Return True if processes are added while the verdict is undecided: it is one by an interval."""
        baseline = self.baselines.get(case_key)
        has_interval = self.is_live or (baseline is not None and baseline.source == "recorded")
        return has_interval and not self.session.options.is_recording

    def discard(self, case_key: str, reason: str) -> Verdict:
        """Discard what was measured of the case: INVALID, and its other claims are not judged."""
        self.session.outcome.broken[case_key] = reason
        return self.add(Verdict(case_key=case_key, claim="measurement", outcome=Outcome.INVALID, sentence=reason))

    def mark_worker_lost(self, case_key: str, reason: str) -> None:
        """Store that the worker of a case is gone: INVALID. The case stays in the report and on disk."""
        if self.session.has_checkpoint(case_key):
            folder = f"{self.machine.key}/{checkpoint.FOLDER}/"
            reason = f"{reason}; its finished processes are stored in {folder}"
        self.session.outcome.broken[case_key] = reason
        self.add(Verdict(case_key=case_key, claim="worker", outcome=Outcome.INVALID, sentence=reason))

    def expects_fit(self, case_key: str) -> bool:
        """Return True if a baseline or a published figure says whether the case fits into memory."""
        return self._fit_expectation(case_key) is not None

    def fit(self, case_key: str, *, fits: bool) -> Verdict | None:
        """Judge a case that ran, or that ran out of memory; None if nothing is expected of it.

        A recording on a GPU stores that a case is out of memory, except for a case that has fitted in the same recording: that
        is a lost worker. The memory of a host is no part of its key, so a recording on a CPU stores nothing.
        """
        expectation = self._fit_expectation(case_key)
        stores = self.session.options.is_recording and not fits
        if (expectation is None and not stores) or (not fits and self._has_fitted_before(case_key, expectation)):
            return None
        verdict = judge_fit(
            case_key,
            expectation,
            fits=fits,
            device_bytes=self.machine.memory_bytes,
            alone=fits or self.session.monitor.is_exclusive(),
        )
        if not fits:
            self.session.outcome.broken[case_key] = verdict.sentence
        if stores and verdict.outcome is not Outcome.INVALID:
            self.session.outcome.out_of_memory[case_key] = verdict.sentence
        # Out of memory beside other processes is always red; any other verdict by the figures of a family is not.
        gates = expectation is None or expectation.gates or verdict.outcome is Outcome.INVALID
        return self.add(msgspec.structs.replace(verdict, gates=gates))

    def _has_fitted_before(self, case_key: str, expectation: Expectation | None) -> bool:
        """Return True if this out-of-memory must not be used as a verdict: the case ran before, or we record on a CPU."""
        run = self.session.outcome.runs.get(case_key)
        has_fitted = (run is not None and bool(run.processes)) or self.session.has_checkpoint(case_key)
        if self.session.options.is_recording:
            return has_fitted or self.machine.device == "cpu"
        return has_fitted and (expectation is None or expectation.fit is not Fit.OK)

    def _fit_expectation(self, case_key: str) -> Expectation | None:
        if self.is_live:  # baselines are not used, and a failure does not tell which arm ran out
            return None
        inputs = self.session.inputs
        return expect_fit(
            inputs.baselines.get(case_key),
            inputs.family_figures.get(case_key, ()),
            out_of_memory=inputs.out_of_memory.get(case_key),
        )

    def _explained(self, run: Run, verdict: Verdict) -> Verdict:
        """Store the verdict, with what changed if it says or suspects that something did."""
        outcome = self.session.outcome
        reference = outcome.comparisons.get(run.case_key) or self.baselines.get(run.case_key)
        confirmation = outcome.confirmations.get(run.case_key)
        if confirmation is not None and confirmation.decides:
            run, reference = confirmation.this_run(run), confirmation.comparison
        if reference is not None and explain.needs_explanation(verdict):
            outcome.explanations[run.case_key] = explain.explain_change(run, reference)
        if reference is not None and verdict.outcome is Outcome.UNDECIDED:
            tolerance = self.session.options.policy.tolerance(run.stage)
            lines = explain.explain_undecided(run, reference, tolerance=tolerance)
            outcome.explanations.setdefault(run.case_key, lines)  # another verdict of the case may have been decided
        return self.add(verdict)

    def _judge(self, claim: str, run: Run, judge_by: Callable[[Policy], Verdict]) -> Verdict:
        """Judge by the policy, and by the acknowledgement of the claim if people decided to live with it."""
        entry = None if self.is_live else self.session.inputs.acknowledged.by_case.get(run.case_key, {}).get(claim)
        return acknowledgement.apply(claim, entry, self.session.options.policy, run.case_key, judge_by)

    def _judge_latency(self, run: Run, policy: Policy) -> Verdict:
        """Judge by the live pairs of a confirmation, if there is one and not for the sake of a component alone."""
        verdict = self._judge_unconfirmed(run, policy)
        confirmation = self.session.outcome.confirmations.get(run.case_key)
        if confirmation is None or not judge.is_suspicious(confirmation.stored):
            return verdict
        baseline = self.baselines[run.case_key]
        live = self._judge_pairs(run, policy) if confirmation.decides else None
        return judge.judge_confirmed(verdict, live, confirmation, baseline)

    def _judge_unconfirmed(self, run: Run, policy: Policy) -> Verdict:
        if self.is_live:
            return judge.judge_latency_against(run, self.session.outcome.comparisons[run.case_key], policy)
        return judge.judge_latency(run, self._baseline(run), policy)

    def _judge_pairs(self, run: Run, policy: Policy) -> Verdict:
        """Judge by the live pairs of a confirmation alone."""
        confirmation = self._confirmation(run)
        assert confirmation.comparison is not None, "pairs were measured"
        return judge.judge_latency_against(
            confirmation.this_run(run), confirmation.comparison, self._for_pairs(policy), confirms=True
        )

    def _judge_components(self, run: Run, policy: Policy) -> Verdict:
        """Judge by the live pairs of a confirmation, if there is one."""
        stored = self._stored_components(run, policy)
        assert stored is not None, "both sides timed components"
        confirmation = self.session.outcome.confirmations.get(run.case_key)
        if confirmation is None:
            return stored
        if not confirmation.decides:
            return components.join_confirmed(stored, None, confirmation)
        this_run, by = confirmation.this_run(run), self._for_pairs(policy)
        live = components.judge_components(this_run, confirmation.comparison, by)
        return components.join_confirmed(stored, live, confirmation, unclear=self._unclear_components(run, policy))

    def _stored_components(self, run: Run, policy: Policy | None = None) -> Verdict | None:
        reference = self.session.outcome.comparisons[run.case_key] if self.is_live else self._baseline(run)
        return components.judge_components(run, reference, policy or self.session.options.policy)

    def _for_pairs(self, policy: Policy) -> Policy:
        """Return the policy with the looks of a confirmation, which count pairs."""
        plan = self.session.options.confirmation
        assert plan is not None, "only a session with a plan confirms"
        return dataclasses.replace(policy, looks=plan.looks)

    def _confirmation(self, run: Run) -> Confirmation:
        return self.session.outcome.confirmations[run.case_key]

    def _baseline(self, run: Run) -> Baseline | None:
        return self.baselines.get(run.case_key)


def _next_look(looks: Looks, count: int, is_decided: Callable[[], bool]) -> int:
    """Return the number at which a verdict is tried next; `count` itself if it is decided, or if there is no later look."""
    following = looks.following(count)
    # A verdict between two looks would not be one that the error rate counts, so none is tried there.
    return count if following is None or (count in looks.counts and is_decided()) else following


def _missing(case_key: str, sentence: str) -> Verdict:
    return Verdict(case_key=case_key, claim="baseline", outcome=Outcome.MISSING, sentence=sentence)
