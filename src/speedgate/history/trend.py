"""Find the changes of a series of runs: steps and slow drifts, and between which two runs each lies."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from speedgate.history import changepoints, drift
from speedgate.history.changepoints import Floats, Noise, StepChange
from speedgate.history.drift import Drift

MIN_RUNS = 10  # with a figure; two levels of so many points cannot be told apart from fewer
LEAST = 0.005  # the smallest change of level worth a word
CONFIDENCE = 0.99  # of the interval of a ratio
LATENCY, PEAK = "latency", "peak memory"
_LEAST_SCALE = {LATENCY: 1e-6, PEAK: 1e-4}  # sd of a log below which figures count as equal
_MONTH_DAYS = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesPoint:
    """One run of a case; `run_id` is a digest of what was uploaded, so that the same upload is the same point.

    `measured_at` is UTC in ISO 8601. `versions` holds what the run's environment says (`torch`, `torch_git`, `diffusers`, ...).
    What a run did not have is None: a run without rounds has no medians and no peak. `dirty` says that the checkout had changes
    that are not in `commit`.
    """

    run_id: str
    measured_at: str
    commit: str | None
    process_medians_s: tuple[float, ...]
    peak_bytes: int | None = None
    ssim: float | None = None
    first_image_s: float | None = None
    cache: str | None = None
    fingerprint: str | None = None
    outcome: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dirty: bool = False

    @property
    def latency_s(self) -> float | None:
        """Geometric mean of the process medians, in seconds, as of a `Run`; None where nothing was measured."""
        return statistics.geometric_mean(self.process_medians_s) if self.process_medians_s else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """The points of one case on one GPU key, oldest first."""

    gpu_key: str
    case_key: str
    points: tuple[SeriesPoint, ...]


class ChangeKind(enum.StrEnum):
    """How a series changed."""

    STEP = "step"
    DRIFT = "drift"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrendChange:
    """One change: of `metric`, by `ratio` (after over before; of a drift, end over beginning).

    It came after the run `before` and no later than `after`, which are places in the series' points: for a step
    the closest two between which it lies at 95 %; for a drift its beginning and its end. `run` is the likeliest first run after
    it. The interval from `low` to `high` holds the ratio at 99 %, and `p_value` is the chance of so large a change in a
    series without one.
    """

    metric: str
    kind: ChangeKind
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
        """Slower or bigger."""
        return self.ratio > 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """What was found in a series: its changes in order, the places of runs left out as outliers, and the spread of a run."""

    series: Series
    changes: tuple[TrendChange, ...]
    outliers: tuple[int, ...]
    measured_count: int
    run_spread: float

    def versions(self, change: TrendChange) -> dict[str, tuple[str | None, str | None]]:
        """What the environment says differently after the change, by name: before and after."""
        before, after = (self.series.points[place].versions for place in (change.before, change.after))
        names = sorted({*before, *after})
        return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}

    def is_recent(self, change: TrendChange, runs: int) -> bool:
        """Whether it came in, or went on into, the last `runs` of the series."""
        place = change.after if change.kind is ChangeKind.DRIFT else change.run
        return place >= len(self.series.points) - runs


def count_measured(points: Sequence[SeriesPoint]) -> int:
    """How many of them have a latency."""
    return sum(bool(point.process_medians_s) for point in points)


def analyse(series: Series) -> Trend:
    """The changes of a series; a `ValueError` where fewer than `MIN_RUNS` of its runs have a latency."""
    places = [place for place, point in enumerate(series.points) if point.process_medians_s]
    if len(places) < MIN_RUNS:
        raise ValueError(
            f"{series.case_key} on {series.gpu_key}: {len(places)} runs with a latency; a trend needs {MIN_RUNS} at least"
        )
    runs = _Runs.of([series.points[place].process_medians_s for place in places])
    means = runs.means()
    alone = changepoints.find_outliers(means, changepoints.estimate_noise(means, least=_LEAST_SCALE[LATENCY]).scale)
    latency = _Metric(name=LATENCY, points=series.points, places=np.array(places)[~alone])
    run_spread, latency_changes = _of_latency(latency, runs.only(~alone))
    changes = sorted(
        [*latency_changes, *_of_memory(series.points)], key=lambda change: (change.run, change.before, change.metric)
    )
    left_out = tuple(int(place) for place in np.array(places)[alone])
    return Trend(
        series=series, changes=tuple(changes), outliers=left_out, measured_count=len(places), run_spread=run_spread
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Runs:
    """Logarithms of process medians, one run's after the other's (shape `(processes,)`), and how many each run has."""

    logs: Floats
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, medians_s: Sequence[Sequence[float]]) -> _Runs:
        """Collect at least one run of at least one process each."""
        counts = np.array([len(processes) for processes in medians_s], dtype=np.int64)
        return cls(logs=np.log(np.array([seconds for processes in medians_s for seconds in processes])), counts=counts)

    def means(self) -> Floats:
        """Average the processes of each run."""
        sums = np.add.reduceat(self.logs, np.cumsum(self.counts) - self.counts)
        return np.asarray(sums / self.counts, dtype=np.float64)

    def only(self, chosen: NDArray[np.bool_]) -> _Runs:
        """Select some of the runs."""
        return _Runs(logs=self.logs[np.repeat(chosen, self.counts)], counts=self.counts[chosen])

    def variances(self, noise: Noise) -> Floats:
        """Estimate the variance of each run's mean, so that a run of more processes weighs more.

        It is what runs differ by, beyond what their processes explain, and the variance of a process over their number.
        """
        freedom = int((self.counts - 1).sum())
        if not freedom:
            return np.full(len(self.counts), noise.scale**2)
        squares = (self.logs - np.repeat(self.means(), self.counts)) ** 2
        of_process = float(squares.sum()) / freedom
        of_run = noise.scale**2 - of_process * float((1 / self.counts).mean())
        if of_run <= 0:  # runs differ less than their processes explain, by chance: all of it is the processes'
            of_run, of_process = 0.0, noise.scale**2 / float((1 / self.counts).mean())
        return np.asarray(of_run + of_process / self.counts, dtype=np.float64)


def _of_latency(metric: _Metric, runs: _Runs) -> tuple[float, list[TrendChange]]:
    """Return the standard deviation of a run, and the changes of the latency."""
    means = runs.means()
    noise = changepoints.estimate_noise(means, least=_LEAST_SCALE[LATENCY])
    weights = 1 / runs.variances(noise)
    steps = changepoints.find_steps(means, weights, noise=noise)
    levels = drift.separate_drifts(means, weights, steps, noise)
    return noise.scale, [metric.of_level(change) for change in levels if _is_worth_a_word(change)]


def _of_memory(points: Sequence[SeriesPoint]) -> list[TrendChange]:
    """Steps alone: a peak is as good as exact."""
    places = [place for place, point in enumerate(points) if point.peak_bytes]
    if len(places) < MIN_RUNS:
        return []
    metric = _Metric(name=PEAK, points=points, places=np.array(places))
    logs = np.log(np.array([points[place].peak_bytes for place in places], dtype=np.float64))
    noise = changepoints.estimate_noise(logs, least=_LEAST_SCALE[PEAK])
    steps = changepoints.find_steps(logs, np.full(len(logs), noise.scale**-2), noise=noise)
    return [metric.of_level(step) for step in steps if _is_worth_a_word(step)]


def _is_worth_a_word(change: StepChange | Drift) -> bool:
    return abs(change.shift) >= math.log1p(LEAST)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Metric:
    """What turns places among the figures into places among the points, and logarithms into ratios."""

    name: str
    points: Sequence[SeriesPoint]
    places: NDArray[np.int64]

    def of_level(self, change: StepChange | Drift) -> TrendChange:
        if isinstance(change, StepChange):
            return self._change(ChangeKind.STEP, change, (change.earliest - 1, change.index, change.latest))
        return self._change(ChangeKind.DRIFT, change, (change.first, change.first, change.last))

    def _change(self, kind: ChangeKind, change: StepChange | Drift, around: tuple[int, int, int]) -> TrendChange:
        from scipy import special

        half = float(special.stdtrit(change.freedom, (1 + CONFIDENCE) / 2)) * change.error
        before, run, after = (int(self.places[place]) for place in around)
        days = _days(self.points[before], self.points[after]) if kind is ChangeKind.DRIFT else 0.0
        return TrendChange(
            metric=self.name,
            kind=kind,
            ratio=math.exp(change.shift),
            low=math.exp(change.shift - half),
            high=math.exp(change.shift + half),
            p_value=change.p_value,
            before=before,
            run=run,
            after=after,
            per_month=math.exp(change.shift / days * _MONTH_DAYS) if days >= 1 else None,
        )


def _days(before: SeriesPoint, after: SeriesPoint) -> float:
    first, last = (datetime.datetime.fromisoformat(point.measured_at) for point in (before, after))
    return (last - first).total_seconds() / 86400
