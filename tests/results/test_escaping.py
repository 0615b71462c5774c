"""Untrusted text on GitHub and in a log: escaped letter by letter, so that it is never markup, a link or a command."""

from __future__ import annotations

import html
import re
import string

import pytest

from speedgate.results.text import log_line, markdown_block, markdown_code
from tests.support.artifacts import HOSTILE

CONTAINER = re.compile(r"^<(code|pre)>(.*)</\1>$")
HARMLESS = set(string.ascii_letters + string.digits + " .,;/+%()=?-")


def without_references(element: str) -> str:
    """Take the text inside the element, without its character references."""
    match = CONTAINER.fullmatch(element)
    assert match is not None
    return re.sub(r"&#\d+;", "", match[2])


@pytest.mark.parametrize(
    "text", [HOSTILE, string.printable, "".join(map(chr, range(0x300))), "\u202e\u2028\u200d\U0001f600"]
)
def test_only_harmless_characters_are_left_bare(text: str) -> None:
    """Every character with a meaning to HTML, Markdown, GitHub or a workflow becomes a reference, on one line."""
    for element in (markdown_code(text, limit=10_000), markdown_block(text, limit=100_000)):
        assert set(without_references(element)) - {"\u2060"} <= HARMLESS


def test_a_reader_sees_the_text() -> None:
    """Escaping loses only control characters: a browser that resolves the references shows the text."""
    text = "a|b <c> *d* _e_ [f](g) `h` ~i~ !j \u00e9 \u4e2d"

    assert html.unescape(markdown_code(text)) == f"<code>{text}</code>"


@pytest.mark.parametrize(
    "text", ["@octocat", "#1", "GH-2", "https://evil.example", "www.evil.example", "a/b#3", "x@y.z"]
)
def test_nobody_is_mentioned_and_nothing_is_linked(text: str) -> None:
    """GitHub looks for links in the rendered text, where references are resolved, so a joiner breaks each pattern."""
    rendered = html.unescape(markdown_code(text))

    assert not re.search(r"@\w|#\d|gh-|://|www\.", rendered, re.IGNORECASE)


def test_control_and_direction_characters_are_gone() -> None:
    """Escape sequences of a terminal and right-to-left overrides are removed."""
    rendered = html.unescape(markdown_code(HOSTILE))

    assert not {"\x1b", "\u202e", "\u200b", "\r", "\n"} & set(rendered)


@pytest.mark.parametrize("text", ["::set-output name=a::b", "x ##[add-mask]y", "a\n::error::b", "\r::stop-commands::x"])
def test_a_log_line_is_no_workflow_command(text: str) -> None:
    """The runner looks for `::` at the start of a line and for `##[` anywhere, and finds neither."""
    line = log_line(text)

    assert "::" not in line
    assert "##[" not in line
    assert len(line.splitlines()) == 1


def test_a_block_is_cut_by_its_escaped_length() -> None:
    """A text that escaping makes eight times as long still stays below the limit."""
    block = markdown_block("\u4e2d<>\n" * 10_000, limit=1000)

    assert len(block) <= 1000
    assert block.endswith("(cut)</pre>")
