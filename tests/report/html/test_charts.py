"""Charts as SVG: bars and points in proportion, in colours of the page, with escaped texts and without a request."""

import re
import xml.etree.ElementTree as ET

import pytest

from speedgate.report.html import charts
from tests.support.web_samples import HOSTILE, as_visible

SVG = "{http://www.w3.org/2000/svg}"


def drawn(draw, *, width_px=charts.WIDE_PX, label="a chart"):
    """Render a chart and parse its elements."""
    return ET.fromstring(charts.render_svg(draw(width_px), label=label))  # noqa: S314 - what we have just written


def lengths(tree, colour):
    """Read the widths in pixels of the bars of a colour, in order."""
    paths = [path.get("d") for path in tree.iter(f"{SVG}path") if path.get("fill") == colour and "h" in path.get("d")]
    return [float(re.search(r"h(-?[\d.]+)", path)[1]) for path in paths]


def texts(tree):
    """List every text that the chart shows."""
    return [node.text for node in tree.iter(f"{SVG}text") if node.text]


def test_bars_are_as_long_as_their_values():
    """Bars begin at zero and are in proportion, in the order of the rows, each with a label of two lines."""
    tree = drawn(
        charts.bar_chart(
            [charts.Bar(label="fp32\n4 s", value=4.0), charts.Bar(label="bf16\n1 s", value=1.0)], title="seconds"
        )
    )
    long, short = lengths(tree, "var(--bar)")

    assert long / short == pytest.approx(4, rel=0.01)
    assert {"seconds"} <= set(texts(tree))
    assert [node.text for node in tree.iter(f"{SVG}tspan")][:4] == ["fp32", "4 s", "bf16", "1 s"]


def test_stored_figures_are_marks_of_their_own_colour_and_shape():
    """Published and recorded figures differ in shape too, the legend names them, and every colour turns dark with the page."""
    marks = {"published": 2.0, "recorded": 3.0}
    tree = drawn(charts.bar_chart([charts.Bar(label="a", value=4.0, marks=marks)], title="s"))
    shapes = {path.get("fill"): path.get("d") for path in tree.iter(f"{SVG}path") if path.get("fill")}
    colours = {node.get(name) for node in tree.iter() for name in ("fill", "stroke") if node.get(name)}

    assert {"published", "recorded"} <= set(texts(tree))
    assert shapes["var(--mark)"] != shapes["var(--second-mark)"]
    assert all(colour in ("none", "transparent") or colour.startswith("var(--") for colour in colours), colours


def test_each_process_is_a_point():
    """Each process is a point at its distance from the centre; the axis has a least width, so rounding errors do not fill it."""

    def chart(*values):
        rows = [charts.ProcessPoint(label="a", value=value, source="this run") for value in values]
        return drawn(charts.point_chart(rows, title="%", least=0.5))

    points = [path for path in chart(-1.0, 0.0, 2.0).iter(f"{SVG}path") if path.get("aria-roledescription") == "point"]
    places = [float(re.search(r"\((-?[\d.]+)", point.get("transform"))[1]) for point in points]
    ticks = {text.replace("\u2212", "-") for text in texts(chart(-1e-14, 0.0))}

    assert places[2] - places[1] == pytest.approx(2 * (places[1] - places[0]), rel=0.01)
    assert not any("0000" in text for text in ticks)
    assert any(text.startswith("-0.") for text in ticks) and any(text.startswith("0.") for text in ticks)


def test_segments_follow_one_another():
    """Segments are in proportion to their values and in order, and the seventh has the colour of the sixth."""
    bars = {"a": {f"p{number}": 1.0 + number for number in range(7)}}
    tree = drawn(charts.stacked_bar_chart(bars, title="s"))
    first, second = (lengths(tree, charts.SERIES[number])[0] for number in (0, 1))

    assert second / first == pytest.approx(2, rel=0.02)
    # The last two are those of the legend.
    assert [length > 100 for length in lengths(tree, charts.SERIES[5])] == [True, True, False, False]


def test_a_phone_gets_a_narrower_drawing():
    """A figure has a wide and a narrow drawing, and neither is wider than its screen."""
    figure = charts.render_figure(
        charts.bar_chart([charts.Bar(label="x" * 60, value=1.0)], title="s"), label="l", caption="c"
    )
    widths = [int(width) for width in re.findall(r'class="marks" width="(\d+)"', figure)]

    assert widths[0] <= charts.WIDE_PX + 1
    assert widths[1] <= charts.NARROW_PX + 1


@pytest.mark.parametrize("text", [*HOSTILE, "\x00\ufffe\x1b", "\ud800"])
def test_hostile_labels_are_texts(text):
    """A label, a segment or a title makes no element, and aborts neither the drawing nor the process."""
    tree = drawn(charts.stacked_bar_chart({text: {text: 1.0}}, title=text), label=text)
    names = {node.tag.removeprefix(SVG) for node in tree.iter()}

    assert names <= {"svg", "g", "path", "line", "text", "tspan", "rect"}
    assert tree.get("aria-label") == as_visible(text).translate(dict.fromkeys([0, 0xFFFE, 0xD800], "?"))


def test_nothing_is_fetched():
    """A chart with data at an address is refused."""
    with pytest.raises(ValueError, match="not allowed"):
        charts.render_svg({"data": {"url": "https://203.0.113.1/a.json"}, "mark": "bar"}, label="l")
