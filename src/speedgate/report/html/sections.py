"""The parts of a report that are a chart of the stages of one pipeline and workload, each with its figures in a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speedgate.baselines.benchmark_json import PUBLISHED, RECORDED
from speedgate.report.html import charts
from speedgate.report.html.charts import figure
from speedgate.report.html.page import Panel, Table, panels, table
from speedgate.report.html.view import Report, ReportCase
from speedgate.results.run import ColdStart, Run

if TYPE_CHECKING:
    from markupsafe import Markup

GIB = 2**30
LEAST_PERCENT = 0.5  # to either side of the centre: processes that agree better are not drawn as if they did not
_START = {
    "import": "import_s",
    "load": "load_s",
    "apply": "apply_s",
    "load cache": "cache_load_s",
    "first image": "first_image_s",
}
_STATES = ("eager", "cold cache", "imported cache", "warm cache")
Measured = Sequence[tuple[ReportCase, Run]]


def ladder(report: Report) -> Markup | None:
    """Seconds per image of each stage, with what is published and recorded for this machine."""

    def rows(found: Measured) -> list[charts.Bar]:
        return [
            _bar(entry, run.latency_s, "s", {s: b.latency_s for s, b in entry.figures.items()}) for entry, run in found
        ]

    return _by_group(
        report,
        title="latency",
        draw=lambda found: charts.bars(rows(found), title="seconds per image"),
        label="Bar chart of seconds per image by stage",
        caption="Bars are measured here: the geometric mean of process medians. Marks are stored figures of this GPU key.",
        table_of=_ladder_table,
    )


def _ladder_table(found: Measured) -> Table:
    _, first = found[0]
    rows = [
        (
            entry.stage,
            f"{run.latency_s:.4g} s",
            f"{first.latency_s / run.latency_s:.2f}x",
            *(_stored(entry, source, run.latency_s) for source in (PUBLISHED, RECORDED)),
        )
        for entry, run in found
    ]
    columns = ("stage", "latency", f"against {first.stage}", PUBLISHED, RECORDED)
    return Table(caption="Latency by stage", columns=columns, rows=rows, numbers=frozenset(columns[1:]))


def _stored(entry: ReportCase, source: str, measured_s: float) -> str:
    baseline = entry.figures.get(source)
    return "-" if baseline is None else f"{baseline.latency_s:.4g} s ({measured_s / baseline.latency_s - 1:+.1%} here)"


def processes(report: Report) -> Markup | None:
    """Where each fresh process lies, in percent of the case's own centre."""
    return _by_group(
        report,
        title="processes",
        draw=lambda found: charts.points(
            _points(found), title="process median, % from the centre", least=LEAST_PERCENT
        ),
        label="Chart of each process median in percent of the case's centre",
        caption="A point is the median of one fresh process. Zero is the geometric mean of this run's processes.",
        table_of=_process_table,
        is_drawn=_has_spread,
    )


def _has_spread(found: Measured) -> bool:
    """Whether any case has two processes, here or stored: of one each nothing but the rounding of its own centre is drawn."""
    stored = [len(one.process_medians_s) for entry, _ in found for one in (entry.other, *entry.figures.values()) if one]
    return max([*stored, *(len(run.processes) for _, run in found)]) > 1


def _points(found: Measured) -> list[charts.ProcessPoint]:
    points = []
    for entry, run in found:
        sources = {"this run": run.process_medians_s}
        if entry.other is not None:
            sources["other arm"] = entry.other.process_medians_s
        sources |= {source: baseline.process_medians_s for source, baseline in entry.figures.items()}
        points += [
            charts.ProcessPoint(label=entry.stage, value=100 * (median_s / run.latency_s - 1), source=source)
            for source, medians_s in sources.items()
            for median_s in medians_s
        ]
    return points


def _process_table(found: Measured) -> Table:
    rows = [
        (
            entry.stage,
            str(number),
            *(f"{seconds:.5g} s" for seconds in (process.median_s, min(process.seconds), max(process.seconds))),
            str(len(process.seconds)),
            str(len(process.void)),
        )
        for entry, run in found
        for number, process in enumerate(run.processes, start=1)
    ]
    columns = ("stage", "process", "median", "fastest", "slowest", "rounds", "void rounds")
    return Table(caption="Each process", columns=columns, rows=rows, numbers=frozenset(columns[1:]))


def memory(report: Report) -> Markup | None:
    """Peak of each stage beside the stored peaks."""

    def rows(found: Measured) -> list[charts.Bar]:
        stored = [{source: one.peak_bytes / GIB for source, one in entry.figures.items()} for entry, _ in found]
        return [
            _bar(entry, run.peak_bytes / GIB, "GiB", marks) for (entry, run), marks in zip(found, stored, strict=True)
        ]

    return _by_group(
        report,
        title="peak memory",
        draw=lambda found: charts.bars(rows(found), title="peak memory, GiB"),
        label="Bar chart of peak memory by stage",
        caption="The highest peak of any round. Of a CUDA device what torch allocated, of a CPU the resident memory.",
        table_of=_memory_table,
    )


def _memory_table(found: Measured) -> Table:
    rows = [
        (
            entry.stage,
            f"{run.peak_bytes / GIB:.3f} GiB",
            *(
                f"{entry.figures[source].peak_bytes / GIB:.3f} GiB" if source in entry.figures else "-"
                for source in (PUBLISHED, RECORDED)
            ),
        )
        for entry, run in found
    ]
    columns = ("stage", "peak", PUBLISHED, RECORDED)
    return Table(caption="Peak memory by stage", columns=columns, rows=rows, numbers=frozenset(columns[1:]))


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


def _starts(entries: list[ReportCase]) -> dict[tuple[str, str], list[ColdStart]]:
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
        charts.BarSegment(label=stage, part=part, value=value)
        for stage, parts in medians.items()
        for part, value in parts.items()
    ]
    label = f"Stacked bars: {title}, seconds to the first image"
    caption = f"Cold start, {title}: medians"
    return Panel(
        title=title,
        figure=figure(charts.stacked(bars, title="seconds to the first image"), label=label),
        summary=f"cold start, {title}",
        table=table(Table(caption=caption, columns=columns, rows=rows, numbers=frozenset(columns[1:]))),
    )


def _bar(entry: ReportCase, value: float, unit: str, marks: dict[str, float]) -> charts.Bar:
    return charts.Bar(label=f"{entry.stage}\n{value:.4g} {unit}", value=value, marks=marks)


def _by_group(
    report: Report,
    *,
    draw: Callable[[Measured], Callable[[int], Any]],
    title: str,
    label: str,
    caption: str,
    table_of: Callable[[Measured], Table],
    is_drawn: Callable[[Measured], bool] = lambda _: True,
) -> Markup | None:
    """A chart, where it `is_drawn`, and its table for each pipeline and workload of which something was measured."""
    return panels(
        [
            Panel(
                title=group,
                figure=figure(draw(found), label=f"{label}, {group}", caption=caption) if is_drawn(found) else None,
                summary=f"{title}, {group}",
                table=table(table_of(found)),
            )
            for group, entries in report.groups.items()
            if (found := [(entry, run) for entry in entries if (run := entry.measured) is not None])
        ]
    )
