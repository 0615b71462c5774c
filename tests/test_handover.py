"""A file that goes from one job to the next as a job output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speedgate import summary
from speedgate.handover import main, packed, unpacked


def test_a_file_arrives_as_it_was(tmp_path: Path) -> None:
    """Bytes that would end a line of the output, or begin another, arrive unchanged."""
    given, output, taken = tmp_path / "given", tmp_path / "output", tmp_path / "taken"
    given.write_bytes(b"a\ncommit=evil\r\n::x::\x00\xff")

    assert main(["give", str(given)], {"GITHUB_OUTPUT": str(output)}) == 0
    (line,) = output.read_text().splitlines()
    name, _, value = line.partition("=")
    assert name == "file"
    assert main(["take", str(taken)], {"HANDED_OVER": value}) == 0

    assert taken.read_bytes() == given.read_bytes()


@pytest.mark.parametrize("size", [0, 64 * 2**10 + 1])
def test_nothing_and_too_much_are_refused(size: int) -> None:
    """An empty file is a mistake, and a large one does not fit into a variable."""
    with pytest.raises(ValueError, match="expected 1 to 65536"):
        packed(bytes(size))


def test_the_largest_file_fits_into_a_variable() -> None:
    """Linux takes 128 KiB in one environment variable, its name included."""
    assert len(packed(bytes(64 * 2**10))) < 128 * 2**10 - 100


@pytest.mark.parametrize("line", ["", "*", "YQ"])
def test_what_was_not_given_is_not_taken(line: str) -> None:
    """An empty output, or one that somebody else wrote, is an error."""
    with pytest.raises(ValueError, match=r"HANDED_OVER is empty|base64|padding"):
        unpacked(line)


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is status 2 with the reason."""
    assert main(["give", str(tmp_path / "none")], {"GITHUB_OUTPUT": str(tmp_path / "output")}) == 2

    assert "No such file" in capsys.readouterr().err
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("text", "date"), [("# x\n# date: 20261120\ntorch\n", "20261120"), ("# date: $(id)\n", ""), (None, "")]
)
def test_a_date_is_eight_digits_or_nothing(tmp_path: Path, text: str | None, date: str) -> None:
    """The ends of a bisection are read from the pins; a pin that is not there yet has no date."""
    pin, output = tmp_path / "pin", tmp_path / "output"
    if text is not None:
        pin.write_text(text)

    assert main(["date", str(pin)], {"GITHUB_OUTPUT": str(output)}) == 0

    assert output.read_text() == f"date={date}\n"


@pytest.mark.parametrize(
    ("status", "outcome", "red"),
    [(1, "SLOWER", "true"), (0, "PASS", "false"), (4, None, "false"), (1, None, "false"), (0, None, "false")],
)
def test_red_is_a_verdict(tmp_path: Path, status: int, outcome: str | None, red: str) -> None:
    """A bump that found something worse is red; one that broke, or measured nothing, is not."""
    output, told = tmp_path / "output", [{"case_key": "k", "claim": "latency", "outcome": outcome, "sentence": ""}]
    document = {"run": None, "verdicts": told if outcome else []}
    (tmp_path / "bump" / "one").mkdir(parents=True)
    (tmp_path / "bump" / "one" / "verdict.json").write_text(json.dumps(summary.verdict([], [document], status=status)))

    assert main(["red", str(tmp_path / "bump")], {"GITHUB_OUTPUT": str(output)}) == 0

    assert output.read_text() == f"red={red}\n"


def test_no_bump_is_not_red(tmp_path: Path) -> None:
    """What could not be installed has left no verdict."""
    assert main(["red", str(tmp_path / "none")], {"GITHUB_OUTPUT": str(tmp_path / "output")}) == 0

    assert (tmp_path / "output").read_text() == "red=false\n"
