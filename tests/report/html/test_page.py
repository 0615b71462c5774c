"""The frame of a page: every value is shown as text, and a browser may run only our own style and script."""

import ast
import base64
import hashlib
import html.parser
import re
import stat
from pathlib import Path

import pytest
from markupsafe import Markup

from speedgate.report.html import page
from speedgate.results import optional
from speedgate.results.text import printable_lines
from tests.support.web_samples import HOSTILE

WEB = Path(page.__file__).parent


class Tags(html.parser.HTMLParser):
    """Parse a document as a browser does: its elements with their attributes, and its texts."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def directives_of(document):
    """Take the directives of the policy in the head of a document."""
    (policy,) = (tag["content"] for _, tag in Tags(document).tags if tag.get("http-equiv"))
    return policy.split("; ")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_makes_no_element(text):
    """With any text in title, subtitle, links or body the page has the elements and attributes of a plain page."""
    plain, hostile = (
        Tags(
            page.render_page(one, page.render_template("badge.html", text=one, tone=one), subtitle=one, nav={one: "#a"})
        )
        for one in ("plain", text)
    )

    assert [(tag, sorted(names)) for tag, names in hostile.tags] == [(tag, sorted(names)) for tag, names in plain.tags]
    assert printable_lines(text) in hostile.texts


def test_an_unknown_name_in_a_template_is_an_error():
    """A template fails if a value is missing, instead of showing nothing."""
    with pytest.raises(Exception, match="'tone' is undefined"):
        page.render_template("badge.html", text="PASS")


def test_no_template_lets_a_text_through():
    """No filter or block of a template disables escaping, and every attribute is quoted."""
    for path in (WEB / "templates").glob("*.html"):
        text = path.read_text()
        assert not re.search(r"\|\s*safe|autoescape|xmlattr|\|\s*tojson", text), path.name
        assert not re.search(r"=\{\{", text), path.name


def test_markup_is_made_in_three_modules_alone():
    """Text becomes markup only where it was escaped or is a file of ours."""
    makers = {
        path.name
        for path in WEB.parents[1].rglob("*.py")
        if "Markup(" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Markup"
    }

    assert makers == {"page.py", "charts.py", "pages.py"}


def test_the_policy_names_the_style_and_the_script_by_their_digests():
    """The policy allows exactly the style and script of the page, no script if it has none, and no host."""
    document = page.render_page("t", Markup(""), script="let a = 1 < 2;", style="b { color: red }")
    directives = dict(line.split(" ", 1) for line in directives_of(document))

    for name in ("style", "script"):
        own = re.search(f"<{name}>(.*?)</{name}>", document, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert directives[f"{name}-src"] == f"'sha256-{digest}'"
    assert directives["default-src"] == "'none'"
    assert not re.search(r"https?:|\*|unsafe", str(directives))
    assert "script-src 'none'" in directives_of(page.render_page("t", Markup("")))


@pytest.mark.parametrize("text", ["a</style><script>b", "<!-- a"])
def test_what_would_end_its_element_is_refused(text):
    """A style or script that would close its own element is refused."""
    with pytest.raises(ValueError, match="would end the element"):
        page.render_page("t", Markup(""), script=text)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"<svg onload=boom()>", b"GIF89a" + bytes(40)])
def test_only_a_png_is_shown_as_one(data):
    """Bytes that are no PNG are refused and not inlined."""
    with pytest.raises(ValueError, match="expected a PNG"):
        page.png_data_url(data)


def test_a_page_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """A write that fails leaves the old page and no part of the new one."""
    path = tmp_path / "new" / "page.html"
    page.write_page(path, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space left"):
        page.write_page(path, "new")

    assert [(one.name, one.read_text()) for one in path.parent.iterdir()] == [("page.html", "old")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_half_a_surrogate_does_not_lose_the_page(tmp_path):
    """A character that JSON allows and UTF-8 does not is replaced, and the page is written."""
    page.write_page(tmp_path / "page.html", page.render_page("a\ud800b", Markup("")))

    assert "<title>a?b</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_missing_package_is_one_line(monkeypatch):
    """The error names the missing package and the command that installs it."""
    monkeypatch.setitem(optional.PACKAGES, "report", ("altair", "no_such_package"))

    with pytest.raises(ValueError, match=r"no_such_package missing\): pip install 'speedgate\[report\]'"):
        optional.require_extra("report", what="a report")
