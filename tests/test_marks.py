"""Generated parts of a page: what is written between its marks, and what is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from speedgate import marks

BEGIN, END = marks.of("speedgate describe a100")


def test_everything_above_and_below_is_kept(tmp_path: Path) -> None:
    """Writing replaces what stands between the marks and nothing else, as often as it is done."""
    page = tmp_path / "gpu.md"
    page.write_text(f"above\n{BEGIN}old\n{END}below\n")

    for text in ("new\n", "newer\n"):
        marks.put(page, "speedgate describe a100", text)

    assert page.read_text() == f"above\n{BEGIN}newer\n{END}below\n"


@pytest.mark.parametrize(
    "text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", f"{BEGIN.strip()} {END}", "<!-- another -->"]
)
def test_a_page_without_its_marks_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    """Where it is not clear what to replace, nothing is."""
    page = tmp_path / "gpu.md"
    page.write_text(text)

    with pytest.raises(
        ValueError, match=r"gpu\.md: expected one <!-- speedgate describe a100 --> and after it one <!-- end"
    ):
        marks.put(page, "speedgate describe a100", "new\n")
    assert (page.read_text(), list(tmp_path.iterdir())) == (text, [page])


def test_the_page_keeps_its_line_ends_its_mode_and_its_place(tmp_path: Path) -> None:
    """Through a link too, and with the last mark at the very end."""
    page, link = tmp_path / "gpu.md", tmp_path / "link.md"
    page.write_bytes(f"above\r\n{BEGIN.strip()}\r\nold\r\n{END.strip()}".encode())
    page.chmod(0o600)
    link.symlink_to(page)

    marks.put(link, "speedgate describe a100", "new\n")

    assert page.read_bytes() == f"above\r\n{BEGIN.strip()}\r\nnew\r\n{END.strip()}".encode()
    assert (page.stat().st_mode & 0o777, link.is_symlink()) == (0o600, True)


def test_a_page_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """By its name, with what it should be."""
    page = tmp_path / "gpu.md"
    page.write_bytes(b"\xe9" + (BEGIN + END).encode())

    with pytest.raises(ValueError, match=r"gpu\.md: not UTF-8 \(.* at byte 0\); name a page with the marks"):
        marks.put(page, "speedgate describe a100", "new\n")


def test_a_page_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A mistyped name is an error that says what the page has to hold."""
    with pytest.raises(ValueError, match="No such file or directory; name a page with the marks"):
        marks.put(tmp_path / "gpu.md", "speedgate describe a100", "new\n")
    assert not list(tmp_path.iterdir())
