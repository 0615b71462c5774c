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


@pytest.mark.parametrize("view", VIEWS)
def test_the_file_needs_nothing_else(visit, file, view):
    """The report is one file: the console is empty, and the file is the only request."""
    visited = visit(file, view)

    assert visited.console == []
    assert visited.foreign_requests() == []
    assert [address for address in visited.requests if not address.startswith("data:")] == [file.as_uri()]


@pytest.mark.parametrize("texts", ["file", "hostile"])
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_the_window(visit, request, view, texts):
    """On a phone and on paper nothing is cut off: a wide table scrolls in its frame."""
    visited = visit(request.getfixturevalue(texts), view)
    for summary in visited.page.locator("summary").all():
        if view != "print":
            summary.click()

    assert visited.overflow_px() == 0


@pytest.mark.parametrize("view", ["desktop", "dark", "phone", "phone-dark"])
def test_axe_finds_nothing_serious(visit, axe, file, view):
    """With everything unfolded axe-core finds nothing serious or critical, in light and dark, wide and narrow."""
    visited = visit(file, view)
    for summary in visited.page.locator("summary").all():
        summary.click()

    assert axe(visited.page) == []


def test_axe_would_find_something(visit, axe, tmp_path):
    """The check above can fail: it finds an image without a text, and pale grey on white."""
    (tmp_path / "bad.html").write_text("<html lang=en><title>t</title><img src=data:,><p style='color:#ccc'>pale</p>")

    findings = axe(visit(tmp_path / "bad.html").page)

    assert {line.split()[0] for line in findings} == {"image-alt", "color-contrast"}


def test_the_keyboard_reaches_everything(visit, file):
    """Tab reaches every link, every fold and every frame that scrolls, and Enter opens a fold."""
    opened = visit(file).page
    reachable = opened.locator("a[href], summary, [tabindex='0']").count()
    folds, seen = [], 0
    for _ in range(400):
        opened.keyboard.press("Tab")
        focused = opened.evaluate("document.activeElement.tagName")
        if focused == "BODY":
            break
        seen += 1
        if focused == "SUMMARY":
            opened.keyboard.press("Enter")
            folds.append(opened.evaluate("document.activeElement.parentElement.open"))

    assert seen == reachable
    assert len(folds) > 5
    assert all(folds)


def test_focus_is_visible(visit, file):
    """The focused element has an outline of three pixels."""
    opened = visit(file).page
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")

    assert opened.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_the_links_of_the_head_lead_somewhere(visit, file):
    """Each link of the head leads to a section that exists and becomes visible."""
    opened = visit(file).page
    links = opened.locator("nav a").all()
    for link in links:
        link.click()
        assert opened.locator(link.get_attribute("href")).bounding_box()["y"] < 900

    assert len(links) == 10


def test_a_verdict_leads_to_its_case(visit, file):
    """The link of a red verdict opens the folded facts of that case."""
    opened = visit(file).page
    opened.locator(".verdicts a").first.click()

    assert opened.locator(":target").is_visible()
    assert "fingerprint" in opened.locator(":target").inner_text()


def test_dark_is_dark_and_light_is_light(visit, file):
    """The page and its charts follow the colour scheme of the reader: background, bars and axis labels."""
    colours = {}
    for view in ("desktop", "dark"):
        opened = visit(file, view).page
        colours[view] = [
            opened.evaluate("getComputedStyle(document.body).backgroundColor"),
            *(
                opened.evaluate(f"getComputedStyle(document.querySelector('{part}')).fill")
                for part in ("svg .mark-rect path", "svg text")
            ),
        ]

    assert colours["desktop"][0] == "rgb(255, 255, 255)"
    assert all(light != dark for light, dark in zip(*colours.values(), strict=True))


def test_paper_shows_the_figures_in_black(visit, file):
    """A print, even from a dark screen, is black on white and has the folded figures of the charts."""
    opened = visit(file, "dark").page
    opened.emulate_media(media="print", color_scheme="dark")

    assert opened.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert opened.locator("details.figures table").first.is_visible()


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


def test_hostile_texts_run_nothing(visit, hostile):
    """No script, handler, style or address in a text takes effect, and the policy had nothing to stop."""
    visited = visit(hostile)
    visited.page.mouse.move(300, 300)
    for summary in visited.page.locator("summary").all():
        summary.click()

    assert visited.page.evaluate("[window.hacked, typeof boom]") == [None, "undefined"]
    assert visited.console == []
    assert visited.foreign_requests() == []
    assert (
        visited.page.locator(
            "script, [onerror], [onload], [onmouseover], [style], img[src=x], a[href^='javascript']"
        ).count()
        == 0
    )


def test_hostile_texts_are_read(visit, hostile):
    """The verdicts and the table of the machine show each text letter by letter."""
    seen = visit(hostile).page
    for text in HOSTILE:
        assert seen.locator(".verdicts p").get_by_text(as_visible(text), exact=True).count() > 0
        assert seen.locator("#environment td").get_by_text(as_visible(text), exact=True).count() > 0


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
