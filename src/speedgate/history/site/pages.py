"""Write the pages of the site: five empty HTML pages with their scripts, style and settings.

No text of the history is written into a page. A page loads it as data, by a script of `data/`, and shows it with `textContent`,
so nothing has to be escaped. Charts are drawn in the browser, because a reader moves through a thousand runs. They use
Vega-Lite, as the report does; vl-convert contains its bundle, and a page loads it when it first draws a chart. Vega interprets
its expressions (`ast: true`), so that the pages' policy can forbid `eval`, inline scripts and other hosts.
"""

from __future__ import annotations

import json
from pathlib import Path

from speedgate.report.html import page
from speedgate.results import optional

ASSETS, DATA = "assets", "data"
STATIC = Path(__file__).parent / "static"
VEGA = "vega.js"
# Version names whose value is a git commit, and where that commit is published.
SOURCES = {"torch_git": "https://github.com/pytorch/pytorch/commit/{commit}"}
_TITLES = {
    "index": "Performance history",
    "gpu": "GPU",
    "case": "Case",
    "compare": "Compare two runs",
    "sessions": "Compare two sessions",
}
_NAV = {"All cases": "index.html", "Compare two runs": "compare.html", "Compare two sessions": "sessions.html"}
_HEAD = """\
<p id="about" class="muted"><span class="reading">Reading the history.</span></p>
<noscript><p>This page needs JavaScript. It loads its data from the folder <code>data/</code> beside it.</p></noscript>
<p id="trouble" role="alert"></p>
"""
# Scripts only from the same server; for a page that was opened from a disk, from its folder.
_ALLOW = {"script-src": "'self'"}


def write_pages(folder: Path, *, commit_url: str | None, generated_at: str) -> None:
    """Write all files except the data. A `ValueError` names the extra to install if a package for the charts is missing."""
    optional.require_extra("report", what="a site", packages=("jinja2", "vl_convert"))
    assets = folder / ASSETS
    assets.mkdir(parents=True)
    for source in sorted(STATIC.glob("*.js")):
        (assets / source.name).write_bytes(source.read_bytes())
    (assets / VEGA).write_text(_vega(), encoding="utf-8")
    settings = {"commit_url": commit_url, "sources": SOURCES, "generated_at": generated_at}
    (folder / DATA).mkdir()
    # The URL is checked and the rest is ours; it is ASCII without "<" nevertheless, like all data.
    text = json.dumps(settings).replace("<", "\\u003c")
    (folder / DATA / "site.js").write_text(f'speedgate.receive("site",{text});\n', encoding="ascii")
    for name in _TITLES:
        page.write_page(folder / f"{name}.html", page_html(name))


def page_html(name: str) -> str:
    """Make the HTML of a page."""
    from markupsafe import Markup

    scripts = (f"{ASSETS}/site.js", f"{DATA}/site.js", f"{ASSETS}/charts.js", f"{ASSETS}/{name}.js")
    loading = "\n".join(f'<script src="{source}" defer></script>' for source in scripts)
    fragment = (STATIC / f"{name}.html").read_text(encoding="utf-8")
    style = (STATIC / "site.css").read_text(encoding="utf-8")
    body = Markup(f"{_HEAD}{fragment}\n{loading}")  # noqa: S704 - files of this package
    return page.render_page(_TITLES[name], body, style=style, allow=_ALLOW, nav=_NAV)


def _vega() -> str:
    """Bundle Vega, Vega-Lite and Vega-Embed, with their licences (BSD-3-Clause), in a script that sets `vegaEmbed`."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
