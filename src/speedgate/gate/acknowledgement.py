"""Accept a red claim that people decided to live with, up to the ratio that they saw: a further slowdown is red again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from speedgate.gate import intervals
from speedgate.gate.components import CLAIM, change_text, compare_components
from speedgate.gate.policy import Policy
from speedgate.results.case_key import CaseKey
from speedgate.results.run import ACKNOWLEDGED, Baseline, Confirmation, Outcome, Run, ShortText, Verdict

Claim = Literal["latency", "components", "memory"]
CLAIMS: tuple[str, ...] = get_args(Claim)
RED = frozenset({Outcome.SLOWER, Outcome.BIGGER})
_MOST_REASON = 500
# A component that took nothing counts as a thousandth of the image, so no ratio of a sane measurement is larger.
_Ratio = Annotated[float, Meta(gt=1, le=10_000)]


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The reason why a claim may be red, and how far: `at_most` is the largest ratio to the baseline, by what was compared.

    That is the claim itself, or for `components` each component. It ends when the case has another baseline than `baseline`.
    """

    why: Annotated[str, Meta(min_length=1, max_length=_MOST_REASON)]
    baseline: ShortText
    at_most: Annotated[Mapping[ShortText, _Ratio], Meta(min_length=1, max_length=100)]

    @property
    def text(self) -> str:
        """The text that every report shows before the verdict's own sentence."""
        limits = ", ".join(
            f"{f'{name} ' if len(self.at_most) > 1 or name not in CLAIMS else ''}{change_text(ratio)}"
            for name, ratio in self.at_most.items()
        )
        return f"{ACKNOWLEDGED} for {self.baseline} up to {limits}: {self.why}"


def check_reason(why: str, *, option: str) -> str:
    """Return the reason that `option` gives; a `ValueError` unless it is one line of printable characters that says something."""
    if not why.strip() or not why.isprintable() or len(why) > _MOST_REASON:
        raise ValueError(
            f"{option} {why[:_MOST_REASON]!r}: expected a sentence that says why, in at most {_MOST_REASON} printable"
            " characters on one line"
        )
    return why.strip()


def relax(policy: Policy, claim: str, acknowledgement: Acknowledgement, case_key: str) -> Policy:
    """Return the policy that tolerates as much as was acknowledged, and never less than before."""
    tolerances = {name: ratio - 1 for name, ratio in acknowledgement.at_most.items()}
    if claim == CLAIM:
        return dataclasses.replace(policy, component_tolerances=tolerances)
    tolerance = tolerances.get(claim, 0.0)
    if claim == "memory":
        return dataclasses.replace(policy, memory_tolerance=max(tolerance, policy.memory_tolerance))
    stage = CaseKey.parse(case_key).stage
    return dataclasses.replace(
        policy,
        stage_tolerances={**policy.stage_tolerances, stage: max(tolerance, policy.tolerance(stage))},
        point_tolerance=max(tolerance, policy.point_tolerance),
    )


def apply(
    claim: str,
    acknowledgement: Acknowledgement | None,
    policy: Policy,
    case_key: str,
    judge_by: Callable[[Policy], Verdict],
) -> Verdict:
    """Judge a claim by the policy. A red or undecided verdict that is green by the relaxed policy is shown and fails no test."""
    verdict = judge_by(policy)
    if acknowledgement is None or verdict.outcome not in RED | {Outcome.UNDECIDED}:
        return verdict
    if judge_by(relax(policy, claim, acknowledgement, case_key)).outcome is verdict.outcome:
        if verdict.outcome is Outcome.UNDECIDED:
            return verdict
        return msgspec.structs.replace(verdict, sentence=f"worse than {acknowledgement.text}; {verdict.sentence}")
    return msgspec.structs.replace(verdict, gates=False, sentence=f"{acknowledgement.text}; {verdict.sentence}")


def acknowledge(
    claim: str, run: Run, baseline: Baseline, confirmation: Confirmation | None, *, why: str, policy: Policy
) -> Acknowledgement:
    """Acknowledge the present change of a claim: its ratio to the baseline, by live pairs if they decided, plus the tolerance.

    A `ValueError` if there is no change beyond the tolerance.
    """
    tolerance = policy.memory_tolerance if claim == "memory" else policy.tolerance(run.stage)
    if claim == "latency" and baseline.source == "published":
        tolerance = policy.point_tolerance
    ratios = {
        name: ratio
        for name, ratio in _ratios(claim, run, baseline, confirmation, policy).items()
        if ratio > 1 + tolerance
    }
    if not ratios:
        raise ValueError(f"{claim} is not worse than in {baseline.name} by more than the tolerance of {tolerance:.0%}")
    at_most = {name: round(ratio * (1 + tolerance), 4) for name, ratio in ratios.items()}
    return Acknowledgement(why=check_reason(why, option="--why"), baseline=baseline.name, at_most=at_most)


def _ratios(
    claim: str, run: Run, baseline: Baseline, confirmation: Confirmation | None, policy: Policy
) -> dict[str, float]:
    """Return the ratios to the baseline by what was compared."""
    if claim == "memory":
        return {claim: run.peak_bytes / baseline.peak_bytes}
    comparison = confirmation.comparison if confirmation is not None and confirmation.decides else None
    if claim == CLAIM:
        processes = confirmation.processes if confirmation is not None and comparison is not None else run.processes
        changes = compare_components(processes, comparison or baseline, policy)
        tolerance = policy.tolerance(run.stage)
        return {change.name: change.interval.ratio for change in changes if change.is_slower(tolerance)}
    if comparison is None:
        return {claim: run.latency_s / baseline.latency_s}
    interval = intervals.between_pairs(
        comparison.log_ratios, this_first=comparison.this_first, confidence=policy.looks.confidence
    )
    return {} if interval is None else {claim: interval.ratio}
