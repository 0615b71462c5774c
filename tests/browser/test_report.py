"""The HTML report in a real browser: it is one file, usable and readable on every screen, and runs nothing that a text brings."""

from __future__ import annotations

import pytest

from speedgate.report.html import document, page
from tests.browser.conftest import VIEWS
from tests.support.web_samples import HOSTILE, as_visible, case_key, hostile_report, make_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A report with everything in it."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    page.write_page(path, document.render_report(make_report()))
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report in which every text tries to be markup or script."""
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    page.write_page(path, document.render_report(hostile_report()))
    return path


def unfold(page):
    """Open every fold of a page."""
    for summary in page.locator("summary").all():
        summary.click()


@pytest.mark.parametrize("view", VIEWS)
def test_the_file_is_quiet_and_fits(visit, axe, file, view):
    """In every view the file is the only request and the console empty, and unfolded nothing is cut off or found by axe."""
    visited = visit(file, view)
    if view != "print":
        unfold(visited.page)

    assert visited.console == []
    assert [address for address in visited.requests if not address.startswith("data:")] == [file.as_uri()]
    assert visited.overflow_px() == 0
    assert view == "print" or axe(visited.page) == []


def test_axe_would_find_something(visit, axe, tmp_path):
    """The check above can fail: it finds an image without a text, and pale grey on white."""
    (tmp_path / "bad.html").write_text("<html lang=en><title>t</title><img src=data:,><p style='color:#ccc'>pale</p>")

    findings = axe(visit(tmp_path / "bad.html").page)

    assert {line.split()[0] for line in findings} == {"image-alt", "color-contrast"}


def test_the_keyboard_reaches_everything(visit, file):
    """Tab reaches every link, fold and frame that scrolls, each with an outline of three pixels, and Enter opens a fold."""
    opened = visit(file).page
    reachable = opened.locator("a[href], summary, [tabindex='0']").count()
    folds, outlines, seen = [], set(), 0
    for _ in range(400):
        opened.keyboard.press("Tab")
        focused = opened.evaluate("document.activeElement.tagName")
        if focused == "BODY":
            break
        seen += 1
        outlines.add(opened.evaluate("getComputedStyle(document.activeElement).outlineWidth"))
        if focused == "SUMMARY":
            opened.keyboard.press("Enter")
            folds.append(opened.evaluate("document.activeElement.parentElement.open"))

    assert (seen, outlines) == (reachable, {"3px"})
    assert len(folds) > 5
    assert all(folds)


def test_the_links_lead_somewhere(visit, file):
    """Each link of the head leads to a section that becomes visible, and that of a red verdict opens the facts of its case."""
    opened = visit(file).page
    links = opened.locator("nav a").all()
    for link in links:
        link.click()
        assert opened.locator(link.get_attribute("href")).bounding_box()["y"] < 900
    assert len(links) == 10

    opened.locator(".verdicts a").first.click()
    assert opened.locator(":target").is_visible()
    assert "fingerprint" in opened.locator(":target").inner_text()


def test_colours_follow_the_reader(visit, file):
    """Background, bars and axis labels follow the colour scheme, and paper is black on white with the folded figures."""
    parts = [("body", "backgroundColor"), ("svg .mark-rect path", "fill"), ("svg text", "fill")]
    style = "getComputedStyle(document.querySelector('{}')).{}"
    light, dark = (visit(file, view).page for view in ("desktop", "dark"))
    colours = [[page.evaluate(style.format(*part)) for part in parts] for page in (light, dark)]
    dark.emulate_media(media="print", color_scheme="dark")

    assert colours[0][0] == "rgb(255, 255, 255)"
    assert all(one != other for one, other in zip(*colours, strict=True))
    assert dark.evaluate(style.format("body", "color")) == "rgb(0, 0, 0)"
    assert dark.locator("details.figures table").first.is_visible()


@pytest.mark.parametrize(("view", "width"), [("desktop", "wide"), ("phone", "narrow"), ("print", "wide")])
def test_each_screen_gets_its_own_charts(visit, file, view, width):
    """A phone shows only the narrow drawing of a chart, other screens only the wide one, and neither is scaled down."""
    opened = visit(file, view).page
    charts = [chart for chart in opened.locator("figure svg[role=img]:not(.picture)").all() if chart.is_visible()]

    assert {chart.evaluate("node => node.parentElement.className") for chart in charts} == {width}
    assert all(chart.bounding_box()["width"] >= 0.9 * float(chart.get_attribute("width")) for chart in charts)


def test_pictures_are_drawn(visit, file):
    """Each image and map has pixels, and the reference, which the file has once, is beside each image."""
    opened = visit(file).page

    assert opened.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert opened.locator(".pictures use").count() == 4
    assert opened.locator(".pictures image").count() == 1
    assert all(use.bounding_box()["width"] > 100 for use in opened.locator(".pictures use").all())


@pytest.mark.parametrize("view", VIEWS)
def test_hostile_texts_run_nothing_and_are_read(visit, hostile, view):
    """Nothing in a text takes effect, the policy had nothing to stop, nothing is cut off, and each is shown letter by letter."""
    visited = visit(hostile, view)
    visited.page.mouse.move(300, 300)
    if view != "print":
        unfold(visited.page)
    unwanted = "script, [onerror], [onload], [onmouseover], [style], img[src=x], a[href^='javascript']"

    assert visited.page.evaluate("[window.hacked, typeof boom]") == [None, "undefined"]
    assert (visited.console, visited.foreign_requests(), visited.overflow_px()) == ([], [], 0)
    assert visited.page.locator(unwanted).count() == 0
    for place in (".verdicts p", "#environment td"):
        for text in HOSTILE:
            assert visited.page.locator(place).get_by_text(as_visible(text), exact=True).count() > 0


def test_the_policy_would_have_stopped_it(visit, tmp_path):
    """Even markup that gets into a page runs no script and sends no request, because of the policy."""
    from markupsafe import Markup

    inside = Markup(
        "<img src=http://203.0.113.1/x.png><script>window.hacked = 1</script><b onclick='window.hacked = 1'>b</b>"
    )
    (tmp_path / "page.html").write_text(page.render_page("t", inside))

    visited = visit(tmp_path / "page.html")
    visited.page.locator("b").click()

    assert visited.page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in line for line in visited.console) == 3


def test_the_worst_stands_on_the_first_screen(visit, file):
    """The red verdict is visible without scrolling, on a phone too."""
    for view in ("desktop", "phone"):
        opened = visit(file, view).page
        box = opened.get_by_text("SLOWER", exact=True).first.bounding_box()

        assert box["y"] + box["height"] < VIEWS[view]["viewport"]["height"]
        assert opened.locator(".verdicts > li").first.inner_text().startswith(f"SLOWER {case_key('int8')}")
