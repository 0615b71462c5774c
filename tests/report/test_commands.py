"""`speedgate summary` and `speedgate report`: what they read and write, and their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from speedgate.cli import main
from tests.support.artifacts import SESSION, encoded, result, write_results
from tests.support.baseline_samples import BF16, KEY
from tests.support.command import fails


def test_a_summary_is_printed_or_appended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`speedgate summary` prints, and with --out adds the same text to a file that others write to."""
    write_results(tmp_path, result())
    out = tmp_path / "summary.txt"
    out.write_text("before\n")

    assert main(["summary", str(tmp_path)]) == 0
    assert main(["summary", str(tmp_path), "--out", str(out)]) == 0

    assert out.read_text() == "before\n" + capsys.readouterr().out


@pytest.mark.parametrize("out", [".", "missing/summary.md", "/dev/full"])
def test_a_summary_that_cannot_be_written_is_one_line(tmp_path: Path, capsys, out: str) -> None:
    """The error says what to do, without the number or the class of the system's error."""
    write_results(tmp_path, result())

    error = fails(capsys, "summary", tmp_path, "--out", tmp_path / out)

    assert "name a file that can be written" in error and "Errno" not in error


def test_folders_that_were_skipped_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run in a folder that the user named is not left out of the summary of all runs without a word."""
    for folder in (SESSION, "mine", "environments"):
        (tmp_path / folder).mkdir()
    for name in (f"{SESSION}/a__b__c.json", "mine/a__b__c.json"):
        (tmp_path / name).write_bytes(encoded(result()))

    assert main(["summary", str(tmp_path)]) == 0

    assert capsys.readouterr().err == "speedgate: skipped, because the name is not that of a run: mine\n"
    (tmp_path / SESSION / "a__b__c.json").unlink()
    assert main(["summary", str(tmp_path)]) == 2
    assert f"or name one that was skipped ({tmp_path / 'mine'})" in capsys.readouterr().err


def test_an_empty_folder_or_a_broken_result_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says where nothing was found and what makes results, or names the file and the field."""
    assert f"{tmp_path}: holds no result of a case: run pytest bench first" in fails(capsys, "summary", tmp_path)
    (tmp_path / "case.json").write_text('{"::error::": 1}')
    assert fails(capsys, "summary", tmp_path).startswith("speedgate: case.json: unknown field ::error::")


@pytest.mark.parametrize(
    ("documents", "error"),
    [
        ([], "no result of a case"),
        ([{"gpu_key": KEY}], "missing field"),
        ([result(), result(BF16, gpu_key="other")], "results of 2 GPU keys"),
        ([result(gpu_key="../..")], "expected letters, digits"),
    ],
)
def test_a_folder_that_is_no_run_makes_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], documents: list[dict[str, Any]], error: str
) -> None:
    """The command ends with one line that says why, and writes no file."""
    write_results(tmp_path, *documents)

    assert error in fails(capsys, "report", tmp_path, "--output", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("output", [".", ""])
def test_a_report_cannot_be_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """A folder or an empty name is refused before the work, and nothing is written."""
    write_results(tmp_path, result())
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)

    error = fails(capsys, "report", tmp_path, "--output", output)

    assert error.startswith("speedgate: --output .: a folder; expected the name of a file")
    assert sorted(tmp_path.iterdir()) == before
