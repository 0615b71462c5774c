"""The sections of the report with the details of a case: components and kernels, pictures, and operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from speedgate.report import gpu_code_table
from speedgate.report.html.charts import stacked_panel
from speedgate.report.html.page import (
    Panel,
    Table,
    outcome_badge,
    png_data_url,
    png_size,
    render_panels,
    render_table,
    render_template,
)
from speedgate.report.html.pictures import MAP_TIMES, Pictures
from speedgate.report.html.view import Report, ReportCase, as_mapping, numbers_of
from speedgate.results import case_table
from speedgate.results.case_table import NO_FIGURE, SSIM, format_figure, row_of_run

if TYPE_CHECKING:
    from markupsafe import Markup

_SMALL_PX = 256  # the pixels of a smaller image are shown as squares and not smoothed
_MAX_KERNELS = 20  # of each case, the most expensive; the results hold all
_ROOFLINE_COLUMNS = ("case", "component", "TFLOP", "floor", "share reached")


def attribution_section(report: Report) -> Markup | None:
    """Chart the seconds of each component, and list the kernels of each case that was profiled."""
    profiles = [profile for case in report.cases if (profile := _kernel_table(case)) is not None]
    charts = _component_charts(report)
    if not charts and not profiles:
        return None
    return render_template("attribution.html", charts=charts or "", profiles=profiles)


def _component_charts(report: Report) -> Markup | None:
    panels = []
    for group, cases in report.groups.items():
        seconds_by_stage = {case.stage: numbers_of(case.run.components_s) for case in cases if case.run is not None}
        seconds_by_stage = {stage: seconds for stage, seconds in seconds_by_stage.items() if seconds}
        if seconds_by_stage:
            panels.append(_component_panel(group, seconds_by_stage))
    return render_panels(panels)


def _component_panel(title: str, seconds_by_stage: Mapping[str, Mapping[str, float]]) -> Panel:
    names = list(dict.fromkeys(name for seconds in seconds_by_stage.values() for name in seconds))
    rows = [
        (stage, *(format_figure(seconds.get(name), ".4g", " s") for name in names))
        for stage, seconds in seconds_by_stage.items()
    ]
    caption = f"Seconds by component, {title}"
    return stacked_panel(
        title,
        {
            stage: {name: seconds[name] for name in names if name in seconds}
            for stage, seconds in seconds_by_stage.items()
        },
        summary=f"components, {title}",
        table=Table(caption=caption, columns=("stage", *names), rows=rows, numbers=frozenset(names)),
        axis="seconds",
        label="seconds by component",
    )


def _kernel_table(case: ReportCase) -> dict[str, Any] | None:
    """Make the values of the kernel table; None if the case was not profiled."""
    profile = case.run.attribution if case.run is not None else None
    if profile is None:
        return None
    kernels = sorted(profile.kernels, key=lambda kernel: -kernel.seconds)
    listed = kernels[:_MAX_KERNELS]
    caption = f"Kernels of one profiled image of {case.case_key}"
    if len(kernels) > len(listed):
        caption += f", the first {len(listed)} of {len(kernels)}"
    table = Table(
        caption=caption,
        columns=("kernel", "count", "time"),
        rows=[(kernel.name, str(kernel.count), f"{1e3 * kernel.seconds:.4g} ms") for kernel in listed],
        numbers=frozenset({"count", "time"}),
    )
    return {
        "title": case.case_key,
        "attention": ", ".join(f"{name} ({count})" for name, count in profile.attention_kernels.items()) or "none",
        "digest": profile.code_digest or "nothing was compiled",
        "table": render_table(table),
    }


def picture_section(report: Report) -> Markup | None:
    """Show the image of each stage beside its reference, with both maps."""
    pictures_by_case = {case.case_key: case.pictures for case in report.cases if case.pictures is not None}
    references = sorted({pictures.reference for pictures in pictures_by_case.values()})
    ids = {reference: f"picture-{number}" for number, reference in enumerate(references)}
    rows = [
        _gallery_row(case, pictures, pictures_by_case.get(pictures.reference), ids)
        for case in report.cases
        if (pictures := case.pictures) is not None
    ]
    return render_template("pictures.html", rows=rows) if rows else None


def _gallery_row(
    case: ReportCase, pictures: Pictures, reference: Pictures | None, ids: Mapping[str, str]
) -> dict[str, Any]:
    is_reference = pictures.reference == case.case_key
    images = [_gallery_image(f"{case.stage}: its image", pictures.image, define_id=ids.get(case.case_key))]
    if reference is not None and not is_reference:
        images.insert(
            0, _gallery_image(f"reference: {pictures.reference}", reference.image, use_id=ids[pictures.reference])
        )
        maps = {
            f"difference, times {MAP_TIMES}": pictures.difference,
            f"SSIM map, 1 - SSIM times {MAP_TIMES}": pictures.similarity,
        }
        images += [_gallery_image(caption, data) for caption, data in maps.items() if data is not None]
    return {
        "title": case.case_key,
        "ssim": SSIM.cell(row_of_run(case.run)) if case.run is not None else NO_FIGURE,
        "small": pictures.width_px < _SMALL_PX,
        "is_reference": is_reference,
        "has_reference": reference is not None,
        "images": images,
    }


def _gallery_image(
    caption: str, data: bytes, *, define_id: str | None = None, use_id: str | None = None
) -> dict[str, Any]:
    """Make the values of one image. A reference is in the page once, as `define_id`; other rows name it by `use_id`."""
    source = {"source": png_data_url(data), "size_px": png_size(data)}
    return {"caption": caption, "define_id": define_id, "use_id": use_id, **source}


def gpu_code_section(report: Report) -> Markup | None:
    """List what the code does that was generated for GPUs, one row for each case and target."""
    codes, verdicts = (
        {case.case_key: getattr(case, name) for case in report.cases} for name in ("gpu_code", "verdicts")
    )
    rows = gpu_code_table.rows_of(codes, verdicts)
    if not rows:
        return None
    *columns, verdict = case_table.with_figures(gpu_code_table.COLUMNS, rows)
    table = Table(
        caption=gpu_code_table.CAPTION,
        columns=[column.heading for column in (*columns, verdict)],
        rows=[[*(column.cell(row) for column in columns), outcome_badge(row.outcome)] for row in rows],
        numbers=frozenset(column.heading for column in columns if column.is_number),
    )
    return render_table(table)


def roofline_section(report: Report) -> Markup | None:
    """List the operations of each component and of the image; with known ceilings also the floor and the share reached."""
    rows = [row for case in _cases_with_operations(report) for row in _roofline_rows(case)]
    if not rows:
        return None
    count = len(_ROOFLINE_COLUMNS) if any(row[3] != NO_FIGURE for row in rows) else 3
    table = Table(
        caption="Operations of an image, by component",
        columns=_ROOFLINE_COLUMNS[:count],
        rows=[row[:count] for row in rows],
        numbers=frozenset(_ROOFLINE_COLUMNS[2:count]),
    )
    return render_table(table)


def _cases_with_operations(report: Report) -> list[ReportCase]:
    """Take the cases with counted operations; without ceilings only the first of a workload, as its stages are equal."""
    cases: list[ReportCase] = []
    groups: set[str] = set()
    for case in report.cases:
        if case.roofline and (_floors_s(case) or case.group not in groups):
            groups.add(case.group)
            cases.append(case)
    return cases


def _floors_s(case: ReportCase) -> dict[str, float]:
    """The least seconds of each component on this machine; empty if its ceilings are not known."""
    return numbers_of(case.roofline.get("floors_s"))


def _roofline_rows(case: ReportCase) -> list[tuple[str, ...]]:
    floors_s, image = _floors_s(case), numbers_of(case.roofline)
    name = case.case_key if floors_s else case.group
    flops_by_component = {
        component: sum(numbers_of(as_mapping(operations).get("flops")).values())
        for component, operations in as_mapping(case.roofline.get("operations")).items()
    }
    rows = [
        (name, component, _tflop(flops), format_figure(floors_s.get(component), ".3g", " s"), NO_FIGURE)
        for component, flops in flops_by_component.items()
    ]
    floor, share = format_figure(image.get("floor_s"), ".3g", " s"), format_figure(image.get("share"), ".0%")
    return [*rows, (name, "image", _tflop(sum(flops_by_component.values())), floor, share)]


def _tflop(flops: float) -> str:
    return f"{flops / 1e12:.4g}"
