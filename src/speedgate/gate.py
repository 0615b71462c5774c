"""Verdicts: pure functions of (run, baseline, policy). Nothing here reads a file, a clock or an option."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

from speedgate.records import Baseline, Outcome, Run, Verdict


class Mode(enum.StrEnum):
    """What a verdict does to a test (`--gate`)."""

    AUTO = "auto"  # enforce what has a baseline here, say plainly what has none
    ENFORCE = "enforce"  # a missing, stale or undecided baseline is red too
    RECORD = "record"  # exact claims and parity are enforced, figures are written
    REPORT = "report"  # never red


_RED = {
    Mode.REPORT: frozenset[Outcome](),
    Mode.RECORD: frozenset({Outcome.NOT_APPLIED, Outcome.DIFFERENT, Outcome.INVALID}),
}
_RED[Mode.AUTO] = _RED[Mode.RECORD] | {Outcome.SLOWER, Outcome.BIGGER}
_RED[Mode.ENFORCE] = _RED[Mode.AUTO] | {Outcome.NO_BASELINE, Outcome.STALE, Outcome.UNDECIDED}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """How much is tolerated. Fractions, not percent.

    `latency_tolerance` bounds the whole confidence interval of the ratio to the baseline. `point_tolerance` bounds
    the bare ratio where there is no interval: neither side holds two processes, or the baseline is a published figure,
    whose spread over machines and processes nobody knows.
    """

    mode: Mode = Mode.AUTO
    latency_tolerance: float = 0.03
    point_tolerance: float = 0.10
    confidence: float = 0.99
    memory_tolerance: float = 0.02
    ladder_tolerance: float = 0.05

    def accepts(self, verdict: Verdict) -> bool:
        """Whether the test that owns this verdict is green."""
        return verdict.outcome not in _RED[self.mode]


def ratio_interval(new_s: Sequence[float], old_s: Sequence[float], *, confidence: float) -> tuple[float, float] | None:
    """The confidence interval of the ratio new/old of two sets of process medians (seconds).

    Student's t on the logarithms with a pooled variance, so one process against a recorded set has an interval as
    well; None where neither set holds two processes and no variance is known.
    """
    from scipy import stats

    logs = [[math.log(value) for value in side] for side in (new_s, old_s)]
    freedom = sum(len(side) - 1 for side in logs)
    if freedom < 1:
        return None
    means = [math.fsum(side) / len(side) for side in logs]
    squares = math.fsum((value - mean) ** 2 for side, mean in zip(logs, means, strict=True) for value in side)
    error = math.sqrt(squares / freedom * sum(1 / len(side) for side in logs))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    difference = means[0] - means[1]
    return math.exp(difference - half), math.exp(difference + half)


def judge_latency(run: Run, baseline: Baseline | None, policy: Policy) -> Verdict:
    """SLOWER or FASTER when the whole interval lies beyond the tolerance, PASS when all of it lies within, else UNDECIDED."""
    if baseline is None:
        return _no_baseline(run, "latency", f"{run.median_s:.4g} s")
    if is_stale(run, baseline):
        return judge_stale(run, baseline, "latency")
    low, high, tolerance, how = _compare(run, baseline, policy)
    outcome = _three_way(low, high, tolerance)
    sentence = (
        f"{run.median_s:.4g} s against {baseline.median_s:.4g} s in {baseline.name}"
        f" ({_percent(run.median_s / baseline.median_s)}, {how}); tolerance {tolerance:.0%}{_advice(outcome)}"
    )
    return Verdict(case_key=run.case_key, claim="latency", outcome=outcome, sentence=sentence)


def _compare(run: Run, baseline: Baseline, policy: Policy) -> tuple[float, float, float, str]:
    """The interval of the ratio, its tolerance, and how it was come by; a bare ratio where no interval exists."""
    ratio = run.median_s / baseline.median_s
    if baseline.source == "published":
        return ratio, ratio, policy.point_tolerance, "a published figure, so no interval"
    interval = ratio_interval(run.process_medians_s, baseline.process_medians_s, confidence=policy.confidence)
    if interval is None:
        return ratio, ratio, policy.point_tolerance, "one value on each side, so no interval"
    low, high = interval
    counts = f"{len(run.processes)} and {len(baseline.process_medians_s)} processes"
    how = f"{policy.confidence:.0%} interval {_percent(low)} to {_percent(high)} from {counts}"
    return low, high, policy.latency_tolerance, how


def judge_memory(run: Run, baseline: Baseline | None, policy: Policy) -> Verdict:
    """BIGGER when the peak exceeds the baseline's by more than the tolerance.

    A published peak was never reset, so it holds loading and autotuning as well: a ceiling, with nothing to say about
    a smaller figure.
    """
    if baseline is None:
        return _no_baseline(run, "memory", f"peak {run.peak_bytes / 2**30:.3f} GiB")
    if is_stale(run, baseline):
        return judge_stale(run, baseline, "memory")
    ratio = run.peak_bytes / baseline.peak_bytes
    tolerance = policy.memory_tolerance
    if ratio > 1 + tolerance:
        outcome = Outcome.BIGGER
    elif ratio < 1 - tolerance and baseline.source == "recorded":
        outcome = Outcome.SMALLER
    else:
        outcome = Outcome.PASS
    ceiling = "ceiling " if baseline.source == "published" else ""
    sentence = (
        f"peak {run.peak_bytes / 2**30:.3f} GiB against {ceiling}{baseline.peak_bytes / 2**30:.3f} GiB in {baseline.name}"
        f" ({_percent(ratio)}); tolerance {tolerance:.0%}{_advice(outcome)}"
    )
    return Verdict(case_key=run.case_key, claim="memory", outcome=outcome, sentence=sentence)


def judge_ladder(run: Run, parent: Run, expected: float | None, policy: Policy) -> Verdict:
    """SLOWER when the speed-up over the parent stage falls short of the expected ratio by more than the tolerance."""
    speedup = parent.median_s / run.median_s
    said = f"{speedup:.3f}x over {parent.case_key}"
    if expected is None:
        outcome, sentence = Outcome.NO_BASELINE, f"{said}; no baseline on this GPU holds both stages"
    else:
        short = speedup < expected * (1 - policy.ladder_tolerance)
        outcome = Outcome.SLOWER if short else Outcome.PASS
        sentence = f"{said}, expected {expected:.3f}x; tolerance {policy.ladder_tolerance:.0%}"
    return Verdict(case_key=run.case_key, claim="ladder", outcome=outcome, sentence=sentence)


def judge_facts(
    case_key: str, claim: str, *, expected: Mapping[str, Any], observed: Mapping[str, Any], outcome: Outcome
) -> Verdict:
    """`outcome` unless every expected fact was observed exactly; the sentence lists each fact that was not."""
    assert expected, f"{case_key}: nothing is expected of its {claim}, so nothing could fail"
    wrong = [
        f"{name} is {observed.get(name, 'not reported')!r}, expected {value!r}"
        for name, value in expected.items()
        if name not in observed or observed[name] != value
    ]
    if wrong:
        return Verdict(case_key=case_key, claim=claim, outcome=outcome, sentence="; ".join(wrong))
    return Verdict(case_key=case_key, claim=claim, outcome=Outcome.PASS, sentence=f"all {len(expected)} facts hold")


def worst(verdicts: Sequence[Verdict]) -> Outcome | None:
    """The outcome that speaks for a case: the first in `Outcome`'s order; None where nothing was judged."""
    order = list(Outcome)
    return min((verdict.outcome for verdict in verdicts), key=order.index, default=None)


def _no_baseline(run: Run, claim: str, figure: str) -> Verdict:
    sentence = f"{figure}; no baseline for this case on this machine: record one with --gate record"
    return Verdict(case_key=run.case_key, claim=claim, outcome=Outcome.NO_BASELINE, sentence=sentence)


def is_stale(run: Run, baseline: Baseline) -> bool:
    """Whether the baseline was recorded for another recipe; a published figure has no fingerprint to compare."""
    return baseline.fingerprint not in (None, run.fingerprint)


def judge_stale(run: Run, baseline: Baseline, claim: str) -> Verdict:
    """STALE, with both fingerprints."""
    sentence = (
        f"{baseline.name} was recorded for recipe {baseline.fingerprint}, this run is {run.fingerprint}:"
        " record it anew with --gate record"
    )
    return Verdict(case_key=run.case_key, claim=claim, outcome=Outcome.STALE, sentence=sentence)


def _three_way(low: float, high: float, tolerance: float) -> Outcome:
    if low > 1 + tolerance:
        return Outcome.SLOWER
    if high < 1 - tolerance:
        return Outcome.FASTER
    if high <= 1 + tolerance and low >= 1 - tolerance:
        return Outcome.PASS
    return Outcome.UNDECIDED


def _advice(outcome: Outcome) -> str:
    if outcome is Outcome.UNDECIDED:
        return ": the interval is too wide to tell, add --processes"
    if outcome in (Outcome.FASTER, Outcome.SMALLER):
        return ": record a new baseline"
    return ""


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.1%}"
