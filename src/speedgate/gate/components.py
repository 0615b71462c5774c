"""Judge each component of an image by an interval of its own, in a stored and in a live comparison.

A part of an image may become many times slower while the image's seconds stay within their tolerance.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from speedgate.gate import intervals, judge
from speedgate.gate.intervals import Interval
from speedgate.gate.policy import Policy
from speedgate.results.run import Baseline, Comparison, Confirmation, Outcome, Process, Run, Turns, Verdict
from speedgate.results.timings import REMAINDER, component_rounds_s, log_ratio

CLAIM = "components"
MIN_CHANGE = 0.01  # of the image's seconds; a smaller change of a component is never red
# Of the image's seconds: a component that takes less counts as this much. Clocks tell no less apart, a component may take
# nothing at all, and the logarithms of such figures differ by far more than anything that a user notices.
_LEAST_SHARE = 1e-3
_MOST_NAMED = 5  # in a sentence; their names are a worker's


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentChange:
    """The ratio of a component's seconds to those of the reference, and the seconds of the component and its image there."""

    name: str
    interval: Interval
    before_s: float
    image_s: float

    @property
    def share(self) -> float:
        """The change as a share of the image's seconds."""
        return (self.interval.ratio - 1) * self.before_s / self.image_s

    def is_slower(self, tolerance: float) -> bool:
        """Return True if the whole interval lies above the tolerance and the change is one that counts in an image."""
        return self.interval.low > 1 + tolerance and self.share >= MIN_CHANGE

    def may_be_slower(self, tolerance: float) -> bool:
        """Return True if the upper end of the interval is above the tolerance and counts in an image."""
        return (
            self.interval.high > 1 + tolerance and (self.interval.high - 1) * self.before_s / self.image_s >= MIN_CHANGE
        )

    def detectable_share(self, tolerance: float) -> float:
        """The smallest change that would most probably be called slower, as a share of the image's seconds."""
        return max(MIN_CHANGE, (self.interval.detectable(tolerance) - 1) * self.before_s / self.image_s)


def judge_components(run: Run, reference: Baseline | Comparison | None, policy: Policy) -> Verdict | None:
    """SLOWER if the whole interval of a component is above the tolerance and it costs `MIN_CHANGE` of the image, else PASS.

    The error rate of the policy's looks holds for all components of the case together (Bonferroni). None if either side
    timed no component.
    """
    names = _names(run.processes)
    if not names:
        return None
    if reference is None:
        figure = f"{len(names)} components and the rest of the image were timed"
        return judge.judge_no_baseline(run, CLAIM, figure, policy)
    before = _processes(reference)
    shared = [name for name in names if name in _names(before)]
    if not shared:
        return None
    if isinstance(reference, Baseline) and judge.is_stale(run, reference):
        return judge.judge_stale(run, reference, CLAIM)
    changes = compare_components(run.processes, reference, policy)
    tolerances = {change.name: policy.component_tolerance(run.stage, change.name) for change in changes}
    one_sided = [*_only_in(names, shared, "this run"), *_only_in(_names(before), shared, _name(reference))]
    limits = f"tolerance {judge.share_text(policy.tolerance(run.stage))} and {MIN_CHANGE:.0%} of the image"
    describe = functools.partial(_describe, name=_name(reference), sample=_sample(run, reference))
    outcome, sentences = _sum_up(changes, tolerances, limits=limits, describe=describe)
    return Verdict(case_key=run.case_key, claim=CLAIM, outcome=outcome, sentence="; ".join([*sentences, *one_sided]))


def compare_components(
    processes: Sequence[Process], reference: Baseline | Comparison, policy: Policy
) -> list[ComponentChange]:
    """Compare each component that both sides timed; empty if there is none, or if no variance is known.

    The rest of the image is compared under the name `remainder` if both sides timed the same components; otherwise it holds
    other work than before.
    """
    before = _processes(reference)
    names = list(_names(processes))
    shared = [name for name in names if name in _names(before)]
    if not shared:
        return []
    names = [*names, REMAINDER] if set(names) == set(_names(before)) else shared
    image_s = statistics.geometric_mean(process.median_s for process in before)
    least_s = _LEAST_SHARE * image_s
    after_rounds_s, before_rounds_s = (
        [{name: _at_least(least_s, rounds_s[name]) for name in names} for rounds_s in map(component_rounds_s, side)]
        for side in (processes, before)
    )
    # The error of the look is divided among the components, so that it holds for all of them together (Bonferroni).
    confidence = 1 - (1 - policy.looks.confidence_at(len(processes))) / len(names)
    changes = []
    for name in names:
        after_s, name_before_s = ([each[name] for each in side] for side in (after_rounds_s, before_rounds_s))
        interval = _interval(after_s, name_before_s, reference, confidence)
        if interval is None:
            return []
        before_s = statistics.geometric_mean(map(statistics.median, name_before_s))
        changes.append(ComponentChange(name=name, interval=interval, before_s=before_s, image_s=image_s))
    return changes


def needs_confirmation(stored: Verdict) -> bool:
    """Return True if a verdict by stored figures is a reason to measure live pairs."""
    return stored.outcome is Outcome.SLOWER and stored.gates


def slower_components(run: Run, reference: Baseline | Comparison, policy: Policy) -> set[str]:
    """Return the names of the components that are slower than the tolerance by their whole interval."""
    changes = compare_components(run.processes, reference, policy)
    return {change.name for change in changes if change.is_slower(policy.component_tolerance(run.stage, change.name))}


def unclear_components(run: Run, reference: Baseline | Comparison, policy: Policy) -> set[str]:
    """Return the names of the components that may be slower although their interval does not show it."""
    tolerances = {name: policy.component_tolerance(run.stage, name) for name in (*_names(run.processes), REMAINDER)}
    return {
        change.name
        for change in compare_components(run.processes, reference, policy)
        if change.may_be_slower(tolerances[change.name]) and not change.is_slower(tolerances[change.name])
    }


def join_confirmed(
    stored: Verdict, live: Verdict | None, confirmation: Confirmation, *, unclear: Collection[str] = ()
) -> Verdict:
    """Join the verdict by stored figures and the one by live pairs, which counts; without it the stored one stands.

    `unclear` are components that stored figures call slower and that the pairs do not clear: they are UNDECIDED.
    """
    if live is None:
        if not needs_confirmation(stored):
            return stored
        reason = confirmation.reason or "the pairs timed no component"
        return msgspec.structs.replace(stored, sentence=f"{stored.sentence}; not confirmed live: {reason}")
    sentence = f"live, {live.sentence}; the stored figures said {stored.outcome}"
    if unclear and live.outcome is Outcome.PASS:
        sentence = (
            f"stored figures call {_listed(sorted(unclear))} slower, and the pairs are too noisy to tell: {sentence}"
        )
        return msgspec.structs.replace(live, outcome=Outcome.UNDECIDED, sentence=sentence)
    return msgspec.structs.replace(live, sentence=sentence)


def _interval(
    after_s: Sequence[Sequence[float]],
    before_s: Sequence[Sequence[float]],
    reference: Baseline | Comparison,
    confidence: float,
) -> Interval | None:
    """Compute the interval of one component as that of the image, from its seconds in each round of each process."""
    if isinstance(reference, Baseline):
        medians_s = [[statistics.median(rounds_s) for rounds_s in side] for side in (after_s, before_s)]
        return intervals.between_sets(*medians_s, confidence=confidence)
    log_ratios = [
        log_ratio(this_s, other_s, rounds_in_turn=reference.turns is Turns.ROUNDS)
        for this_s, other_s in zip(after_s, before_s, strict=True)
    ]
    return intervals.between_pairs(log_ratios, this_first=reference.this_first, confidence=confidence)


def _sum_up(
    changes: Sequence[ComponentChange],
    tolerances: Mapping[str, float],
    *,
    limits: str,
    describe: Callable[[ComponentChange], str],
) -> tuple[Outcome, list[str]]:
    """Return the outcome and its sentence in parts: the component that changed most, the limits, and the other components."""
    if not changes:
        return Outcome.UNDECIDED, ["nothing is known of the spread of the components: add --processes"]
    slower = [change for change in changes if change.is_slower(tolerances[change.name])]
    largest = max(slower or changes, key=lambda change: change.share)
    if slower:
        others = [change.name for change in slower if change is not largest]
        more = f", also {_listed(others)}" if others else ""
        return Outcome.SLOWER, [describe(largest), limits, f"{len(slower)} of {len(changes)} components slower{more}"]
    unseen = max(change.detectable_share(tolerances[change.name]) for change in changes)
    return Outcome.PASS, [
        f"none of {len(changes)} components is slower",
        f"the largest change: {describe(largest)}",
        limits,
        f"a change of {unseen:+.1%} of the image would have been seen in any of them",
    ]


def _describe(change: ComponentChange, *, name: str, sample: str) -> str:
    interval = change.interval
    return (
        f"{change.name} {change.before_s * interval.ratio:.3g} s against {change.before_s:.3g} s in {name}:"
        f" {change_text(interval.ratio)} ({judge.share_text(interval.confidence)} interval {change_text(interval.low)} to"
        f" {change_text(interval.high)} from {sample}), {change.share:+.1%} of the image"
    )


def change_text(ratio: float) -> str:
    """Format a ratio as a change in percent, or as a multiple if it is large."""
    return f"{ratio - 1:+.1%}" if ratio < 10 else f"{ratio:.3g} times"


def _sample(run: Run, reference: Baseline | Comparison) -> str:
    if isinstance(reference, Baseline):
        return f"{len(run.processes)} and {len(reference.process_medians_s)} processes"
    count = len(reference.log_ratios)
    return f"{count} {'pair' if count == 1 else 'pairs'}"


def _only_in(names: Iterable[str], shared: Sequence[str], side: str) -> list[str]:
    """Say which components are timed on one side only; they are not judged."""
    others = [name for name in names if name not in shared]
    return [f"only in {side}, not judged: {_listed(others)}"] if others else []


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _processes(reference: Baseline | Comparison) -> tuple[Process, ...]:
    if isinstance(reference, Comparison):
        return reference.other.processes
    return reference.run.processes if reference.run is not None else ()


def _name(reference: Baseline | Comparison) -> str:
    return reference.name if isinstance(reference, Baseline) else reference.label


def _names(processes: Sequence[Process]) -> dict[str, None]:
    """Return the components that every process timed, in the order of the first."""
    names = processes[0].components if processes else ()
    return {name: None for name in names if all(name in process.components for process in processes)}


def _at_least(least_s: float, seconds: Iterable[float]) -> list[float]:
    return [max(least_s, value) for value in seconds]
