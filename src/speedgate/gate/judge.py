"""Judge latency, memory, cold start, speed-up and structure: each verdict from a run, its reference and the policy alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from speedgate.gate import intervals
from speedgate.gate.policy import Mode, Policy
from speedgate.results.run import CPU_CONDITIONS, Baseline, ColdStart, Comparison, Confirmation, Outcome, Run, Verdict

# Promised of regional compilation, on one machine and with the compile cache in the same state. Others measured a first
# image of FLUX.1-dev on an H100 after 67.4 s against 9.6 s, cold (Paul, Jain and Bossan, PyTorch's development log, 2026-05-11).
MIN_REGIONAL_START_SPEEDUP = 5.0
MAX_REGIONAL_LATENCY_RATIO = 1.10  # what lies between the regions stays eager
LONG_FACT = 300  # characters of both sides of a fact; of a longer one only the entries that differ are shown
_NOT_OBSERVED = object()  # in place of a fact that was not observed: None may be expected

Rule = tuple[bool, str]  # a figure's sentence, and True if the figure is within its limit


def judge_latency(run: Run, baseline: Baseline | None, policy: Policy) -> Verdict:
    """SLOWER or FASTER if the whole interval lies beyond the tolerance, PASS if all of it lies within, else UNDECIDED.

    A published figure is one value of another machine: its bare ratio is held to the policy's point tolerance.
    """
    if baseline is None:
        return judge_no_baseline(run, "latency", f"{run.latency_s:.4g} s", policy)
    if is_stale(run, baseline):
        return judge_stale(run, baseline, "latency")
    figures = f"{run.latency_s:.4g} s against {baseline.latency_s:.4g} s in {baseline.name}"
    if baseline.source == "published":
        ratio = run.latency_s / baseline.latency_s
        outcome = classify_interval(ratio, ratio, policy.point_tolerance)
        limits = f"(a published figure, so no interval); tolerance {share_text(policy.point_tolerance)}"
        return _verdict(run, "latency", outcome, f"{figures}: {_percent(ratio)} {limits}{_advice(outcome)}")
    count = len(run.processes)
    interval = intervals.between_sets(
        run.process_medians_s, baseline.process_medians_s, confidence=policy.looks.confidence_at(count)
    )
    sample = f"{count} and {len(baseline.process_medians_s)} processes"
    return _judge_interval(run, figures, interval, policy, sample=sample, count=count)


def may_be_acquitted(run: Run, baseline: Baseline, policy: Policy) -> bool:
    """Return True if the last look would say PASS or FASTER, provided that the run keeps its present centre and spread."""
    last = policy.looks.last
    interval = intervals.expected_between_sets(
        run.process_medians_s,
        baseline.process_medians_s,
        confidence=policy.looks.confidence_at(last),
        later=last,
    )
    if interval is None:
        return True
    outcome = classify_interval(interval.low, interval.high, policy.tolerance(run.stage))
    return outcome in (Outcome.PASS, Outcome.FASTER)


def judge_latency_against(run: Run, comparison: Comparison, policy: Policy, *, confirms: bool = False) -> Verdict:
    """Judge as `judge_latency` does, by the paired log-ratios to the other arm of a live comparison.

    With `confirms`, the pairs only have to say whether the case is slower, so they are judged by `classify_confirmed`; and no
    option adds pairs, so none is advised.
    """
    count = len(comparison.log_ratios)
    interval = intervals.between_pairs(
        comparison.log_ratios, this_first=comparison.this_first, confidence=policy.looks.confidence_at(count)
    )
    figures = f"{run.latency_s:.4g} s against {comparison.other.latency_s:.4g} s of {comparison.label}"
    sample = f"{count} {'pair' if count == 1 else 'pairs'}, {comparison.turns.description}"
    return _judge_interval(run, figures, interval, policy, sample=sample, count=count, stored=False, confirms=confirms)


def is_suspicious(stored: Outcome) -> bool:
    """Return True for SLOWER and UNDECIDED by a stored figure: only live pairs tell a slower program from a slower machine."""
    return stored in (Outcome.SLOWER, Outcome.UNDECIDED)


def judge_confirmed(stored: Verdict, live: Verdict | None, confirmation: Confirmation, baseline: Baseline) -> Verdict:
    """Join the verdict by the stored figure and the one by live pairs, which counts; without it the stored one stands.

    Where they disagree, the machine has drifted since the recording, and the sentence says by how much.
    """
    if live is None:
        return msgspec.structs.replace(stored, sentence=f"{stored.sentence}; not confirmed live: {confirmation.reason}")
    sentence = (
        f"live, {live.sentence}; the stored figure said {confirmation.stored},"
        f" {_percent(confirmation.stored_ratio)} to {baseline.name}"
    )
    drift = confirmation.drift
    if confirmation.stored is not Outcome.UNDECIDED and confirmation.stored is not live.outcome and drift is not None:
        sentence += f": since that recording the machine has drifted by {_percent(drift)}"
    return msgspec.structs.replace(live, sentence=sentence)


def judge_memory(run: Run, baseline: Baseline | None, policy: Policy) -> Verdict:
    """BIGGER if the peak exceeds the baseline's by more than the tolerance.

    A published peak was never reset and includes loading and autotuning. It is an upper limit: a smaller peak is a PASS.
    """
    if baseline is None:
        return judge_no_baseline(run, "memory", f"peak {run.peak_bytes / 2**30:.3f} GiB", policy)
    if is_stale(run, baseline):
        return judge_stale(run, baseline, "memory")
    ceiling = "ceiling " if baseline.source == "published" else ""
    ratio = run.peak_bytes / baseline.peak_bytes
    outcome = _classify_memory(ratio, policy.memory_tolerance)
    if ceiling and outcome is Outcome.SMALLER:
        outcome = Outcome.PASS
    sentence = (
        f"peak {run.peak_bytes / 2**30:.3f} GiB against {ceiling}{baseline.peak_bytes / 2**30:.3f} GiB in {baseline.name}"
        f" ({_percent(ratio)}); tolerance {policy.memory_tolerance:.0%}{_advice(outcome)}"
    )
    return _verdict(run, "memory", outcome, sentence)


def judge_memory_against(run: Run, comparison: Comparison, tolerance: float) -> Verdict:
    """BIGGER or SMALLER if the peak differs from the other arm's by more than the tolerance.

    Peaks are medians over processes: a maximum would be decided by the first process alone, which may have compiled.
    """
    this_bytes, other_bytes = (
        statistics.median(max(process.peak_bytes) for process in side.processes) for side in (run, comparison.other)
    )
    ratio = this_bytes / other_bytes
    sentence = (
        f"peak {this_bytes / 2**30:.3f} GiB against {other_bytes / 2**30:.3f} GiB of {comparison.label} ({_percent(ratio)});"
        f" tolerance {share_text(tolerance)}"
    )
    return _verdict(run, "memory", _classify_memory(ratio, tolerance), sentence)


def judge_saving(run: Run, parent: Run, *, least_bytes: float) -> Verdict:
    """BIGGER unless the peak is lower than the parent stage's by at least as many bytes as the stage promises."""
    saved_bytes = parent.peak_bytes - run.peak_bytes
    sentence = (
        f"peak {run.peak_bytes / 2**30:.3f} GiB, {saved_bytes / 2**30:.3f} GiB less than {parent.stage}, at least"
        f" {least_bytes / 2**30:.3f} GiB promised"
    )
    return _verdict(run, "saving", Outcome.PASS if saved_bytes >= least_bytes else Outcome.BIGGER, sentence)


def judge_ladder(run: Run, parent: Run, expected: float | None, policy: Policy) -> Verdict:
    """SLOWER if the speed-up over the parent stage falls short of the expected ratio by more than the tolerance.

    Decided by the interval of the speed-up if either stage has two processes, else by the bare ratio.
    """
    interval = intervals.between_sets(
        parent.process_medians_s, run.process_medians_s, confidence=policy.looks.confidence
    )
    speedup = interval.ratio if interval else parent.latency_s / run.latency_s
    low, high = (interval.low, interval.high) if interval else (speedup, speedup)
    figures = f"{speedup:.3f}x over {parent.case_key}"
    if interval:
        figures += f" ({share_text(interval.confidence)} interval {low:.3f}x to {high:.3f}x)"
    if expected is None:
        return _verdict(run, "ladder", Outcome.NO_BASELINE, f"{figures}; no baseline on this GPU holds both stages")
    least = expected * (1 - policy.ladder_tolerance)
    outcome = Outcome.SLOWER if high < least else Outcome.PASS if low >= least else Outcome.UNDECIDED
    sentence = f"{figures}, expected {expected:.3f}x; tolerance {policy.ladder_tolerance:.0%}{_advice(outcome)}"
    return _verdict(run, "ladder", outcome, sentence)


def judge_cold_start(run: Run, baseline: Baseline, policy: Policy) -> Verdict | None:
    """SLOWER if applying the stage and its first image take longer than the baseline's by tolerance and by floor.

    Starts are compared with starts that found the compile cache in the same state; None if the baseline holds none of them.
    """
    return judge_starts(
        run,
        baseline,
        policy,
        claim="cold start",
        what="stage applied and first image",
        seconds_of=lambda start: start.stage_s,
    )


def judge_starts(
    run: Run,
    baseline: Baseline,
    policy: Policy,
    *,
    claim: str,
    what: str,
    seconds_of: Callable[[ColdStart], float | None],
) -> Verdict | None:
    """SLOWER if a figure of the starts exceeds the baseline's by tolerance and by floor, in any state of the compile cache."""
    before, rules = figures_by_cache(baseline.cold_starts, seconds_of), []
    for cache, seconds in figures_by_cache(run.cold_starts, seconds_of).items():
        if cache in before:
            new_s, old_s = statistics.median(seconds), statistics.median(before[cache])
            most_s = max(old_s * (1 + policy.cold_start_tolerance), old_s + policy.cold_start_floor_s)
            counts = f"({len(seconds)} and {len(before[cache])} starts)"
            rules.append((new_s <= most_s, f"{cache}: {new_s:.3g} s against {old_s:.3g} s {counts}"))
    if not rules:
        return None
    if is_stale(run, baseline):
        return judge_stale(run, baseline, claim)
    limits = f"tolerance {policy.cold_start_tolerance:.0%} and {policy.cold_start_floor_s:g} s"
    outcome = Outcome.PASS if all_hold(rules) else Outcome.SLOWER
    return _verdict(run, claim, outcome, f"{what}, {describe_rules(rules)}; {limits}")


def figures_by_cache(
    starts: Iterable[ColdStart], seconds_of: Callable[[ColdStart], float | None]
) -> dict[str, list[float]]:
    """Return a figure of the starts by the state of the compile cache, without the starts that have none."""
    figures: dict[str, list[float]] = {}
    for start in starts:
        figure = seconds_of(start)
        if figure is not None:
            figures.setdefault(start.cache, []).append(figure)
    return figures


def judge_regional(regional: Run, whole: Run) -> Verdict | None:
    """SLOWER unless regional compilation starts much sooner than compiling the whole denoiser, and is about as fast.

    The limits are `MIN_REGIONAL_START_SPEEDUP` and `MAX_REGIONAL_LATENCY_RATIO`. None if the two runs found the compile
    cache in different states.
    """
    if regional.cold_start.cache != whole.cold_start.cache:
        return None
    sooner = whole.cold_start.stage_s / regional.cold_start.stage_s
    slower = regional.latency_s / whole.latency_s
    start = (
        f"applied and at its first image in {regional.cold_start.stage_s:.3g} s, {sooner:.2f} times sooner than"
        f" {whole.stage} with its {whole.cold_start.stage_s:.3g} s ({regional.cold_start.cache}), at least"
        f" {MIN_REGIONAL_START_SPEEDUP:g} promised"
    )
    image = f"{slower:.3f} times the seconds of {whole.stage} an image, at most {MAX_REGIONAL_LATENCY_RATIO:g} promised"
    rules = [(sooner >= MIN_REGIONAL_START_SPEEDUP, start), (slower <= MAX_REGIONAL_LATENCY_RATIO, image)]
    return _verdict(regional, "regional", Outcome.PASS if all_hold(rules) else Outcome.SLOWER, describe_rules(rules))


def all_hold(rules: Iterable[Rule]) -> bool:
    """Return True if no figure is beyond its limit."""
    return all(holds for holds, _ in rules)


def describe_rules(rules: Sequence[Rule]) -> str:
    """Join the sentences of all rules if each holds; otherwise those of the figures beyond their limits, and count the others."""
    wrong = [sentence for holds, sentence in rules if not holds]
    others = len(rules) - len(wrong)
    if not wrong:
        return "; ".join(sentence for _, sentence in rules)
    rest = f"{others} other {'figure is within its limit' if others == 1 else 'figures are within their limits'}"
    return "; ".join([*wrong, *([rest] if others else [])])


def judge_facts(
    case_key: str,
    claim: str,
    *,
    expected: Mapping[str, Any],
    observed: Mapping[str, Any],
    outcome: Outcome,
    exact: bool = False,
) -> Verdict:
    """`outcome` unless every expected fact was observed exactly; the sentence lists each fact that was not.

    Of a fact that is a mapping it lists the entries that differ. With `exact`, a fact that nobody expects is wrong as well.
    """
    assert expected, f"{case_key}: nothing is expected of its {claim}, so nothing could fail"
    wrong = [
        difference
        for name, value in expected.items()
        if name not in observed or observed[name] != value
        for difference in _differences(name, observed.get(name, _NOT_OBSERVED), value)
    ]
    if exact:
        wrong += [f"{name} is {observed[name]!r}, expected nothing" for name in observed if name not in expected]
    sentence = "; ".join(wrong) or f"all {len(expected)} facts hold"
    return Verdict(case_key=case_key, claim=claim, outcome=outcome if wrong else Outcome.PASS, sentence=sentence)


def _differences(name: str, observed: Any, expected: Any) -> Iterator[str]:
    if observed is _NOT_OBSERVED:
        yield f"{name} is missing, expected {expected!r}"
    elif _share_entries(observed, expected):
        for entry in (*expected, *(key for key in observed if key not in expected)):
            sides = [repr(side[entry]) if entry in side else "nothing" for side in (observed, expected)]
            if sides[0] != sides[1]:
                yield f"{name}[{entry}] is {sides[0]}, expected {sides[1]}"
    else:
        yield f"{name} is {observed!r}, expected {expected!r}"


def _share_entries(observed: Any, expected: Any) -> bool:
    """True for two mappings that have an entry in common, or are too long for one sentence."""
    if not (isinstance(observed, Mapping) and isinstance(expected, Mapping) and observed and expected):
        return False
    is_long = len(repr(observed)) + len(repr(expected)) > LONG_FACT
    return is_long or any(entry in observed and observed[entry] == value for entry, value in expected.items())


def is_stale(run: Run, baseline: Baseline) -> bool:
    """True if the baseline was recorded for another recipe; a published figure has no fingerprint to compare."""
    return baseline.fingerprint not in (None, run.fingerprint)


def changed_conditions(run: Run, baseline: Baseline) -> list[str]:
    """List the conditions of the environment that differ from those of a recorded baseline; one that it lacks is not compared."""
    after, before = run.environment, baseline.run.environment if baseline.run else {}
    return [
        f"{name} {before[name]} -> {after.get(name)}"
        for name in CPU_CONDITIONS
        if name in before and before[name] != after.get(name)
    ]


def judge_conditions(run: Run, baseline: Baseline, changes: Sequence[str]) -> Verdict:
    """STALE, because this machine computes under other conditions than it did for the baseline."""
    sentence = (
        f"{baseline.name} was recorded under other conditions ({', '.join(changes)}), so nothing was measured: restore them,"
        " or record it anew with --gate record"
    )
    return _verdict(run, "latency", Outcome.STALE, sentence)


def judge_stale(run: Run, baseline: Baseline, claim: str) -> Verdict:
    """STALE, with both fingerprints."""
    sentence = (
        f"{baseline.name} was recorded for recipe {baseline.fingerprint}, this run is {run.fingerprint}:"
        " record it anew with --gate record"
    )
    return _verdict(run, claim, Outcome.STALE, sentence)


def judge_no_baseline(run: Run, claim: str, figure: str, policy: Policy) -> Verdict:
    """NO_BASELINE, with the measured figure."""
    advice = "this recording can become one" if policy.mode is Mode.RECORD else "record one with --gate record"
    sentence = f"{figure}; no baseline for this case on this machine: {advice}"
    return _verdict(run, claim, Outcome.NO_BASELINE, sentence)


def classify_interval(low: float, high: float, tolerance: float) -> Outcome:
    """SLOWER or FASTER if the interval of a ratio lies beyond the tolerance, PASS if within, UNDECIDED if across it."""
    if low > 1 + tolerance:
        return Outcome.SLOWER
    if high < 1 - tolerance:
        return Outcome.FASTER
    if high <= 1 + tolerance and low >= 1 - tolerance:
        return Outcome.PASS
    return Outcome.UNDECIDED


def classify_confirmed(low: float, high: float, tolerance: float) -> Outcome:
    """Classify as `classify_interval` does, but acquit wherever the interval ends below the limit: PASS instead of UNDECIDED.

    A suspected case is not slower then, and whether it became faster is another question.
    """
    outcome = classify_interval(low, high, tolerance)
    return Outcome.PASS if outcome is Outcome.UNDECIDED and high <= 1 + tolerance else outcome


def _judge_interval(
    run: Run,
    figures: str,
    interval: intervals.Interval | None,
    policy: Policy,
    *,
    sample: str,
    count: int,
    stored: bool = True,
    confirms: bool = False,
) -> Verdict:
    """`sample` describes the `count` processes or pairs; without `stored`, no new baseline is advised."""
    if interval is None:
        sentence = f"{figures}: nothing is known of the spread of {sample}: add --processes"
        return _verdict(run, "latency", Outcome.UNDECIDED, sentence)
    tolerance = policy.tolerance(run.stage)
    classify = classify_confirmed if confirms else classify_interval
    outcome = classify(interval.low, interval.high, tolerance)
    advice = _advice(outcome, more=policy.looks.following(count) is not None, stored=stored, can_add=not confirms)
    # Beside a change that was seen, the smallest one that would have been is beside the point.
    unseen = f", a slowdown of {_percent(interval.detectable(tolerance))} would have been seen"
    sentence = (
        f"{figures}: {_percent(interval.ratio)} ({share_text(interval.confidence)} interval {_percent(interval.low)} to"
        f" {_percent(interval.high)} from {sample}); tolerance {share_text(tolerance)}"
        f"{unseen if outcome in (Outcome.PASS, Outcome.UNDECIDED) else ''}{advice}"
    )
    return _verdict(run, "latency", outcome, sentence)


def _classify_memory(ratio: float, tolerance: float) -> Outcome:
    if ratio > 1 + tolerance:
        return Outcome.BIGGER
    return Outcome.SMALLER if ratio < 1 - tolerance else Outcome.PASS


def _verdict(run: Run, claim: str, outcome: Outcome, sentence: str) -> Verdict:
    return Verdict(case_key=run.case_key, claim=claim, outcome=outcome, sentence=sentence)


def _advice(outcome: Outcome, *, more: bool = False, stored: bool = True, can_add: bool = True) -> str:
    if outcome is Outcome.UNDECIDED:
        option = "raise --max-processes or " if can_add else ""
        return ": not decided yet" if more else f": too noisy to tell, {option}stop other programs"
    if stored and outcome in (Outcome.FASTER, Outcome.SMALLER):
        return ": record a new baseline"
    return ""


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.1%}"


def share_text(fraction: float) -> str:
    """Format a fraction as percent with at most four digits, such as "99.86%"."""
    return f"{fraction * 100:.4g}%"
