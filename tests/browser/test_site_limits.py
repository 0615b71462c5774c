"""The site in a real browser at its limits: hostile texts, and a large history."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest

from speedgate.history.site import model
from tests.browser import site_pages
from tests.browser.site_pages import GPU, TEMPLATES, make_site, state
from tests.support import site_history as histories

pytestmark = pytest.mark.slow


@pytest.fixture
def at(visit):
    """Open a page of a site and wait until it is complete."""
    return functools.partial(site_pages.open_page, visit)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, browser):
    """Write a site in which every text contains markup."""
    texts = {"commit": histories.HOSTILE, "cache": histories.HOSTILE, "fingerprint": histories.HOSTILE}
    texts["outcome"] = texts["run_id"] = histories.HOSTILE
    series = histories.series(
        f"{histories.HOSTILE}/int8/w".replace("</", "<\\"), gpu_key=histories.HOSTILE, runs=2, **texts
    )
    first, last = (
        dataclasses.replace(
            point, run_id=f"{point.run_id}{place}", versions={f"torch{histories.HOSTILE}": f"{place}<b>"}
        )
        for place, point in enumerate(series.points)
    )
    return make_site(tmp_path_factory.mktemp("hostile") / "site", [dataclasses.replace(series, points=(first, last))])


@pytest.mark.parametrize("page", TEMPLATES)
def test_hostile_texts_are_only_text(at, hostile, page):
    """Markup in the name of a GPU, case, run, commit, verdict or version is texts as text and never runs."""
    gpu = model.short_digest(histories.HOSTILE)
    case = model.short_digest(histories.HOSTILE, f"{histories.HOSTILE}/int8/w".replace("</", "<\\"))
    visit = at(hostile, page.format(gpu=gpu, case=case))
    for switch in visit.page.locator("input[type=checkbox]").all():
        switch.check()

    ours = (
        "".join(f":not([href^='{name}.html?'])" for name in ("case", "gpu", "compare")) + ":not([href='compare.html'])"
    )

    assert state(visit.page) in ("yes", "failed" if page.startswith("gpu") else "yes")
    assert visit.page.evaluate("window.pwned") is None
    assert (visit.console, visit.foreign_requests()) == ([], [])
    assert "onerror=" in visit.page.locator("body").inner_text()
    assert visit.page.locator(f"main img, main b, [onerror], main a{ours}").count() == 0


@pytest.fixture(scope="module")
def large(tmp_path_factory, browser):
    """Write a site of 500 cases; twelve have 1,000 runs, the others two, because no page loads more than two cases."""
    ladder = list(histories.ladder(runs=1000))
    all_series = (
        dataclasses.replace(series, gpu_key=gpu_key, case_key=series.case_key.replace("sdxl", f"model{place:02d}"))
        for place, gpu_key, series in itertools.islice(itertools.product(range(42), histories.GPUS, ladder), 500)
    )
    cut = (
        series if place < 12 else dataclasses.replace(series, points=series.points[-2:])
        for place, series in enumerate(all_series)
    )
    return make_site(tmp_path_factory.mktemp("large") / "site", cut)


@pytest.mark.parametrize("page", TEMPLATES)
def test_a_page_of_a_large_history_reads_few_files(at, large, page):
    """With 500 cases and 1,000 runs each page is complete, and has read at most five files of data with at most 500 kB."""
    case = model.short_digest(histories.GPUS[0], "model00/int8/1024px-30steps-b1")

    visit = at(large, page.format(gpu=GPU, case=case))

    names = {address.rsplit("/", 1)[1] for address in visit.requests if "/data/" in address}
    assert state(visit.page) == "yes"
    assert 1 <= len(names) <= 5
    assert sum((large / "data" / name).stat().st_size for name in names) <= 500_000
