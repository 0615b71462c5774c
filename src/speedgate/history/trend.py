"""Find the changes in a series of runs, steps and slow drifts, and the two runs between which each change lies."""

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

MIN_RUNS = 10  # with a latency; fewer points are not enough to tell two levels apart
SMALLEST_CHANGE = 0.005  # the smallest relative change that is reported
LARGEST_REMAINDER = 0.01  # of a change that is called the machine's: a drift is the median of a few cases
CONFIDENCE = 0.99  # of the interval around a ratio
LATENCY, PEAK = "latency", "peak memory"
_SMALLEST_SCALE = {LATENCY: 1e-6, PEAK: 1e-4}  # standard deviation of the logarithm; smaller noise counts as this much
_MONTH_DAYS = 30.0
# A series is too noisy to judge while most neighbouring runs of any ten differ a lot: four differences of more than 8 %. A step
# is one such difference and an outlier two; a change of some percent cannot be told from such noise.
_NOISY_WINDOW, _NOISY_DIFFERENCES, _NOISY_CHANGE = 10, 4, 0.08


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesPoint:
    """One run of a case; `run_id` is a digest of what was measured, so a repeated upload is the same point.

    `measured_at` is UTC in ISO 8601. `versions` are those of the run's environment (`torch`, `torch_git`, `diffusers`, ...).
    Missing figures are None; a run without rounds has no medians and no peak. `dirty`: the checkout had uncommitted changes.
    """

    run_id: str
    measured_at: str
    commit: str | None
    process_medians_s: tuple[float, ...]
    peak_bytes: int | None = None
    ssim: float | None = None
    first_image_s: float | None = None
    compile_s: float | None = None
    cache: str | None = None
    fingerprint: str | None = None
    outcome: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dirty: bool = False

    @property
    def latency_s(self) -> float | None:
        """Return the geometric mean of the process medians in seconds, as `Run` does; None if nothing was measured."""
        return statistics.geometric_mean(self.process_medians_s) if self.process_medians_s else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """All points of one case on one GPU key, oldest first."""

    gpu_key: str
    case_key: str
    points: tuple[SeriesPoint, ...]


class ChangeKind(enum.StrEnum):
    """A sudden change of level, or a slow one."""

    STEP = "step"
    DRIFT = "drift"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrendChange:
    """One change of `metric` by `ratio`: level after over level before; for a drift, its end over its beginning.

    `before`, `run` and `after` are indices of the series' points. A step lies between `before` and `after` with 95 % confidence,
    and `run` is most likely the first point after it; a drift begins at `before` and ends at `after`. The interval from `low` to
    `high` contains the ratio with 99 % confidence. `p_value` is the probability of so large a change in a series without one.
    `machine_ratio` is the machine's part of it by live pairs (`history.machine`), or None if nothing is known of it.
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
    machine_ratio: float | None = None

    @property
    def of_machine(self) -> bool:
        """True if the machine explains the change: what remains is at most 1 %, and less than the machine's part."""
        if self.machine_ratio is None:
            return False
        remainder = abs(math.log(self.ratio / self.machine_ratio))
        return remainder <= math.log1p(LARGEST_REMAINDER) and remainder < abs(math.log(self.machine_ratio))

    @property
    def worse(self) -> bool:
        """True for a slower or a bigger case."""
        return self.ratio > 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """The changes in a series, in order. `outliers` are indices of points that were left out.

    `measured_count` is the number of runs with a latency, `run_spread` the relative standard deviation of a run.
    `noisy_since` is the index of the point from which the series is too noisy to judge; None if its last runs are not.
    """

    series: Series
    changes: tuple[TrendChange, ...]
    outliers: tuple[int, ...]
    measured_count: int
    run_spread: float
    noisy_since: int | None = None

    def versions(self, change: TrendChange) -> dict[str, tuple[str | None, str | None]]:
        """Return each version that differs after the change, by package: the version before and the one after."""
        before, after = (self.series.points[index].versions for index in (change.before, change.after))
        names = sorted({*before, *after})
        return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}

    def is_recent(self, change: TrendChange, runs: int) -> bool:
        """True if a step lies in the last `runs` points of the series, or a drift reaches into them."""
        index = change.after if change.kind is ChangeKind.DRIFT else change.run
        return index >= len(self.series.points) - runs


def count_measured(points: Sequence[SeriesPoint]) -> int:
    """Count the points that have a latency."""
    return sum(bool(point.process_medians_s) for point in points)


def analyse(series: Series) -> Trend:
    """Find the changes of a series. Raises `ValueError` if fewer than `MIN_RUNS` of its runs have a latency."""
    indices = [index for index, point in enumerate(series.points) if point.process_medians_s]
    if len(indices) < MIN_RUNS:
        raise ValueError(
            f"{series.case_key} on {series.gpu_key}: {len(indices)} runs with a latency; a trend needs at least {MIN_RUNS}"
        )
    runs = _Runs.from_medians([series.points[index].process_medians_s for index in indices])
    means = runs.means()
    is_outlier = changepoints.find_outliers(
        means, changepoints.estimate_noise(means, least=_SMALLEST_SCALE[LATENCY]).scale
    )
    latency = _Metric(name=LATENCY, points=series.points, indices=np.array(indices)[~is_outlier])
    run_spread, latency_changes = _latency_changes(latency, runs.select(~is_outlier))
    changes = sorted(
        [*latency_changes, *_memory_changes(series.points)],
        key=lambda change: (change.run, change.before, change.metric),
    )
    outliers = tuple(int(index) for index in np.array(indices)[is_outlier])
    return Trend(
        series=series,
        changes=tuple(changes),
        outliers=outliers,
        measured_count=len(indices),
        run_spread=run_spread,
        noisy_since=None if (start := _noise_start(means)) is None else indices[start],
    )


def _noise_start(means: Floats) -> int | None:
    """Return the index of the run with which the noise of the last runs began; None if they agree."""
    is_large = np.abs(np.diff(means)) > math.log1p(_NOISY_CHANGE)
    if len(is_large) < _NOISY_WINDOW:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(is_large, _NOISY_WINDOW)
    noisy = windows.sum(axis=1) >= _NOISY_DIFFERENCES
    if not noisy[-1]:
        return None
    quiet = np.flatnonzero(~noisy)
    first = int(quiet[-1]) + 1 if len(quiet) else 0
    return first + int(np.argmax(windows[first])) + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Runs:
    """Logarithms of all process medians, run after run (shape `(processes,)`), and the number of processes of each run."""

    logs: Floats
    counts: NDArray[np.int64]

    @classmethod
    def from_medians(cls, medians_s: Sequence[Sequence[float]]) -> _Runs:
        """Take the logarithms of the medians of at least one run with at least one process each."""
        counts = np.array([len(processes) for processes in medians_s], dtype=np.int64)
        return cls(logs=np.log(np.array([seconds for processes in medians_s for seconds in processes])), counts=counts)

    def means(self) -> Floats:
        """Average the processes of each run."""
        sums = np.add.reduceat(self.logs, np.cumsum(self.counts) - self.counts)
        return np.asarray(sums / self.counts, dtype=np.float64)

    def select(self, chosen: NDArray[np.bool_]) -> _Runs:
        """Select some of the runs."""
        return _Runs(logs=self.logs[np.repeat(chosen, self.counts)], counts=self.counts[chosen])

    def variances(self, noise: Noise) -> Floats:
        """Estimate the variance of each run's mean, so that a run with more processes weighs more.

        It is the variance between runs, beyond what their processes explain, plus the variance of a process over their number.
        """
        freedom = int((self.counts - 1).sum())
        if not freedom:
            return np.full(len(self.counts), noise.scale**2)
        squares = (self.logs - np.repeat(self.means(), self.counts)) ** 2
        process_variance = float(squares.sum()) / freedom
        run_variance = noise.scale**2 - process_variance * float((1 / self.counts).mean())
        if run_variance <= 0:  # by chance, runs differ less than their processes explain: the processes get all of it
            run_variance, process_variance = 0.0, noise.scale**2 / float((1 / self.counts).mean())
        return np.asarray(run_variance + process_variance / self.counts, dtype=np.float64)


def _latency_changes(metric: _Metric, runs: _Runs) -> tuple[float, list[TrendChange]]:
    """Return the standard deviation of a run and the changes of the latency."""
    means = runs.means()
    noise = changepoints.estimate_noise(means, least=_SMALLEST_SCALE[LATENCY])
    weights = 1 / runs.variances(noise)
    steps = changepoints.find_steps(means, weights, noise=noise)
    levels = drift.separate_drifts(means, weights, steps, noise)
    return noise.scale, [metric.describe(change) for change in levels if _is_large(change)]


def _memory_changes(points: Sequence[SeriesPoint]) -> list[TrendChange]:
    """Find steps of the peak memory. Peaks have almost no noise, so drifts are not looked for."""
    indices = [index for index, point in enumerate(points) if point.peak_bytes]
    if len(indices) < MIN_RUNS:
        return []
    metric = _Metric(name=PEAK, points=points, indices=np.array(indices))
    logs = np.log(np.array([points[index].peak_bytes for index in indices], dtype=np.float64))
    noise = changepoints.estimate_noise(logs, least=_SMALLEST_SCALE[PEAK])
    steps = changepoints.find_steps(logs, np.full(len(logs), noise.scale**-2), noise=noise)
    return [metric.describe(step) for step in steps if _is_large(step)]


def _is_large(change: StepChange | Drift) -> bool:
    return abs(change.shift) >= math.log1p(SMALLEST_CHANGE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Metric:
    """One metric of a series: converts indices of its figures to indices of the points, and logarithms to ratios."""

    name: str
    points: Sequence[SeriesPoint]
    indices: NDArray[np.int64]

    def describe(self, change: StepChange | Drift) -> TrendChange:
        from scipy import special

        if isinstance(change, StepChange):
            kind, around = ChangeKind.STEP, (change.earliest - 1, change.index, change.latest)
        else:
            kind, around = ChangeKind.DRIFT, (change.first, change.first, change.last)
        half = float(special.stdtrit(change.freedom, (1 + CONFIDENCE) / 2)) * change.error
        before, run, after = (int(self.indices[index]) for index in around)
        first, last = (datetime.datetime.fromisoformat(self.points[index].measured_at) for index in (before, after))
        days = (last - first).total_seconds() / 86400 if kind is ChangeKind.DRIFT else 0.0
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
