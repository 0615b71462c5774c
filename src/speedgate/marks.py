"""Generated parts of a page that is written by hand: each stands between two comments, of which the first names its command."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from speedgate.files import replacing


def of(command: str) -> tuple[str, str]:
    """The lines before and after what a command writes."""
    return f"<!-- {command} -->\n", f"<!-- end of {command} -->\n"


def put(page: Path, command: str, text: str) -> None:
    """Replace what stands between the marks of `command`, and nothing else: line ends, mode and links stay as they are.

    A `ValueError` where the page cannot be written, or does not have both marks, once each.
    """
    begin, end = (mark.strip() for mark in of(command))
    before = _read(page, f"a page with the marks {begin} and {end}")
    lines = before.splitlines(keepends=True)
    places = [[number for number, line in enumerate(lines) if line.strip() == mark] for mark in (begin, end)]
    if [len(found) for found in places] != [1, 1] or places[0] > places[1]:
        raise ValueError(f"{page}: expected one {begin} and after it one {end}, each on a line of its own")
    ((first,), (last,)) = places
    newline = "\r\n" if lines[first].endswith("\r\n") else "\n"
    after = [*lines[: first + 1], re.sub(r"\r?\n", newline, text), *lines[last:]]
    with replacing(page.resolve()) as temporary:
        temporary.write_bytes("".join(after).encode())
        shutil.copymode(page, temporary)


def _read(page: Path, what: str) -> str:
    try:
        text = page.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"{page}: {error.strerror}; name {what}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{page}: not UTF-8 ({error.reason} at byte {error.start}); name {what}") from error
    if not os.access(page, os.W_OK):
        raise ValueError(f"{page}: cannot be written; name {what}")
    return text
