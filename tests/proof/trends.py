"""Simulated histories with a known change, or none, judged run by run as a nightly job does it: false alarms, power, delay."""

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
BEFORE = 60  # runs without a change before one comes
LAST = 200  # runs that a nightly job looks at
RECENT = 14
RUNS = 3000  # judged one after the other without a change, in histories of a thousand
WHOLE = 100  # histories of a thousand runs without a change, each judged once
HISTORY = 1000
REPETITIONS = 20
STEPS = (0.01, 0.02, 0.03, 0.05)
STEP_RUNS, DRIFT_RUNS = 30, 120  # how long a change is waited for
EVERY = 4  # of a drift only every so many runs are judged
MONTHLY = 0.01
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """How runs scatter: `draw` makes the logarithms of process medians, of shape `(runs, PROCESSES)`."""

    name: str
    draw: Callable[[np.random.Generator, int], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Of one kind of change on one machine: the share that was found, and after how many runs (median).

    `otherwise` is the share that was called another kind of change on some night until then (or ever, where it was not found),
    `placed` that of the steps found whose range holds the right run.
    """

    machine: str
    change: str
    share: float
    runs: float | None
    otherwise: float
    placed: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alarms:
    """False alarms in a thousand runs, by kind: judged run by run, and a whole history at once."""

    machine: str
    nightly: dict[ChangeKind, float]
    whole: dict[ChangeKind, float]


def machines(measured: dict[str, Any]) -> list[Machine]:
    """The simulated ones of the gate's proof, one whose days resemble each other, and the one that was measured."""
    simulated = [Machine(name=one.name, draw=functools.partial(_spread, one)) for one in replay.SERIES]
    medians = [statistics.median(process["seconds"]["0.0"]) for process in measured["alone"]]
    logs = np.log(np.array(medians)) - math.log(statistics.geometric_mean(medians))
    return [
        *simulated,
        Machine(name="0.6%, days correlate by 0.5", draw=_correlated),
        Machine(name="measured processes", draw=functools.partial(_measured, logs)),
    ]


def _spread(one: replay.Series, rng: np.random.Generator, runs: int) -> np.ndarray:
    size = (runs, PROCESSES)
    return np.asarray(rng.normal(0.0, one.between, size) + one.modes * rng.integers(0, 2, size))


def _correlated(rng: np.random.Generator, runs: int, between: float = 0.006, correlation: float = 0.5) -> np.ndarray:
    """Each run has a level of its own that remembers the one before."""
    levels = rng.normal(0.0, between, runs)
    for number in range(1, runs):
        levels[number] = correlation * levels[number - 1] + math.sqrt(1 - correlation**2) * levels[number]
    return np.asarray(levels[:, None] + rng.normal(0.0, between, (runs, PROCESSES)))


def _measured(logs: np.ndarray, rng: np.random.Generator, runs: int) -> np.ndarray:
    """Each run is as many processes as were measured one after the other, at some hour of that day."""
    starts = rng.integers(0, len(logs) - PROCESSES + 1, runs)
    return np.asarray(logs[starts[:, None] + np.arange(PROCESSES)])


def false_alarms(machine: Machine, *, runs: int = RUNS, whole: int = WHOLE) -> Alarms:
    """What a machine without a change is accused of."""
    rng = np.random.default_rng([SEED, 1])
    nightly: list[TrendChange] = []
    for _ in range(math.ceil(runs / HISTORY)):
        points = history(machine.draw(rng, BEFORE + min(runs, HISTORY)))
        nightly += _alarms(points)
    at_once = [change for _ in range(whole) for change in judged(history(machine.draw(rng, HISTORY))).changes]
    return Alarms(
        machine=machine.name,
        nightly={kind: _rate(nightly, kind, runs) for kind in ChangeKind},
        whole={kind: _rate([one for one in at_once if one.worse], kind, whole * HISTORY) for kind in ChangeKind},
    )


def _alarms(points: Sequence[SeriesPoint]) -> list[TrendChange]:
    """Each alarm once: the same kind at nearly the same run is the one of the night before."""
    raised: list[TrendChange] = []
    for end in range(BEFORE, len(points) + 1):
        start = max(0, end - LAST)
        trend = judged(points[start:end])
        for change in trend.changes:
            if not (change.worse and trend.is_recent(change, RECENT)):
                continue
            change = dataclasses.replace(change, run=change.run + start)
            known = [one for one in raised if one.kind is change.kind and abs(one.run - change.run) <= RECENT]
            raised += [] if known else [change]
    return raised


def _rate(changes: Sequence[TrendChange], kind: ChangeKind, runs: int) -> float:
    return 1000 * sum(change.kind is kind for change in changes) / runs


def power(machine: Machine, *, repetitions: int = REPETITIONS) -> list[Found]:
    """What is found of each injected change, the noise of every change the same."""
    changes = [
        *((f"step +{step:.0%}", ChangeKind.STEP, functools.partial(_stepped, step), STEP_RUNS, 1) for step in STEPS),
        (f"drift +{MONTHLY:.0%} a month", ChangeKind.DRIFT, _drifting, DRIFT_RUNS, EVERY),
    ]
    found = []
    for name, kind, change, wait, every in changes:
        rng = np.random.default_rng([SEED, 2])
        waited = [_wait(change(machine.draw(rng, BEFORE + wait)), kind, every) for _ in range(repetitions)]
        seen = [one for one in waited if one.runs is not None]
        found.append(
            Found(
                machine=machine.name,
                change=name,
                share=len(seen) / repetitions,
                runs=statistics.median(one.runs for one in seen) if seen else None,
                otherwise=statistics.mean(one.otherwise for one in waited),
                placed=statistics.mean(one.placed for one in seen) if seen and kind is ChangeKind.STEP else None,
            )
        )
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Waited:
    runs: int | None
    placed: bool
    otherwise: bool


def _wait(logs: np.ndarray, kind: ChangeKind, every: int) -> _Waited:
    """After how many runs the change was found, if at all, whether in the right place, and whether something else was said."""
    points, otherwise = history(logs), False
    for runs in range(every, len(points) - BEFORE + 1, every):
        late = [one for one in judged(points[: BEFORE + runs]).changes if one.worse and one.after >= BEFORE - RECENT]
        otherwise = otherwise or any(one.kind is not kind for one in late)
        for change in late:
            if change.kind is kind:
                placed = change.before < BEFORE <= change.after
                return _Waited(runs=runs, placed=placed, otherwise=otherwise)
    return _Waited(runs=None, placed=False, otherwise=otherwise)


def _after(runs: int) -> np.ndarray:
    """0 for the runs before the change, then 1, 2, ..."""
    return np.clip(np.arange(runs) - BEFORE + 1, 0, None)[:, None]


def _stepped(step: float, logs: np.ndarray) -> np.ndarray:
    return np.asarray(logs + math.log1p(step) * (_after(len(logs)) > 0))


def _drifting(logs: np.ndarray) -> np.ndarray:
    return np.asarray(logs + math.log1p(MONTHLY) / 30 * _after(len(logs)))


def judged(points: Sequence[SeriesPoint]) -> Trend:
    """What `speedgate trend` finds in these."""
    return analyse(Series(gpu_key="simulated", case_key="simulated", points=tuple(points)))


def history(logs: np.ndarray) -> list[SeriesPoint]:
    """A run a day; `logs` are the logarithms of its processes' medians."""
    return [
        SeriesPoint(
            run_id=str(day),
            measured_at=(_START + datetime.timedelta(days=day)).isoformat(),
            commit=None,
            process_medians_s=tuple(processes),
        )
        for day, processes in enumerate(np.exp(logs).tolist())
    ]
