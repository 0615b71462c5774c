"""Judge the seconds that the compiler takes at a start: a figure of its own, because people wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from speedgate.gate.judge import figures_by_cache, judge_starts
from speedgate.gate.policy import Policy
from speedgate.results.run import Baseline, ColdStart, Run, Verdict

CLAIM = "compile seconds"


def judge_compile_seconds(run: Run, baseline: Baseline, policy: Policy) -> Verdict | None:
    """SLOWER if the compiler takes longer than in the baseline by tolerance and by floor.

    Starts are compared with starts that found the compile cache in the same state: a warm one has little to compile. None if
    the baseline has none of them; `why_not_judged` then has the reason.
    """
    return judge_starts(run, baseline, policy, claim=CLAIM, what=describe_compilation(run), seconds_of=_compile_s)


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
    return figures_by_cache(starts, _compile_s)


def _compile_s(start: ColdStart) -> float | None:
    return start.compile_s or None


def describe_compilation(run: Run) -> str:
    """Return how the models of a compiled run are compiled."""
    if run.is_exported:
        return "compiled ahead of time"
    return "compiled in regions" if run.is_regional else "compiled as a whole"
