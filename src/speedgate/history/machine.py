"""The series of a machine: its drift since its baselines were recorded, session by session, beside the series of its cases.

A stored ratio has two parts: the change of the program, which live pairs measure, and the change of the machine. A step of
a case that its machine made too is no step of the program.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from speedgate.history.trend import LATENCY, ChangeKind, Trend, TrendChange

SESSIONS = 5  # on each side of a change: the median of so many is compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseDrift:
    """The drift of the machine as one run of a case shows it, relative to the recording of `baseline`."""

    gpu_key: str
    measured_at: str
    commit: str | None
    baseline: str
    drift: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachinePoint:
    """The drift of a machine in one session: the median of its confirmed cases with one baseline file.

    `measured_at` is UTC in ISO 8601; 1.05 means that the machine takes 5 % longer than when the file was recorded.
    """

    measured_at: str
    commit: str | None
    baseline: str
    drift: float
    cases: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineSeries:
    """All points of one GPU key, oldest first; a session with cases of two baseline files has two points."""

    gpu_key: str
    points: tuple[MachinePoint, ...]

    def ratio(self, *, before: str, after: str, until: str | None = None) -> float | None:
        """Return the machine's change between two times in ISO 8601, with one baseline; None if no later session shows it.

        Sessions from `until` on are left out. Without a confirmed session before, the machine was as it was at the recording:
        no case was suspected. A baseline that was recorded in between shows a change of nearly 1, and so explains nothing.
        """
        later = [
            point
            for point in self.points
            if after <= point.measured_at and (until is None or point.measured_at < until)
        ]
        if not later:
            return None
        baseline = later[0].baseline
        with_baseline = [point for point in later if point.baseline == baseline][:SESSIONS]
        earlier = [point for point in self.points if point.measured_at <= before and point.baseline == baseline][
            -SESSIONS:
        ]
        return _median(with_baseline) / (_median(earlier) if earlier else 1.0)


def machine_series(drifts: Iterable[CaseDrift]) -> list[MachineSeries]:
    """Group the drifts of cases by GPU key, session and baseline file; sorted by GPU key."""
    ordered = sorted(drifts, key=lambda drift: (*_session(drift), drift.drift))
    points: dict[str, list[MachinePoint]] = {}
    for (gpu_key, measured_at, commit, baseline), group in itertools.groupby(ordered, key=_session):
        ratios = [drift.drift for drift in group]
        point = MachinePoint(
            measured_at=measured_at,
            commit=commit or None,
            baseline=baseline,
            drift=statistics.median(ratios),
            cases=len(ratios),
        )
        points.setdefault(gpu_key, []).append(point)
    return [MachineSeries(gpu_key=gpu_key, points=tuple(group)) for gpu_key, group in points.items()]


def attribute(trend: Trend, machines: Sequence[MachineSeries]) -> Trend:
    """Return the trend with the machine's part of each change of the latency, as far as the machine's series shows it."""
    machine = next((machine for machine in machines if machine.gpu_key == trend.series.gpu_key), None)
    if machine is None:
        return trend
    return dataclasses.replace(trend, changes=tuple(_attributed(trend, change, machine) for change in trend.changes))


def _attributed(trend: Trend, change: TrendChange, machine: MachineSeries) -> TrendChange:
    if change.metric != LATENCY:
        return change
    times = [point.measured_at for point in trend.series.points]
    later = [other.run for other in trend.changes if other.metric == LATENCY and other.run > change.run]
    ratio = machine.ratio(
        before=times[change.before],
        after=times[change.run if change.kind is ChangeKind.STEP else change.after],
        until=times[min(later)] if later else None,
    )
    return dataclasses.replace(change, machine_ratio=ratio)


def _session(drift: CaseDrift) -> tuple[str, str, str, str]:
    return drift.gpu_key, drift.measured_at, drift.commit or "", drift.baseline


def _median(points: Sequence[MachinePoint]) -> float:
    return math.exp(statistics.median(math.log(point.drift) for point in points))
