"""What changed against a baseline: components, kernels, attention, generated code and versions, in a few lines.

A pure function of two runs. It says where a difference lies, not whether there is one: that is the gate's verdict.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from speedgate.gate import judge
from speedgate.results.profile import OTHERS, Attribution, Kernel
from speedgate.results.run import Baseline, Comparison, Outcome, Run, Verdict
from speedgate.results.timings import Component, centre_s

CLAIMS = frozenset({"latency", "memory"})
MOVED = frozenset({Outcome.SLOWER, Outcome.FASTER, Outcome.BIGGER, Outcome.SMALLER})
UNDECIDED_HEAD = "nothing is decided; what is different, should it have moved:"
_SHOWN = 3
_LONGEST = 1000  # characters of a line: what it is made of is another program's
# A kernel table is of one image: what a kernel's calls take differs by some percent from profile to profile.
_CHANGE = 0.1  # of a kernel's seconds a call
_SHARE = 0.01  # of the seconds of all kernels, below which one is not worth a word
_FLAT = 0.005  # of an image, below which a difference in seconds has no parts to be told
_CALL_SHARE = 0.5  # of a component's change that one of its calls has to hold to be named


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Moved:
    """A kernel in both tables, in one of them, or called another number of times."""

    name: str
    before: Kernel
    after: Kernel

    @property
    def change_s(self) -> float:
        return self.after.seconds - self.before.seconds

    @property
    def a_call(self) -> float:
        """How much more seconds a call takes, as a ratio less one; 0 where there is nothing to compare."""
        if not (self.before.count and self.after.count and self.before.seconds):
            return 0.0
        return (self.after.seconds / self.after.count) / (self.before.seconds / self.before.count) - 1


def is_explained(verdict: Verdict) -> bool:
    """Whether a verdict says that something moved, so that a reader asks what."""
    return verdict.claim in CLAIMS and verdict.outcome in MOVED


def belongs(lines: Sequence[str], *, claim: str, outcome: str) -> bool:
    """Whether a case's explanation stands below this verdict of it: one that moved, or the one that is not decided."""
    if not lines or claim not in CLAIMS:
        return False
    return outcome == Outcome.UNDECIDED if lines[0] == UNDECIDED_HEAD else outcome in MOVED


def undecided(run: Run, by: Baseline | Comparison, *, tolerance: float) -> list[str]:
    """`against` below a line that nothing is decided; nothing where the ratio itself lies within the tolerance."""
    log_ratios = by.log_ratios if isinstance(by, Comparison) else [math.log(run.latency_s / by.latency_s)]
    ratio = math.exp(statistics.fmean(log_ratios))
    if judge.three_way(ratio, ratio, tolerance) is Outcome.PASS:
        return []
    return [UNDECIDED_HEAD, *against(run, by)]


def against(run: Run, by: Baseline | Comparison) -> list[str]:
    """`explain` of what a run was judged by."""
    if isinstance(by, Comparison):
        return explain(run, by.other, name=by.label)
    return explain(run, by.run, name=by.name)


def explain(run: Run, other: Run | None, *, name: str) -> list[str]:
    """A dozen lines at most on what is different in `run` from `other`, called `name`; what was not recorded is said."""
    if other is None:
        return [f"nothing to compare with: {name} holds a figure and no run"]
    components = _components(run, other)
    attributions = _attributions(run.attribution, other.attribution)
    lines = [
        *(components or [f"components: nothing to compare with in {name}, or in this run"]),
        *(attributions or [f"kernels: nothing to compare with in {name}, or in this run"]),
    ]
    if not (components or attributions):
        lines = [f"nothing to compare with: components and kernels are not in this run or not in {name}"]
    return [line[:_LONGEST] for line in (*lines, _versions(run.environment, other.environment))]


def _components(run: Run, other: Run) -> list[str]:
    after, before = centre_s(run.processes), centre_s(other.processes)
    if not (after and before):
        return []
    changes = {part: after.get(part, 0.0) - before.get(part, 0.0) for part in {**before, **after}}
    total_s = sum(changes.values())
    told = sorted(changes, key=lambda part: -abs(changes[part]))
    worth = [part for part in told if abs(changes[part]) >= _FLAT * sum(before.values())][:_SHOWN]
    if not worth:
        return [f"components: none takes {_FLAT:.1%} of an image more or less"]
    flat = abs(total_s) < _FLAT * sum(before.values())
    said = [
        f"{part} {_seconds(before.get(part))} -> {_seconds(after.get(part))}"
        + ("" if flat else f" ({changes[part] / total_s:.0%} of {_signed(total_s)})")
        for part in worth
    ]
    return [f"components: {'; '.join(said)}", *_calls(run, other, worth[0])]


def _calls(run: Run, other: Run, part: str) -> list[str]:
    """Of the component that changed the most: another number of calls, or the one call that holds most of the change."""
    after, before = (
        [process.components[part] for process in side.processes if part in process.components] for side in (run, other)
    )
    if not (after and before):
        return []
    if after[0].calls != before[0].calls:
        return [f"calls of {part}: {before[0].calls} -> {after[0].calls}"]
    changes = [_mean(after, call) - _mean(before, call) for call in range(after[0].calls)]
    worst = max(range(len(changes)), key=lambda call: abs(changes[call]))
    if len(changes) < 3 or abs(changes[worst]) < _CALL_SHARE * abs(sum(changes)):
        return []
    return [f"call {worst + 1} of {len(changes)} of {part} holds {changes[worst] / sum(changes):.0%} of its change"]


def _mean(processes: Sequence[Component], call: int) -> float:
    return statistics.fmean(component.call_medians_s[call] for component in processes)


def _attributions(after: Attribution | None, before: Attribution | None) -> list[str]:
    if after is None or before is None:
        return []
    return [*_kernels(after, before), *_attention(after, before), *_code(after, before)]


def _kernels(after: Attribution, before: Attribution) -> list[str]:
    new, old = ({kernel.name: kernel for kernel in side.kernels if kernel.name != OTHERS} for side in (after, before))
    least_s = _SHARE * max(after.total_s, before.total_s)
    none = Kernel(name="", count=0, seconds=0.0)
    moved = [_Moved(name=name, before=old.get(name, none), after=new.get(name, none)) for name in {**old, **new}]
    both = [one for one in moved if one.before.count and one.after.count]
    found = {
        "appeared": _beyond([one for one in moved if not one.before.count], before),
        "vanished": _beyond([one for one in moved if not one.after.count], after),
        "more calls": [one for one in both if one.after.count > one.before.count],
        "fewer calls": [one for one in both if one.after.count < one.before.count],
        "slower": [one for one in both if one.a_call > _CHANGE and one.change_s > least_s],
        "faster": [one for one in both if one.a_call < -_CHANGE and -one.change_s > least_s],
    }
    lines = [f"kernels {what}: {_listed(which, _SAYS[what])}" for what, which in found.items() if which]
    return lines or [f"kernels: the same with the same calls, none slower or faster by more than {_CHANGE:.0%}"]


def _beyond(moved: list[_Moved], other: Attribution) -> list[_Moved]:
    """Without what the other table may have cut: it ends with its least expensive kernels as one."""
    cut = any(kernel.name == OTHERS for kernel in other.kernels)
    least_s = min((kernel.seconds for kernel in other.kernels if kernel.name != OTHERS), default=0.0) if cut else -1.0
    return [one for one in moved if max(one.before.seconds, one.after.seconds) > least_s]


_SAYS: Mapping[str, Callable[[_Moved], str]] = {
    "appeared": lambda one: f"{one.name} ({one.after.count} calls, {_seconds(one.after.seconds)})",
    "vanished": lambda one: f"{one.name} ({one.before.count} calls, {_seconds(one.before.seconds)})",
    "more calls": lambda one: f"{one.name} ({one.before.count} -> {one.after.count})",
    "fewer calls": lambda one: f"{one.name} ({one.before.count} -> {one.after.count})",
    "slower": lambda one: f"{one.name} ({_seconds(one.before.seconds)} -> {_seconds(one.after.seconds)})",
    "faster": lambda one: f"{one.name} ({_seconds(one.before.seconds)} -> {_seconds(one.after.seconds)})",
}


def _listed(moved: Iterable[_Moved], says: Callable[[_Moved], str]) -> str:
    """The most expensive first."""
    ordered = sorted(moved, key=lambda one: (-abs(one.change_s), one.name))
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(map(says, ordered[:_SHOWN])) + more


def _attention(after: Attribution, before: Attribution) -> list[str]:
    if after.attention_kernels == before.attention_kernels:
        return []
    sides = [
        ", ".join(f"{name} x{count}" for name, count in side.attention_kernels.items()) for side in (before, after)
    ]
    return [f"attention: {sides[0] or 'none seen'} -> {sides[1] or 'none seen'}"]


def _code(after: Attribution, before: Attribution) -> list[str]:
    digests = [before.code_digest, after.code_digest]
    if digests == [None, None]:
        return []
    if digests[0] == digests[1]:
        return ["generated code: the same"]
    return [f"generated code: {digests[0] or 'none'} -> {digests[1] or 'none'}"]


def _versions(after: Mapping[str, object], before: Mapping[str, object]) -> str:
    said = [
        f"{name} {before.get(name)} -> {after.get(name)}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]
    return f"versions: {', '.join(said) or 'the same'}"


def _seconds(seconds: float | None) -> str:
    return "nothing" if seconds is None else f"{seconds:.4g} s"


def _signed(seconds: float) -> str:
    return f"{seconds:+.4g} s"
