"""Text from elsewhere, made safe for where it is shown: a terminal, a log, Markdown on GitHub, a stored command line."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable, Sequence

# Passwords may contain "@", so everything up to the last one is removed.
_PASSWORD = re.compile(r"(://[^:/]*):.*@", re.DOTALL)
_QUERY = re.compile(r"(?<=[?&])([^=&]*password[^=&]*)=[^&]*&?", re.IGNORECASE)
# Characters without a meaning to Markdown, HTML or GitHub wherever they stand inside <code>. Every other becomes a character
# reference, which CommonMark takes for text and never for markup (spec 0.31, section 2.5).
_PLAIN = re.compile(r"[A-Za-z0-9 .,;/+%()=?-]")
# GitHub links names, numbers and addresses in the rendered text, where a reference is a character again, and Markdown's own
# extension links www. even between our tags. The joiner behind these breaks the pattern.
_LINKED = re.compile(r"@|#|:(?=//)|www(?=\.)|gh(?=-)", re.IGNORECASE)
_CODE = re.compile(r"<code>([^<]*)</code>")
_JOINER = "\u2060"  # WORD JOINER: no width, no break


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows of equal length as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def printable(text: str) -> str:
    """Replace control and direction characters, line ends included, by "?"."""
    return "".join(character if character.isprintable() else "?" for character in text)


def printable_lines(text: str) -> str:
    """`printable`, but line ends and tabs stay, for HTML."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def ascii_line(text: str) -> str:
    """`printable` in ASCII, for a terminal or log of any encoding: other characters become escapes such as \\xe9."""
    return printable(text).encode("ascii", "backslashreplace").decode("ascii")


def log_line(text: str) -> str:
    """`text` on one line of a job's log, ASCII, in which the runner finds no workflow command.

    It looks for "::" at a line's start and for "##[" anywhere (actions/runner, ActionCommand.cs).
    """
    return ascii_line(text).replace("::", ": :").replace("##[", "# #[")


def markdown_code(text: str, *, limit: int = 600) -> str:
    """`text` as a `<code>` element of one line, cut to `limit` characters; GitHub links nothing in it."""
    return f"<code>{_references(_one_line(text, limit=limit))}</code>"


def plain_markdown(text: str) -> str:
    """Markdown that `markdown_code` wrote, for a terminal: its elements become the text in them, `printable`."""
    return _CODE.sub(lambda match: printable(html.unescape(match[1]).replace(_JOINER, "")), text)


def markdown_block(text: str, *, limit: int) -> str:
    """`text` as a `<pre>` element with its lines, of at most `limit` characters of Markdown; a line keeps 300 of its own."""
    lines, used = [], len("<pre></pre>&#10;(cut)")
    for line in text.splitlines():
        # On one line of Markdown, because a blank one would end the element's block in some renderers.
        escaped = _references(_one_line(line, limit=300))
        used += len(escaped) + len("&#10;")
        if used > limit:
            lines.append("(cut)")
            break
        lines.append(escaped)
    return f"<pre>{'&#10;'.join(lines)}</pre>"


def command_line(words: Iterable[str]) -> str:
    """A command for a shell, without the passwords in its URLs; PGPASSWORD or ~/.pgpass can supply them."""
    return shlex.join(redact_password(word) for word in words)


def redact_password(word: str) -> str:
    """Remove the password from an argument that is a URL or ends in one."""
    if "://" not in word:
        return word
    return _QUERY.sub("", _PASSWORD.sub(r"\1@", word)).rstrip("?&")


def _one_line(text: str, *, limit: int) -> str:
    cut = text if len(text) <= limit else f"{text[:limit]}..."
    return _LINKED.sub(lambda match: match[0] + _JOINER, printable(cut))


def _references(text: str) -> str:
    return "".join(c if c == _JOINER or _PLAIN.fullmatch(c) else f"&#{ord(c)};" for c in text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; a "|" in a cell would end it and is left out."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', '') for cell in line)} |" for line in lines]
