"""Find the places where the level of a series changes: PELT proposes them, and a permutation test confirms or removes each.

PELT (Killick, Fearnhead and Eckley, JASA 107, 2012; implemented by ruptures) finds the best segmentation for a penalty. It gives
no significance and cannot weight points. So, as in E-divisive (Matteson and James, JASA 109, 2014), each proposed cut is tested
by permuting the points between its two neighbours. The test statistic is the maximum over all cuts of that stretch, so the
p-value accounts for the search for the best place.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import NDArray

from speedgate.results import optional

Floats = NDArray[np.float64]

SHORTEST = 3  # points of a level: one or two outliers are no step
ALPHA = 0.001  # significance of each test; a fleet of 500 cases runs 500 tests every day
WINDOW = 100  # points on either side that a test uses
_FIRST, _PERMUTATIONS = 99, 1999  # after the first few, a test stops if there is clearly no change
LEAST_P = 1 / (1 + _PERMUTATIONS)
_GIVE_UP = 2  # stop if more of the first permutations reach the statistic
_SEED = 20
_TRIMMED = 0.05  # share of the differences, and three more, that are left out: they contain steps and outliers
_MOST_CORRELATED = 0.8
# Hansen, Econometrica 68, 2000, table I: the 95 % quantile of the likelihood ratio for the place of a change.
_HANSEN = 7.35
_OUTLIER, _MOST_OUTLIERS = 5.0, 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """How points scatter around their level: `scale` is the standard deviation, `correlation` that of neighbours, 0 to 0.8.

    `correlation` is one standard error below its estimate and `highest_correlation` one above it.
    """

    scale: float
    correlation: float
    highest_correlation: float

    @property
    def inflation(self) -> float:
        """Return the factor by which correlation of neighbours increases the standard error of a mean."""
        return _inflation(self.correlation)

    @property
    def slow_inflation(self) -> float:
        """Return the same factor for the highest correlation; for drifts, because correlated days look like a drift."""
        return _inflation(self.highest_correlation)


def _inflation(correlation: float) -> float:
    return math.sqrt((1 + correlation) / (1 - correlation))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepChange:
    """A step of the level. `index` is the first value after it; it lies from `earliest` to `latest` with 95 % confidence.

    `shift` is the level after the step minus the level before it, `error` its standard error with `freedom` degrees of freedom.
    """

    index: int
    earliest: int
    latest: int
    shift: float
    error: float
    freedom: int
    p_value: float


def estimate_noise(values: Floats, *, least: float) -> Noise:
    """Estimate the scatter of values (shape `(n,)`) around a level that may change sometimes, from their differences.

    The largest differences are trimmed, and the effect of trimming on a normal distribution is corrected. If neighbours
    correlate by r, differences over two points have 1 + r times the variance of differences over one. `least` bounds the scale.
    """
    lag_1, lag_2 = (_trimmed_square(values[lag:] - values[:-lag], spare=3 * lag) for lag in (1, 2))
    if lag_1 <= least**2:
        return Noise(scale=least, correlation=0.0, highest_correlation=0.0)
    error = 1 / math.sqrt(len(values))
    low, high = (min(_MOST_CORRELATED, max(0.0, lag_2 / lag_1 - 1 + side)) for side in (-error, error))
    return Noise(scale=math.sqrt(lag_1 / 2 / (1 - low)), correlation=low, highest_correlation=high)


def find_outliers(values: Floats, scale: float) -> NDArray[np.bool_]:
    """Mark single outliers: values far above, or far below, both the median of three values before and of three after.

    Marks none if there are too many: a series with two modes has no outliers.
    """
    sides = (_middle_of_three(values), _middle_of_three(values[::-1])[::-1])
    far = [(values - np.where(np.isnan(side), values, side)) / scale for side in sides]
    alone = (np.minimum(*far) > _OUTLIER) | (np.maximum(*far) < -_OUTLIER)
    return alone if alone.mean() <= _MOST_OUTLIERS else np.zeros(len(values), dtype=bool)


def _middle_of_three(values: Floats) -> Floats:
    """Return the median of the three values before each value; of fewer at the beginning, and NaN for the first value."""
    padded = np.concatenate([np.full(3, np.nan), values])
    middle = np.median(np.stack([padded[lag : lag + len(values)] for lag in range(3)]), axis=0)
    middle[1:3] = values[0], (values[0] + values[1]) / 2
    return np.asarray(middle, dtype=np.float64)


def find_steps(values: Floats, weights: Floats, *, noise: Noise) -> list[StepChange]:
    """Find the steps in values (shape `(n,)`), in order. The variance of a value is one over its weight."""
    cuts = _candidates(values, noise)
    search = _StepSearch(values=values, weights=weights, noise=noise)
    seen = {tuple(cuts)}  # moving each cut to its best place between its neighbours might never end
    while cuts:
        p_values = [search.p_value(*around) for around in _around(cuts, len(values))]
        weakest = int(np.argmax(p_values))
        if p_values[weakest] > ALPHA:
            del cuts[weakest]
            continue
        moved = search.move_cuts(cuts)
        if tuple(moved) in seen:
            break
        seen.add(tuple(moved))
        cuts = moved
    return [search.step(*around) for around in _around(cuts, len(values))]


def _around(cuts: list[int], count: int) -> list[tuple[int, int]]:
    """Return the range between the neighbours of each cut, limited to `WINDOW` on either side."""
    bounds = [0, *cuts, count]
    return [
        (max(low, cut - WINDOW), min(high, cut + WINDOW))
        for low, cut, high in zip(bounds, bounds[1:], bounds[2:], strict=False)
    ]


def _trimmed_square(differences: Floats, *, spare: int) -> float:
    """Average all squares but the largest, relative to the same average for a standard normal distribution."""
    from scipy import special

    squares = np.sort(differences**2)
    count = max(1, len(squares) - spare - int(len(squares) * _TRIMMED))
    share = count / len(squares)
    edge = float(special.ndtri((1 + share) / 2))
    expected = 1 - 2 * edge * math.exp(-edge * edge / 2) / math.sqrt(2 * math.pi) / share
    return float(squares[:count].mean()) / expected


def _candidates(values: Floats, noise: Noise) -> list[int]:
    """Propose cuts with PELT at the penalty of the BIC. It proposes too many rather than too few; tests remove the excess."""
    optional.require_extra("trend", what="a trend")
    from ruptures import KernelCPD

    if len(values) < 2 * SHORTEST:
        return []
    signal = (values - np.median(values)) / (noise.scale * noise.inflation)
    # The linear kernel compares means and is written in C; the same search with `Pelt` takes seconds for a series.
    cuts = KernelCPD(kernel="linear", min_size=SHORTEST).fit(signal[:, None]).predict(pen=2 * math.log(len(values)))
    return [int(cut) for cut in cuts[:-1]]


@dataclasses.dataclass(kw_only=True)
class _StepSearch:
    """Search one series for steps. Each stretch is tested once, always with the same permutations."""

    values: Floats
    weights: Floats
    noise: Noise
    _p_values: dict[tuple[int, int], float] = dataclasses.field(default_factory=dict)

    def p_value(self, low: int, high: int) -> float:
        """Test the best cut of this stretch; return the larger p-value of a permutation test and of Student's t."""
        if (low, high) not in self._p_values:
            self._p_values[low, high] = max(self._by_permutation(low, high), self._by_spread(low, high))
        return self._p_values[low, high]

    def move_cuts(self, cuts: list[int]) -> list[int]:
        """Move each cut to its best place between its neighbours, one after the other, so that their order stays."""
        moved = list(cuts)
        for number in range(len(moved)):
            low, high = _around(moved, len(self.values))[number]
            moved[number] = self._best(low, high)
        return moved

    def step(self, low: int, high: int) -> StepChange:
        cut, curve = self._best(low, high), self._curve(low, high)
        likely = np.flatnonzero(curve.max() ** 2 - curve**2 <= _HANSEN) + low + SHORTEST
        shift, error, freedom = self._shift(low, cut, high)
        p_value = self.p_value(low, high)
        earliest, latest = (int(likely[end]) for end in (0, -1))
        return StepChange(
            index=cut,
            earliest=earliest,
            latest=latest,
            shift=shift,
            error=error,
            freedom=freedom,
            p_value=p_value,
        )

    def _best(self, low: int, high: int) -> int:
        return low + SHORTEST + int(np.argmax(self._curve(low, high)))

    def _curve(self, low: int, high: int) -> Floats:
        """Return the difference of the levels at each possible cut, in standard errors."""
        curve = _differences(self.values[None, low:high], self.weights[None, low:high])[0]
        return np.asarray(curve / self.noise.inflation, dtype=np.float64)

    def _by_permutation(self, low: int, high: int) -> float:
        values, weights = self.values[low:high], self.weights[low:high]
        equal_weights = bool((weights == weights[0]).all())
        statistic = float(self._curve(low, high).max()) * (1 - 1e-9)
        above = drawn_count = 0
        for part in (slice(_FIRST), slice(_FIRST, None)):
            order = _orders(high - low)[part]
            drawn = _differences(values[order], weights[None] if equal_weights else weights[order])
            above += int((drawn.max(axis=1) >= statistic).sum())
            drawn_count += len(order)
            if above > _GIVE_UP:
                break
        return (1 + above) / (1 + drawn_count)

    def _by_spread(self, low: int, high: int) -> float:
        """Test with the scatter of each side: a permutation test assumes equal scatter, so more scatter could pass as a step."""
        from scipy import special

        shift, error, freedom = self._shift(low, self._best(low, high), high)
        return 2 * float(special.stdtr(freedom, -abs(shift) / error))

    def _shift(self, low: int, cut: int, high: int) -> tuple[float, float, int]:
        """Return the difference of the levels, its standard error from the larger of both variances, and degrees of freedom."""
        means, spreads, sums = [], [], []
        for start, end in ((low, cut), (cut, high)):
            values, weights = self.values[start:end], self.weights[start:end]
            means.append(float(np.average(values, weights=weights)))
            spreads.append(float((weights * (values - means[-1]) ** 2).sum()) / (end - start - 1))
            sums.append(float(weights.sum()))
        least = (1e-3 * self.noise.scale) ** 2 * max(float(self.weights[low:high].max()), 1e-300)
        spread = max(*spreads, least)
        error = math.sqrt(spread * (1 / sums[0] + 1 / sums[1])) * self.noise.inflation
        return means[1] - means[0], error, high - low - 2


@functools.lru_cache(maxsize=32)
def _orders(count: int) -> NDArray[np.int16]:
    """Draw the permutations of `count` points, one in each row; a fixed seed makes them the same at each call."""
    rng = np.random.default_rng(_SEED)
    return rng.permuted(np.tile(np.arange(count, dtype=np.int16), (_PERMUTATIONS, 1)), axis=1)


def _differences(values: Floats, weights: Floats) -> Floats:
    """Return the difference of the weighted means of both sides at each cut, in standard errors; one row for each series.

    A single row of weights applies to all series.
    """
    total = weights.sum(axis=1, keepdims=True)
    middle = (weights * values).sum(axis=1, keepdims=True) / total
    cut = slice(SHORTEST - 1, values.shape[1] - SHORTEST)
    left = np.cumsum(weights * (values - middle), axis=1)[:, cut]
    left_sum = np.cumsum(weights, axis=1)[:, cut]
    return np.asarray(np.abs(left) * np.sqrt(total / (left_sum * (total - left_sum))), dtype=np.float64)
