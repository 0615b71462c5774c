"""The sections of the report that chart the stages of each pipeline and workload: latency, processes, memory, starts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from speedgate.baselines.benchmark_json import PUBLISHED, RECORDED
from speedgate.gate.compile_seconds import describe_compilation, seconds_by_cache
from speedgate.report.html.charts import Bar, Draw, ProcessPoint, bar_chart, make_panel, point_chart, stacked_panel
from speedgate.report.html.page import Panel, Table, render_panels
from speedgate.report.html.view import Report, ReportCase
from speedgate.results.case_table import NO_FIGURE, format_peak
from speedgate.results.run import Baseline, ColdStart, Run

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
_CACHE_STATES = ("eager", "no cache", "cold cache", "imported cache", "warm cache")
MeasuredCases = Sequence[tuple[ReportCase, Run]]


def latency_section(report: Report) -> Markup | None:
    """Chart the seconds per image of each stage, with the published and the recorded figure of this GPU key."""
    return _section(report, _latency_panel)


def process_section(report: Report) -> Markup | None:
    """Chart each fresh process in percent of the centre of its case."""
    return _section(report, _process_panel)


def memory_section(report: Report) -> Markup | None:
    """Chart the peak memory of each stage, with the stored peaks."""
    return _section(report, _memory_panel)


def _section(report: Report, panel: Callable[[str, MeasuredCases], Panel]) -> Markup | None:
    """Make the panel of each pipeline and workload with a measured case; None if there is none."""
    measured_by_group = {
        group: [(case, run) for case in cases if (run := case.measured_run) is not None]
        for group, cases in report.groups.items()
    }
    return render_panels([panel(group, measured) for group, measured in measured_by_group.items() if measured])


def _latency_panel(group: str, measured: MeasuredCases) -> Panel:
    _, first = measured[0]

    def stored(case: ReportCase, run: Run, source: str) -> str:
        if source not in case.baselines:
            return NO_FIGURE
        stored_s = case.baselines[source].latency_s
        return f"{stored_s:.4g} s ({run.latency_s / stored_s - 1:+.1%} here)"

    rows = [
        (
            case.stage,
            f"{run.latency_s:.4g} s",
            f"{first.latency_s / run.latency_s:.2f}x",
            *(stored(case, run, source) for source in (PUBLISHED, RECORDED)),
        )
        for case, run in measured
    ]
    columns = ("stage", "latency", f"against {first.stage}", PUBLISHED, RECORDED)
    return make_panel(
        group,
        summary=f"latency, {group}",
        table=Table(caption="Latency by stage", columns=columns, rows=rows, numbers=frozenset(columns[1:])),
        draw=_bars(measured, lambda figures: figures.latency_s, unit="s", title="seconds per image"),
        label=f"Bar chart of seconds per image by stage, {group}",
        caption="Bars are measured here: the geometric mean of process medians. Marks are stored figures of this GPU key.",
    )


def _memory_panel(group: str, measured: MeasuredCases) -> Panel:
    rows = []
    for case, run in measured:
        stored = (case.baselines.get(source) for source in (PUBLISHED, RECORDED))
        peaks = (format_peak(baseline.peak_bytes if baseline else None) for baseline in stored)
        rows.append((case.stage, format_peak(run.peak_bytes), *peaks))
    columns = ("stage", "peak", PUBLISHED, RECORDED)
    return make_panel(
        group,
        summary=f"peak memory, {group}",
        table=Table(caption="Peak memory by stage", columns=columns, rows=rows, numbers=frozenset(columns[1:])),
        draw=_bars(measured, lambda figures: figures.peak_bytes / GIB, unit="GiB", title="peak memory, GiB"),
        label=f"Bar chart of peak memory by stage, {group}",
        caption="The highest peak of any round: on a CUDA device the memory that torch allocated, on a CPU the resident memory.",
    )


def _bars(measured: MeasuredCases, figure: Callable[[Run | Baseline], float], *, unit: str, title: str) -> Draw:
    """Draw a figure of each run as a bar, with marks for that of the stored baselines."""
    rows = [
        Bar(
            label=f"{case.stage}\n{figure(run):.4g} {unit}",
            value=figure(run),
            marks={source: figure(baseline) for source, baseline in case.baselines.items()},
        )
        for case, run in measured
    ]
    return bar_chart(rows, title=title)


def _process_panel(group: str, measured: MeasuredCases) -> Panel:
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
    medians = [(case.stage, run, _medians_by_source(case, run)) for case, run in measured]
    points = [
        ProcessPoint(label=stage, value=100 * (median_s / run.latency_s - 1), source=source)
        for stage, run, medians_by_source in medians
        for source, medians_s in medians_by_source.items()
        for median_s in medians_s
    ]
    # With one process each, a chart shows only the rounding of its centre.
    has_several = any(len(medians_s) > 1 for _, _, by_source in medians for medians_s in by_source.values())
    return make_panel(
        group,
        summary=f"processes, {group}",
        table=Table(caption="Each process", columns=columns, rows=rows, numbers=frozenset(columns[1:])),
        draw=point_chart(points, title="process median, % from the centre", least=_LEAST_PERCENT)
        if has_several
        else None,
        label=f"Chart of each process median in percent of the case's centre, {group}",
        caption="A point is the median of one fresh process. Zero is the geometric mean of this run's processes.",
    )


def _medians_by_source(case: ReportCase, run: Run) -> dict[str, Sequence[float]]:
    sources: dict[str, Run | Baseline] = {
        "this run": run,
        **({"other arm": case.other_run} if case.other_run is not None else {}),
        **case.baselines,
    }
    return {source: figures.process_medians_s for source, figures in sources.items()}


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


def compile_section(report: Report) -> Markup | None:
    """Chart the compiler's seconds at a start of each stage, separately for each state of the compile cache."""
    panels = []
    for group, cases in report.groups.items():
        for state in _CACHE_STATES:
            compiled = [
                (case, case.run, seconds)
                for case in cases
                if case.run is not None and (seconds := _compile_seconds(case.run).get(state))
            ]
            if compiled:
                panels.append(_compile_panel(group, state, compiled))
    return render_panels(panels)


def _compile_seconds(figures: Run | Baseline) -> dict[str, list[float]]:
    starts = figures.cold_starts or ((figures.cold_start,) if isinstance(figures, Run) else ())
    return seconds_by_cache(starts)


def _compile_panel(group: str, state: str, compiled: Sequence[tuple[ReportCase, Run, Sequence[float]]]) -> Panel:
    rows, bars = [], []
    for case, run, seconds in compiled:
        compile_s = statistics.median(seconds)
        stored = {source: _compile_seconds(baseline).get(state) for source, baseline in case.baselines.items()}
        marks = {source: statistics.median(stored_s) for source, stored_s in stored.items() if stored_s}
        recorded = f"{marks[RECORDED]:.2f} s" if RECORDED in marks else NO_FIGURE
        rows.append((case.stage, describe_compilation(run), str(len(seconds)), f"{compile_s:.2f} s", recorded))
        bars.append(Bar(label=f"{case.stage}\n{compile_s:.3g} s", value=compile_s, marks=marks))
    columns = ("stage", "how", "starts", "compile", RECORDED)
    return make_panel(
        f"{group}, {state}",
        summary=f"compile, {group}, {state}",
        table=Table(
            caption=f"Seconds of the compiler, {state}: medians",
            columns=columns,
            rows=rows,
            numbers=frozenset(columns[2:]),
        ),
        draw=bar_chart(bars, title="seconds of the compiler at a start"),
        label=f"Bar chart of the compiler's seconds by stage, {group}, {state}",
        caption="They are part of applying the stage and of the first image. Marks are the figures of the baseline.",
    )


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
    return stacked_panel(
        title,
        medians,
        summary=f"cold start, {title}",
        table=Table(
            caption=f"Cold start, {title}: medians", columns=columns, rows=rows, numbers=frozenset(columns[1:])
        ),
        axis="seconds to the first image",
    )
