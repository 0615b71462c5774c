"""The frame of every HTML page: one document that needs no other file and sends no request.

Text becomes HTML in one place, Jinja's templates with autoescape. A template shows its values as text unless they are `Markup`,
which only this module and `charts.py` make. A policy in the head of the page lets a browser run nothing but the page's own style
and script, so even an injected script would not run and could not send anything.
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

from speedgate.results.case_table import NOT_JUDGED, REFERENCE
from speedgate.results.json_io import atomic_write
from speedgate.results.run import Outcome
from speedgate.results.text import printable_lines

if TYPE_CHECKING:  # optional packages: `speedgate --help` needs none of them
    import jinja2
    from markupsafe import Markup

FOLDER = Path(__file__).parent
TONES = {
    **dict.fromkeys(Outcome, "bad"),
    **dict.fromkeys((Outcome.STALE, Outcome.UNKNOWN, Outcome.UNDECIDED, Outcome.FASTER, Outcome.SMALLER), "warn"),
    Outcome.NO_BASELINE: "plain",
    Outcome.PASS: "good",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table, the first cell of a row being its name. Cells are texts or `Markup`; `numbers` are the headings of figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart (None if only its figures are shown) and, folded below `summary`, the table of its figures."""

    title: str
    figure: Markup | None
    summary: str
    table: Markup


def render_page(
    title: str,
    body: Markup,
    *,
    style: str = "",
    script: str = "",
    allow: Mapping[str, str] | None = None,
    subtitle: str = "",
    warning: str = "",
    nav: Mapping[str, str] | None = None,
) -> str:
    """Write a whole document with `body` in its `<main>`; `style` and `script` are texts of our own files.

    `nav` maps the text of each link in the head to its address, such as `#cases` or `other.html`. `allow` adds directives to the
    policy, as in `{"connect-src": "'self'"}`; without it only inlined images, style and script are allowed. `warning`
    stands below the title.
    """
    style = f"{read_asset('style.css')}\n{style}"
    return str(
        render_template(
            "page.html",
            title=title,
            subtitle=subtitle,
            warning=warning,
            nav=dict(nav or {}),
            body=body,
            style=_raw_text(style),
            script=_raw_text(script),
            policy=content_security_policy(style=style, script=script, allow=allow),
        )
    )


def render_template(name: str, **values: Any) -> Markup:
    """Fill a template of `templates/`. Each value is escaped unless it is `Markup`; a value that is missing is an error."""
    from markupsafe import Markup

    return Markup(_environment().get_template(name).render(**values))  # noqa: S704 - autoescape made it


def render_table(table: Table) -> Markup:
    """Write the table in a frame that a keyboard can scroll."""
    return render_template("table.html", table=table)


def render_panels(panels: Sequence[Panel]) -> Markup | None:
    """Write the panels one below the other; None if there are none."""
    return render_template("panels.html", panels=panels) if panels else None


def outcome_badge(outcome: Outcome | None, *, is_reference: bool = False) -> Markup:
    """Write an outcome in its colour; the word says it too. A reference is not judged, and that is nothing bad."""
    if outcome is None and is_reference:
        return render_template("badge.html", text=REFERENCE, tone="plain")
    return render_template("badge.html", text=outcome or NOT_JUDGED, tone=TONES[outcome] if outcome else "bad")


def content_security_policy(*, style: str, script: str = "", allow: Mapping[str, str] | None = None) -> str:
    """Make a policy that allows this style and this script by their SHA-256, inlined images, and no host."""
    directives = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _source_hash(style),
        "script-src": _source_hash(script) if script else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        **(allow or {}),
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def png_data_url(data: bytes) -> str:
    """Make the `src` of an `<img>` that holds a PNG; a `ValueError` if the bytes are no PNG."""
    png_size(data)
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def png_size(data: bytes) -> tuple[int, int]:
    """Read width and height in pixels from the header that every PNG begins with (RFC 2083, section 4.1.1)."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR") or len(data) < 24:
        raise ValueError("expected a PNG image")
    width_px, height_px = struct.unpack(">II", data[16:24])
    return width_px, height_px


@functools.cache
def read_asset(name: str) -> str:
    """Read a file beside this module, such as `style.css`."""
    return (FOLDER / name).read_text(encoding="utf-8")


def write_page(path: Path, document: str) -> None:
    """Write a page under a temporary name and rename it, so that a reader sees the old page or the new one, whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(document, encoding="utf-8", errors="replace")


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_make_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _make_printable(value: Any) -> Any:
    """Replace control characters in the value of a template's expression, before it is escaped."""
    from markupsafe import Markup

    return printable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _raw_text(text: str) -> Markup:
    """Mark our own style or script as safe: inside its element a browser reads no character references."""
    from markupsafe import Markup

    if "</" in text or "<!--" in text:
        raise ValueError("style or script: '</' and '<!--' would end the element it stands in")
    return Markup(text)  # noqa: S704 - a file of this package


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
