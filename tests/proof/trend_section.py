"""Write the section of `docs/proof.md` on `speedgate trend`, from simulated histories."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from speedgate.history.changepoints import ALPHA
from speedgate.history.trend import SMALLEST_CHANGE, ChangeKind
from tests.proof import trends
from tests.proof.trends import Alarms, Detection

HEADING = "## Trend"
TEXT = """\
{heading}

`speedgate trend` judges simulated histories with one run per day and {processes} processes per run. The processes vary as
above; a run of the measured machine has {processes} consecutive real processes. A change is tested at {alpha:.1%}, and
changes of at least {least:.1%} are reported.

The first table has the false alarms per thousand runs without a change. `nightly` judges the last {last} runs after each of
{runs} runs, as CI does, and counts each alarm once; `whole` judges {whole} histories of {history} runs, each once. (This section
took {took_s:.0f} s.)
"""
POWER = """\
In the second table a change begins after {before} runs, and the history is judged after each further run (for a drift, after
every {every}th), up to {step_runs} runs for a step and {drift_runs} for a drift. A cell is from {repetitions} histories and has
three figures: the share in which the change was found / the median number of runs until then / the share that was reported as
another kind of change before. `placed` is the share of the steps found whose range of commits includes the right one.
"""


def simulate_section(
    measured: dict[str, Any], *, runs: int = trends.RUNS, repetitions: int = trends.REPETITIONS
) -> list[str]:
    """Simulate the histories and return the section's lines."""
    started_s = time.perf_counter()
    machines = trends.machines(measured)
    whole = max(1, runs * trends.WHOLE // trends.RUNS)
    alarms = [trends.false_alarms(machine, runs=runs, whole=whole) for machine in machines]
    detections = [detection for machine in machines for detection in trends.power(machine, repetitions=repetitions)]
    took_s = time.perf_counter() - started_s
    return lines(alarms, detections, runs=runs, whole=whole, repetitions=repetitions, took_s=took_s)


def lines(
    alarms: Sequence[Alarms], detections: Sequence[Detection], *, runs: int, whole: int, repetitions: int, took_s: float
) -> list[str]:
    """Return the section's lines."""
    facts = {
        "processes": trends.PROCESSES,
        "alpha": ALPHA,
        "least": SMALLEST_CHANGE,
        "last": trends.LAST,
        "took_s": took_s,
    }
    waits = {"step_runs": trends.STEP_RUNS, "drift_runs": trends.DRIFT_RUNS}
    return [
        TEXT.format(heading=HEADING, runs=runs, whole=whole, history=trends.HISTORY, **facts),
        *_alarms(alarms),
        "",
        POWER.format(before=trends.BEFORE, every=trends.EVERY, repetitions=repetitions, **waits),
        *_power(detections),
        "",
    ]


def _alarms(alarms: Sequence[Alarms]) -> list[str]:
    names = [f"{kind}, {how}" for how in ("nightly", "whole") for kind in ChangeKind]
    rows = [
        [row.machine, *(f"{rate[kind]:.2f}" for rate in (row.nightly, row.whole) for kind in ChangeKind)]
        for row in alarms
    ]
    return _table(["machine", *names], rows)


def _power(detections: Sequence[Detection]) -> list[str]:
    changes = list(dict.fromkeys(detection.change for detection in detections))
    rows = []
    for machine in dict.fromkeys(detection.machine for detection in detections):
        by_change = {detection.change: detection for detection in detections if detection.machine == machine}
        steps = [step for step in by_change.values() if step.placed is not None]
        found_share = sum(step.share for step in steps)
        placed = f"{sum(step.placed * step.share for step in steps) / found_share:.0%}" if steps else "-"
        rows.append([machine, *(_cell(by_change[change]) for change in changes), placed])
    return _table(["machine", *changes, "placed"], rows)


def _cell(detection: Detection) -> str:
    runs = "-" if detection.runs is None else f"{detection.runs:.0f}"
    return f"{detection.share:.0%} / {runs} / {detection.misreported:.0%}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
