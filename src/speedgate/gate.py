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
    missing = _missing(run, baseline, "latency")
    if missing is not None or baseline is None:
        assert missing is not None
        return missing
    published = baseline.source == "published"
    interval = (
        None
        if published
        else ratio_interval(run.process_medians_s, baseline.process_medians_s, confidence=policy.confidence)
    )
    ratio = run.median_s / baseline.median_s
    shift = f"{run.median_s:.4g} s against {baseline.median_s:.4g} s in {baseline.name} ({_percent(ratio)}"
    if interval is None:
        low = high = ratio
        tolerance = policy.point_tolerance
        shift += ", a published figure, so no interval" if published else ", one value on each side, so no interval"
    else:
        low, high = interval
        tolerance = policy.latency_tolerance
        shift += f", {policy.confidence:.0%} interval {_percent(low)} to {_percent(high)}"
        shift += f" from {len(run.processes)} and {len(baseline.process_medians_s)} processes"
    outcome = _three_way(low, high, tolerance)
    return Verdict(
        case_key=run.case_key,
        claim="latency",
        outcome=outcome,
        sentence=f"{shift}); tolerance {tolerance:.0%}{_advice(outcome)}",
    )


def judge_memory(run: Run, baseline: Baseline | None, policy: Policy) -> Verdict:
    """BIGGER when the peak exceeds the baseline's by more than the tolerance.

    A published peak was never reset, so it holds loading and autotuning as well: a ceiling, with nothing to say about
    a smaller figure.
    """
    missing = _missing(run, baseline, "memory")
    if missing is not None or baseline is None:
        assert missing is not None
        return missing
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


def _missing(run: Run, baseline: Baseline | None, claim: str) -> Verdict | None:
    if baseline is None:
        figure = f"{run.median_s:.4g} s" if claim == "latency" else f"peak {run.peak_bytes / 2**30:.3f} GiB"
        sentence = f"{figure}; no baseline for this case on this machine: record one with --gate record"
        return Verdict(case_key=run.case_key, claim=claim, outcome=Outcome.NO_BASELINE, sentence=sentence)
    if baseline.fingerprint is not None and baseline.fingerprint != run.fingerprint:
        sentence = (
            f"{baseline.name} was recorded for recipe {baseline.fingerprint}, this run is {run.fingerprint}:"
            " record it anew with --gate record"
        )
        return Verdict(case_key=run.case_key, claim=claim, outcome=Outcome.STALE, sentence=sentence)
    return None


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
