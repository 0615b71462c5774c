"""The site's pages: five shells without a word from the history, and beside them their scripts, style and settings.

What the history says reaches a page as data, by a script of `data/`, and its text by `textContent`: no page is written from
it, and none has to be escaped. Charts are drawn in the browser, because a reader moves through a thousand runs: by Vega-Lite,
as the report's are, whose bundle vl-convert carries. It is read when a chart is, and interprets its expressions
(`ast: true`), so that the pages' policy allows no `eval`, no inline script and no other host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from speedgate.report.html import page
from speedgate.results import optional

ASSETS, DATA = "assets", "data"
STATIC = Path(__file__).parent / "static"
VEGA = "vega.js"
_TITLES = {
    "index": "Performance history",
    "gpu": "GPU",
    "case": "Case",
    "compare": "Compare two runs",
    "sessions": "Compare two sessions",
}
_NAV = {"All cases": "index.html", "Compare two runs": "compare.html", "Compare two sessions": "sessions.html"}
# The server's own files; of a page that was opened from a disk, the files beside it.
_ALLOW = {"script-src": "'self'"}


def write_pages(folder: Path, *, commit_url: str | None, sources: Mapping[str, str], generated_at: str) -> None:
    """Write every file but the data's. A `ValueError` names the extra where what draws the charts is not installed."""
    _check_extra()
    assets = folder / ASSETS
    assets.mkdir(parents=True)
    for source in sorted(STATIC.glob("*.js")):
        (assets / source.name).write_bytes(source.read_bytes())
    (assets / VEGA).write_text(_vega(), encoding="utf-8")
    settings = {"commit_url": commit_url, "sources": dict(sources), "generated_at": generated_at}
    (folder / DATA).mkdir()
    # Addresses have been checked, and the rest is ours; ASCII and without "<" all the same, as all data.
    text = json.dumps(settings).replace("<", "\\u003c")
    (folder / DATA / "site.js").write_text(f'speedgate.receive("site",{text});\n', encoding="ascii")
    for name in _TITLES:
        page.write(folder / f"{name}.html", page_html(name))


def page_html(name: str) -> str:
    """One of the pages, as HTML."""
    from markupsafe import Markup

    scripts = (f"{ASSETS}/site.js", f"{DATA}/site.js", f"{ASSETS}/charts.js", f"{ASSETS}/{name}.js")
    loading = "\n".join(f'<script src="{source}" defer></script>' for source in scripts)
    fragment = (STATIC / f"{name}.html").read_text(encoding="utf-8")
    style = (STATIC / "site.css").read_text(encoding="utf-8")
    body = Markup(f"{fragment}\n{loading}")  # noqa: S704 - files of this package
    return page.page(_TITLES[name], body, style=style, allow=_ALLOW, nav=_NAV)


def _check_extra() -> None:
    """A `ValueError` that names the extra where one of the two packages is missing."""
    optional.need("report", what="a site", packages=("jinja2", "vl_convert"))


def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which sets `vegaEmbed`; each brings its licence (BSD-3-Clause)."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
