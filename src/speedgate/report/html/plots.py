"""The kinds of chart that a report is made of: bars with marks, stacked bars, and points. Each takes plain rows.

A row's label may hold a line feed; it stands left of its bar on two lines. `draw(width_px)` is what `charts.figure` asks for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speedgate.report.html import charts

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
class Point:
    """One point of a row; `source` is a key of `POINTS`."""

    label: str
    value: float
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
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


def points(rows: Sequence[Point], *, title: str, least: float) -> Callable[[int], Any]:
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


def stacked(rows: Sequence[Part], *, title: str) -> Callable[[int], Any]:
    """Horizontal bars made of parts, in the order in which the parts first appear; more than six share the last colour."""
    import altair as alt

    names = list(dict.fromkeys(row.part for row in rows))
    found = [dataclasses.asdict(row) | {"place": names.index(row.part)} for row in rows]
    colours = [charts.SERIES[min(place, len(charts.SERIES) - 1)] for place in range(len(names))]

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

    return alt.Legend(columns=6 if width_px >= charts.WIDE_PX else 2)


def _by_source(rows: Sequence[Mapping[str, Any]], looks: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Colour and shape by source, in one legend of the sources that there are."""
    import altair as alt

    names = [name for name in looks if any(row["source"] == name for row in rows)]
    colours, shapes = zip(*(looks[name] for name in names), strict=True)
    return {
        "color": alt.Color("source:N", title=None, scale=alt.Scale(domain=names, range=list(colours))),
        "shape": alt.Shape("source:N", title=None, scale=alt.Scale(domain=names, range=list(shapes))),
    }
