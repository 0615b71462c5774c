"""The part of a report that says where the seconds of an image go: components, kernels, and the code that was generated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from speedgate.report.html import page, plots
from speedgate.report.html.charts import figure
from speedgate.report.html.tables import Panel, Table, panels, table
from speedgate.report.html.view import Entry, Report, numbers

if TYPE_CHECKING:
    from markupsafe import Markup

_MOST_KERNELS = 20  # of a case, the most expensive ones: the results hold the rest


def section(report: Report) -> Markup | None:
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
        plots.Part(label=stage, part=name, value=seconds[name])
        for stage, seconds in found.items()
        for name in names
        if name in seconds
    ]
    caption = f"Seconds by component, {title}"
    return Panel(
        title=title,
        figure=figure(plots.stacked(bars, title="seconds"), label=f"Stacked bars: {title}, seconds by component"),
        summary=f"components, {title}",
        table=table(Table(caption=caption, columns=("stage", *names), rows=rows, numbers=frozenset(names))),
    )


def _profile(entry: Entry) -> dict[str, Any] | None:
    """The kernel table of a case, where its run carries one: `attribution` with `kernels` of name, count and seconds."""
    attribution = getattr(entry.run, "attribution", None)
    if attribution is None:
        return None
    kernels = sorted(attribution.kernels, key=lambda kernel: -kernel.seconds)
    shown = kernels[:_MOST_KERNELS]
    rows = [(kernel.name, str(kernel.count), f"{1e3 * kernel.seconds:.4g} ms") for kernel in shown]
    caption = f"Kernels of one profiled image of {entry.case_key}"
    if len(kernels) > len(shown):
        caption += f", the first {len(shown)} of {len(kernels)}"
    return {
        "title": entry.case_key,
        "attention": ", ".join(f"{name} ({count})" for name, count in attribution.attention_kernels.items()) or "none",
        "digest": attribution.code_digest or "nothing was compiled",
        "table": table(
            Table(caption=caption, columns=("kernel", "count", "time"), rows=rows, numbers=frozenset({"count", "time"}))
        ),
    }
