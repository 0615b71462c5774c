"""Describe in a few lines what differs between two runs: components, kernels, attention, generated code and versions.

The lines show where a difference lies, not whether there is one: that is decided in `judge`.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from speedgate.gate import components, judge
from speedgate.results.profile import OTHERS, Attribution, Kernel
from speedgate.results.run import CPU_CONDITIONS, Baseline, Comparison, Outcome, Run, Verdict
from speedgate.results.timings import Component, component_means_s

CLAIMS = frozenset({"latency", "memory", components.CLAIM})
WORK = "gpu work"  # begins the name of the claim about the work of generated code
MAX_LINES = 20  # of the explanation of a case; result files hold no more
MOVED = frozenset({Outcome.SLOWER, Outcome.FASTER, Outcome.BIGGER, Outcome.SMALLER})
_UNDECIDED = "nothing is decided"  # so begins the first line, in files of every version
UNDECIDED_HEAD = f"{_UNDECIDED}; if the latency has changed, these are the differences:"
_MOST_NAMED = 3
_LONGEST_LINE = 1000  # characters; names of kernels are another program's
# A kernel table is of one image, and the seconds of a kernel's calls differ by some percent from profile to profile.
_KERNEL_CHANGE = 0.1  # of a kernel's seconds a call
_KERNEL_SHARE = 0.01  # of the seconds of all kernels; smaller changes are left out
_FLAT = 0.005  # of an image; smaller differences in seconds are left out
_LARGE_SHARE = 0.05  # of an image: smaller components say little about a change of the machine
_LEAST_COMMON_CHANGE = 0.02  # logarithm of a ratio
_ALIKE = 0.25  # of the common change: components that differ more from it have not moved alike
_CALL_SHARE = 0.5  # of a component's change; a call that holds less of it is not named


@dataclasses.dataclass(frozen=True, kw_only=True)
class _KernelChange:
    """A kernel of either table, or of both; on the side where it is missing its count is 0."""

    name: str
    before: Kernel
    after: Kernel

    @property
    def change_s(self) -> float:
        return self.after.seconds - self.before.seconds

    @property
    def change_per_call(self) -> float:
        """Relative change of the seconds a call; 0 if one side has none to compare."""
        if not (self.before.count and self.after.count and self.before.seconds):
            return 0.0
        return (self.after.seconds / self.after.count) / (self.before.seconds / self.before.count) - 1


def needs_explanation(verdict: Verdict) -> bool:
    """True if the verdict says that latency, a component or memory moved."""
    return verdict.claim in CLAIMS and verdict.outcome in MOVED


def explains_verdict(lines: Sequence[str], *, claim: str, outcome: str) -> bool:
    """True if a case's explanation is shown below this verdict of it: one that moved, or the one that is not decided."""
    if lines and claim.startswith(WORK):
        return outcome in (Outcome.MORE_WORK, Outcome.PASS)
    if not lines or claim not in CLAIMS:
        return False
    return outcome == Outcome.UNDECIDED if lines[0].startswith(_UNDECIDED) else outcome in MOVED


def explain_undecided(run: Run, reference: Baseline | Comparison, *, tolerance: float) -> list[str]:
    """`explain_change` below a line that nothing is decided; empty if the ratio itself lies within the tolerance."""
    if isinstance(reference, Comparison):
        ratio = math.exp(statistics.fmean(reference.log_ratios))
    else:
        ratio = run.latency_s / reference.latency_s
    if judge.classify_interval(ratio, ratio, tolerance) is Outcome.PASS:
        return []
    return [UNDECIDED_HEAD, *explain_change(run, reference)]


def explain_change(run: Run, reference: Baseline | Comparison) -> list[str]:
    """`compare_runs` with the run of a baseline or of the other arm."""
    if isinstance(reference, Comparison):
        return compare_runs(run, reference.other, name=reference.label)
    return compare_runs(run, reference.run, name=reference.name)


def compare_runs(run: Run, other: Run | None, *, name: str) -> list[str]:
    """List the differences of `run` from `other`, called `name`, in a dozen lines at most; say what was not recorded."""
    if other is None:
        return [f"nothing to compare with: {name} holds a figure and no run"]
    components, attributions = _compare_components(run, other), []
    after, before = run.attribution, other.attribution
    alike = _compare_alike(run, other)
    if after is not None and before is not None:
        # A kernel has no reason of its own to be slower where everything is.
        kernels = _compare_kernels(after, before, with_seconds=not alike)
        attributions = [*kernels, *_compare_attention(after, before), *_compare_code(after, before)]
    if components or attributions:
        missing = f"nothing to compare with in {name}, or in this run"
        lines = [*alike, *(components or [f"components: {missing}"]), *(attributions or [f"kernels: {missing}"])]
    else:
        lines = [f"nothing to compare with: components and kernels are not in this run or not in {name}"]
    return [line[:_LONGEST_LINE] for line in (*lines, _compare_versions(run.environment, other.environment))]


def _compare_components(run: Run, other: Run) -> list[str]:
    after, before = component_means_s(run.processes), component_means_s(other.processes)
    if not (after and before):
        return []
    changes_s = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in {**before, **after}}
    least_s = _FLAT * sum(before.values())
    largest_first = sorted(changes_s, key=lambda name: -abs(changes_s[name]))
    named = [name for name in largest_first if abs(changes_s[name]) >= least_s][:_MOST_NAMED]
    if not named:
        return [f"components: none takes {_FLAT:.1%} of an image more or less"]
    # A share of the image's change would be one of arithmetic means, and the verdict's figures are geometric.
    figures = [
        f"{name} {_seconds(before.get(name))} -> {_seconds(after.get(name))}"
        + (f" ({after[name] / before[name] - 1:+.1%})" if before.get(name) and after.get(name) else "")
        for name in named
    ]
    return [f"components: {'; '.join(figures)}", *_compare_calls(run, other, named[0])]


def _compare_calls(run: Run, other: Run, name: str) -> list[str]:
    """Name a new number of calls of this component, or the one call that holds most of its change."""
    after, before = (
        [process.components[name] for process in side.processes if name in process.components] for side in (run, other)
    )
    if not (after and before):
        return []
    if after[0].calls != before[0].calls:
        return [f"calls of {name}: {before[0].calls} -> {after[0].calls}"]
    changes_s = [_mean_s(after, call) - _mean_s(before, call) for call in range(after[0].calls)]
    worst = max(range(len(changes_s)), key=lambda call: abs(changes_s[call]))
    if len(changes_s) < 3 or abs(changes_s[worst]) < _CALL_SHARE * abs(sum(changes_s)):
        return []
    share = changes_s[worst] / sum(changes_s)
    return [f"call {worst + 1} of {len(changes_s)} of {name} holds {share:.0%} of its change"]


def _mean_s(processes: Sequence[Component], call: int) -> float:
    return statistics.fmean(component.call_medians_s[call] for component in processes)


def _compare_alike(run: Run, other: Run) -> list[str]:
    """Say that everything moved alike, if each component of some size did: then something around the code has changed."""
    after, before = component_means_s(run.processes), component_means_s(other.processes)
    total_s = sum(before.values())
    large = [name for name in before if before[name] >= _LARGE_SHARE * total_s]
    if len(large) < 2 or not all(after.get(name, 0.0) > 0 for name in large):
        return []
    ratio = sum(after.values()) / total_s
    ratios = {name: after[name] / before[name] for name in large}
    spread = max(abs(math.log(value / ratio)) for value in ratios.values())
    if abs(math.log(ratio)) < _LEAST_COMMON_CHANGE or spread > _ALIKE * abs(math.log(ratio)):
        return []
    low, high = (f"{value - 1:+.1%}" for value in (min(ratios.values()), max(ratios.values())))
    cause = "" if run.environment != other.environment else ": the machine, more likely than the code"
    return [f"everything became {'slower' if ratio > 1 else 'faster'} alike, each component by {low} to {high}{cause}"]


def _compare_kernels(after: Attribution, before: Attribution, *, with_seconds: bool = True) -> list[str]:
    new, old = ({kernel.name: kernel for kernel in side.kernels if kernel.name != OTHERS} for side in (after, before))
    least_s = _KERNEL_SHARE * max(after.total_s, before.total_s)
    none = Kernel(name="", count=0, seconds=0.0)
    changes = [
        _KernelChange(name=name, before=old.get(name, none), after=new.get(name, none)) for name in {**old, **new}
    ]
    in_both = [change for change in changes if change.before.count and change.after.count]
    timed = in_both if with_seconds else []
    changes_by_kind = {
        "appeared": _above_cut([change for change in changes if not change.before.count], before),
        "vanished": _above_cut([change for change in changes if not change.after.count], after),
        "more calls": [change for change in in_both if change.after.count > change.before.count],
        "fewer calls": [change for change in in_both if change.after.count < change.before.count],
        "slower": [c for c in timed if c.change_per_call > _KERNEL_CHANGE and c.change_s > least_s],
        "faster": [c for c in timed if c.change_per_call < -_KERNEL_CHANGE and -c.change_s > least_s],
    }
    lines = [
        f"kernels {kind}: {_list(matching, _FORMAT[kind])}" for kind, matching in changes_by_kind.items() if matching
    ]
    if not with_seconds:
        return lines or ["kernels: the same with the same calls"]
    return lines or [f"kernels: the same with the same calls, none slower or faster by more than {_KERNEL_CHANGE:.0%}"]


def _above_cut(changes: list[_KernelChange], other: Attribution) -> list[_KernelChange]:
    """Drop kernels that the other table may have summed up in its last row, which stands for its least expensive ones."""
    cut = any(kernel.name == OTHERS for kernel in other.kernels)
    least_s = min((kernel.seconds for kernel in other.kernels if kernel.name != OTHERS), default=0.0) if cut else -1.0
    return [change for change in changes if max(change.before.seconds, change.after.seconds) > least_s]


_FORMAT: Mapping[str, Callable[[_KernelChange], str]] = {
    "appeared": lambda change: f"{change.name} ({change.after.count} calls, {_seconds(change.after.seconds)})",
    "vanished": lambda change: f"{change.name} ({change.before.count} calls, {_seconds(change.before.seconds)})",
    "more calls": lambda change: f"{change.name} ({change.before.count} -> {change.after.count})",
    "fewer calls": lambda change: f"{change.name} ({change.before.count} -> {change.after.count})",
    "slower": lambda change: f"{change.name} ({_seconds(change.before.seconds)} -> {_seconds(change.after.seconds)})",
    "faster": lambda change: f"{change.name} ({_seconds(change.before.seconds)} -> {_seconds(change.after.seconds)})",
}


def _list(changes: Iterable[_KernelChange], form: Callable[[_KernelChange], str]) -> str:
    """The largest changes first."""
    ordered = sorted(changes, key=lambda change: (-abs(change.change_s), change.name))
    more = f" and {len(ordered) - _MOST_NAMED} more" if len(ordered) > _MOST_NAMED else ""
    return ", ".join(map(form, ordered[:_MOST_NAMED])) + more


def _compare_attention(after: Attribution, before: Attribution) -> list[str]:
    if after.attention_kernels == before.attention_kernels:
        return []
    old, new = (
        ", ".join(f"{name} x{count}" for name, count in side.attention_kernels.items()) or "none seen"
        for side in (before, after)
    )
    return [f"attention: {old} -> {new}"]


def _compare_code(after: Attribution, before: Attribution) -> list[str]:
    old, new = before.code_digest, after.code_digest
    if old == new:
        return [] if new is None else ["generated code: the same"]
    return [f"generated code: {old or 'none'} -> {new or 'none'}"]


def _compare_versions(after: Mapping[str, object], before: Mapping[str, object]) -> str:
    unrecorded = set(CPU_CONDITIONS) - (set(before) & set(after))  # by an older version of this project
    changed = [
        f"{name} {before.get(name)} -> {after.get(name)}"
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name not in unrecorded
    ]
    return f"versions: {', '.join(changed) or 'the same'}"


def _seconds(seconds: float | None) -> str:
    return "nothing" if seconds is None else f"{seconds:.4g} s"
