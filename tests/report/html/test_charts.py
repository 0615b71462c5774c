"""Charts as SVG: what they show, in colours of the page, without a word that was not escaped and without a request."""

import re
import xml.etree.ElementTree as ET

import pytest

from speedgate.report.html import charts
from tests.support.web_samples import HOSTILE, shown

SVG = "{http://www.w3.org/2000/svg}"


def drawn(draw, *, width_px=charts.WIDE_PX, label="a chart"):
    """The chart's element tree."""
    return ET.fromstring(charts.render_svg(draw(width_px), label=label))  # noqa: S314 - what we have just written


def lengths(tree, colour):
    """The widths of the bars of a colour, in pixels, in order."""
    found = [path.get("d") for path in tree.iter(f"{SVG}path") if path.get("fill") == colour and "h" in path.get("d")]
    return [float(re.search(r"h(-?[\d.]+)", path)[1]) for path in found]


def texts(tree):
    """Every text that the chart shows."""
    return [node.text for node in tree.iter(f"{SVG}text") if node.text]


def test_bars_are_as_long_as_their_values():
    """From zero, in proportion, in the order of the rows, each with its label on two lines."""
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
    """Published and recorded figures are told apart by shape too, and named in the legend."""
    marks = {"published": 2.0, "recorded": 3.0}
    tree = drawn(charts.bar_chart([charts.Bar(label="a", value=4.0, marks=marks)], title="s"))
    shapes = {path.get("fill"): path.get("d") for path in tree.iter(f"{SVG}path") if path.get("fill")}

    assert {"published", "recorded"} <= set(texts(tree))
    assert shapes["var(--mark)"] != shapes["var(--second-mark)"]


def test_each_process_is_a_point():
    """As many points as processes, at their place: the further from the centre, the further to the side."""
    rows = [charts.ProcessPoint(label="a", value=value, source="this run") for value in (-1.0, 0.0, 2.0)]
    tree = drawn(charts.point_chart(rows, title="%", least=0.5))
    found = [path.get("transform") for path in tree.iter(f"{SVG}path") if path.get("aria-roledescription") == "point"]
    places = [float(re.search(r"\((-?[\d.]+)", place)[1]) for place in found]

    assert places[2] - places[1] == pytest.approx(2 * (places[1] - places[0]), rel=0.01)


def test_the_axis_of_processes_has_a_least_width():
    """Rounding is not spread over the whole width: the axis reaches half a percent to either side."""
    rows = [charts.ProcessPoint(label="a", value=value, source="this run") for value in (-1e-14, 0.0)]

    ticks = {text.replace("\u2212", "-") for text in texts(drawn(charts.point_chart(rows, title="%", least=0.5)))}

    assert not any("0000" in text for text in ticks)
    assert any(text.startswith("-0.") for text in ticks) and any(text.startswith("0.") for text in ticks)


def test_parts_stand_one_behind_the_other():
    """The parts of a bar are as long as their values and keep their order; the seventh has the sixth's colour."""
    rows = [charts.BarSegment(label="a", segment=f"p{number}", value=1.0 + number) for number in range(7)]
    tree = drawn(charts.stacked_bar_chart(rows, title="s"))
    first, second = (lengths(tree, charts.SERIES[number])[0] for number in (0, 1))

    assert second / first == pytest.approx(2, rel=0.02)
    assert [length > 100 for length in lengths(tree, charts.SERIES[5])] == [
        True,
        True,
        False,
        False,
    ]  # two of the legend


def test_every_colour_is_a_name_of_the_page():
    """No colour is fixed, so that a chart turns dark with the page."""
    tree = drawn(charts.bar_chart([charts.Bar(label="a", value=1.0, marks={"published": 1.0})], title="s"))
    colours = {node.get(name) for node in tree.iter() for name in ("fill", "stroke") if node.get(name)}

    assert all(colour in ("none", "transparent") or colour.startswith("var(--") for colour in colours), colours


def test_a_phone_gets_a_narrower_drawing():
    """Both drawings are in the figure; neither is wider than its screen."""
    figure = charts.render_figure(
        charts.bar_chart([charts.Bar(label="x" * 60, value=1.0)], title="s"), label="l", caption="c"
    )
    widths = [int(width) for width in re.findall(r'class="marks" width="(\d+)"', figure)]

    assert widths[0] <= charts.WIDE_PX + 1
    assert widths[1] <= charts.NARROW_PX + 1


@pytest.mark.parametrize("text", [*HOSTILE, "\x00\ufffe\x1b", "\ud800"])
def test_hostile_labels_are_texts(text):
    """A label, a part or a name of a chart makes no element, and ends neither the drawing nor the process."""
    tree = drawn(
        charts.stacked_bar_chart([charts.BarSegment(label=text, segment=text, value=1.0)], title=text), label=text
    )
    names = {node.tag.removeprefix(SVG) for node in tree.iter()}

    assert names <= {"svg", "g", "path", "line", "text", "tspan", "rect"}
    assert tree.get("aria-label") == shown(text).translate(dict.fromkeys([0, 0xFFFE, 0xD800], "?"))


def test_nothing_is_fetched():
    """A chart whose data lie at an address is refused."""
    with pytest.raises(ValueError, match="not allowed"):
        charts.render_svg({"data": {"url": "https://203.0.113.1/a.json"}, "mark": "bar"}, label="l")
