"""`speedgate summary`: what it reads, and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from speedgate.cli import main
from tests.support.artifacts import SESSION, encoded, result
from tests.support.command import fails


@pytest.mark.parametrize("out", [".", "missing/summary.md", "/dev/full"])
def test_a_summary_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    """Neither the number nor the class of the system's error is shown, and what to do is."""
    (tmp_path / "case.json").write_bytes(encoded(result()))

    said = fails(capsys, "summary", tmp_path, "--out", tmp_path / out)

    assert "name a file that can be written" in said
    assert "Errno" not in said


def test_folders_that_were_skipped_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run in a folder of the user's own naming is not silently left out of the summary of all runs."""
    for folder in (SESSION, "mine", "environments"):
        (tmp_path / folder).mkdir()
    for name in (f"{SESSION}/a__b__c.json", "mine/a__b__c.json"):
        (tmp_path / name).write_bytes(encoded(result()))

    assert main(["summary", str(tmp_path)]) == 0

    assert capsys.readouterr().err == "speedgate: skipped, because the name is not that of a run: mine\n"
    (tmp_path / SESSION / "a__b__c.json").unlink()
    assert main(["summary", str(tmp_path)]) == 2
    assert f"or name one that was skipped ({tmp_path / 'mine'})" in capsys.readouterr().err


def test_an_empty_folder_is_named_with_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says where nothing was found and what makes results."""
    assert f"{tmp_path}: holds no result of a case: run pytest bench first" in fails(capsys, "summary", tmp_path)
