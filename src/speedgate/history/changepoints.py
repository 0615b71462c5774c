"""Where the level of a series changes: candidates by PELT, each kept only where a permutation test bears it out.

PELT (Killick, Fearnhead and Eckley, JASA 107, 2012; the one of ruptures) finds the best segmentation for a penalty, and says
nothing of how sure it is; nor does it know that some points are surer than others. So it only proposes. As in E-divisive
(Matteson and James, JASA 109, 2014) a proposal between two others is tested by permuting the points between them, and the
statistic is the largest over all places where that stretch could be cut: having looked for the best place is in the p-value.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import NDArray

from speedgate.results import optional

Floats = NDArray[np.float64]

SHORTEST = 3  # points: one outlier is no step, and neither are two
ALPHA = 0.001  # of each test; a fleet of 500 cases looks at as many every day
WINDOW = 100  # points that a test takes in on either side
_FIRST, _PERMUTATIONS = 99, 1999  # after the first few, what is plainly no change is given up
LEAST_P = 1 / (1 + _PERMUTATIONS)
_GIVE_UP = 2  # of the first permutations that reach the statistic
_SEED = 20
_TRIMMED = 0.05  # of the differences, and three more: where steps and outliers are
_MOST_CORRELATED = 0.8
_HANSEN = 7.35  # Hansen, Econometrica 68, 2000, table I: 95 % of a likelihood ratio in the place of a change
_OUTLIER, _MOST_OUTLIERS = 5.0, 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """How points scatter around their level: `scale` is their sd, `correlation` that of neighbours, from 0 to 0.8.

    The correlation is that which the points show at least, and `at_most` what they may have, a standard error to either side.
    """

    scale: float
    correlation: float
    at_most: float

    @property
    def inflation(self) -> float:
        """By how much neighbours that resemble each other make the error of a mean larger than of independent points."""
        return _inflation(self.correlation)

    @property
    def slow_inflation(self) -> float:
        """The same for what goes on for long, as a drift does: days that resemble each other look like one."""
        return _inflation(self.at_most)


def _inflation(correlation: float) -> float:
    return math.sqrt((1 + correlation) / (1 - correlation))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepChange:
    """A change of level: `index` is the first value after it, likely within `earliest` to `latest` (95 %).

    `shift` is the level after it minus the level before, with its standard error at so many degrees of freedom.
    """

    index: int
    earliest: int
    latest: int
    shift: float
    error: float
    freedom: int
    p_value: float


def estimate_noise(values: Floats, *, least: float) -> Noise:
    """The scatter of values (shape `(n,)`) around a level that may change now and then, told from their differences.

    What trimming the largest differences takes from the spread of a normal distribution is given back. With neighbours that
    correlate by r, differences over two points have 1 + r times the variance of those over one. The spread is `least` at least.
    """
    one, two = (_trimmed_square(values[lag:] - values[:-lag], spare=3 * lag) for lag in (1, 2))
    if one <= least**2:
        return Noise(scale=least, correlation=0.0, at_most=0.0)
    error = 1 / math.sqrt(len(values))
    low, high = (min(_MOST_CORRELATED, max(0.0, two / one - 1 + side)) for side in (-error, error))
    return Noise(scale=math.sqrt(one / 2 / (1 - low)), correlation=low, at_most=high)


def find_outliers(values: Floats, scale: float) -> NDArray[np.bool_]:
    """Which values lie alone: far from the middle of the three before and of the three after, on the same side of both.

    None where they are too many to be outliers: a series with two modes is no series with outliers.
    """
    sides = (_middle_of_three(values), _middle_of_three(values[::-1])[::-1])
    far = [(values - np.where(np.isnan(side), values, side)) / scale for side in sides]
    alone = (np.minimum(*far) > _OUTLIER) | (np.maximum(*far) < -_OUTLIER)
    return alone if alone.mean() <= _MOST_OUTLIERS else np.zeros(len(values), dtype=bool)


def _middle_of_three(values: Floats) -> Floats:
    """The median of the three before each value; of fewer at the beginning, and not a number for the first."""
    padded = np.concatenate([np.full(3, np.nan), values])
    middle = np.median(np.stack([padded[lag : lag + len(values)] for lag in range(3)]), axis=0)
    middle[1:3] = values[0], (values[0] + values[1]) / 2
    return np.asarray(middle, dtype=np.float64)


def find_steps(values: Floats, weights: Floats, *, noise: Noise) -> list[StepChange]:
    """The changes of level in values (shape `(n,)`) whose variances are one over `weights`, in order."""
    cuts = _candidates(values, noise)
    search = _StepSearch(values=values, weights=weights, noise=noise)
    seen = {tuple(cuts)}  # moving every cut to where it is best between its neighbours may go round in circles
    while cuts:
        p_values = [search.p_value(*around) for around in _around(cuts, len(values))]
        weakest = int(np.argmax(p_values))
        if p_values[weakest] > ALPHA:
            del cuts[weakest]
            continue
        moved = search.placed(cuts)
        if tuple(moved) in seen:
            break
        seen.add(tuple(moved))
        cuts = moved
    return [search.step(*around) for around in _around(cuts, len(values))]


def _around(cuts: list[int], count: int) -> list[tuple[int, int]]:
    """The stretch between the neighbours of each cut, at most `WINDOW` to either side."""
    bounds = [0, *cuts, count]
    return [
        (max(low, cut - WINDOW), min(high, cut + WINDOW))
        for low, cut, high in zip(bounds, bounds[1:], bounds[2:], strict=False)
    ]


def _trimmed_square(differences: Floats, *, spare: int) -> float:
    """The mean square of all but the largest, divided by what that is of a standard normal distribution."""
    from scipy import special

    squares = np.sort(differences**2)
    kept = max(1, len(squares) - spare - int(len(squares) * _TRIMMED))
    share = kept / len(squares)
    edge = float(special.ndtri((1 + share) / 2))
    expected = 1 - 2 * edge * math.exp(-edge * edge / 2) / math.sqrt(2 * math.pi) / share
    return float(squares[:kept].mean()) / expected


def _candidates(values: Floats, noise: Noise) -> list[int]:
    """What PELT proposes at a penalty of the BIC's size: rather too much, for what is too much is tested away."""
    optional.need("trend", what="a trend")
    from ruptures import KernelCPD

    if len(values) < 2 * SHORTEST:
        return []
    signal = (values - np.median(values)) / (noise.scale * noise.inflation)
    # The linear kernel is the mean in C; the same search over `Pelt` takes seconds a series.
    found = KernelCPD(kernel="linear", min_size=SHORTEST).fit(signal[:, None]).predict(pen=2 * math.log(len(values)))
    return [int(cut) for cut in found[:-1]]


@dataclasses.dataclass(kw_only=True)
class _StepSearch:
    """Tests of stretches of one series; each stretch is tested once, and always with the same permutations."""

    values: Floats
    weights: Floats
    noise: Noise
    _known: dict[tuple[int, int], float] = dataclasses.field(default_factory=dict)

    def p_value(self, low: int, high: int) -> float:
        """Of the best cut of this stretch: the larger one by permutation and by Student's t."""
        if (low, high) not in self._known:
            self._known[low, high] = max(self._by_permutation(low, high), self._by_spread(low, high))
        return self._known[low, high]

    def placed(self, cuts: list[int]) -> list[int]:
        """Each cut where it is best between its neighbours, one after the other, so that none overtakes another."""
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
        """Of each possible cut, the difference of the levels in standard errors."""
        curve = _differences(self.values[None, low:high], self.weights[None, low:high])[0]
        return np.asarray(curve / self.noise.inflation, dtype=np.float64)

    def _by_permutation(self, low: int, high: int) -> float:
        values, weights = self.values[low:high], self.weights[low:high]
        alike = bool((weights == weights[0]).all())
        reached = float(self._curve(low, high).max()) * (1 - 1e-9)
        above = made = 0
        for part in (slice(_FIRST), slice(_FIRST, None)):
            order = _orders(high - low)[part]
            drawn = _differences(values[order], weights[None] if alike else weights[order])
            above += int((drawn.max(axis=1) >= reached).sum())
            made += len(order)
            if above > _GIVE_UP:
                break
        return (1 + above) / (1 + made)

    def _by_spread(self, low: int, high: int) -> float:
        """Guards against a stretch whose later part merely scatters more, which permuting takes to scatter alike."""
        from scipy import special

        shift, error, freedom = self._shift(low, self._best(low, high), high)
        return 2 * float(special.stdtr(freedom, -abs(shift) / error))

    def _shift(self, low: int, cut: int, high: int) -> tuple[float, float, int]:
        """Return how much the second level differs, its standard error by the larger spread of the two sides, and its freedom."""
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
    """The same permutations of so many points at each call: a row each. Stretches of one length may share them."""
    rng = np.random.default_rng(_SEED)
    return rng.permuted(np.tile(np.arange(count, dtype=np.int16), (_PERMUTATIONS, 1)), axis=1)


def _differences(values: Floats, weights: Floats) -> Floats:
    """How far apart the weighted means of both sides are at each cut, in standard errors; a row a series.

    A single row of weights is that of every series.
    """
    total = weights.sum(axis=1, keepdims=True)
    middle = (weights * values).sum(axis=1, keepdims=True) / total
    cut = slice(SHORTEST - 1, values.shape[1] - SHORTEST)
    left = np.cumsum(weights * (values - middle), axis=1)[:, cut]
    left_sum = np.cumsum(weights, axis=1)[:, cut]
    return np.asarray(np.abs(left) * np.sqrt(total / (left_sum * (total - left_sum))), dtype=np.float64)
