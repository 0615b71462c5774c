"""What changed in a series of runs, and between which two of them: a step, a slow drift, or a spread that grew."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speedgate import changepoints, drifts, spread
from speedgate.changepoints import Step
from speedgate.drifts import Drift
from speedgate.series import Point, Series
from speedgate.spread import Runs, Widening

MIN_RUNS = 10  # with a figure; two levels of so many points cannot be told apart from fewer
LEAST = 0.005  # the smallest change of level worth a word
CONFIDENCE = 0.99  # of the interval of a ratio
LATENCY, PEAK = "latency", "peak memory"
_LEAST_SCALE = {LATENCY: 1e-6, PEAK: 1e-4}  # sd of a log below which figures count as equal
_MONTH_DAYS = 30.0


class Kind(enum.StrEnum):
    """How a series changed."""

    STEP = "step"
    DRIFT = "drift"
    NOISE = "noise"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One change: of `metric`, by `ratio` (after over before; of a drift, end over beginning; of noise, of the spreads).

    It came after the run `before` and no later than `after`, which are places in the series' points: for a step and for noise
    the closest two between which it lies at 95 %; for a drift its beginning and its end. `run` is the likeliest first run after
    it. The interval from `low` to `high` holds the ratio at 99 %, and `p_value` is the chance of so large a change in a
    series without one.
    """

    metric: str
    kind: Kind
    ratio: float
    low: float
    high: float
    p_value: float
    before: int
    run: int
    after: int
    per_month: float | None = None

    @property
    def worse(self) -> bool:
        """Slower, bigger or noisier."""
        return self.ratio > 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """What was found in a series: its changes in order, the places of runs left out as outliers, and the spread of a run."""

    series: Series
    changes: tuple[Change, ...]
    outliers: tuple[int, ...]
    measured: int
    run_spread: float

    def versions(self, change: Change) -> dict[str, tuple[str | None, str | None]]:
        """What the environment says differently after the change, by name: before and after."""
        before, after = (self.series.points[place].versions for place in (change.before, change.after))
        names = sorted({*before, *after})
        return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}

    def is_recent(self, change: Change, runs: int) -> bool:
        """Whether it came in, or went on into, the last `runs` of the series."""
        place = change.after if change.kind is Kind.DRIFT else change.run
        return place >= len(self.series.points) - runs


def measured(points: Sequence[Point]) -> int:
    """How many of them have a latency."""
    return sum(bool(point.process_medians_s) for point in points)


def analyse(series: Series) -> Trend:
    """The changes of a series; a `ValueError` where fewer than `MIN_RUNS` of its runs have a latency."""
    places = [place for place, point in enumerate(series.points) if point.process_medians_s]
    if len(places) < MIN_RUNS:
        raise ValueError(
            f"{series.case_key} on {series.gpu_key}: {len(places)} runs with a latency; a trend needs {MIN_RUNS} at least"
        )
    runs = Runs.of([series.points[place].process_medians_s for place in places])
    means = runs.mean(runs.logs)
    alone = changepoints.outliers(means, changepoints.noise(means, least=_LEAST_SCALE[LATENCY]).scale)
    latency = _Metric(name=LATENCY, points=series.points, places=np.array(places)[~alone])
    run_spread, found = _of_latency(latency, runs.only(~alone))
    changes = sorted(
        [*found, *_of_memory(series.points)], key=lambda change: (change.run, change.before, change.metric)
    )
    left_out = tuple(int(place) for place in np.array(places)[alone])
    return Trend(series=series, changes=tuple(changes), outliers=left_out, measured=len(places), run_spread=run_spread)


def _of_latency(metric: _Metric, runs: Runs) -> tuple[float, list[Change]]:
    """The spread of a run, and what changed."""
    means = runs.mean(runs.logs)
    noise = changepoints.noise(means, least=_LEAST_SCALE[LATENCY])
    parts = spread.split(runs, noise)
    weights = 1 / parts.variances(runs.counts)
    steps = changepoints.steps(means, weights, noise=noise)
    levels = drifts.tell_apart(means, weights, steps, noise)
    widenings = spread.widenings(runs, drifts.fitted(means, weights, levels), parts)
    changes = [metric.of_level(change) for change in levels if _is_worth_a_word(change)]
    return noise.scale, changes + [metric.of_spread(widening) for widening in widenings]


def _of_memory(points: Sequence[Point]) -> list[Change]:
    """Steps alone: a peak is as good as exact."""
    places = [place for place, point in enumerate(points) if point.peak_bytes]
    if len(places) < MIN_RUNS:
        return []
    metric = _Metric(name=PEAK, points=points, places=np.array(places))
    logs = np.log(np.array([points[place].peak_bytes for place in places], dtype=np.float64))
    noise = changepoints.noise(logs, least=_LEAST_SCALE[PEAK])
    steps = changepoints.steps(logs, np.full(len(logs), noise.scale**-2), noise=noise)
    return [metric.of_level(step) for step in steps if _is_worth_a_word(step)]


def _is_worth_a_word(change: Step | Drift) -> bool:
    return abs(change.shift) >= math.log1p(LEAST)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Metric:
    """What turns places among the figures into places among the points, and logarithms into ratios."""

    name: str
    points: Sequence[Point]
    places: NDArray[np.int64]

    def of_level(self, change: Step | Drift) -> Change:
        if isinstance(change, Step):
            return self._change(Kind.STEP, change.shift, change.error, change, _around(change))
        return self._change(Kind.DRIFT, change.shift, change.error, change, (change.first, change.first, change.last))

    def of_spread(self, widening: Widening) -> Change:
        return self._change(Kind.NOISE, widening.log_ratio, widening.error, widening.step, _around(widening.step))

    def _change(
        self, kind: Kind, shift: float, error: float, change: Step | Drift, around: tuple[int, int, int]
    ) -> Change:
        from scipy import special

        half = float(special.stdtrit(change.freedom, (1 + CONFIDENCE) / 2)) * error
        before, run, after = (int(self.places[place]) for place in around)
        days = _days(self.points[before], self.points[after]) if kind is Kind.DRIFT else 0.0
        return Change(
            metric=self.name,
            kind=kind,
            ratio=math.exp(shift),
            low=math.exp(shift - half),
            high=math.exp(shift + half),
            p_value=change.p_value,
            before=before,
            run=run,
            after=after,
            per_month=math.exp(shift / days * _MONTH_DAYS) if days >= 1 else None,
        )


def _around(step: Step) -> tuple[int, int, int]:
    return step.earliest - 1, step.index, step.latest


def _days(before: Point, after: Point) -> float:
    first, last = (datetime.datetime.fromisoformat(point.measured_at) for point in (before, after))
    return (last - first).total_seconds() / 86400
