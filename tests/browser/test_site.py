"""The site of a history in a real browser: what each page shows, and what its controls do."""

from __future__ import annotations

import functools
import http.server
import itertools
import re
import threading

import pytest

from speedgate.history.site import model
from speedgate.results.case_key import CaseKey
from tests.browser import site_pages
from tests.browser.conftest import VIEWS
from tests.browser.site_pages import COMMIT_URL, GPU, INT8, TEMPLATES, make_site, state, wait_until_complete
from tests.support import site_history as histories

pytestmark = pytest.mark.slow
FP32 = model.short_digest(histories.GPUS[1], "sdxl/fp32/1024px-30steps-b1")

PAGES = tuple(template.format(gpu=GPU, case=INT8) for template in TEMPLATES)
RUNS = 120


@pytest.fixture(scope="module")
def site(tmp_path_factory, browser):
    """Write a site of two pipelines on one GPU key and one on another."""
    ladders = [("sdxl", histories.GPUS[0]), ("ssd-1b", histories.GPUS[0]), ("sdxl", histories.GPUS[1])]
    all_series = [series for name, gpu_key in ladders for series in histories.ladder(name, gpu_key=gpu_key, runs=RUNS)]
    return make_site(tmp_path_factory.mktemp("site") / "site", all_series)


@pytest.fixture(scope="module")
def served(site):
    """Serve the same site with a plain file server."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def at(visit):
    """Open a page of a site and wait until it is complete."""
    return functools.partial(site_pages.open_page, visit)


def rows(page, table):
    """Return the texts of the cells of a table."""
    return [row.locator("th, td").all_inner_texts() for row in page.locator(f"#{table} tbody tr").all()]


@pytest.mark.parametrize(("page", "view"), [*itertools.product(PAGES, VIEWS)])
def test_every_page_is_quiet_and_fits(at, axe, site, page, view):
    """In every view: no console message, no request to other places, no overflow, and no serious finding of axe."""
    visit = at(site, page, view)

    assert state(visit.page) == "yes"
    assert visit.console == []
    assert visit.foreign_requests() == []
    assert visit.overflow_px() == 0
    assert view == "print" or axe(visit.page) == []


def test_a_file_server_is_enough(at, served):
    """All pages, reached by clicks from the index, work with a server that only serves files."""
    visit = at(served, "index.html")
    for link, title in [
        ("sdxl/int8/1024px-30steps-b1", "sdxl/int8"),
        (histories.GPUS[0], histories.GPUS[0]),
        ("int8", "sdxl/int8"),
    ]:
        visit.page.get_by_role("link", name=link, exact=True).first.click()
        wait_until_complete(visit.page)
        assert title in visit.page.locator("h1").inner_text()
    for link in ("Compare with the previous run", "Compare two sessions", "All cases"):
        visit.page.get_by_role("link", name=link).click()
        wait_until_complete(visit.page)

    assert visit.console == []
    assert {address.split("/")[2] for address in visit.requests if not address.startswith("data:")} == {served[7:]}


def test_the_list_can_be_searched_and_sorted(at, site):
    """A search by words of case and GPU is kept in the address; cases are sorted by latency and by the latest change."""
    page = at(site, "index.html").page
    page.get_by_label("Sort by").select_option("slowest")
    latencies = [float(row[2].split()[0]) for row in rows(page, "cases")]
    page.get_by_label("Sort by").select_option("latest change")
    assert latencies == sorted(latencies, reverse=True)
    assert ["step" in row[3] for row in rows(page, "cases")] == [True] * 3 + [False] * 15

    page.get_by_label("Search cases and machines").fill("h200 INT8")
    assert [row[0].split("\n")[0] for row in rows(page, "cases")] == ["sdxl/int8/1024px-30steps-b1"]
    assert page.locator("#matches").inner_text() == "1 of 18 cases found"
    assert len(rows(at(site, page.url.rsplit("/", 1)[1]).page, "cases")) == 1


def test_the_ladder_is_shown_now_and_over_time(at, site):
    """A ladder has a bar, a row with speed-ups and a line over time for each stage, in its order; another can be chosen."""
    page = at(site, f"gpu.html?id={GPU}").page
    assert [row[1:] for row in rows(page, "machine")] == [
        [percent, "3", "baselines/0002.json"] for percent in ("+4.2 %", "+0.0 %")
    ]
    texts = rows(page, "stages")

    assert [row[0] for row in texts] == list(histories.STAGES)
    assert float(texts[1][2][:-1]) == pytest.approx(7.362 / 4.626, rel=0.02)
    assert float(texts[5][3][:-1]) == pytest.approx(7.362 / 2.429 / histories.STEP, rel=0.02)
    assert page.locator("#now .mark-rect path").count() == 6
    assert page.locator("#time .mark-line path").count() == 6

    page.locator("#ladder").select_option(index=1)
    wait_until_complete(page)
    page.locator("#stages a").first.click()
    wait_until_complete(page)
    assert page.locator("h1").inner_text() == "ssd-1b/fp32/1024px-30steps-b1"


def test_a_case_shows_its_runs_and_its_change(at, site):
    """A case has a point for each run, and a sentence for each change with size, commits and versions."""
    page = at(site, f"case.html?id={INT8}").page
    first, last = (histories.point(i, base_s=1, random_=histories.random.Random(0)) for i in (71, 73))
    change = page.locator("#changes li").inner_text()

    assert page.locator("#chart .mark-symbol path").count() == RUNS
    assert "25 Jan 2026" in page.locator("#chart").inner_text()
    assert "step +6.0 %" in change
    assert first.commit[:10] in change
    assert last.commit[:10] in change
    assert page.locator("#changes a").first.get_attribute("href") == COMMIT_URL.format(commit=first.commit)


@pytest.mark.parametrize(("figure", "unit"), [("peak memory", "GiB"), ("SSIM", "SSIM"), ("first image", "first image")])
def test_every_figure_has_its_chart(at, site, figure, unit):
    """Memory, SSIM and first image have a chart too, also of only the latest runs and by run number."""
    visit = at(site, f"case.html?id={INT8}")
    visit.page.locator("#metric").select_option(figure)
    visit.page.locator("#window").select_option("latest 30")
    visit.page.locator("#across").select_option("runs")
    wait_until_complete(visit.page)

    assert visit.page.locator("#chart .mark-symbol path").count() == 30
    assert unit in visit.page.locator("#chart").inner_text()
    assert visit.console == []


def test_a_point_leads_to_its_run(at, site):
    """A tooltip describes the point under the pointer, and a click shows the run with its versions and its commit."""
    page = at(site, f"case.html?id={INT8}").page
    point = page.locator("#chart .mark-symbol path").nth(10)
    point.hover()
    tooltip = page.locator("#chart .tip").inner_text()
    point.click()
    run = histories.series("sdxl/int8/1024px-30steps-b1", runs=RUNS, base_s=2.429).points[10]
    texts = page.locator("#run").inner_text()

    assert run.commit[:10] in tooltip
    assert f"{run.latency_s:.4g}"[:5] in tooltip
    assert "Run 11 of 120" in texts
    assert run.versions["torch_git"] in texts
    assert page.locator("#run a").first.get_attribute("href") == COMMIT_URL.format(commit=run.commit)


def test_the_keyboard_leads_from_run_to_run(at, site):
    """Without a pointer, buttons step through the runs, a changed version is marked, and the table can list all runs."""
    page = at(site, f"case.html?id={INT8}").page
    page.get_by_role("button", name="Earlier run").focus()
    for _ in range(29):
        page.keyboard.press("Enter")
    assert "Run 91 of 120" in page.locator("#run").inner_text()
    assert "was 2.13.0.dev20260103" in page.locator("#run").inner_text()

    before, more = len(rows(page, "runs")), page.get_by_role("button", name="Show more runs")
    more.click()
    assert (before, len(rows(page, "runs")), more.is_visible()) == (50, RUNS, False)


def test_any_two_runs_are_compared(at, site):
    """A remembered run can be compared with another one: the ratio of the step, and the versions that differ."""
    page = at(site, f"case.html?id={INT8}").page
    page.get_by_role("button", name="Remember for comparison").click()
    page.get_by_role("button", name="Show more runs").click()
    page.get_by_role("button", name="Show run 5", exact=True).click()
    page.get_by_role("link", name="Compare with run 120").click()
    wait_until_complete(page)
    figures = {row[0]: row[1:] for row in rows(page, "figures")}

    assert float(figures["latency"][2]) == pytest.approx(1 / histories.STEP, rel=0.01)
    assert {row[0] for row in rows(page, "versions")} == {"commit", "torch", "torch_git"}
    page.get_by_role("button", name="Swap A and B").click()
    assert float(rows(page, "figures")[0][3]) == pytest.approx(histories.STEP, rel=0.01)


def test_another_case_can_be_chosen(at, site):
    """Another case can be chosen by name, an unknown name is an error message, and another GPU key gives no ratio."""
    page = at(site, f"compare.html?a={INT8}").page
    for text, message in [
        ("nothing", "no case"),
        (f"sdxl/fp32/1024px-30steps-b1 on {histories.GPUS[0]}", "times as long as"),
    ]:
        page.get_by_label("Case").nth(1).fill(text)
        page.keyboard.press("Tab")
        wait_until_complete(page)
        assert message in page.locator("#summary").inner_text()
    assert float(rows(page, "figures")[0][3]) == pytest.approx(7.362 / 2.429 / histories.STEP, rel=0.02)

    page = at(site, f"compare.html?a={INT8}&b={FP32}").page
    assert "never compared" in page.locator("#summary").inner_text()
    assert rows(page, "figures")[0][3] == "-"


def test_two_sessions_are_compared_case_by_case(at, site):
    """Two sessions, before and after the step, are compared for every case, worst first."""
    page = at(site, "sessions.html").page
    page.get_by_label("A (before)").select_option(index=RUNS - 1)
    wait_until_complete(page)
    texts = rows(page, "cases")

    assert len(texts) == 12
    assert {CaseKey.parse(row[0]).stage for row in texts[:2]} == {"int8"}
    assert float(texts[0][3]) == pytest.approx(histories.STEP, rel=0.02)
    assert ["torch", "2.13.0.dev20260101", "2.13.0.dev20260104"] in rows(page, "versions")


@pytest.mark.parametrize(
    "page",
    [
        "case.html?id=..%2F..%2Fetc%2Fpasswd",
        "gpu.html?id=%2F%2Fhost.example%2Fx",
        "case.html",
        f"case.html?id={'0' * 16}",
    ],
)
def test_an_address_leads_nowhere_else(at, site, page):
    """An invalid id in an address is an error message, and only files of the site are requested."""
    visit = at(site, page)

    assert state(visit.page) == "failed"
    assert visit.page.get_by_role("alert").inner_text() != ""
    assert "Reading the history" not in visit.page.locator("body").inner_text()
    assert visit.foreign_requests() == []
    assert all(re.search(r"/(assets|data)/[\w-]+\.js$|\.html|^data:", address) for address in visit.requests)


def test_dark_and_paper_have_their_own_colours(at, site):
    """A chart follows the dark and the print style of its page without being drawn again."""
    page = at(site, f"case.html?id={INT8}", "dark").page
    ground, label = (
        "getComputedStyle(document.body).backgroundColor",
        "getComputedStyle(document.querySelector('#chart svg text')).fill",
    )
    dark = page.evaluate(ground), page.evaluate(label)
    page.emulate_media(media="print")

    assert (page.evaluate(ground), page.evaluate(label)) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")
    assert dark == ("rgb(20, 24, 29)", "rgb(230, 233, 237)")
