"""The part of a report that says what a start costs, apart by what the compile cache held."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

from speedgate.report.html import plots
from speedgate.report.html.charts import figure
from speedgate.report.html.tables import Panel, Table, panels, table
from speedgate.report.html.view import Entry, Report
from speedgate.results.run import ColdStart

if TYPE_CHECKING:
    from markupsafe import Markup

_START = {
    "import": "import_s",
    "load": "load_s",
    "apply": "apply_s",
    "load cache": "cache_load_s",
    "first image": "first_image_s",
}
_STATES = ("eager", "cold cache", "imported cache", "warm cache")


def cold_start(report: Report) -> Markup | None:
    """Seconds from an empty worker to the first image, apart by what the compile cache held."""
    parts = []
    for group, entries in report.groups.items():
        starts = _starts(entries)
        for state in _STATES:
            of_state = {stage: found for (stage, own), found in starts.items() if own == state}
            if of_state:
                parts.append(_start_part(f"{group}, {state}", of_state))
    return panels(parts)


def _starts(entries: list[Entry]) -> dict[tuple[str, str], list[ColdStart]]:
    """The starts by stage and state of the cache; a run without rounds has its first one."""
    found: dict[tuple[str, str], list[ColdStart]] = {}
    for entry in entries:
        if entry.run is not None:
            for start in entry.run.cold_starts or (entry.run.cold_start,):
                found.setdefault((entry.stage, start.cache), []).append(start)
    return found


def _start_part(title: str, starts: Mapping[str, list[ColdStart]]) -> Panel:
    medians = {
        stage: {part: statistics.median(getattr(start, name) for start in found) for part, name in _START.items()}
        for stage, found in starts.items()
    }
    rows = [
        (
            stage,
            str(len(starts[stage])),
            *(f"{value:.2f} s" for value in parts.values()),
            f"{sum(parts.values()):.2f} s",
        )
        for stage, parts in medians.items()
    ]
    columns = ("stage", "starts", *_START, "total")
    bars = [
        plots.Part(label=stage, part=part, value=value)
        for stage, parts in medians.items()
        for part, value in parts.items()
    ]
    label = f"Stacked bars: {title}, seconds to the first image"
    caption = f"Cold start, {title}: medians"
    return Panel(
        title=title,
        figure=figure(plots.stacked(bars, title="seconds to the first image"), label=label),
        summary=f"cold start, {title}",
        table=table(Table(caption=caption, columns=columns, rows=rows, numbers=frozenset(columns[1:]))),
    )
