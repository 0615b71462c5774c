"""Judge the seconds that the compiler takes at a start: a figure of its own, because people wait for it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from speedgate.gate.judge import is_stale, judge_stale
from speedgate.gate.policy import Policy
from speedgate.results.run import Baseline, ColdStart, Outcome, Run, Verdict

CLAIM = "compile seconds"


def judge_compile_seconds(run: Run, baseline: Baseline, policy: Policy) -> Verdict | None:
    """SLOWER if the compiler takes longer than in the baseline by tolerance and by floor.

    Starts are compared with starts that found the compile cache in the same state: a warm one has little to compile. None if
    the baseline has none of them; `why_not_judged` then has the reason.
    """
    figures, slower = [], False
    before = seconds_by_cache(baseline.cold_starts)
    for cache, seconds in seconds_by_cache(run.cold_starts).items():
        if cache in before:
            new_s, old_s = statistics.median(seconds), statistics.median(before[cache])
            slower |= new_s > max(old_s * (1 + policy.cold_start_tolerance), old_s + policy.cold_start_floor_s)
            counts = f"({len(seconds)} and {len(before[cache])} starts)"
            figures.append(f"{cache}: {new_s:.3g} s against {old_s:.3g} s {counts}")
    if not figures:
        return None
    if is_stale(run, baseline):
        return judge_stale(run, baseline, CLAIM)
    limits = f"tolerance {policy.cold_start_tolerance:.0%} and {policy.cold_start_floor_s:g} s"
    outcome = Outcome.SLOWER if slower else Outcome.PASS
    sentence = f"{describe_compilation(run)}, {', '.join(figures)}; {limits}"
    return Verdict(case_key=run.case_key, claim=CLAIM, outcome=outcome, sentence=sentence)


def why_not_judged(run: Run, baseline: Baseline) -> tuple[str, str]:
    """Return why `judge_compile_seconds` has no verdict: a short reason to count by, and a sentence of this case."""
    if not seconds_by_cache(run.cold_starts):
        return "not recorded", f"the worker of {run.case_key} counted no seconds of the compiler"
    if not baseline.cold_starts:
        return "a published figure has no start", f"the baseline of {run.case_key} has no seconds of the compiler"
    if not seconds_by_cache(baseline.cold_starts):
        return "not recorded", f"{baseline.name} is older than the figure: record it anew with --gate record"
    states = " and ".join(seconds_by_cache(run.cold_starts))
    return "compile cache in another state", f"the baseline of {run.case_key} has no start with {states}"


def seconds_by_cache(starts: Sequence[ColdStart]) -> dict[str, list[float]]:
    """Return the compiler's seconds of the starts by the state of the compile cache, without starts that compiled nothing."""
    seconds: dict[str, list[float]] = {}
    for start in starts:
        if start.compile_s:
            seconds.setdefault(start.cache, []).append(start.compile_s)
    return seconds


def describe_compilation(run: Run) -> str:
    """Return how the models of a compiled run are compiled."""
    if run.is_exported:
        return "compiled ahead of time"
    return "compiled in regions" if run.is_regional else "compiled as a whole"
