"""The drift of a machine since its baselines were recorded, from the live pairs of all confirmed cases."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Collection, Iterable

from speedgate.results.run import Confirmation

SMALLEST_DRIFT = 0.005  # smaller ones are called no drift


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineDrift:
    """The median over `cases` of the seconds of a baseline's code here and now, relative to those of its recording."""

    ratio: float
    cases: int

    @property
    def description(self) -> str:
        """Describe the change of the seconds: `takes 4.2% longer than`."""
        if abs(math.log(self.ratio)) < SMALLEST_DRIFT:
            return "takes as long as"
        return f"takes {abs(self.ratio - 1):.1%} {'longer' if self.ratio > 1 else 'less time'} than"


def measure_drift(confirmations: Iterable[Confirmation]) -> MachineDrift | None:
    """Return the median drift over all cases that pairs decided; None if there is none.

    Other cases may have pairs of one order only, and the arm that is opened first is slower.
    """
    drifts = [confirmation.drift for confirmation in confirmations if confirmation.decides]
    ratios = [ratio for ratio in drifts if ratio is not None]
    return MachineDrift(ratio=statistics.median(ratios), cases=len(ratios)) if ratios else None


def drift_line(confirmations: Iterable[Confirmation]) -> str | None:
    """Describe the machine's drift in one line; None if no case was decided by pairs."""
    drift = measure_drift(confirmations)
    if drift is None:
        return None
    count = "1 case" if drift.cases == 1 else f"median of {drift.cases} cases"
    return (
        f"the machine {drift.description} when its baselines were recorded ({count}): stored figures include this change,"
        " live pairs do not"
    )


def remarks(confirmations: Collection[Confirmation], *, tolerance: float) -> list[str]:
    """Return the line on the machine's drift, and a remark for each baseline file that will soon be stale."""
    line = drift_line(confirmations)
    return [line, *stale_baselines(confirmations, tolerance=tolerance)] if line is not None else []


def stale_baselines(confirmations: Iterable[Confirmation], *, tolerance: float) -> list[str]:
    """Write a remark for each baseline file that is older than a drift of half the tolerance, in either direction.

    A machine that became faster hides slowdowns, so it counts as well. Files without a name are left out.
    """
    by_file: dict[str, list[Confirmation]] = {}
    for confirmation in confirmations:
        if confirmation.baseline:
            by_file.setdefault(confirmation.baseline, []).append(confirmation)
    drifts = {name: measure_drift(group) for name, group in sorted(by_file.items())}
    return [
        remark
        for name, drift in drifts.items()
        if drift is not None and (remark := stale_remark(name, drift, tolerance=tolerance)) is not None
    ]


def stale_remark(name: str, drift: MachineDrift, *, tolerance: float) -> str | None:
    """Write the remark for one baseline file; None if the drift since its recording is at most half of the tolerance."""
    if abs(math.log(drift.ratio)) <= math.log1p(tolerance / 2):
        return None
    return (
        f"{name} will soon be stale: the machine {drift.description} when it was recorded, which is more than half of the"
        f" tolerance of {tolerance:.0%}; record a new one: pytest bench --gate record"
    )
