"""Generated parts of a page that is written by hand: each stands between two comments, of which the first names its command."""

from __future__ import annotations

from pathlib import Path

from speedgate.files import replacing


def of(command: str) -> tuple[str, str]:
    """The lines before and after what a command writes."""
    return f"<!-- {command} -->\n", f"<!-- end of {command} -->\n"


def put(page: Path, command: str, text: str) -> None:
    """Replace what stands between the marks of `command`; a `ValueError` where the page does not have both, once each."""
    begin, end = of(command)
    try:
        before = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"{page}: {error.strerror}; name a page with the marks {begin.strip()} and {end.strip()}"
        ) from error
    if before.count(begin) != 1 or before.count(end) != 1 or before.index(begin) > before.index(end):
        raise ValueError(
            f"{page}: expected one {begin.strip()} and after it one {end.strip()}, each on a line of its own"
        )
    head, _, rest = before.partition(begin)
    after = rest.partition(end)[2]
    with replacing(page) as temporary:
        temporary.write_text(f"{head}{begin}{text}{end}{after}", encoding="utf-8")
