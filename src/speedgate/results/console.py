"""Print lines of a command: text from files and machines must not control the terminal or the log that shows it."""

from __future__ import annotations

import sys

OK = 0
FAILED = 2  # the exit status of a command that printed at least one error; argparse uses the same for a wrong option


def printable(text: str) -> str:
    """Replace control, direction and line-breaking characters by "?", so that the text stays on one line."""
    return "".join(character if character.isprintable() else "?" for character in text)


def ascii_line(text: str) -> str:
    """Make the text printable, and escape everything that is not ASCII: a log or terminal may have another encoding."""
    return printable(text).encode("ascii", "backslashreplace").decode("ascii")


def print_line(text: str) -> None:
    """Print one line of a command's output."""
    print(ascii_line(text))


def print_error(text: str) -> None:
    """Print one error on stderr, with the name of the program before it."""
    print("speedgate:", ascii_line(text), file=sys.stderr)
