"""The sections of the report that chart the stages of each pipeline and workload: latency, processes, memory, cold start."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from speedgate.baselines.benchmark_json import PUBLISHED, RECORDED
from speedgate.report.html.charts import (
    Bar,
    BarSegment,
    Draw,
    ProcessPoint,
    bar_chart,
    point_chart,
    render_figure,
    stacked_bar_chart,
)
from speedgate.report.html.page import Panel, Table, render_panels, render_table
from speedgate.report.html.view import Report, ReportCase
from speedgate.results.case_table import NO_FIGURE, format_peak
from speedgate.results.run import ColdStart, Run

if TYPE_CHECKING:
    from markupsafe import Markup

GIB = 2**30
_LEAST_PERCENT = 0.5  # the smallest axis of processes to either side, so that rounding errors do not fill it
_START_SECONDS = {
    "import": "import_s",
    "load": "load_s",
    "apply": "apply_s",
    "load cache": "cache_load_s",
    "first image": "first_image_s",
}
_CACHE_STATES = ("eager", "cold cache", "imported cache", "warm cache")
MeasuredCases = Sequence[tuple[ReportCase, Run]]


def latency_section(report: Report) -> Markup | None:
    """Chart the seconds per image of each stage, with the published and the recorded figure of this GPU key."""

    def draw(measured: MeasuredCases) -> Draw:
        rows = [
            Bar(
                label=f"{case.stage}\n{run.latency_s:.4g} s",
                value=run.latency_s,
                marks={source: baseline.latency_s for source, baseline in case.baselines.items()},
            )
            for case, run in measured
        ]
        return bar_chart(rows, title="seconds per image")

    return _panel_per_group(
        report,
        title="latency",
        draw=draw,
        label="Bar chart of seconds per image by stage",
        caption="Bars are measured here: the geometric mean of process medians. Marks are stored figures of this GPU key.",
        table_of=_latency_table,
    )


def _latency_table(measured: MeasuredCases) -> Table:
    _, first = measured[0]
    rows = [
        (
            case.stage,
            f"{run.latency_s:.4g} s",
            f"{first.latency_s / run.latency_s:.2f}x",
            *(_stored_latency(case, source, run.latency_s) for source in (PUBLISHED, RECORDED)),
        )
        for case, run in measured
    ]
    columns = ("stage", "latency", f"against {first.stage}", PUBLISHED, RECORDED)
    return Table(caption="Latency by stage", columns=columns, rows=rows, numbers=frozenset(columns[1:]))


def _stored_latency(case: ReportCase, source: str, measured_s: float) -> str:
    baseline = case.baselines.get(source)
    if baseline is None:
        return NO_FIGURE
    return f"{baseline.latency_s:.4g} s ({measured_s / baseline.latency_s - 1:+.1%} here)"


def process_section(report: Report) -> Markup | None:
    """Chart each fresh process in percent of the centre of its case."""
    return _panel_per_group(
        report,
        title="processes",
        draw=lambda measured: point_chart(
            _process_points(measured), title="process median, % from the centre", least=_LEAST_PERCENT
        ),
        label="Chart of each process median in percent of the case's centre",
        caption="A point is the median of one fresh process. Zero is the geometric mean of this run's processes.",
        table_of=_process_table,
        has_chart=_has_several_processes,
    )


def _has_several_processes(measured: MeasuredCases) -> bool:
    """True if any case has two processes, here or stored: with one each, a chart shows only the rounding of its centre."""
    counts = [len(run.processes) for _, run in measured]
    for case, _ in measured:
        counts += [len(other.process_medians_s) for other in (case.other_run, *case.baselines.values()) if other]
    return max(counts) > 1


def _process_points(measured: MeasuredCases) -> list[ProcessPoint]:
    points = []
    for case, run in measured:
        medians_by_source = {"this run": run.process_medians_s}
        if case.other_run is not None:
            medians_by_source["other arm"] = case.other_run.process_medians_s
        medians_by_source |= {source: baseline.process_medians_s for source, baseline in case.baselines.items()}
        points += [
            ProcessPoint(label=case.stage, value=100 * (median_s / run.latency_s - 1), source=source)
            for source, medians_s in medians_by_source.items()
            for median_s in medians_s
        ]
    return points


def _process_table(measured: MeasuredCases) -> Table:
    rows = [
        (
            case.stage,
            str(number),
            *(f"{seconds:.5g} s" for seconds in (process.median_s, min(process.seconds), max(process.seconds))),
            str(len(process.seconds)),
            str(len(process.discarded_reasons)),
        )
        for case, run in measured
        for number, process in enumerate(run.processes, start=1)
    ]
    columns = ("stage", "process", "median", "fastest", "slowest", "rounds", "discarded rounds")
    return Table(caption="Each process", columns=columns, rows=rows, numbers=frozenset(columns[1:]))


def memory_section(report: Report) -> Markup | None:
    """Chart the peak memory of each stage, with the stored peaks."""

    def draw(measured: MeasuredCases) -> Draw:
        rows = [
            Bar(
                label=f"{case.stage}\n{run.peak_bytes / GIB:.4g} GiB",
                value=run.peak_bytes / GIB,
                marks={source: baseline.peak_bytes / GIB for source, baseline in case.baselines.items()},
            )
            for case, run in measured
        ]
        return bar_chart(rows, title="peak memory, GiB")

    return _panel_per_group(
        report,
        title="peak memory",
        draw=draw,
        label="Bar chart of peak memory by stage",
        caption="The highest peak of any round: on a CUDA device the memory that torch allocated, on a CPU the resident memory.",
        table_of=_memory_table,
    )


def _memory_table(measured: MeasuredCases) -> Table:
    def stored(case: ReportCase, source: str) -> str:
        return format_peak(case.baselines[source].peak_bytes if source in case.baselines else None)

    rows = [
        (case.stage, format_peak(run.peak_bytes), stored(case, PUBLISHED), stored(case, RECORDED))
        for case, run in measured
    ]
    columns = ("stage", "peak", PUBLISHED, RECORDED)
    return Table(caption="Peak memory by stage", columns=columns, rows=rows, numbers=frozenset(columns[1:]))


def cold_start_section(report: Report) -> Markup | None:
    """Chart the seconds from an empty worker to the first image, separately for each state of the compile cache."""
    panels = []
    for group, cases in report.groups.items():
        starts = _starts_by_stage_and_state(cases)
        for state in _CACHE_STATES:
            starts_by_stage = {stage: same for (stage, cache), same in starts.items() if cache == state}
            if starts_by_stage:
                panels.append(_cold_start_panel(f"{group}, {state}", starts_by_stage))
    return render_panels(panels)


def _starts_by_stage_and_state(cases: Sequence[ReportCase]) -> dict[tuple[str, str], list[ColdStart]]:
    """Group the cold starts. A run without rounds has the start that was measured when it was built."""
    starts: dict[tuple[str, str], list[ColdStart]] = {}
    for case in cases:
        if case.run is not None:
            for start in case.run.cold_starts or (case.run.cold_start,):
                starts.setdefault((case.stage, start.cache), []).append(start)
    return starts


def _cold_start_panel(title: str, starts_by_stage: Mapping[str, Sequence[ColdStart]]) -> Panel:
    medians = {
        stage: {
            name: statistics.median(getattr(start, field) for start in starts) for name, field in _START_SECONDS.items()
        }
        for stage, starts in starts_by_stage.items()
    }
    rows = [
        (
            stage,
            str(len(starts_by_stage[stage])),
            *(f"{seconds:.2f} s" for seconds in seconds_by_name.values()),
            f"{sum(seconds_by_name.values()):.2f} s",
        )
        for stage, seconds_by_name in medians.items()
    ]
    columns = ("stage", "starts", *_START_SECONDS, "total")
    segments = [
        BarSegment(label=stage, segment=name, value=seconds)
        for stage, seconds_by_name in medians.items()
        for name, seconds in seconds_by_name.items()
    ]
    table = Table(caption=f"Cold start, {title}: medians", columns=columns, rows=rows, numbers=frozenset(columns[1:]))
    return Panel(
        title=title,
        figure=render_figure(
            stacked_bar_chart(segments, title="seconds to the first image"),
            label=f"Stacked bars: {title}, seconds to the first image",
        ),
        summary=f"cold start, {title}",
        table=render_table(table),
    )


def _panel_per_group(
    report: Report,
    *,
    draw: Callable[[MeasuredCases], Draw],
    title: str,
    label: str,
    caption: str,
    table_of: Callable[[MeasuredCases], Table],
    has_chart: Callable[[MeasuredCases], bool] = lambda _: True,
) -> Markup | None:
    """Make a chart and its table for each pipeline and workload with a measured case; None if there is none."""
    panels = []
    for group, cases in report.groups.items():
        measured = [(case, run) for case in cases if (run := case.measured_run) is not None]
        if measured:
            figure = None
            if has_chart(measured):
                figure = render_figure(draw(measured), label=f"{label}, {group}", caption=caption)
            panels.append(
                Panel(
                    title=group,
                    figure=figure,
                    summary=f"{title}, {group}",
                    table=render_table(table_of(measured)),
                )
            )
    return render_panels(panels)
