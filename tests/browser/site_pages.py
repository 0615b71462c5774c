"""What the tests of the site's pages share: making a site, and opening a page of one until it is done."""

from __future__ import annotations

from speedgate.history.site import model, write
from tests.support import site_history as histories

GPU = model.short_digest(histories.GPUS[0])
INT8 = model.case_id(histories.GPUS[0], "sdxl/int8/1024px-30steps-b1")
TEMPLATES = ("index.html", "gpu.html?id={gpu}", "case.html?id={case}", "compare.html?a={case}", "sessions.html")
SETTLED = "html:is([data-ready=yes], [data-ready=failed])"
COMMIT_URL = "https://host.example/owner/repository/commit/{commit}"


def make(target, series):
    """The site of these series."""
    with write.replace_folder(target) as made:
        options = {"generated_at": "2026-11-21T19:00:00+00:00", "commit_url": COMMIT_URL, "stages": histories.STAGES}
        write.write_site(made, series, changes=histories.changes, **options)
    return target


def opened(visit, root, page, view="desktop"):
    """The page, by `visit`, once it says that it shows all it was asked for, or that it cannot."""
    found = visit(f"{root if isinstance(root, str) else root.as_uri()}/{page}", view)
    settled(found.page)
    return found


def settled(page):
    """Wait for that."""
    page.wait_for_selector(SETTLED, state="attached")


def ready(page):
    """Whether the page says that it shows all it was asked for."""
    return page.evaluate("document.documentElement.dataset.ready")
