"""Find slow drifts: a drift is a ramp that explains the points better than the steps that were found in its place."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from speedgate.history.changepoints import ALPHA, LEAST_P, Floats, Noise, StepChange

SHORTEST = 14  # points: a shorter ramp, of less than two weeks of nightly runs, counts as a step
_PLACES = 12  # tried for each end of a ramp, and then again around the best ones
_STRAIGHT = 30  # points: a stretch without a step must be this long to be tested for a straight line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """A level that changes by `shift` from index `first` to index `last` and is flat before and after.

    `error` is the standard error of the shift with `freedom` degrees of freedom.
    """

    first: int
    last: int
    shift: float
    error: float
    freedom: int
    p_value: float


def separate_drifts(
    values: Floats, weights: Floats, steps: Sequence[StepChange], noise: Noise
) -> list[StepChange | Drift]:
    """Replace steps that are better explained by a drift, and add drifts between steps. Returns all changes in order."""
    search = _RampSearch(values=values, weights=weights / noise.slow_inflation**2, inflation=noise.slow_inflation)
    changes: list[StepChange | Drift] = []
    for group, low, high in _same_direction(steps, len(values)):
        changes += search.steps_or_ramp(group, low, high)
    return sorted(
        [*changes, *search.straight_drifts(changes)],
        key=lambda change: change.index if isinstance(change, StepChange) else change.first,
    )


def _same_direction(steps: Sequence[StepChange], count: int) -> Iterator[tuple[list[StepChange], int, int]]:
    """Group neighbouring steps of the same direction; yield each group with the range between its neighbours."""
    bounds = [0, *(step.index for step in steps), count]
    start = 0
    for end in range(1, len(steps) + 1):
        if end == len(steps) or (steps[end].shift > 0) != (steps[start].shift > 0):
            yield list(steps[start:end]), bounds[start], bounds[end + 1]
            start = end


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RampSearch:
    """Fit ramps to values. `weights` are divided by the square of `inflation`, so that weighted squares fit the BIC."""

    values: Floats
    weights: Floats
    inflation: float

    def steps_or_ramp(self, group: Sequence[StepChange], low: int, high: int) -> list[StepChange | Drift]:
        """Return one ramp for the whole group if it is better than its steps. Otherwise keep the largest step and recurse."""
        if not group:
            return []
        steps_cost = self._squares([step.index for step in group], low, high) + (2 * len(group) + 1) * math.log(
            high - low
        )
        ramp = self._best_ramp(group, low, high)
        if ramp is not None and _cost(*ramp, low, high) < steps_cost:
            return [ramp[1]]
        largest = max(range(len(group)), key=lambda number: abs(group[number].shift))
        cut = group[largest].index
        left, right = self.steps_or_ramp(group[:largest], low, cut), self.steps_or_ramp(group[largest + 1 :], cut, high)
        return [*left, group[largest], *right]

    def straight_drifts(self, changes: Sequence[StepChange | Drift]) -> list[Drift]:
        """Find drifts in the stretches between the changes."""
        ends = sorted(
            (change.index, change.index) if isinstance(change, StepChange) else (change.first, change.last + 1)
            for change in changes
        )
        lows, highs = [0, *(end for _, end in ends)], [*(start for start, _ in ends), len(self.values)]
        stretches = [(low, high) for low, high in zip(lows, highs, strict=True) if high - low >= _STRAIGHT]
        drifts = [self._fit(low, high, low, high - 1)[1] for low, high in stretches]
        return [drift for drift in drifts if drift.p_value <= ALPHA]

    def _best_ramp(self, group: Sequence[StepChange], low: int, high: int) -> tuple[float, Drift] | None:
        """Find the best ramp that begins before the first step and ends after the last one: coarsely, then around the best."""
        firsts, lasts = (low, group[0].index - 1), (group[-1].index, high - 1)
        best = None
        for _ in range(2):
            places = [
                (first, last) for first in _spaced(*firsts) for last in _spaced(*lasts) if last - first >= SHORTEST
            ]
            fits = (self._fit(low, high, first, last) for first, last in places)
            best = min(fits, key=lambda fit: _cost(fit[0], fit[1], low, high), default=None)
            if best is None:
                break
            firsts, lasts = _near(best[1].first, firsts), _near(best[1].last, lasts)
        return best

    def _fit(self, low: int, high: int, first: int, last: int) -> tuple[float, Drift]:
        """Fit a ramp from `first` to `last`; return the weighted sum of squared residuals and the ramp."""
        from scipy import special

        values, weights = self.values[low:high], self.weights[low:high]
        ramp = np.clip((np.arange(low, high) - first) / (last - first), 0.0, 1.0)
        total = weights.sum()
        ramp_off, values_off = ramp - (weights * ramp).sum() / total, values - (weights * values).sum() / total
        width = float((weights * ramp_off**2).sum())
        rise = float((weights * ramp_off * values_off).sum()) / width
        left = float((weights * (values_off - rise * ramp_off) ** 2).sum())
        freedom = high - low - 2
        error = math.sqrt(max(left * self.inflation**2 / freedom, 1e-6) / width)
        p_value = max(LEAST_P, 2 * float(special.stdtr(freedom, -abs(rise) / error)))
        return left, Drift(first=first, last=last, shift=rise, error=error, freedom=freedom, p_value=p_value)

    def _squares(self, cuts: Sequence[int], low: int, high: int) -> float:
        bounds = [low, *cuts, high]
        squares = 0.0
        for start, end in itertools.pairwise(bounds):
            values, weights = self.values[start:end], self.weights[start:end]
            squares += float((weights * (values - np.average(values, weights=weights)) ** 2).sum())
        return squares


def _cost(squares: float, ramp: Drift, low: int, high: int) -> float:
    """Return the BIC of a ramp. Its parameters are level, shift, and each end that is not an end of the stretch."""
    chosen = 2 + (ramp.first > low) + (ramp.last < high - 1)
    return squares + chosen * math.log(high - low)


def _near(place: int, ends: tuple[int, int]) -> tuple[int, int]:
    """Return the range between the neighbours of a tried place."""
    apart = math.ceil((ends[1] - ends[0]) / (_PLACES - 1))
    return max(ends[0], place - apart), min(ends[1], place + apart)


def _spaced(first: int, last: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(first, last, _PLACES)})
