"""Confidence intervals for the ratio of two latencies, and the error that is spent on looking more than once.

The unit of replication is the process, because rounds inside one agree far better than processes do. Latencies vary by
factors, so all is computed on logarithms and returned as ratios.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence

MIN_PROCESSES = 3  # of a baseline: with two, the interval has one degree of freedom and is too wide to decide anything
POWER = 0.95  # probability with which a slowdown of the size that a verdict names is called slower
_LARGEST_LOGARITHM = 700.0  # of a float that is not infinite
_SPENDING = 2  # the exponent; with 1, slowdowns of 6 % on a machine with a spread of 1.5 % are caught less often


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looks:
    """The numbers of processes at which a verdict is tried, and the error that each look may spend.

    The error rate of the whole sequence is `1 - confidence`. The share spent after a look is the square of the share of
    processes seen, of the power family of Kim and DeMets (Biometrika 74, 1987, after Lan and DeMets, Biometrika 70, 1983):
    little at a first look that a quiet machine passes anyway, most of it at the last. The shares are added up (Bonferroni)
    instead of integrated over the joint distribution of the looks. That is conservative, and holds for any dependence
    between the looks, also with a variance that is estimated anew at each.
    """

    first: int
    last: int
    confidence: float = 0.99

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise ValueError(f"expected looks from 1 on, found {self.first} to {self.last}")

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of processes at which a verdict is tried; each is 1.5 times the one before, rounded up."""
        counts = [self.first]
        while counts[-1] < self.last:
            counts.append(min(self.last, math.ceil(counts[-1] * 1.5)))
        return tuple(counts)

    def following(self, count: int) -> int | None:
        """The next number of processes worth looking at after `count`; None after the last."""
        return next((later for later in self.counts if later > count), None)

    def number(self, count: int) -> int:
        """Number of the look that `count` processes have reached, from 1."""
        return max(1, sum(reached <= count for reached in self.counts))

    def confidence_at(self, count: int) -> float:
        """The confidence of the interval at the look that `count` processes have reached."""
        reached = self.number(count)
        spent = [(count / self.last) ** _SPENDING for count in (0, *self.counts)]
        return 1 - (1 - self.confidence) * (spent[reached] - spent[reached - 1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A ratio new/old of latencies with the bounds that hold it at `confidence`; `error` is the logarithm's standard error."""

    ratio: float
    low: float
    high: float
    confidence: float
    error: float
    freedom: int

    def detectable(self, tolerance: float) -> float:
        """The smallest true ratio that would be called slower than `1 + tolerance` with probability `POWER` at this precision.

        The usual sum of the two quantiles, with Student's t for both: an approximation, exact where the standard error is known.
        """
        shift = (_quantile((1 + self.confidence) / 2, self.freedom) + _quantile(POWER, self.freedom)) * self.error
        return (1 + tolerance) * _ratio(shift)


def between_sets(new_s: Sequence[float], old_s: Sequence[float], *, confidence: float) -> Interval | None:
    """The ratio of two sets of process medians (seconds): Student's t on the logarithms with a pooled variance.

    One process against a recorded set has an interval as well; None if neither set holds two, so that no variance is known.
    """
    logs = [[math.log(value) for value in side] for side in (new_s, old_s)]
    freedom = sum(len(side) - 1 for side in logs)
    if freedom < 1:
        return None
    (new_mean, old_mean), error = _pooled(logs, freedom)
    return _interval(new_mean - old_mean, error, freedom, confidence)


def expected_between_sets(
    new_s: Sequence[float], old_s: Sequence[float], *, confidence: float, later: int
) -> Interval | None:
    """The interval that `later` processes would give if centre and spread stayed the same; None if no variance is known."""
    interval = between_sets(new_s, old_s, confidence=confidence)
    if interval is None:
        return None
    spread = interval.error / math.sqrt(1 / len(new_s) + 1 / len(old_s))
    error = spread * math.sqrt(1 / later + 1 / len(old_s))
    return _interval(math.log(interval.ratio), error, later + len(old_s) - 2, confidence)


def unseen_slowdown(
    medians_s: Sequence[float], *, later: int, confidence: float, tolerance: float, processes: int | None = None
) -> float | None:
    """The ratio up to which a slowdown may stay unseen if these process medians become the baseline of `later` processes.

    The spread between processes is taken to stay the same. With `processes`, the baseline has so many of them instead. None
    if there is one median only.
    """
    count = processes or len(medians_s)
    if len(medians_s) < 2:
        return None
    error = statistics.stdev(map(math.log, medians_s)) * math.sqrt(1 / count + 1 / later)
    return _interval(0.0, error, count + later - 2, confidence).detectable(tolerance)


def between_pairs(log_ratios: Sequence[float], *, this_first: Sequence[bool], confidence: float) -> Interval | None:
    """The ratio this arm / other arm, from the log-ratio of each pair of processes and whether this arm was opened first.

    Student's t with the order as a factor, the analysis of a two-period crossover (Grizzle, Biometrics 21, 1965): the mean
    of the two orders' means, and the variance pooled within them. On the machine where this was developed, the process
    that is opened first is slower by 2 % for as long as it lives; pairs of one order would show that as a change.
    None if an order is missing or no variance is known.
    """
    groups = [
        [value for value, first in zip(log_ratios, this_first, strict=True) if first is order]
        for order in (True, False)
    ]
    freedom = len(log_ratios) - 2
    if freedom < 1 or not all(groups):
        return None
    means, error = _pooled(groups, freedom)
    return _interval(math.fsum(means) / 2, error / 2, freedom, confidence)


def _pooled(groups: Sequence[Sequence[float]], freedom: int) -> tuple[list[float], float]:
    """Return the means of two groups, and the standard error of their difference by the variance within both."""
    means = [statistics.fmean(group) for group in groups]
    squares = math.fsum((value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value in group)
    return means, math.sqrt(squares / freedom * sum(1 / len(group) for group in groups))


def _interval(mean: float, error: float, freedom: int, confidence: float) -> Interval:
    half = _quantile((1 + confidence) / 2, freedom) * error
    return Interval(
        ratio=math.exp(mean),
        low=_ratio(mean - half),
        high=_ratio(mean + half),
        confidence=confidence,
        error=error,
        freedom=freedom,
    )


def _ratio(logarithm: float) -> float:
    """Return the ratio of a logarithm; with one degree of freedom a bound may be larger than any float."""
    return math.exp(min(logarithm, _LARGEST_LOGARITHM))


@functools.cache
def _quantile(probability: float, freedom: int) -> float:
    from scipy import special

    # As scipy.stats.t.ppf, without the second that scipy.stats takes to import.
    return float(special.stdtrit(freedom, probability))
