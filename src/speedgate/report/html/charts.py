"""Charts as SVG inside the page, drawn by Vega-Lite when the page is written.

Vega-Lite (through Altair) is the library; vl-convert runs it here, so the page holds a few kilobytes of SVG a chart and
no script: the runtime itself is 800 kB a page and evaluates code, which the page's policy forbids. What a reader might ask a
tooltip stands in a table below the chart, where a keyboard and a screen reader find it too. Colours are the names of
`style.css`, so that one picture serves light, dark and paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from speedgate.report.html import page

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
    return Markup(f'<svg role="img" aria-label="{escape(page.printable(label))}" ') + Markup(drawn[len(opening) :])  # noqa: S704


def _drawable(value: Any) -> Any:
    """The specification with printable texts: of a character that XML cannot hold vl-convert 1.9 measures the width by ending
    the whole process.
    """
    if isinstance(value, str):
        return page.printable(value)
    if isinstance(value, dict):
        return {_drawable(name): _drawable(one) for name, one in value.items()}
    return [_drawable(one) for one in value] if isinstance(value, list | tuple) else value
