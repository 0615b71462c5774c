"""The decision rules of other tools as pure functions: do the new rounds make the tool say that something got slower?

The figures are each tool's own, from the source that is named; the code is ours. A tool that also reports what got faster
is asked about slower alone.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

Seconds = Sequence[float]  # of each round
Processes = Sequence[Seconds]  # of each process, oldest first

RESAMPLES = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What a tool decides from two samples of rounds, and how many processes it starts for one of them unasked."""

    name: str
    source: str
    alarms: Callable[[Seconds, Seconds], bool]
    processes: int = 1

    def native(self, new: Processes, old: Processes) -> bool:
        """As the tool measures by itself: the rounds of its one process a side, or of as many as it starts."""
        return self.alarms(_pooled(new[: self.processes]), _pooled(old[: self.processes]))

    def same_budget(self, new: Processes, old: Processes) -> bool:
        """Given the rounds of every process, which the tool takes for one sample: it knows no unit but the round."""
        return self.alarms(_pooled(new), _pooled(old))


def pytest_benchmark(new: Seconds, old: Seconds) -> bool:
    """`--benchmark-compare-fail=median:5%` of pytest-benchmark 5.3.1: the new median is more than 5 % above the old one.

    The percentage has no default; 5 % stands in for what people write. It takes whole numbers only.
    """
    return statistics.median(new) / statistics.median(old) * 100 - 100 > 5


def asv(new: Seconds, old: Seconds) -> bool:
    """asv 0.6.6, `asv compare` and `asv continuous`: medians apart by `--factor` 1.1 and samples that differ.

    They differ by Mann-Whitney's U at p < 0.002 where so many samples can show that, exactly up to 20 a side (`_stats.py`,
    `commands/compare.py`). With fewer, asv asks whether 99 % intervals overlap: the samples' ranges stand in for those here,
    which asv's cover, so this alarms no less often. A single value is judged by the factor alone.
    """
    if not statistics.median(old) < statistics.median(new) / 1.1:
        return False
    if min(len(new), len(old)) == 1:
        return True
    if 1 / math.comb(len(new) + len(old), len(new)) < 0.002:
        exact = max(len(new), len(old)) <= 20
        return (_exact_mann_whitney_p(new, old) if exact else _mann_whitney_p(new, old)) < 0.002
    return min(new) > max(old)


def github_action_benchmark(new: Seconds, old: Seconds) -> bool:
    """github-action-benchmark's default `alert-threshold: 200%`: the old rate is more than twice the new one.

    Of pytest-benchmark's JSON it reads `stats.ops`, which is 1/mean (`src/extract.ts`, `findAlerts` in `src/write.ts`).
    """
    return (1 / statistics.fmean(old)) / (1 / statistics.fmean(new)) > 2


def torchbench(new: Seconds, old: Seconds) -> bool:
    """torchbench's nightly regression detector: one value a side, the median, and a change of more than 7 %.

    `DEFAULT_REGRESSION_DELTA_THRESHOLD` in pytorch/benchmark, `userbenchmark/torch-nightly/regression_detector.py`.
    """
    before = statistics.median(old)
    return (statistics.median(new) - before) / before > 0.07


def sglang(new: Seconds, old: Seconds) -> bool:
    """SGLang's diffusion tests: one value above the expected one by more than 20 % and by more than 20 ms.

    `denoise_agg` of `pr_test` in `perf_baselines/h100.json` and `_assert_le` in `test_server_utils.py`, both in
    sgl-project/sglang, `python/sglang/multimodal_gen/test/server/`. End to end it is 25 %, and 15 % over a longer time.
    """
    expected = statistics.median(old)
    return statistics.median(new) > max(expected * 1.2, expected + 0.020)


def criterion(new: Seconds, old: Seconds) -> bool:
    """criterion.rs' "Performance has regressed": p < 0.05 and a mean slower than `noise_threshold` 1 % at 95 %.

    The p-value is of Welch's t among its values for rounds drawn from both sides together (`analysis/compare.rs`,
    `report.rs`). Simplified: 2,000 resamples instead of 100,000, the same draws for every comparison of one size, and
    the normal approximation for the bootstrapped interval of the ratio of means.
    """
    ratio = statistics.fmean(new) / statistics.fmean(old)
    error = ratio * math.sqrt(sum(_squared_error(side) / statistics.fmean(side) ** 2 for side in (new, old)))
    return ratio - 1.96 * error > 1.01 and _bootstrapped_p(new, old) < 0.05


def mann_whitney(new: Seconds, old: Seconds) -> bool:
    """The classic error: Mann-Whitney's U at p < 0.01 on rounds, as if the rounds of a process were independent.

    The test of Google Benchmark's `compare.py`, there at 0.05. It answers whether two processes differ: they nearly do.
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
    return [value for seconds in processes for value in seconds]


def _mann_whitney_p(new: Seconds, old: Seconds) -> float:
    """Two-sided, by the normal approximation; a tie counts half."""
    ranked, m, n = sorted(old), len(new), len(old)
    above = sum(bisect.bisect_left(ranked, value) + bisect.bisect_right(ranked, value) for value in new) / 2
    return math.erfc(abs(above - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 6))


def _exact_mann_whitney_p(new: Seconds, old: Seconds) -> float:
    from scipy import stats

    return float(stats.mannwhitneyu(new, old, method="exact").pvalue)


def _squared_error(seconds: Seconds) -> float:
    """Of their mean; `statistics.variance` sums fractions and takes most of a replay."""
    mean = statistics.fmean(seconds)
    return math.fsum((value - mean) ** 2 for value in seconds) / (len(seconds) - 1) / len(seconds)


def _bootstrapped_p(new: Seconds, old: Seconds) -> float:
    """How far out Welch's t of the two sides lies among those of as many rounds drawn from both together; two-sided."""
    import numpy as np

    pooled = np.array([*new, *old])
    scaled = (pooled - pooled.mean()) / pooled.std()  # moments of raw seconds would cancel
    moments = np.stack([scaled, scaled**2], axis=1).astype(np.float32)
    drawn = _welch(*((counts @ moments, counts[0].sum()) for counts in _draws(len(new), len(old))))
    sides = (moments[: len(new)], moments[len(new) :])
    found = _welch(*((side.sum(axis=0, keepdims=True), len(side)) for side in sides))
    share = float((drawn[np.isfinite(drawn)] < found).mean())
    return 2 * min(share, 1 - share)


def _welch(*sides: tuple[Any, float]) -> Any:
    """Welch's t from the sums of values and of their squares, and how many they are."""
    import numpy as np

    means = [sums[:, 0] / count for sums, count in sides]
    variances = [(sums[:, 1] / count - mean**2) / (count - 1) for (sums, count), mean in zip(sides, means, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):  # a few rounds may all be drawn alike
        return (means[0] - means[1]) / np.sqrt(variances[0] + variances[1])


@functools.cache
def _draws(new: int, old: int) -> list[Any]:
    """For either side, how often each pooled round was drawn in each resample."""
    import numpy as np

    rng = np.random.default_rng(2)
    shares = np.full(new + old, 1 / (new + old))
    return [rng.multinomial(size, shares, size=RESAMPLES).astype(np.float32) for size in (new, old)]
