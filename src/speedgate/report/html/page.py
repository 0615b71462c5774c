"""The shell of every page that we write: one HTML document that needs no other file and asks no host for anything.

Text becomes HTML in one place, Jinja's templates with autoescape: what a template is given is shown as text, unless it is
`Markup`, which only this module and `charts.py` make. A policy in the page's head lets a browser run nothing but the style
and the script of the page itself, so that even what slipped through would stay without effect and could not call home.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speedgate.results.case_table import NOT_JUDGED
from speedgate.results.json_io import atomic_write
from speedgate.results.run import Outcome
from speedgate.results.text import printable_lines

if TYPE_CHECKING:  # an extra: `speedgate --help` needs none of it
    import jinja2
    from markupsafe import Markup

FOLDER = Path(__file__).parent
_LINKED = ("https://", "http://")
TONES = {
    **dict.fromkeys(Outcome, "bad"),
    **dict.fromkeys((Outcome.STALE, Outcome.UNDECIDED, Outcome.FASTER, Outcome.SMALLER), "warn"),
    Outcome.NO_BASELINE: "plain",
    Outcome.PASS: "good",
}


def page(
    title: str,
    body: Markup,
    *,
    style: str = "",
    script: str = "",
    allow: Mapping[str, str] | None = None,
    subtitle: str = "",
    nav: Mapping[str, str] | None = None,
) -> str:
    """A whole document. `body` stands in `<main>`; `style` and `script` are our own files' texts, added to the shell's.

    `nav` maps the text of each link of the head to its address, such as `#cases` or `other.html`. `allow` widens the policy by
    directive, as in `{"connect-src": "'self'"}`; nothing but inlined images, style and script is allowed without it.
    """
    style = f"{text_of('style.css')}\n{style}"
    return str(
        render(
            "page.html",
            title=title,
            subtitle=subtitle,
            nav=dict(nav or {}),
            body=body,
            style=_own(style),
            script=_own(script),
            policy=policy(style=style, script=script, allow=allow),
        )
    )


def render(name: str, **values: Any) -> Markup:
    """A template of `templates/` with these values, each escaped unless it is `Markup`; an unknown name is an error."""
    from markupsafe import Markup

    return Markup(_environment().get_template(name).render(**values))  # noqa: S704 - what autoescape has made


def policy(*, style: str, script: str = "", allow: Mapping[str, str] | None = None) -> str:
    """A Content-Security-Policy: this style and this script by their SHA-256, images inlined, and no host at all."""
    directives = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _hash(style),
        "script-src": _hash(script) if script else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        **(allow or {}),
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def link(address: object) -> str:
    """The address if a reader may be sent there, else "": no `javascript:` and no file."""
    text = str(address)
    return text if text.startswith(_LINKED) and text.isprintable() and " " not in text else ""


def png(data: bytes) -> str:
    """The `src` of an `<img>` that holds a PNG itself; a `ValueError` where the bytes are none."""
    png_size(data)
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header that every PNG begins with (RFC 2083, section 4.1.1)."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR") or len(data) < 24:
        raise ValueError("expected a PNG image")
    width_px, height_px = struct.unpack(">II", data[16:24])
    return width_px, height_px


@functools.cache
def text_of(name: str) -> str:
    """A file of ours beside this module, such as `style.css`."""
    return (FOLDER / name).read_text(encoding="utf-8")


def write(path: Path, document: str) -> None:
    """Write a page under a temporary name and rename it, so that a reader sees the old one or the new one, whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(document, encoding="utf-8", errors="replace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Cells are texts, shown as such, or `Markup`; `numbers` names the columns of figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart, None where its figures alone are shown, and, behind `summary`, the figures."""

    title: str
    figure: Markup | None
    summary: str
    table: Markup


def panels(shown: Sequence[Panel]) -> Markup | None:
    """The panels one below the other; None where there is none."""
    return render("panels.html", panels=shown) if shown else None


def table(shown: Table) -> Markup:
    """The table as HTML, in a frame that a keyboard can scroll."""
    return render("table.html", table=shown)


def badge(outcome: Outcome | None) -> Markup:
    """An outcome in its colour; the word says it too."""
    return render("badge.html", text=outcome or NOT_JUDGED, tone=TONES[outcome] if outcome else "bad")


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """What a template's expression came to, before it is escaped."""
    from markupsafe import Markup

    return printable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _own(text: str) -> Markup:
    """Style or script of ours as it has to stand in its element, where no character reference is read."""
    from markupsafe import Markup

    if "</" in text or "<!--" in text:
        raise ValueError("style or script: '</' and '<!--' would end the element it stands in")
    return Markup(text)  # noqa: S704 - a file of this package


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
