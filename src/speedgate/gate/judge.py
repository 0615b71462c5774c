"""Verdicts: pure functions of (run, baseline, policy). Nothing here reads a file, a clock or an option."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

from speedgate.gate import intervals
from speedgate.gate.policy import Policy
from speedgate.results.run import Baseline, Comparison, Outcome, Run, Verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Judged:
    """One figure set against another, ready to be said."""

    outcome: Outcome
    sentence: str


def judge_latency(run: Run, baseline: Baseline | None, policy: Policy) -> Verdict:
    """SLOWER or FASTER when the whole interval lies beyond the tolerance, PASS when all of it lies within, else UNDECIDED.

    A published figure is one value of another machine: its bare ratio is held to the policy's point tolerance.
    """
    if baseline is None:
        return no_baseline(run, "latency", f"{run.latency_s:.4g} s")
    if is_stale(run, baseline):
        return judge_stale(run, baseline, "latency")
    figures = f"{run.latency_s:.4g} s against {baseline.latency_s:.4g} s in {baseline.name}"
    if baseline.source == "published":
        judged = _judge_point(run.latency_s / baseline.latency_s, policy.point_tolerance)
    else:
        count = len(run.processes)
        interval = intervals.between_sets(
            run.process_medians_s, baseline.process_medians_s, confidence=policy.looks.confidence_at(count)
        )
        judged = _judge_interval(
            interval,
            policy.tolerance(run.stage),
            how=f"{count} and {len(baseline.process_medians_s)} processes",
            more=policy.looks.following(count) is not None,
        )
    return _verdict(run, "latency", judged.outcome, f"{figures}: {judged.sentence}")


def judge_against(run: Run, comparison: Comparison, policy: Policy) -> Verdict:
    """The same three-way verdict by the paired log-ratios to the other arm of a live comparison."""
    other, count = comparison.other, len(comparison.log_ratios)
    interval = intervals.of_pairs(
        comparison.log_ratios, own_first=comparison.own_first, confidence=policy.looks.confidence_at(count)
    )
    judged = _judge_interval(
        interval,
        policy.tolerance(run.stage),
        how=f"{_count(count, 'pair')}, {comparison.turns.says}",
        more=policy.looks.following(count) is not None,
        stored=False,
    )
    figures = f"{run.latency_s:.4g} s against {other.latency_s:.4g} s of {comparison.label}"
    return _verdict(run, "latency", judged.outcome, f"{figures}: {judged.sentence}")


def judge_memory(run: Run, baseline: Baseline | None, policy: Policy) -> Verdict:
    """BIGGER when the peak exceeds the baseline's by more than the tolerance.

    A published peak was never reset, so it holds loading and autotuning as well: a ceiling, with nothing to say about
    a smaller figure.
    """
    if baseline is None:
        return no_baseline(run, "memory", f"peak {run.peak_bytes / 2**30:.3f} GiB")
    if is_stale(run, baseline):
        return judge_stale(run, baseline, "memory")
    ceiling = "ceiling " if baseline.source == "published" else ""
    ratio = run.peak_bytes / baseline.peak_bytes
    outcome = _memory_outcome(ratio, policy.memory_tolerance)
    if ceiling and outcome is Outcome.SMALLER:
        outcome = Outcome.PASS
    sentence = (
        f"peak {run.peak_bytes / 2**30:.3f} GiB against {ceiling}{baseline.peak_bytes / 2**30:.3f} GiB in {baseline.name}"
        f" ({_percent(ratio)}); tolerance {policy.memory_tolerance:.0%}{_advice(outcome)}"
    )
    return _verdict(run, "memory", outcome, sentence)


def judge_memory_against(run: Run, comparison: Comparison, tolerance: float) -> Verdict:
    """BIGGER or SMALLER by more than the tolerance than the other arm's peak, by the medians over their processes.

    Of a maximum the first process would decide alone, which may have compiled what the others found in the cache.
    """
    own, other = (
        statistics.median(max(process.peak_bytes) for process in side.processes) for side in (run, comparison.other)
    )
    ratio = own / other
    outcome = _memory_outcome(ratio, tolerance)
    sentence = (
        f"peak {own / 2**30:.3f} GiB against {other / 2**30:.3f} GiB of {comparison.label} ({_percent(ratio)});"
        f" tolerance {_share(tolerance)}"
    )
    return _verdict(run, "memory", outcome, sentence)


def judge_ladder(run: Run, parent: Run, expected: float | None, policy: Policy) -> Verdict:
    """SLOWER when the speed-up over the parent stage falls short of the expected ratio by more than the tolerance.

    Decided by the interval of the speed-up where either stage has two processes, by the bare ratio where neither has.
    """
    interval = intervals.between_sets(
        parent.process_medians_s, run.process_medians_s, confidence=policy.looks.confidence
    )
    speedup = interval.ratio if interval else parent.latency_s / run.latency_s
    low, high = (interval.low, interval.high) if interval else (speedup, speedup)
    said = f"{speedup:.3f}x over {parent.case_key}"
    if interval:
        said += f" ({_confidence(interval)} interval {low:.3f}x to {high:.3f}x)"
    if expected is None:
        return _verdict(run, "ladder", Outcome.NO_BASELINE, f"{said}; no baseline on this GPU holds both stages")
    least = expected * (1 - policy.ladder_tolerance)
    outcome = Outcome.SLOWER if high < least else Outcome.PASS if low >= least else Outcome.UNDECIDED
    sentence = f"{said}, expected {expected:.3f}x; tolerance {policy.ladder_tolerance:.0%}{_advice(outcome)}"
    return _verdict(run, "ladder", outcome, sentence)


def judge_cold_start(run: Run, baseline: Baseline, policy: Policy) -> Verdict | None:
    """SLOWER when applying the stage and its first image take longer than the baseline's by tolerance and floor.

    Starts are compared with starts that found the compile cache in the same state; None where the baseline holds none.
    """
    pairs = {
        state: (
            [start.stage_s for start in run.cold_starts if start.cache == state],
            [start.stage_s for start in baseline.cold_starts if start.cache == state],
        )
        for state in dict.fromkeys(start.cache for start in run.cold_starts)
    }
    known = {state: sides for state, sides in pairs.items() if sides[1]}
    if not known:
        return None
    if is_stale(run, baseline):
        return judge_stale(run, baseline, "cold start")
    said, slower = [], False
    for state, sides in known.items():
        new_s, old_s = (statistics.median(side) for side in sides)
        slower |= new_s > max(old_s * (1 + policy.cold_start_tolerance), old_s + policy.cold_start_floor_s)
        said.append(f"{state}: {new_s:.3g} s against {old_s:.3g} s ({len(sides[0])} and {len(sides[1])} starts)")
    limits = f"tolerance {policy.cold_start_tolerance:.0%} and {policy.cold_start_floor_s:g} s"
    outcome = Outcome.SLOWER if slower else Outcome.PASS
    return _verdict(run, "cold start", outcome, f"stage applied and first image, {', '.join(said)}; {limits}")


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


def is_stale(run: Run, baseline: Baseline) -> bool:
    """Whether the baseline was recorded for another recipe; a published figure has no fingerprint to compare."""
    return baseline.fingerprint not in (None, run.fingerprint)


def judge_stale(run: Run, baseline: Baseline, claim: str) -> Verdict:
    """STALE, with both fingerprints."""
    sentence = (
        f"{baseline.name} was recorded for recipe {baseline.fingerprint}, this run is {run.fingerprint}:"
        " record it anew with --gate record"
    )
    return _verdict(run, claim, Outcome.STALE, sentence)


def three_way(low: float, high: float, tolerance: float) -> Outcome:
    """Which side of the tolerance all of the interval of a ratio lies on."""
    if low > 1 + tolerance:
        return Outcome.SLOWER
    if high < 1 - tolerance:
        return Outcome.FASTER
    if high <= 1 + tolerance and low >= 1 - tolerance:
        return Outcome.PASS
    return Outcome.UNDECIDED


def _judge_interval(
    interval: intervals.Interval | None, tolerance: float, *, how: str, more: bool, stored: bool = True
) -> _Judged:
    if interval is None:
        return _Judged(outcome=Outcome.UNDECIDED, sentence=f"nothing is known of the spread of {how}: add --processes")
    outcome = three_way(interval.low, interval.high, tolerance)
    sentence = (
        f"{_percent(interval.ratio)} ({_confidence(interval)} interval {_percent(interval.low)} to"
        f" {_percent(interval.high)} from {how}); tolerance {_share(tolerance)}, a slowdown of"
        f" {_percent(interval.detectable(tolerance))} would have been seen{_advice(outcome, more=more, stored=stored)}"
    )
    return _Judged(outcome=outcome, sentence=sentence)


def _judge_point(ratio: float, tolerance: float) -> _Judged:
    outcome = three_way(ratio, ratio, tolerance)
    sentence = (
        f"{_percent(ratio)} (a published figure, so no interval); tolerance {_share(tolerance)}{_advice(outcome)}"
    )
    return _Judged(outcome=outcome, sentence=sentence)


def _memory_outcome(ratio: float, tolerance: float) -> Outcome:
    if ratio > 1 + tolerance:
        return Outcome.BIGGER
    return Outcome.SMALLER if ratio < 1 - tolerance else Outcome.PASS


def no_baseline(run: Run, claim: str, figure: str) -> Verdict:
    """NO_BASELINE, with the figure that was measured."""
    sentence = f"{figure}; no baseline for this case on this machine: record one with --gate record"
    return _verdict(run, claim, Outcome.NO_BASELINE, sentence)


def _verdict(run: Run, claim: str, outcome: Outcome, sentence: str) -> Verdict:
    return Verdict(case_key=run.case_key, claim=claim, outcome=outcome, sentence=sentence)


def _advice(outcome: Outcome, *, more: bool = False, stored: bool = True) -> str:
    if outcome is Outcome.UNDECIDED:
        return ": not decided yet" if more else ": too noisy to tell, raise --max-processes or quieten the machine"
    if stored and outcome in (Outcome.FASTER, Outcome.SMALLER):
        return ": record a new baseline"
    return ""


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.1%}"


def _share(fraction: float) -> str:
    return f"{fraction * 100:.4g}%"


def _confidence(interval: intervals.Interval) -> str:
    return _share(interval.confidence)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
