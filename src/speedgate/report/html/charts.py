"""Charts as SVG inside the page, drawn by Vega-Lite when the page is written.

Vega-Lite (through Altair) is the library; vl-convert runs it here, so the page holds a few kilobytes of SVG a chart and
no script: the runtime itself is 800 kB a page and evaluates code, which the page's policy forbids. What a reader might ask a
tooltip stands in a table below the chart, where a keyboard and a screen reader find it too. Colours are the names of
`style.css`, so that one picture serves light, dark and paper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speedgate.report.html import page
from speedgate.results.text import printable_lines

if TYPE_CHECKING:
    from markupsafe import Markup

# Pixels with axes and labels. A phone of 390 px gets a drawing of its own: one that is scaled down cannot be read.
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
    # A reader's fonts may be wider than those that the labels were measured with here.
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
_TICK = "M-0.2,-1.1H0.2V1.1H-0.2Z"  # an SVG path, of a point's size
# By the source of a figure: colour and shape, for who does not tell colours apart.
MARKS = {"published": ("var(--second-mark)", "diamond"), "recorded": ("var(--mark)", _TICK)}
POINTS = {
    "this run": ("var(--series-1)", "circle"),
    "other arm": ("var(--series-2)", "square"),
    "recorded": ("var(--mark)", "diamond"),
    "published": ("var(--second-mark)", "triangle-up"),
}
_LINES = "split(datum.label, '\\n')"  # Vega's own expression: an axis label of two lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar, and the stored figures beside it by their source, a key of `MARKS`."""

    label: str
    value: float
    marks: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessPoint:
    """One point of a row; `source` is a key of `POINTS`."""

    label: str
    value: float
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class BarSegment:
    """One part of a stacked bar."""

    label: str
    part: str
    value: float


def bars(rows: Sequence[Bar], *, title: str) -> Callable[[int], Any]:
    """Horizontal bars from zero, with a mark for each stored figure; `title` names the axis and its unit."""
    import altair as alt

    measured = [{"label": row.label, "value": row.value} for row in rows]
    marks = [{"label": r.label, "value": value, "source": source} for r in rows for source, value in r.marks.items()]

    def draw(width_px: int) -> Any:
        x = alt.X("value:Q", title=title, axis=_quantity(width_px))
        layers = [
            alt.Chart(alt.InlineData(measured)).mark_bar(color="var(--bar)", height=16).encode(x=x, y=_rows(lines=2))
        ]
        if marks:
            shape = {"size": 130, "strokeWidth": 3, "opacity": 1, "filled": True}
            layers.append(
                alt.Chart(alt.InlineData(marks))
                .mark_point(**shape)
                .encode(x=x, y=_rows(lines=2), **_by_source(marks, MARKS))
            )
        return alt.layer(*layers).properties(width=width_px, height={"step": 38})

    return draw


def points(rows: Sequence[ProcessPoint], *, title: str, least: float) -> Callable[[int], Any]:
    """A row of points for each label, by source; zero is marked. The axis reaches from `-least` to `least` at least."""
    import altair as alt

    found = [dataclasses.asdict(row) for row in rows]
    values = [row.value for row in rows]
    scale = alt.Scale(domain=[min(-least, *values), max(least, *values)], nice=True)

    def draw(width_px: int) -> Any:
        zero = (
            alt.Chart(alt.InlineData([{"value": 0.0}]))
            .mark_rule(color="var(--muted)", strokeDash=[3, 3])
            .encode(x="value:Q")
        )
        shown = (
            alt.Chart(alt.InlineData(found))
            .mark_point(size=70, strokeWidth=2, opacity=0.9)
            .encode(
                x=alt.X("value:Q", title=title, scale=scale, axis=_quantity(width_px)),
                y=_rows(),
                yOffset=alt.YOffset("source:N", sort=list(POINTS)),
                **_by_source(found, POINTS),
            )
        )
        return alt.layer(zero, shown).properties(width=width_px, height={"step": 16})

    return draw


def stacked(rows: Sequence[BarSegment], *, title: str) -> Callable[[int], Any]:
    """Horizontal bars made of parts, in the order in which the parts first appear; more than six share the last colour."""
    import altair as alt

    names = list(dict.fromkeys(row.part for row in rows))
    found = [dataclasses.asdict(row) | {"place": names.index(row.part)} for row in rows]
    colours = [SERIES[min(place, len(SERIES) - 1)] for place in range(len(names))]

    def draw(width_px: int) -> Any:
        return (
            alt.Chart(alt.InlineData(found))
            .mark_bar(height=18, stroke="var(--ground)", strokeWidth=1)
            .encode(
                x=alt.X("value:Q", title=title, axis=_quantity(width_px)),
                y=_rows(),
                order="place:Q",
                color=alt.Color(
                    "part:N",
                    title=None,
                    sort=None,
                    scale=alt.Scale(domain=names, range=colours),
                    legend=_legend(width_px),
                ),
            )
            .properties(width=width_px, height={"step": 34})
        )

    return draw


def _rows(*, lines: int = 1) -> Any:
    """The rows in their order; Vega centres the first of several lines, so they are moved up."""
    import altair as alt

    axis = alt.Axis(labelExpr=_LINES, labelOffset=-7 * (lines - 1), ticks=False, domain=False)
    return alt.Y("label:N", sort=None, title=None, axis=axis)


def _quantity(width_px: int) -> Any:
    import altair as alt

    return alt.Axis(tickCount=width_px // 90, titleLimit=width_px, labelOverlap=True)


def _legend(width_px: int) -> Any:
    import altair as alt

    return alt.Legend(columns=6 if width_px >= WIDE_PX else 2)


def _by_source(rows: Sequence[Mapping[str, Any]], looks: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Colour and shape by source, in one legend of the sources that there are."""
    import altair as alt

    names = [name for name in looks if any(row["source"] == name for row in rows)]
    colours, shapes = zip(*(looks[name] for name in names), strict=True)
    return {
        "color": alt.Color("source:N", title=None, scale=alt.Scale(domain=names, range=list(colours))),
        "shape": alt.Shape("source:N", title=None, scale=alt.Scale(domain=names, range=list(shapes))),
    }


def figure(draw: Callable[[int], Any], *, label: str, caption: str = "") -> Markup:
    """A chart in both widths, of which the reader's screen shows one: `draw` makes an Altair chart of so many pixels.

    `label` is what a screen reader says of it; the data belong into a table beside it.
    """
    return page.render(
        "figure.html",
        charts={"wide": svg(draw(WIDE_PX), label=label), "narrow": svg(draw(NARROW_PX), label=label)},
        caption=caption,
    )


def svg(chart: Any, *, label: str) -> Markup:
    """An Altair chart, or a Vega-Lite specification, as an `<svg>` element to stand in a page; data must be inline.

    Nothing is fetched: a specification that names an address fails.
    """
    import vl_convert
    from markupsafe import Markup, escape

    specification = chart if isinstance(chart, dict) else chart.to_dict()
    drawn = vl_convert.vegalite_to_svg(_drawable(specification), config=_CONFIG, allowed_base_urls=[])
    opening = "<svg "
    assert drawn.startswith(opening), drawn[:80]
    # One picture with one name: Vega's own roles name every mark, which is much to listen to and is in the table.
    return Markup(f'<svg role="img" aria-label="{escape(printable_lines(label))}" ') + Markup(drawn[len(opening) :])  # noqa: S704


def _drawable(value: Any) -> Any:
    """The specification with printable texts: of a character that XML cannot hold vl-convert 1.9 measures the width by ending
    the whole process.
    """
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, dict):
        return {_drawable(name): _drawable(one) for name, one in value.items()}
    return [_drawable(one) for one in value] if isinstance(value, list | tuple) else value
