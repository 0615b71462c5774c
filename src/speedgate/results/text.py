"""Untrusted text inside Markdown that GitHub renders: shown character by character, never obeyed."""

from __future__ import annotations

import re

from speedgate.results.console import ascii_line, printable

# What means nothing to Markdown, HTML or GitHub wherever it stands inside <code>; everything else becomes a character reference,
# which CommonMark takes for text and never for markup (spec 0.31, section 2.5).
_PLAIN = re.compile(r"[A-Za-z0-9 .,;/+%()=?-]")
# GitHub links names, numbers and addresses in the rendered text, where a reference is a character again, and Markdown's own
# extension links www. even between our tags. The joiner behind these breaks the pattern.
_LINKED = re.compile(r"@|#|:(?=//)|www(?=\.)|gh(?=-)", re.IGNORECASE)
_JOINER = "\u2060"  # WORD JOINER: no width, no break


def escaped(text: str, *, limit: int = 600) -> str:
    """`text` as a `<code>` element of one line, cut to `limit` characters; control and direction characters become "?"."""
    return f"<code>{_references(_one_line(text, limit=limit))}</code>"


def preformatted(text: str, *, limit: int) -> str:
    """`text` as a `<pre>` element with its lines, of at most `limit` characters of Markdown; a line keeps 300 of its own."""
    lines, used = [], len("<pre></pre>&#10;(cut)")
    for line in text.splitlines():
        # On one line of Markdown, because a blank one would end the element's block in some renderers.
        shown = _references(_one_line(line, limit=300))
        used += len(shown) + len("&#10;")
        if used > limit:
            lines.append("(cut)")
            break
        lines.append(shown)
    return f"<pre>{'&#10;'.join(lines)}</pre>"


def log_line(text: str) -> str:
    """`text` on one line of a job's log, ASCII, in which the runner finds no workflow command.

    It looks for "::" at a line's start and for "##[" anywhere (actions/runner, ActionCommand.cs).
    """
    return ascii_line(text).replace("::", ": :").replace("##[", "# #[")


def _one_line(text: str, *, limit: int) -> str:
    cut = text if len(text) <= limit else f"{text[:limit]}..."
    return _LINKED.sub(lambda match: match[0] + _JOINER, printable(cut))


def _references(text: str) -> str:
    return "".join(c if c == _JOINER or _PLAIN.fullmatch(c) else f"&#{ord(c)};" for c in text)
