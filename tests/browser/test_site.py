"""The site of a history in a real browser: every page is clicked through, read and looked at."""

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
from tests.browser.site_pages import COMMIT_URL, GPU, INT8, TEMPLATES, make, ready, settled
from tests.support import site_history as histories

FP32 = model.case_id(histories.GPUS[1], "sdxl/fp32/1024px-30steps-b1")

PAGES = tuple(template.format(gpu=GPU, case=INT8) for template in TEMPLATES)
RUNS = 120


@pytest.fixture(scope="module")
def site(tmp_path_factory, browser):
    """Two pipelines on one GPU key, one on another."""
    ladders = [("sdxl", histories.GPUS[0]), ("ssd-1b", histories.GPUS[0]), ("sdxl", histories.GPUS[1])]
    series = [one for name, gpu_key in ladders for one in histories.ladder(name, gpu_key=gpu_key, runs=RUNS)]
    return make(tmp_path_factory.mktemp("site") / "site", series)


@pytest.fixture(scope="module")
def served(site):
    """The same site behind a plain file server."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def at(visit):
    """Open a page of a site and wait until it shows what it has to show."""
    return functools.partial(site_pages.opened, visit)


def rows(page, table):
    """The texts of a table's cells."""
    return [row.locator("th, td").all_inner_texts() for row in page.locator(f"#{table} tbody tr").all()]


@pytest.mark.parametrize(("page", "view"), [*itertools.product(PAGES, VIEWS)])
def test_every_page_is_quiet_and_fits(at, axe, site, page, view):
    """In every view: no word on the console, no request elsewhere, nothing too wide, nothing that axe calls serious."""
    found = at(site, page, view)

    assert ready(found.page) == "yes"
    assert found.console == []
    assert found.foreign_requests() == []
    assert found.overflow_px() == 0
    assert view == "print" or axe(found.page) == []


def test_a_file_server_is_enough(at, served):
    """Clicked through from the index, all pages work behind a server that knows nothing but files."""
    found = at(served, "index.html")
    for link, title in [
        ("sdxl/int8/1024px-30steps-b1", "sdxl/int8"),
        (histories.GPUS[0], histories.GPUS[0]),
        ("int8", "sdxl/int8"),
    ]:
        found.page.get_by_role("link", name=link, exact=True).first.click()
        settled(found.page)
        assert title in found.page.locator("h1").inner_text()
    for link in ("Compare with the previous run", "Compare two sessions", "All cases"):
        found.page.get_by_role("link", name=link).click()
        settled(found.page)

    assert found.console == []
    assert {address.split("/")[2] for address in found.requests if not address.startswith("data:")} == {served[7:]}


def test_the_search_finds_cases_by_words(at, site):
    """Words of the case and the GPU narrow the list, the address keeps them, and it opens with them again."""
    page = at(site, "index.html").page
    page.get_by_label("Search cases and GPUs").fill("h200 INT8")

    assert [row[0].split("\n")[0] for row in rows(page, "cases")] == ["sdxl/int8/1024px-30steps-b1"]
    assert page.locator("#matches").inner_text() == "1 of 18 cases found"
    assert len(rows(at(site, page.url.rsplit("/", 1)[1]).page, "cases")) == 1


def test_the_list_can_be_sorted(at, site):
    """By name, by the latest or largest change, by latency: the keys and the order change."""
    page = at(site, "index.html").page
    page.get_by_label("Sort by").select_option("slowest")
    latencies = [float(row[2].split()[0]) for row in rows(page, "cases")]
    page.get_by_label("Sort by").select_option("latest change")

    assert latencies == sorted(latencies, reverse=True)
    assert ["step" in row[3] for row in rows(page, "cases")] == [True] * 3 + [False] * 15


def test_the_ladder_is_shown_now_and_over_time(at, site):
    """A bar and a row a stage in the ladder's order with its speed-ups, and a line a stage over time."""
    page = at(site, f"gpu.html?id={GPU}").page
    shown = rows(page, "stages")

    assert [row[0] for row in shown] == list(histories.STAGES)
    assert float(shown[1][2][:-1]) == pytest.approx(7.362 / 4.626, rel=0.02)
    assert float(shown[5][3][:-1]) == pytest.approx(7.362 / 2.429 / histories.STEP, rel=0.02)
    assert page.locator("#now .mark-rect path").count() == 6
    assert page.locator("#time .mark-line path").count() == 6


def test_another_ladder_can_be_chosen(at, site):
    """The choice leads to the other pipeline's cases and is kept in the address."""
    page = at(site, f"gpu.html?id={GPU}").page
    page.locator("#ladder").select_option(index=1)
    settled(page)
    page.locator("#stages a").first.click()
    settled(page)

    assert page.locator("h1").inner_text() == "ssd-1b/fp32/1024px-30steps-b1"


def test_a_case_shows_its_runs_and_its_change(at, site):
    """A point a run, a numbered line at the change, and the sentence with size, commits and versions."""
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
    """Memory, SSIM and the first image are drawn over the same runs, also the latest alone and run by run."""
    found = at(site, f"case.html?id={INT8}")
    found.page.locator("#metric").select_option(figure)
    found.page.locator("#window").select_option("latest 30")
    found.page.locator("#across").select_option("runs")
    settled(found.page)

    assert found.page.locator("#chart .mark-symbol path").count() == 30
    assert unit in found.page.locator("#chart").inner_text()
    assert found.console == []


def test_a_point_leads_to_its_run(at, site):
    """What the pointer is on is told, and a click shows the run's medians, versions and commit."""
    page = at(site, f"case.html?id={INT8}").page
    point = page.locator("#chart .mark-symbol path").nth(10)
    point.hover()
    told = page.locator("#chart .tip").inner_text()
    point.click()
    run = histories.series("sdxl/int8/1024px-30steps-b1", runs=RUNS, base_s=2.429).points[10]
    shown = page.locator("#run").inner_text()

    assert run.commit[:10] in told
    assert f"{run.latency_s:.4g}"[:5] in told
    assert "Run 11 of 120" in shown
    assert run.versions["torch_git"] in shown
    assert page.locator("#run a").first.get_attribute("href") == COMMIT_URL.format(commit=run.commit)


def test_the_keyboard_leads_from_run_to_run(at, site):
    """Without a pointer: buttons step through the runs, and what changed in the versions is marked."""
    page = at(site, f"case.html?id={INT8}").page
    page.get_by_role("button", name="Earlier run").focus()
    for _ in range(29):
        page.keyboard.press("Enter")

    assert "Run 91 of 120" in page.locator("#run").inner_text()
    assert "was 2.13.0.dev20260103" in page.locator("#run").inner_text()


def test_all_runs_can_be_listed(at, site):
    """The table begins with the latest 50 and goes on to the first."""
    page = at(site, f"case.html?id={INT8}").page
    before = len(rows(page, "runs"))
    page.get_by_role("button", name="Show more runs").click()

    assert (before, len(rows(page, "runs"))) == (50, RUNS)
    assert not page.get_by_role("button", name="Show more runs").is_visible()


def test_any_two_runs_are_compared(at, site):
    """A remembered run and another, 100 runs later: the ratio of the step, and the versions that differ."""
    page = at(site, f"case.html?id={INT8}").page
    page.get_by_role("button", name="Remember for comparison").click()
    page.get_by_role("button", name="Show more runs").click()
    page.get_by_role("button", name="Show run 5", exact=True).click()
    page.get_by_role("link", name="Compare with run 120").click()
    settled(page)
    figures = {row[0]: row[1:] for row in rows(page, "figures")}

    assert float(figures["latency"][2]) == pytest.approx(1 / histories.STEP, rel=0.01)
    assert {row[0] for row in rows(page, "versions")} == {"commit", "torch", "torch_git"}
    page.get_by_role("button", name="Swap A and B").click()
    assert float(rows(page, "figures")[0][3]) == pytest.approx(histories.STEP, rel=0.01)


def test_runs_of_other_gpu_keys_are_not_compared(at, site):
    """Both runs are shown, with no ratio, for figures of different GPU keys are never compared."""
    page = at(site, f"compare.html?a={INT8}&b={FP32}").page

    assert "never compared" in page.locator("#summary").inner_text()
    assert rows(page, "figures")[0][3] == "-"


def test_another_case_can_be_chosen(at, site):
    """The list of cases is a text field that says when there is no such case."""
    page = at(site, f"compare.html?a={INT8}").page
    for text, said in [
        ("nothing", "no case"),
        (f"sdxl/fp32/1024px-30steps-b1 on {histories.GPUS[0]}", "times as long as"),
    ]:
        page.get_by_label("Case").nth(1).fill(text)
        page.keyboard.press("Tab")
        settled(page)
        assert said in page.locator("#summary").inner_text()

    assert float(rows(page, "figures")[0][3]) == pytest.approx(7.362 / 2.429 / histories.STEP, rel=0.02)


def test_two_sessions_are_compared_case_by_case(at, site):
    """Before and after the step: every case of the GPU key, worst first, with their geometric mean."""
    page = at(site, "sessions.html").page
    page.get_by_label("A (before)").select_option(index=RUNS - 1)
    settled(page)
    shown = rows(page, "cases")

    assert len(shown) == 12
    assert {CaseKey.parse(row[0]).stage for row in shown[:2]} == {"int8"}
    assert float(shown[0][3]) == pytest.approx(histories.STEP, rel=0.02)
    assert ["torch", "2.13.0.dev20260101", "2.13.0.dev20260104"] in rows(page, "versions")


@pytest.mark.parametrize(
    "page",
    [
        "case.html?id=..%2F..%2F..%2Fetc%2Fpasswd",
        "gpu.html?id=%2F%2Fhost.example%2Fx",
        "case.html",
        "case.html?id=0123456789abcdef",
    ],
)
def test_an_address_leads_nowhere_else(at, site, page):
    """What an address names that is no digest of this site is said, and nothing but files of `data/` is asked for."""
    found = at(site, page)

    assert ready(found.page) == "failed"
    assert found.page.get_by_role("alert").inner_text() != ""
    assert "Reading the history" not in found.page.locator("body").inner_text()
    assert found.foreign_requests() == []
    assert all(re.search(r"/(assets|data)/[\w-]+\.js$|\.html|^data:", address) for address in found.requests)


def test_dark_and_paper_have_their_own_colours(at, site):
    """A chart turns dark with its page and black on white for paper, without being drawn again."""
    page = at(site, f"case.html?id={INT8}", "dark").page
    ground, label = (
        "getComputedStyle(document.body).backgroundColor",
        "getComputedStyle(document.querySelector('#chart svg text')).fill",
    )
    dark = page.evaluate(ground), page.evaluate(label)
    page.emulate_media(media="print")

    assert (page.evaluate(ground), page.evaluate(label)) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")
    assert dark == ("rgb(20, 24, 29)", "rgb(230, 233, 237)")
