"""Output of the `speedgate` command: which characters reach a terminal."""

from __future__ import annotations

import pytest

from speedgate.results import console


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
