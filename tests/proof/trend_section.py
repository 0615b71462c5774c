"""The section of `docs/proof.md` on `speedgate trend`, from simulated histories; no number in it is typed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from speedgate.history.changepoints import ALPHA
from speedgate.history.trend import SMALLEST_CHANGE, ChangeKind
from tests.proof import trends
from tests.proof.trends import Alarms, Found

HEADING = "## Trend"
TEXT = """\
{heading}

`speedgate trend` on simulated histories: a run a day of {processes} processes each, which spread as above; a run of the
measured machine is {processes} consecutive ones of the real processes. A change is tested at {alpha:.1%}; changes from
{least:.1%} on are reported.

False alarms in a thousand runs without a change: `nightly` judges the last {last} runs after each of {runs},
as CI does, and counts what turns red; `whole` judges {whole} histories of {history} runs, each once. (All of this section
took {took_s:.0f} s.)
"""
POWER = """\
Changes after {before} runs without one, judged after each further run (a drift after every {every}th),
{repetitions} times. A cell: the share found / after how many runs, in the middle case / the share that was called another
kind of change before. A step is waited for during {step_runs} runs, a drift {drift_runs}.
`placed`: of the steps found, those whose range of commits holds the right one.
"""


def made(measured: dict[str, Any], *, runs: int = trends.RUNS, repetitions: int = trends.REPETITIONS) -> list[str]:
    """Simulate and write down."""
    started_s = time.perf_counter()
    machines = trends.machines(measured)
    whole = max(1, runs * trends.WHOLE // trends.RUNS)
    alarms = [trends.false_alarms(machine, runs=runs, whole=whole) for machine in machines]
    found = [one for machine in machines for one in trends.power(machine, repetitions=repetitions)]
    took_s = time.perf_counter() - started_s
    return lines(alarms, found, runs=runs, whole=whole, repetitions=repetitions, took_s=took_s)


def lines(
    alarms: Sequence[Alarms], found: Sequence[Found], *, runs: int, whole: int, repetitions: int, took_s: float
) -> list[str]:
    """The section."""
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
        *_power(found),
        "",
    ]


def replaced(document: str, section: Sequence[str]) -> str:
    """The document with this section in the place of the one that it has, or before its last."""
    parts = document.split("\n## ")
    kept = [part for part in parts if not part.startswith(HEADING.removeprefix("## "))]
    new = "\n".join(section).removeprefix("## ")
    return "\n## ".join([*kept[:-1], new, kept[-1]])


def _alarms(alarms: Sequence[Alarms]) -> list[str]:
    names = [f"{kind}, {how}" for how in ("nightly", "whole") for kind in ChangeKind]
    rows = [
        [one.machine, *(f"{rate[kind]:.2f}" for rate in (one.nightly, one.whole) for kind in ChangeKind)]
        for one in alarms
    ]
    return _table(["machine", *names], rows)


def _power(found: Sequence[Found]) -> list[str]:
    changes = list(dict.fromkeys(one.change for one in found))
    rows = []
    for machine in dict.fromkeys(one.machine for one in found):
        own = {one.change: one for one in found if one.machine == machine}
        seen = [(one.placed, one.share) for one in own.values() if one.placed is not None]
        placed = sum(placed * share for placed, share in seen) / sum(share for _, share in seen) if seen else None
        rows.append([machine, *(_cell(own[change]) for change in changes), "-" if placed is None else f"{placed:.0%}"])
    return _table(["machine", *changes, "placed"], rows)


def _cell(one: Found) -> str:
    return f"{one.share:.0%} / {'-' if one.runs is None else f'{one.runs:.0f}'} / {one.otherwise:.0%}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
