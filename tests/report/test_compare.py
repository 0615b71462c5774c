"""`speedgate compare` shows two runs side by side, and gives a ratio only for figures that can be compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from speedgate.cli import main
from speedgate.report import compare
from speedgate.results.json_io import to_json
from tests.support.artifacts import HOSTILE, MARKS, encoded, result, write_results
from tests.support.baseline_samples import BF16, INT8, KEY, make_run
from tests.support.command import fails

OTHER_KEY = "nvidia-h100-80gb-700w"


def document(*medians_s: float, case_key: str = INT8, fingerprint: str = "f00d", **changes: Any) -> dict[str, Any]:
    """Make the result of a run with a process for each median."""
    run = make_run(case_key, medians_s=medians_s or (1.0, 1.01, 0.99), peak_bytes=(2**30,), fingerprint=fingerprint)
    return result(case_key, run=to_json(run), **changes)


def rendered(folder: Path, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[str]:
    """Write both runs and compare them."""
    runs = [compare.read_run(write_results(folder / name, *side)) for name, side in (("a", a), ("b", b))]
    return compare.render(compare.pair_cases(*runs), a_name="before", b_name="after")


def cells(line: str) -> list[str]:
    """Split a line into its cells; columns are two spaces apart."""
    return re.split(r"  +", line)


def test_each_case_has_both_figures_and_the_ratio_of_b_to_a(tmp_path: Path) -> None:
    """A row has both latencies, B over A with the interval that the gate would use, both peaks and both verdicts."""
    lines = rendered(tmp_path, [document()], [document(2.0, 2.02, 1.98, outcome="SLOWER")])

    assert cells(lines[0]) == [
        "case", "A latency", "B latency", "B/A", "99% interval", "A peak", "B peak", "A verdict", "B verdict",
    ]  # fmt: skip
    assert cells(lines[1]) == [
        INT8, "1 s", "2 s", "2.000", "1.926 to 2.077", "1.000 GiB", "1.000 GiB", "PASS", "SLOWER",
    ]  # fmt: skip
    assert lines[2:5] == ["", f"A: before: {KEY}, torch 2.13.0", f"B: after: {KEY}, torch 2.13.0"]


def test_a_run_without_spread_has_no_interval_and_one_without_figures_has_dashes(tmp_path: Path) -> None:
    """Of two single processes the ratio stands alone; a case that ended before a measurement has its verdict and no figure."""
    single = rendered(tmp_path, [document(1.0)], [document(2.0)])
    lost = result(run=None, outcome="INVALID")
    lines = rendered(tmp_path / "lost", [document(), document(case_key=BF16)], [lost, document(case_key=BF16)])

    assert cells(single[1])[1:5] == ["1 s", "2 s", "2.000", "1.000 GiB"]
    assert cells(lines[2]) == [INT8, "1 s", "-", "-", "-", "1.000 GiB", "-", "PASS", "INVALID"]


def test_runs_of_different_gpus_are_shown_without_a_ratio(tmp_path: Path) -> None:
    """Both runs keep their figures, and one line says that they are not comparable."""
    lines = rendered(tmp_path, [document()], [document(2.0, 2.1, gpu_key=OTHER_KEY)])

    assert "B/A" not in lines[0] and "interval" not in lines[0]
    assert cells(lines[1])[1:3] == ["1 s", "2.049 s"]
    assert [line for line in lines if line.startswith("not comparable")] == [
        f"not comparable: A ran on {KEY}, B on {OTHER_KEY}; a ratio would compare machines"
    ]


def test_what_only_one_run_has_is_said(tmp_path: Path) -> None:
    """A case of one run alone keeps its figures, and one that was built in another way is named; a file is a run of its case."""
    lines = rendered(tmp_path, [document(), document(case_key=BF16)], [document(fingerprint="beef")])

    assert cells(lines[1])[-2:] == ["PASS", "not in this run"]
    assert f"{INT8}: the stage was built in different ways, A by recipe f00d, B by beef" in lines
    assert list(compare.read_run(tmp_path / "b" / "0.json")) == [INT8]


def test_a_case_that_was_only_described_is_marked_and_adds_no_line(tmp_path: Path) -> None:
    """Its PASS is one of structure alone; the line of the run states the versions that only a built case knows."""
    recipe = {"case_key": BF16, "claim": "recipe", "outcome": "PASS", "sentence": "all facts hold"}
    described = result(BF16, run=None, verdicts=[recipe])
    lines = rendered(tmp_path, [document(), described], [document()])

    assert cells(lines[1])[-2:] == ["PASS (structure only)", "not in this run"]
    assert len([line for line in lines if line.startswith("A: ")]) == 1


@pytest.mark.parametrize(("mark", "warning"), MARKS)
def test_a_fire_drill_and_a_quick_run_are_marked(tmp_path: Path, mark: dict[str, Any], warning: str) -> None:
    """A run with an injected fault, or of `--quick`, has one line that says so."""
    lines = rendered(tmp_path, [document()], [document(**mark)])

    (line,) = [line for line in lines if warning in line]
    assert line.startswith(f"B: {warning}")


def test_text_from_a_file_controls_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hostile case key or GPU key is printed without control characters."""
    hostile = HOSTILE[:200]
    stored = result(run=None, verdicts=[result()["verdicts"][0] | {"case_key": hostile}], gpu_key=hostile)
    path = write_results(tmp_path / "a", stored)

    assert main(["compare", str(path), str(path)]) == 0

    out = capsys.readouterr().out
    assert out.isascii() and "\x1b" not in out
    assert out.count("\n") == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing: No such file or directory"),
        ("empty", "empty: no result of a case"),
        ("twice", f"twice: holds {INT8} twice; name the folder of one run"),
        ("broken.json", "broken.json: not JSON"),
        ("other.json", "other.json: missing field machine"),
        ("large.json", "large.json: larger than the result of a case can be"),
    ],
)
def test_what_is_no_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    """A path that is not one run ends with status 2 and one line that names it."""
    (tmp_path / "empty").mkdir()
    write_results(tmp_path / "twice", document(), document())
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_bytes(encoded({"gpu_key": KEY}))
    (tmp_path / "large.json").write_bytes(b" " * (4 * 2**20 + 1))

    assert fails(capsys, "compare", tmp_path / name, tmp_path / name).startswith(f"speedgate: {tmp_path}/{message}")
