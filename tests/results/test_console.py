"""Output of the `speedgate` command: which characters reach a terminal."""

from __future__ import annotations

import argparse
import sys

import pytest

from speedgate.results import console
from speedgate.results.text import markdown_code


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("sdxl/int8", "sdxl/int8"),
        ("\x1b[31mred\x1b[0m", "?[31mred?[0m"),
        ("two\nlines\r\u2028", "two?lines??"),
        ("\u202egnp.exe\u200b", "?gnp.exe?"),
        ("\x9b2J\ud800", "?2J?"),
        ("\u00e9", "\\xe9"),
    ],
)
def test_printed_text_cannot_steer_the_terminal(text, printed, capsys):
    """Control, direction and line-breaking characters are replaced, other non-ASCII is escaped."""
    console.print_line(text)
    console.print_error(text)

    assert capsys.readouterr() == (f"{printed}\n", f"speedgate: {printed}\n")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_page_is_shown_without_html_in_a_terminal(is_terminal, monkeypatch, capsys):
    """A terminal shows the texts themselves, which cannot steer it; a file or a pipe gets the Markdown for GitHub."""
    hostile = markdown_code("@you \x1b[2J")
    text = f"**1 PASS** on {markdown_code('a_b|c <x>')}, {hostile}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)

    console.print_markdown(text)

    assert capsys.readouterr().out == ("**1 PASS** on a_b|c <x>, @you ?[2J\n" if is_terminal else text)


def test_the_help_of_a_command_says_what_it_does() -> None:
    """It begins with the sentence that the list of all commands has."""
    commands = argparse.ArgumentParser(prog="speedgate").add_subparsers()

    command = console.add_command(commands, "check", "validate baseline files", epilog="The end.")

    assert command.format_help().split("\n\n")[1:2] == ["Validate baseline files."]
    assert command.format_help().endswith("The end.\n")


def test_a_command_runs_without_an_output(monkeypatch):
    """Python has None for an output that the shell has closed (`>&-`)."""
    monkeypatch.setattr("sys.stdout", None)

    assert console.run_command(lambda _: 0, argparse.Namespace()) == 0
