"""Simulate histories with and without a known change and judge them run by run, as a nightly job does."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from speedgate.history.trend import ChangeKind, Series, SeriesPoint, Trend, TrendChange, analyse
from speedgate.plugin import options
from tests.proof import replay

SEED = 20
PROCESSES = options.FIRST_LOOK_PROCESSES
BEFORE = 60  # runs before the change
LAST = 200  # runs that a nightly job judges
RECENT = 14
RUNS = 3000  # without a change, judged one after the other
WHOLE = 100  # histories of a thousand runs without a change, each judged once
HISTORY = 1000
REPETITIONS = 20
STEPS = (0.01, 0.02, 0.03, 0.05)
STEP_RUNS, DRIFT_RUNS = 30, 120  # after the change; a change that is not found by then counts as missed
EVERY = 4  # a drift is judged after every 4th run only
MONTHLY = 0.01
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Describe how runs vary: `draw` returns logarithms of process medians, of shape `(runs, PROCESSES)`."""

    name: str
    draw: Callable[[np.random.Generator, int], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection:
    """Describe how one change on one machine was found: the share of histories, and the median number of runs until then.

    `misreported` is the share that was reported as another kind of change before; `placed` is the share of the steps found
    whose range includes the right run.
    """

    machine: str
    change: str
    share: float
    runs: float | None
    misreported: float
    placed: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alarms:
    """Count false alarms per thousand runs by kind: judged run by run, and as whole histories."""

    machine: str
    nightly: dict[ChangeKind, float]
    whole: dict[ChangeKind, float]


def machines(measured: dict[str, Any]) -> list[Machine]:
    """Return the simulated machines, one with correlated days, and the measured machine."""
    simulated = [Machine(name=series.name, draw=functools.partial(_spread, series)) for series in replay.SERIES]
    medians = [statistics.median(process["seconds"]["0.0"]) for process in measured["alone"]]
    logs = np.log(np.array(medians)) - math.log(statistics.geometric_mean(medians))
    return [
        *simulated,
        Machine(name="0.6%, days correlate by 0.5", draw=_correlated),
        Machine(name="measured processes", draw=functools.partial(_measured, logs)),
    ]


def _spread(series: replay.Series, rng: np.random.Generator, runs: int) -> np.ndarray:
    size = (runs, PROCESSES)
    return np.asarray(rng.normal(0.0, series.between, size) + series.modes * rng.integers(0, 2, size))


def _correlated(rng: np.random.Generator, runs: int, between: float = 0.006, correlation: float = 0.5) -> np.ndarray:
    """Draw runs whose levels are correlated with the run before."""
    levels = rng.normal(0.0, between, runs)
    for number in range(1, runs):
        levels[number] = correlation * levels[number - 1] + math.sqrt(1 - correlation**2) * levels[number]
    return np.asarray(levels[:, None] + rng.normal(0.0, between, (runs, PROCESSES)))


def _measured(logs: np.ndarray, rng: np.random.Generator, runs: int) -> np.ndarray:
    """Draw each run as consecutive processes of the measured series, from a random start."""
    starts = rng.integers(0, len(logs) - PROCESSES + 1, runs)
    return np.asarray(logs[starts[:, None] + np.arange(PROCESSES)])


def false_alarms(machine: Machine, *, runs: int = RUNS, whole: int = WHOLE) -> Alarms:
    """Count the false alarms on a machine without a change."""
    rng = np.random.default_rng([SEED, 1])
    nightly: list[TrendChange] = []
    for _ in range(math.ceil(runs / HISTORY)):
        points = make_history(machine.draw(rng, BEFORE + min(runs, HISTORY)))
        nightly += _nightly_alarms(points)
    at_once = [
        change for _ in range(whole) for change in find_changes(make_history(machine.draw(rng, HISTORY))).changes
    ]
    return Alarms(
        machine=machine.name,
        nightly={kind: _rate(nightly, kind, runs) for kind in ChangeKind},
        whole={
            kind: _rate([change for change in at_once if change.worse], kind, whole * HISTORY) for kind in ChangeKind
        },
    )


def _nightly_alarms(points: Sequence[SeriesPoint]) -> list[TrendChange]:
    """Count each alarm once: the same kind at nearly the same run is the alarm of the night before."""
    raised: list[TrendChange] = []
    for end in range(BEFORE, len(points) + 1):
        start = max(0, end - LAST)
        trend = find_changes(points[start:end])
        for change in trend.changes:
            if not (change.worse and trend.is_recent(change, RECENT)):
                continue
            change = dataclasses.replace(change, run=change.run + start)
            is_known = any(old.kind is change.kind and abs(old.run - change.run) <= RECENT for old in raised)
            raised += [] if is_known else [change]
    return raised


def _rate(changes: Sequence[TrendChange], kind: ChangeKind, runs: int) -> float:
    return 1000 * sum(change.kind is kind for change in changes) / runs


def power(machine: Machine, *, repetitions: int = REPETITIONS) -> list[Detection]:
    """Return how each injected change is found; all changes have the same noise."""
    changes = [
        *((f"step +{step:.0%}", ChangeKind.STEP, functools.partial(_stepped, step), STEP_RUNS, 1) for step in STEPS),
        (f"drift +{MONTHLY:.0%} a month", ChangeKind.DRIFT, _drifting, DRIFT_RUNS, EVERY),
    ]
    detections = []
    for name, kind, change, wait, every in changes:
        rng = np.random.default_rng([SEED, 2])
        searches = [_search(change(machine.draw(rng, BEFORE + wait)), kind, every) for _ in range(repetitions)]
        found = [search for search in searches if search.runs is not None]
        detections.append(
            Detection(
                machine=machine.name,
                change=name,
                share=len(found) / repetitions,
                runs=statistics.median(search.runs for search in found) if found else None,
                misreported=statistics.mean(search.misreported for search in searches),
                placed=statistics.mean(search.placed for search in found)
                if found and kind is ChangeKind.STEP
                else None,
            )
        )
    return detections


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Search:
    runs: int | None
    placed: bool
    misreported: bool


def _search(logs: np.ndarray, kind: ChangeKind, every: int) -> _Search:
    """Judge run by run until the change is found; note its place, and whether another kind was reported before."""
    points, misreported = make_history(logs), False
    for runs in range(every, len(points) - BEFORE + 1, every):
        changes = find_changes(points[: BEFORE + runs]).changes
        recent = [change for change in changes if change.worse and change.after >= BEFORE - RECENT]
        misreported = misreported or any(change.kind is not kind for change in recent)
        for change in recent:
            if change.kind is kind:
                placed = change.before < BEFORE <= change.after
                return _Search(runs=runs, placed=placed, misreported=misreported)
    return _Search(runs=None, placed=False, misreported=misreported)


def _runs_since_change(runs: int) -> np.ndarray:
    """Return 0 for the runs before the change, then 1, 2, ..."""
    return np.clip(np.arange(runs) - BEFORE + 1, 0, None)[:, None]


def _stepped(step: float, logs: np.ndarray) -> np.ndarray:
    return np.asarray(logs + math.log1p(step) * (_runs_since_change(len(logs)) > 0))


def _drifting(logs: np.ndarray) -> np.ndarray:
    return np.asarray(logs + math.log1p(MONTHLY) / 30 * _runs_since_change(len(logs)))


def find_changes(points: Sequence[SeriesPoint]) -> Trend:
    """Analyse the points like `speedgate trend`."""
    return analyse(Series(gpu_key="simulated", case_key="simulated", points=tuple(points)))


def make_history(logs: np.ndarray) -> list[SeriesPoint]:
    """Make one run per day from the logarithms of its processes' medians."""
    return [
        SeriesPoint(
            run_id=str(day),
            measured_at=(_START + datetime.timedelta(days=day)).isoformat(),
            commit=None,
            process_medians_s=tuple(processes),
        )
        for day, processes in enumerate(np.exp(logs).tolist())
    ]
