"""Model the decision rules of other tools as pure functions that return True if the tool would report a slowdown.

The thresholds are each tool's own, from the named source; the code is ours. Reports of something faster are ignored.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

Seconds = Sequence[float]  # of each round
Processes = Sequence[Seconds]  # of each process, oldest first

RESAMPLES = 2000
SGLANG_ATTEMPTS = (
    7  # `max_retries = 6` after the first, in sgl-project/sglang, multimodal_gen/test/runner/pytest_runner.py
)
RUSTC_PERF_HISTORY = 30  # differences of neighbouring commits, in rust-lang/rustc-perf, site/src/comparison.rs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """Hold a tool's decision from two samples of rounds, and how many processes it starts per side by default."""

    name: str
    source: str
    alarms: Callable[[Seconds, Seconds], bool]
    processes: int = 1

    def native(self, new: Processes, old: Processes) -> bool:
        """Decide from the rounds of as many processes per side as the tool starts by itself."""
        return self.alarms(_pooled(new[: self.processes]), _pooled(old[: self.processes]))

    def same_budget(self, new: Processes, old: Processes) -> bool:
        """Decide from the rounds of all processes, which the tool takes as one sample."""
        return self.alarms(_pooled(new), _pooled(old))


def pytest_benchmark(new: Seconds, old: Seconds) -> bool:
    """Model `--benchmark-compare-fail=median:5%` of pytest-benchmark 5.3.1: the new median is over 5 % above the old one.

    The percentage has no default and is a whole number; 5 % is a typical value.
    """
    return statistics.median(new) / statistics.median(old) * 100 - 100 > 5


def asv(new: Seconds, old: Seconds) -> bool:
    """Model asv 0.6.6, `asv compare` and `asv continuous`: medians apart by `--factor` 1.1 and samples that differ.

    They differ by Mann-Whitney's U at p < 0.002, by the normal approximation from 20 rounds per side on (`_stats.py`,
    `commands/compare.py`). Its rules for fewer rounds are left out: all samples here have 40 or more.
    """
    return statistics.median(old) < statistics.median(new) / 1.1 and _mann_whitney_p(new, old) < 0.002


def github_action_benchmark(new: Seconds, old: Seconds) -> bool:
    """Model github-action-benchmark's default `alert-threshold: 200%`: the old rate is over twice the new one.

    It reads `stats.ops`, which is 1/mean, from pytest-benchmark's JSON (`src/extract.ts`, `findAlerts` in `src/write.ts`).
    """
    return (1 / statistics.fmean(old)) / (1 / statistics.fmean(new)) > 2


def torchbench(new: Seconds, old: Seconds) -> bool:
    """Model torchbench's nightly regression detector: one value per side, the median, and a change of over 7 %.

    `DEFAULT_REGRESSION_DELTA_THRESHOLD` in pytorch/benchmark, `userbenchmark/torch-nightly/regression_detector.py`.
    """
    before = statistics.median(old)
    return (statistics.median(new) - before) / before > 0.07


def sglang(new: Seconds, old: Seconds) -> bool:
    """Model SGLang's diffusion tests: one value above the expected one by over 20 % and by over 20 ms.

    `denoise_agg` of `pr_test` in `perf_baselines/h100.json` and `_assert_le` in `test_server_utils.py`, both in
    sgl-project/sglang, `python/sglang/multimodal_gen/test/server/`. Its end-to-end limit is 25 %, and 15 % over a longer time.
    """
    return statistics.median(new) > sglang_limit(statistics.median(old))


def sglang_limit(expected_s: float) -> float:
    """Return the seconds above which SGLang calls a value slower than the expected one."""
    return max(expected_s * 1.2, expected_s + 0.020)


def above_in_every_attempt(attempts_s: Seconds, limit_s: float) -> bool:
    """Model SGLang's retries of a failed performance test: one attempt within the limit makes it green."""
    return min(attempts_s) > limit_s


def rustc_perf(new_s: float, history_s: Seconds) -> bool:
    """Model rustc-perf's significance: a change above the third quartile plus three interquartile ranges of the history.

    The history are the absolute relative differences of neighbouring values; the new value is compared with the last one
    (`docs/comparison-analysis.md`). Its quartiles are medians of the lower and the upper half.
    """
    differences = sorted(abs(after / before - 1) for before, after in itertools.pairwise(history_s))
    half = len(differences) // 2
    low, high = statistics.median(differences[:half]), statistics.median(differences[-half:])
    return new_s / history_s[-1] - 1 > high + 3 * (high - low)


def criterion(new: Seconds, old: Seconds) -> bool:
    """Model criterion.rs' "Performance has regressed": p < 0.05 and a mean slower than `noise_threshold` 1 % at 95 %.

    The p-value is that of Welch's t among its values for rounds drawn from both sides together (`analysis/compare.rs`,
    `report.rs`). Simplified: 2,000 resamples instead of 100,000, the same draws for every comparison of one size, and
    the normal approximation for the bootstrapped interval of the ratio of means.
    """
    ratio = statistics.fmean(new) / statistics.fmean(old)
    error = ratio * math.sqrt(sum(_squared_error(side) / statistics.fmean(side) ** 2 for side in (new, old)))
    return ratio - 1.96 * error > 1.01 and _bootstrapped_p(new, old) < 0.05


def mann_whitney(new: Seconds, old: Seconds) -> bool:
    """Model the classic error: Mann-Whitney's U at p < 0.01 on rounds, as if the rounds of a process were independent.

    Google Benchmark's `compare.py` uses this test at 0.05. It tests if two processes differ, and they nearly always do.
    """
    return statistics.median(new) > statistics.median(old) and _mann_whitney_p(new, old) < 0.01


RULES = {
    rule.name: rule
    for rule in (
        Rule(name="Mann-Whitney p<0.01", source="a common mistake", alarms=mann_whitney),
        Rule(name="criterion.rs 1%, p<0.05", source="bheisler/criterion.rs", alarms=criterion),
        Rule(name="pytest-benchmark median:5%", source="pytest-benchmark 5.3.1", alarms=pytest_benchmark),
        Rule(name="torchbench 7%", source="pytorch/benchmark", alarms=torchbench),
        # Two: `rounds`, formerly `processes`, of a timing benchmark (asv_runner 0.3.2, benchmarks/time.py).
        Rule(name="asv x1.1, p<0.002", source="asv 0.6.6", alarms=asv, processes=2),
        Rule(name="SGLang 20%", source="sgl-project/sglang", alarms=sglang),
        Rule(
            name="github-action-benchmark 200%",
            source="benchmark-action/github-action-benchmark",
            alarms=github_action_benchmark,
        ),
    )
}


def _pooled(processes: Processes) -> list[float]:
    return [round_s for seconds in processes for round_s in seconds]


def _mann_whitney_p(new: Seconds, old: Seconds) -> float:
    """Return the two-sided p-value by the normal approximation; a tie counts half."""
    ranked, m, n = sorted(old), len(new), len(old)
    above = sum(bisect.bisect_left(ranked, value) + bisect.bisect_right(ranked, value) for value in new) / 2
    return math.erfc(abs(above - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 6))


def _squared_error(seconds: Seconds) -> float:
    """Return the squared standard error of the mean. `statistics.variance` sums fractions, which is too slow here."""
    mean = statistics.fmean(seconds)
    return math.fsum((value - mean) ** 2 for value in seconds) / (len(seconds) - 1) / len(seconds)


def _bootstrapped_p(new: Seconds, old: Seconds) -> float:
    """Return the two-sided p-value of Welch's t among its values for rounds drawn from both sides together."""
    import numpy as np

    pooled = np.array([*new, *old])
    scaled = (pooled - pooled.mean()) / pooled.std()  # the moments of raw seconds would cancel out
    moments = np.stack([scaled, scaled**2], axis=1).astype(np.float32)
    drawn = _welch(*((counts @ moments, counts[0].sum()) for counts in _draws(len(new), len(old))))
    sides = (moments[: len(new)], moments[len(new) :])
    observed = _welch(*((side.sum(axis=0, keepdims=True), len(side)) for side in sides))
    share = float((drawn[np.isfinite(drawn)] < observed).mean())
    return 2 * min(share, 1 - share)


def _welch(*sides: tuple[Any, float]) -> Any:
    """Compute Welch's t from the sums of values and of squares, and their numbers."""
    import numpy as np

    means = [sums[:, 0] / count for sums, count in sides]
    variances = [(sums[:, 1] / count - mean**2) / (count - 1) for (sums, count), mean in zip(sides, means, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):  # all draws of a few rounds may be equal
        return (means[0] - means[1]) / np.sqrt(variances[0] + variances[1])


@functools.cache
def _draws(new: int, old: int) -> list[Any]:
    """Draw for each side how often each pooled round is in each resample."""
    import numpy as np

    rng = np.random.default_rng(2)
    shares = np.full(new + old, 1 / (new + old))
    return [rng.multinomial(size, shares, size=RESAMPLES).astype(np.float32) for size in (new, old)]
