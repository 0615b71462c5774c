"""Helpers for the tests of the site's pages: write a site, and open a page of it until it is complete."""

from __future__ import annotations

from speedgate.history.site import model, write
from tests.support import site_history as histories

GPU = model.short_digest(histories.GPUS[0])
INT8 = model.short_digest(histories.GPUS[0], "sdxl/int8/1024px-30steps-b1")
TEMPLATES = ("index.html", "gpu.html?id={gpu}", "case.html?id={case}", "compare.html?a={case}", "sessions.html")
SETTLED = "html:is([data-ready=yes], [data-ready=failed])"
COMMIT_URL = "https://host.example/owner/repository/commit/{commit}"


def make_site(target, series):
    """Write the site of these series."""
    with write.replace_folder(target) as made:
        options = {"generated_at": "2026-11-21T19:00:00+00:00", "commit_url": COMMIT_URL, "stages": histories.STAGES}
        write.write_site(made, series, changes=histories.changes, machines=histories.machine(1.0, 1.042), **options)
    return target


def open_page(visit, root, page, view="desktop"):
    """Open a page and wait until it is complete or has failed."""
    opened = visit(f"{root if isinstance(root, str) else root.as_uri()}/{page}", view)
    wait_until_complete(opened.page)
    return opened


def wait_until_complete(page):
    """Wait until the page is complete or has failed."""
    page.wait_for_selector(SETTLED, state="attached")


def state(page):
    """Return `yes` if the page is complete, `failed` if it shows an error."""
    return page.evaluate("document.documentElement.dataset.ready")
