"""Draw the charts of the report as SVG: bars with marks, stacked bars, and points.

Altair makes a Vega-Lite specification and vl-convert draws it when the page is written. So a chart is a few kilobytes of SVG and
needs no script; Vega's runtime would add 800 kB to the page and evaluate code, which the page's policy forbids. A table below
the chart replaces tooltips, because a keyboard and a screen reader can reach it. Colours are names of `style.css`, so one drawing
fits light, dark and paper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speedgate.report.html import page
from speedgate.report.html.page import Panel, Table
from speedgate.results.text import printable_lines

if TYPE_CHECKING:
    from markupsafe import Markup

# Width with axes and labels. A phone of 390 px gets a separate drawing: the wide one, scaled down, could not be read.
WIDE_PX, NARROW_PX = 760, 356
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))
_FONT = "system-ui, sans-serif"
_AXIS = {
    "labelColor": "var(--text)",
    "titleColor": "var(--muted)",
    "gridColor": "var(--grid)",
    "domainColor": "var(--line)",
    "tickColor": "var(--line)",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "labelLimit": 180,
}
_LEGEND = {
    "labelColor": "var(--text)",
    "titleColor": "var(--muted)",
    "labelFontSize": 12,
    "orient": "top",
    "columns": 3,
}
_CONFIG = {
    # The fonts of a reader may be wider than the fonts with which the labels were measured here.
    "padding": {"left": 14, "right": 14, "top": 5, "bottom": 5},
    "autosize": {"type": "fit-x", "contains": "padding"},
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": _AXIS,
    "legend": _LEGEND,
    "range": {"category": list(SERIES)},
    "title": {"color": "var(--text)", "anchor": "start", "fontSize": 13},
    "text": {"color": "var(--text)"},
    "header": {"labelColor": "var(--text)", "titleColor": "var(--muted)", "labelFontSize": 12},
}
_TICK = "M-0.2,-1.1H0.2V1.1H-0.2Z"  # an SVG path in units of the size of a point
# Colour and shape by the source of a figure. The shape is for people who cannot tell the colours apart.
MARKS = {"published": ("var(--second-mark)", "diamond"), "recorded": ("var(--mark)", _TICK)}
POINTS = {
    "this run": ("var(--series-1)", "circle"),
    "other arm": ("var(--series-2)", "square"),
    "recorded": ("var(--mark)", "diamond"),
    "published": ("var(--second-mark)", "triangle-up"),
}
_LABEL_LINES = "split(datum.label, '\\n')"  # a Vega expression: an axis label of two lines

# Makes an Altair chart that is so many pixels wide.
Draw = Callable[[int], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar, and the stored figures marked on it by source, a key of `MARKS`. The label may have two lines."""

    label: str
    value: float
    marks: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessPoint:
    """One point in the row of its label; `source` is a key of `POINTS`."""

    label: str
    value: float
    source: str


def bar_chart(rows: Sequence[Bar], *, title: str) -> Draw:
    """Draw horizontal bars from zero, with a mark for each stored figure; `title` names the axis and its unit."""
    import altair as alt

    bars = [{"label": row.label, "value": row.value} for row in rows]
    marks = [
        {"label": row.label, "value": value, "source": source} for row in rows for source, value in row.marks.items()
    ]

    def draw(width_px: int) -> Any:
        x = alt.X("value:Q", title=title, axis=_value_axis(width_px))
        y = _label_axis(lines=2)
        layers = [alt.Chart(alt.InlineData(bars)).mark_bar(color="var(--bar)", height=16).encode(x=x, y=y)]
        if marks:
            points = alt.Chart(alt.InlineData(marks)).mark_point(size=130, strokeWidth=3, opacity=1, filled=True)
            layers.append(points.encode(x=x, y=y, **_colour_and_shape(marks, MARKS)))
        return alt.layer(*layers).properties(width=width_px, height={"step": 38})

    return draw


def point_chart(rows: Sequence[ProcessPoint], *, title: str, least: float) -> Draw:
    """Draw a row of points for each label, by source, with a line at zero. The axis reaches at least from -least to least."""
    import altair as alt

    points = [dataclasses.asdict(row) for row in rows]
    values = [row.value for row in rows]
    scale = alt.Scale(domain=[min(-least, *values), max(least, *values)], nice=True)

    def draw(width_px: int) -> Any:
        zero = alt.Chart(alt.InlineData([{"value": 0.0}])).mark_rule(color="var(--muted)", strokeDash=[3, 3])
        marks = alt.Chart(alt.InlineData(points)).mark_point(size=70, strokeWidth=2, opacity=0.9)
        layers = [
            zero.encode(x="value:Q"),
            marks.encode(
                x=alt.X("value:Q", title=title, scale=scale, axis=_value_axis(width_px)),
                y=_label_axis(),
                yOffset=alt.YOffset("source:N", sort=list(POINTS)),
                **_colour_and_shape(points, POINTS),
            ),
        ]
        return alt.layer(*layers).properties(width=width_px, height={"step": 16})

    return draw


def stacked_bar_chart(bars: Mapping[str, Mapping[str, float]], *, title: str) -> Draw:
    """Draw a bar for each label, made of segments by name; from the sixth name on they share a colour."""
    import altair as alt

    names = list(dict.fromkeys(name for segments in bars.values() for name in segments))
    rows = [
        {"label": label, "segment": name, "value": value, "position": names.index(name)}
        for label, segments in bars.items()
        for name, value in segments.items()
    ]
    colours = [SERIES[min(position, len(SERIES) - 1)] for position in range(len(names))]

    def draw(width_px: int) -> Any:
        colour = alt.Color(
            "segment:N",
            title=None,
            sort=None,
            scale=alt.Scale(domain=names, range=colours),
            legend=alt.Legend(columns=6 if width_px >= WIDE_PX else 2),
        )
        marks = alt.Chart(alt.InlineData(rows)).mark_bar(height=18, stroke="var(--ground)", strokeWidth=1)
        x = alt.X("value:Q", title=title, axis=_value_axis(width_px))
        chart = marks.encode(x=x, y=_label_axis(), order="position:Q", color=colour)
        return chart.properties(width=width_px, height={"step": 34})

    return draw


def stacked_panel(
    title: str,
    seconds_by_stage: Mapping[str, Mapping[str, float]],
    *,
    summary: str,
    table: Table,
    axis: str,
    label: str = "",
) -> Panel:
    """Make a panel of one stacked bar for each stage; a screen reader says `label`, or the title of the axis."""
    draw = stacked_bar_chart(seconds_by_stage, title=axis)
    return make_panel(title, summary=summary, table=table, draw=draw, label=f"Stacked bars: {title}, {label or axis}")


def make_panel(title: str, *, summary: str, table: Table, draw: Draw | None, label: str, caption: str = "") -> Panel:
    """Make a panel of a chart, if there is one, and its table."""
    figure = render_figure(draw, label=label, caption=caption) if draw else None
    return Panel(title=title, figure=figure, summary=summary, table=page.render_table(table))


def render_figure(draw: Draw, *, label: str, caption: str = "") -> Markup:
    """Render a chart in both widths; the style sheet shows the one that fits the screen.

    A screen reader says the label. The figures belong in a table beside the chart.
    """
    return page.render_template(
        "figure.html",
        charts={"wide": render_svg(draw(WIDE_PX), label=label), "narrow": render_svg(draw(NARROW_PX), label=label)},
        caption=caption,
    )


def render_svg(chart: Any, *, label: str) -> Markup:
    """Render an Altair chart or a Vega-Lite specification as an `<svg>` element; its data must be inline.

    Nothing is fetched: a `ValueError` if the specification names an address.
    """
    import vl_convert
    from markupsafe import Markup, escape

    specification = chart if isinstance(chart, dict) else chart.to_dict()
    drawing = vl_convert.vegalite_to_svg(_printable_specification(specification), config=_CONFIG, allowed_base_urls=[])
    opening = "<svg "
    assert drawing.startswith(opening), drawing[:80]
    # One picture with one name. Vega names every mark, and a screen reader would read out all of them.
    name = escape(printable_lines(label))
    return Markup(f'<svg role="img" aria-label="{name}" ') + Markup(drawing[len(opening) :])  # noqa: S704


def _printable_specification(value: Any) -> Any:
    """Replace control characters in all texts: vl-convert 1.9 aborts the process at a character that XML cannot hold."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, dict):
        return {_printable_specification(name): _printable_specification(item) for name, item in value.items()}
    return [_printable_specification(item) for item in value] if isinstance(value, list | tuple) else value


def _label_axis(*, lines: int = 1) -> Any:
    """Make the axis of labels, in the order of the rows. Vega centres the first of several lines, so they are moved up."""
    import altair as alt

    axis = alt.Axis(labelExpr=_LABEL_LINES, labelOffset=-7 * (lines - 1), ticks=False, domain=False)
    return alt.Y("label:N", sort=None, title=None, axis=axis)


def _value_axis(width_px: int) -> Any:
    import altair as alt

    return alt.Axis(tickCount=width_px // 90, titleLimit=width_px, labelOverlap=True)


def _colour_and_shape(rows: Sequence[Mapping[str, Any]], styles: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Encode colour and shape by source, in one legend of the sources that occur."""
    import altair as alt

    names = [name for name in styles if any(row["source"] == name for row in rows)]
    colours, shapes = zip(*(styles[name] for name in names), strict=True)
    return {
        "color": alt.Color("source:N", title=None, scale=alt.Scale(domain=names, range=list(colours))),
        "shape": alt.Shape("source:N", title=None, scale=alt.Scale(domain=names, range=list(shapes))),
    }
