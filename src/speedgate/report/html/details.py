"""The part of a report that says where the seconds of an image go: components, kernels, and the code that was generated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from speedgate.report.html import charts, page
from speedgate.report.html.charts import figure
from speedgate.report.html.page import Panel, Table, panels, table
from speedgate.report.html.pictures import MAP_TIMES, Pictures
from speedgate.report.html.view import Report, ReportCase, mapping, numbers
from speedgate.results import case_table
from speedgate.results.case_table import NO_FIGURE, row_of_run

if TYPE_CHECKING:
    from markupsafe import Markup

_SMALL_PX = 256  # below it a pixel is shown as a square rather than smoothed
_ROOFLINE_COLUMNS = ("case", "component", "TFLOP", "floor", "share reached")
_MOST_KERNELS = 20  # of a case, the most expensive ones: the results hold the rest


def attribution(report: Report) -> Markup | None:
    """A chart of the components, and the kernels of each case that was profiled."""
    found = [profile for entry in report.entries if (profile := _profile(entry)) is not None]
    charts = components(report)
    if not charts and not found:
        return None
    return page.render("attribution.html", charts=charts or "", profiles=found)


def components(report: Report) -> Markup | None:
    """The seconds of each component by stage."""
    parts = []
    for group, entries in report.groups.items():
        found = {entry.stage: numbers(entry.run.components_s) for entry in entries if entry.run is not None}
        found = {stage: seconds for stage, seconds in found.items() if seconds}
        if found:
            parts.append(_component_part(group, found))
    return panels(parts)


def _component_part(title: str, found: Mapping[str, Mapping[str, float]]) -> Panel:
    names = list(dict.fromkeys(name for seconds in found.values() for name in seconds))
    rows = [
        (stage, *(f"{seconds[name]:.4g} s" if name in seconds else "-" for name in names))
        for stage, seconds in found.items()
    ]
    bars = [
        charts.BarSegment(label=stage, part=name, value=seconds[name])
        for stage, seconds in found.items()
        for name in names
        if name in seconds
    ]
    caption = f"Seconds by component, {title}"
    return Panel(
        title=title,
        figure=figure(charts.stacked(bars, title="seconds"), label=f"Stacked bars: {title}, seconds by component"),
        summary=f"components, {title}",
        table=table(Table(caption=caption, columns=("stage", *names), rows=rows, numbers=frozenset(names))),
    )


def _profile(entry: ReportCase) -> dict[str, Any] | None:
    """The kernel table of a case, where its run carries one: `attribution` with `kernels` of name, count and seconds."""
    profile = getattr(entry.run, "attribution", None)
    if profile is None:
        return None
    kernels = sorted(profile.kernels, key=lambda kernel: -kernel.seconds)
    shown = kernels[:_MOST_KERNELS]
    rows = [(kernel.name, str(kernel.count), f"{1e3 * kernel.seconds:.4g} ms") for kernel in shown]
    caption = f"Kernels of one profiled image of {entry.case_key}"
    if len(kernels) > len(shown):
        caption += f", the first {len(shown)} of {len(kernels)}"
    return {
        "title": entry.case_key,
        "attention": ", ".join(f"{name} ({count})" for name, count in profile.attention_kernels.items()) or "none",
        "digest": profile.code_digest or "nothing was compiled",
        "table": table(
            Table(caption=caption, columns=("kernel", "count", "time"), rows=rows, numbers=frozenset({"count", "time"}))
        ),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class GalleryImage:
    """One picture of a row. What several rows show stands in the page once, under `own_id`; they name it by `other_id`."""

    caption: str
    source: str
    size_px: tuple[int, int]
    own_id: str | None = None
    other_id: str | None = None


def pictures(report: Report) -> Markup | None:
    """Each stage's image beside the reference, with both maps."""
    shown = {entry.case_key: entry.pictures for entry in report.entries if entry.pictures is not None}
    shared = {
        reference: f"picture-{n}" for n, reference in enumerate(sorted({own.reference for own in shown.values()}))
    }
    rows = [_picture_row(entry, own, shown, shared) for entry in report.entries if (own := entry.pictures) is not None]
    return page.render("pictures.html", rows=rows) if rows else None


def _picture_row(
    entry: ReportCase, own: Pictures, shown: Mapping[str, Pictures], shared: Mapping[str, str]
) -> dict[str, Any]:
    reference = shown.get(own.reference)
    is_reference = own.reference == entry.case_key
    images = [_image(f"{entry.stage}: what it makes", own.image, own_id=shared.get(entry.case_key))]
    if reference is not None and not is_reference:
        images.insert(0, _image(f"reference: {own.reference}", reference.image, other_id=shared[own.reference]))
        maps = {
            f"difference, times {MAP_TIMES}": own.difference,
            f"SSIM map, 1 - SSIM times {MAP_TIMES}": own.similarity,
        }
        images += [_image(caption, data) for caption, data in maps.items() if data is not None]
    return {
        "title": entry.case_key,
        "ssim": case_table.SSIM.cell(row_of_run(entry.run)) if entry.run else NO_FIGURE,
        "small": own.width_px < _SMALL_PX,
        "is_reference": is_reference,
        "has_reference": reference is not None,
        "images": images,
    }


def _image(caption: str, data: bytes, **ids: str | None) -> GalleryImage:
    return GalleryImage(caption=caption, source=page.png(data), size_px=page.png_size(data), **ids)


def roofline(report: Report) -> Markup | None:
    """A row a component and one for the image; None where nothing was counted. Floors are by the ceilings of that machine."""
    rows = [row for entry in _told(report) for row in _roofline_rows(entry)]
    count = len(_ROOFLINE_COLUMNS) if any(row[3] != "-" for row in rows) else 3
    columns, cells = _ROOFLINE_COLUMNS[:count], [row[:count] for row in rows]
    caption = "Operations of an image, by component"
    shown = Table(caption=caption, columns=columns, rows=cells, numbers=frozenset(columns[2:]))
    return table(shown) if rows else None


def _told(report: Report) -> list[ReportCase]:
    """Those of which operations are known; without ceilings every stage of a workload says the same, so the first alone."""
    found, said = [], set()
    for entry in report.entries:
        known = bool(numbers(entry.roofline.get("floors_s")))
        if entry.roofline and (known or entry.group not in said):
            said.add(entry.group)
            found.append(entry)
    return found


def _roofline_rows(entry: ReportCase) -> list[tuple[str, ...]]:
    name = entry.case_key if numbers(entry.roofline.get("floors_s")) else entry.group
    floors_s, image = numbers(entry.roofline.get("floors_s")), numbers(entry.roofline)
    flops = {
        component: sum(numbers(mapping(one).get("flops")).values())
        for component, one in mapping(entry.roofline.get("operations")).items()
    }
    rows = [
        (name, component, _tflop(count), _seconds(floors_s.get(component)), "-") for component, count in flops.items()
    ]
    share = f"{image['share']:.0%}" if "share" in image else "-"
    return [*rows, (name, "image", _tflop(sum(flops.values())), _seconds(image.get("floor_s")), share)]


def _tflop(flops: float) -> str:
    return f"{flops / 1e12:.4g}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} s"
