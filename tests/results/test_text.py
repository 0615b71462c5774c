"""Text from elsewhere: escaped on GitHub, in a log and in a terminal, and without passwords in a command line."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shlex
import string
import sys

import pytest

from speedgate.baselines.lock import recording_lock
from speedgate.cli import main
from speedgate.results.text import command_line, log_line, markdown_block, markdown_code, redact_password
from speedgate.versions.bisect import BisectState
from tests.support.artifacts import HOSTILE
from tests.support.baseline_samples import KEY
from tests.versions.test_bisect import RELEASES, REQUEST

CONTAINER = re.compile(r"^<(code|pre)>(.*)</\1>$")
HARMLESS = set(string.ascii_letters + string.digits + " .,;/+%()=?-")
URL = "postgresql://boss:S3cret!pw@h/db"


@pytest.mark.parametrize(
    ("word", "redacted"),
    [
        (f"--history={URL}", "--history=postgresql://boss@h/db"),
        (URL, "postgresql://boss@h/db"),
        ("postgresql://:S3cret@h/db", "postgresql://@h/db"),
        ("postgresql://u:S3/cr?et#S3cret@S3cret@h:5432/db", "postgresql://u@h:5432/db"),
        ("postgresql://a@b:S3cret\nS3cret@h/db", "postgresql://a@b@h/db"),
        ("postgresql://u@h/db?sslmode=require&sslPassword=S3cret", "postgresql://u@h/db?sslmode=require"),
        ("http://host:8080/path", "http://host:8080/path"),
        ("bench/test_parity.py::test_parity[a@b]", "bench/test_parity.py::test_parity[a@b]"),
    ],
)
def test_a_url_is_shown_without_its_password(word, redacted):
    """Whatever characters stand in it, and wherever it stands; other arguments stay as they are."""
    assert redact_password(word) == redacted
    assert shlex.split(command_line(["pytest", word])) == ["pytest", redacted]


def test_the_facts_beside_a_lock_hold_no_password(tmp_path, monkeypatch):
    """It lies where others may read it."""
    monkeypatch.setattr(sys, "orig_argv", ["pytest", "bench", f"--history={URL}"])

    with recording_lock(KEY, folder=tmp_path):
        (path,) = tmp_path.glob("*.json")
        assert json.loads(path.read_text())["command"] == "pytest bench --history=postgresql://boss@h/db"


@pytest.mark.parametrize("words", [["trend"], ["history", "upgrade"], ["bump", "torch==1"]])
def test_a_mistyped_option_is_told_without_its_password(capsys, words):
    """The error of every command repeats the option without the password."""
    with pytest.raises(SystemExit):
        main([*words, f"--histroy={URL}"])

    message = capsys.readouterr().err
    assert "--histroy=postgresql://boss@h/db" in message
    assert "S3cret" not in message


def test_what_a_bisect_leaves_tells_no_password(tmp_path):
    """Its request is stored with the arguments of pytest, among them a history's URL."""
    request = dataclasses.replace(REQUEST, arguments=("--stage=fp32", f"--history={URL}"))
    BisectState(tmp_path / "state.json", request, list_versions=lambda: RELEASES)

    state = (tmp_path / "state.json").read_text()
    assert json.loads(state)["question"]["arguments"] == ["--stage=fp32", "--history=postgresql://boss@h/db"]


def without_references(element: str) -> str:
    """Take the text inside the element, without its character references."""
    match = CONTAINER.fullmatch(element)
    assert match is not None
    return re.sub(r"&#\d+;", "", match[2])


@pytest.mark.parametrize(
    "text", [HOSTILE, string.printable, "".join(map(chr, range(0x300))), "\u202e\u2028\u200d\U0001f600"]
)
def test_only_harmless_characters_are_left_bare(text):
    """Every character with a meaning to HTML, Markdown, GitHub or a workflow becomes a reference, on one line."""
    for element in (markdown_code(text, limit=10_000), markdown_block(text, limit=100_000)):
        assert set(without_references(element)) - {"\u2060"} <= HARMLESS


def test_nobody_is_mentioned_and_nothing_is_linked():
    """GitHub links in the rendered text, so a joiner breaks each pattern; else a reader sees all but control characters."""
    text, rendered = "a|b <c> *d* _e_ [f](g) `h` ~i~ !j \u00e9 \u4e2d", html.unescape(markdown_code(HOSTILE))

    assert html.unescape(markdown_code(text)) == f"<code>{text}</code>"
    assert {"octocat", "evil.example"} <= set(re.findall(r"[\w.]+", rendered))
    assert not re.search(r"@\w|#\d|gh-|://|www\.", rendered, re.IGNORECASE)
    assert not {"\x1b", "\u202e", "\u200b", "\r", "\n"} & set(rendered)


@pytest.mark.parametrize("text", ["::set-output name=a::b", "x ##[add-mask]y", "a\n::error::b", "\r::stop-commands::x"])
def test_a_log_line_is_no_workflow_command(text):
    """The runner looks for `::` at the start of a line and for `##[` anywhere, and finds neither."""
    line = log_line(text)

    assert "::" not in line
    assert "##[" not in line
    assert len(line.splitlines()) == 1


def test_a_block_is_cut_by_its_escaped_length():
    """A text that escaping makes eight times as long still stays below the limit."""
    block = markdown_block("\u4e2d<>\n" * 10_000, limit=1000)

    assert len(block) <= 1000
    assert block.endswith("(cut)</pre>")
