"""The report of a run in a real browser: what it asks for, how it is used, how it looks, and what it never runs."""

from __future__ import annotations

import pytest

from speedgate.report.html import document, page
from tests.browser.conftest import VIEWS
from tests.support.web_samples import HOSTILE, case_key, hostile_report, make_report, shown


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A report with everything in it."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    page.write_page(path, document.render_report(make_report()))
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report whose every text would rather be something else."""
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    page.write_page(path, document.render_report(hostile_report()))
    return path


@pytest.mark.parametrize("view", VIEWS)
def test_the_file_needs_nothing_else(visit, file, view):
    """One file: no word on the console, no request but the one for it."""
    found = visit(file, view)

    assert found.said == []
    assert found.elsewhere() == []
    assert [address for address in found.asked if not address.startswith("data:")] == [file.as_uri()]


@pytest.mark.parametrize("texts", ["file", "hostile"])
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_the_window(visit, request, view, texts):
    """On a phone and on paper nothing is cut off: what is wide scrolls in a frame of its own."""
    found = visit(request.getfixturevalue(texts), view)
    for summary in found.page.locator("summary").all():
        if view != "print":
            summary.click()

    assert found.overflow_px() == 0


@pytest.mark.parametrize("view", ["desktop", "dark", "phone", "phone-dark"])
def test_axe_finds_nothing_serious(visit, axe, file, view):
    """With everything opened, axe-core has nothing serious or critical to say, in light and dark, wide and narrow."""
    found = visit(file, view)
    for summary in found.page.locator("summary").all():
        summary.click()

    assert axe(found.page) == []


def test_axe_would_find_something(visit, axe, tmp_path):
    """The check above can fail: an image without a text and pale grey on white are found."""
    (tmp_path / "bad.html").write_text("<html lang=en><title>t</title><img src=data:,><p style='color:#ccc'>pale</p>")

    found = axe(visit(tmp_path / "bad.html").page)

    assert {line.split()[0] for line in found} == {"image-alt", "color-contrast"}


def test_the_keyboard_reaches_everything(visit, file):
    """Tab comes to the skip link first, then to every link, every fold and every frame that scrolls; Enter opens a fold."""
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


def test_focus_is_seen(visit, file):
    """What the keyboard is on has an outline of three pixels."""
    opened = visit(file).page
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")

    assert opened.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_the_links_of_the_head_lead_somewhere(visit, file):
    """Each names a part that is there, and is brought into sight."""
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
    """Page and charts follow the reader's colour scheme: ground, bars and axis labels."""
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
    """Printed, even from a dark screen, text is black on white and the folded figures of the charts are there."""
    opened = visit(file, "dark").page
    opened.emulate_media(media="print", color_scheme="dark")

    assert opened.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert opened.locator("details.figures table").first.is_visible()


@pytest.mark.parametrize(("view", "width"), [("desktop", "wide"), ("phone", "narrow"), ("print", "wide")])
def test_each_screen_gets_its_own_charts(visit, file, view, width):
    """A phone sees the narrow drawing of a chart and nobody sees both, so that text is never scaled down to nothing."""
    opened = visit(file, view).page
    charts = [chart for chart in opened.locator("figure svg[role=img]:not(.picture)").all() if chart.is_visible()]

    assert {chart.evaluate("node => node.parentElement.className") for chart in charts} == {width}
    assert all(chart.bounding_box()["width"] >= 0.9 * float(chart.get_attribute("width")) for chart in charts)


def test_pictures_are_drawn(visit, file):
    """Each stage's image and maps have pixels, and the reference stands beside each, from its one copy."""
    opened = visit(file).page

    assert opened.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert opened.locator(".pictures use").count() == 4
    assert opened.locator(".pictures image").count() == 1
    assert all(use.bounding_box()["width"] > 100 for use in opened.locator(".pictures use").all())


def test_hostile_texts_run_nothing(visit, hostile):
    """No script, handler, style or address in a text is obeyed, and the policy had nothing to stop."""
    found = visit(hostile)
    found.page.mouse.move(300, 300)
    for summary in found.page.locator("summary").all():
        summary.click()

    assert found.page.evaluate("[window.hacked, typeof boom]") == [None, "undefined"]
    assert found.said == []
    assert found.elsewhere() == []
    assert (
        found.page.locator(
            "script, [onerror], [onload], [onmouseover], [style], img[src=x], a[href^='javascript']"
        ).count()
        == 0
    )


def test_hostile_texts_are_read(visit, hostile):
    """A reader sees the text itself, letter by letter, in the verdicts and in the table of the machine."""
    seen = visit(hostile).page
    for text in HOSTILE:
        assert seen.locator(".verdicts p").get_by_text(shown(text), exact=True).count() > 0
        assert seen.locator("#environment td").get_by_text(shown(text), exact=True).count() > 0


def test_the_policy_would_have_stopped_it(visit, tmp_path):
    """Even markup that got into a page runs nothing and calls nobody: the policy lets neither in."""
    from markupsafe import Markup

    inside = Markup(
        "<img src=http://203.0.113.1/x.png><script>window.hacked = 1</script><b onclick='window.hacked = 1'>b</b>"
    )
    (tmp_path / "page.html").write_text(page.render_page("t", inside))

    found = visit(tmp_path / "page.html")
    found.page.locator("b").click()

    assert found.page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in line for line in found.said) == 3


def test_the_worst_stands_on_the_first_screen(visit, file):
    """Whoever opens the file sees the red verdict without scrolling, on a phone too."""
    for view in ("desktop", "phone"):
        opened = visit(file, view).page
        box = opened.get_by_text("SLOWER", exact=True).first.bounding_box()

        assert box["y"] + box["height"] < VIEWS[view]["viewport"]["height"]
        assert opened.locator(".verdicts > li").first.inner_text().startswith(f"SLOWER {case_key('int8')}")
