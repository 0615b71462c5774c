"""The published throughput tables: the committed files are what the CSV says, cell by cell, and a spoilt one is refused."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from speedgate import families, throughput
from speedgate.cli import main
from speedgate.families import FamilyFigure
from tests.baseline_samples import copy_source

BASELINES = Path(__file__).parent.parent / "baselines"
CSV = BASELINES / "published" / "torch2_throughput.csv"
FAMILIES = {"A100": "a100", "V100": "v100", "T4": "t4", "RTX 3090": "3090", "RTX 4090": "4090"}
BUILDS = {"torch2.0": "2.0", "nightly": "nightly"}
STAGES = {"eager": "fp16", "compile": "compile_reduce_overhead"}
CASES = {
    "sd15-txt2img": ("sd15", "512px-50steps"),
    "sd15-img2img": ("sd15-img2img", "512px-50steps"),
    "sd15-inpaint": ("sd15-inpaint", "512px-50steps"),
    "sd15-controlnet": ("sd15-controlnet", "512px-50steps"),
    "sdxl-txt2img": ("sdxl", "1024px-50steps"),
    "deepfloyd-if": ("deepfloyd-if", "64px-100steps"),
    "deepfloyd-if-stage1": ("deepfloyd-if-stage1", "64px-100steps"),
    "deepfloyd-if-stage2": ("deepfloyd-if-stage2", "256px-50steps"),
    "deepfloyd-if-stage3": ("deepfloyd-if-stage3", "256px-75steps"),
}


def committed(family: str) -> Path:
    """The committed file of a family."""
    return BASELINES / f"family-{family}" / throughput.NAME


def rows() -> list[dict[str, str]]:
    """The CSV, read without any of the code under test."""
    with CSV.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def expected(row: dict[str, str]) -> FamilyFigure:
    """What a row of the CSV has to become."""
    pipeline, workload = CASES[row["pipeline"]]
    rate = {"it/s": float, "s/it": lambda text: 1 / float(text), "": lambda text: None}[row["unit"]](row["value"])
    return FamilyFigure(
        family=FAMILIES[row["gpu"]],
        case_key=f"{pipeline}/{STAGES[row['mode']]}/{workload}-b{row['batch']}",
        build=BUILDS[row["torch_build"]],
        mode=row["mode"],
        outcome=row["outcome"],
        iterations_per_s=rate,
        note=f"printed as {row['value']} s/it" if row["unit"] == "s/it" else row["note"],
    )


def test_every_cell_is_what_the_csv_says() -> None:
    """All 366 cells, each once and nothing else: value in one unit, outcome, torch build, mode and case."""
    found = [figure for family in FAMILIES.values() for figure in families.read(committed(family), family=family)]

    assert len(found) == 366
    assert Counter(found) == Counter(map(expected, rows()))


def test_a_cell_without_a_figure_is_kept() -> None:
    """10 times out of memory, in three ways, 15 times unsupported, 18 dashes: each is stored with its outcome."""
    found = [figure for family in FAMILIES.values() for figure in families.read(committed(family), family=family)]

    counts = Counter(figure.outcome for figure in found)

    without = {"oom": 2, "oom_after_warmup": 4, "oom_after_2nd_iteration": 4, "unsupported": 15, "not_published": 18}
    assert counts == {"ok": 323, **without}
    assert all((figure.iterations_per_s is None) is (figure.outcome != "ok") for figure in found)


def test_seconds_per_iteration_are_converted() -> None:
    """The T4's rows at batch 16 are printed in s/it, IF beside them in it/s; both are stored in it/s."""
    found = {(f.case_key, f.build): f for f in families.read(committed("t4"), family="t4")}

    slow = found["sd15/fp16/512px-50steps-b16", "2.0"]
    assert slow.iterations_per_s == pytest.approx(0.42735, rel=1e-4)
    assert slow.note == "printed as 2.34 s/it"
    assert found["deepfloyd-if/fp16/64px-100steps-b16", "2.0"].iterations_per_s == 1.44


def test_the_seconds_are_those_of_one_iteration() -> None:
    """pytest-benchmark's statistics hold the seconds of an iteration, and its OPS are the published it/s."""
    benchmarks = json.loads(committed("a100").read_text(encoding="utf-8"))["benchmarks"]
    stats = {entry["name"]: entry["stats"] for entry in benchmarks}

    assert stats["iteration[sd15-fp16-512px-50steps-b4-torch-2.0]"]["data"] == [pytest.approx(1 / 11.6)]
    assert stats["iteration[sd15-fp16-512px-50steps-b4-torch-nightly]"]["ops"] == pytest.approx(13.12)
    assert len(stats) == len(benchmarks)


def test_import_writes_the_committed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command reproduces the five committed files to the byte, and may be repeated."""
    arguments = ["--root", str(tmp_path), "import-published", str(CSV)]

    assert (main(arguments), main(arguments)) == (0, 0)

    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert written == {p.relative_to(BASELINES): p.read_bytes() for p in map(committed, FAMILIES.values())}
    assert f"family-v100/{throughput.NAME}: 66 figures, not gated" in capsys.readouterr().out


def test_pytest_benchmark_sets_families_side_by_side(tmp_path: Path) -> None:
    """The tool's own comparison reads the files without a warning and pairs the cells of two GPUs."""
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(committed("a100")), str(committed("t4"))]
    arguments = ["--columns=ops", "--group-by=fullname"]

    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)

    name = "iteration[sdxl-fp16-1024px-50steps-b1-torch-nightly]"
    pair = re.search(rf"torch2.0.md::{re.escape(name)}': 2 tests(.*?)\n\n", done.stdout, re.DOTALL)
    assert pair is not None
    assert "9.9" in pair[1]
    assert "1.16" in pair[1]
    assert done.stderr == ""


def test_each_file_can_be_reviewed() -> None:
    """No file is too long to be read by a person or to be shown in a review."""
    assert {family: committed(family).stat().st_size < 300_000 for family in FAMILIES.values()} == dict.fromkeys(
        FAMILIES.values(), True
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("eager,21.66,it/s,ok", "eager,nan,it/s,ok", "row 2: value: expected a finite number above zero"),
        ("eager,21.66,it/s,ok", 'eager,"21,.66",it/s,ok', "row 2: value: expected a finite number above zero"),
        ("eager,21.66,it/s,ok", "eager,21.66,img/s,ok", "row 2: unit: expected it/s or s/it, found 'img/s'"),
        ("eager,21.66,it/s,ok", "eager,21.66,it/s,OOM", "row 2: outcome: expected ok, oom, oom_after_warmup"),
        ("eager,21.66,it/s,ok", "eager,21.66,it/s,oom", "row 2: value: expected none with outcome oom"),
        ("eager,21.66,it/s,ok", "eager,,,ok", "row 2: value: expected a finite number above zero"),
        ("A100,1,sd15-txt2img,torch2.0", "A100,0,sd15-txt2img,torch2.0", "row 2: batch: expected a whole number"),
        ("A100,1,sd15-txt2img,torch2.0", "A100,1,sd99,torch2.0", "row 2: pipeline: 'sd99' is not listed"),
        ("A100,1,sd15-txt2img,torch2.0", "A100,1,sd15-txt2img,2.9", "row 2: torch_build: '2.9' is not listed"),
        ("A100,1,sd15-txt2img,torch2.0", "RTX 3090 Ti,1,sd15-txt2img,torch2.0", "row 2: gpu: expected the name"),
        ("gpu,batch", "card,batch", "expected the columns gpu, batch"),
    ],
)
def test_a_spoilt_cell_in_the_csv_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A published figure is checked where it enters, with its row and column."""
    path = copy_source(CSV, tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))

    with pytest.raises(ValueError, match=f"{path.name}: {said}"):
        throughput.family_documents(path)


def test_a_cell_that_stands_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two figures for a case and a torch build neither wins, and no file is written."""
    path = copy_source(CSV, tmp_path)
    path.write_text(path.read_text() + "T4,1,sd15-txt2img,torch2.0,eager,7.7,it/s,ok,\n")

    assert main(["--root", str(tmp_path), "import-published", str(path)]) == 2

    assert "'sd15/fp16/512px-50steps-b1' with torch '2.0' stands in this file twice" in capsys.readouterr().err
    assert list(tmp_path.glob("family-*")) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('format = "throughput"', 'format = "prose"', "format: expected 'ladder' or 'throughput', found 'prose'"),
        ("date = 2024-01-31", 'date = "lately"', "citation.date: expected a date"),
        ('timer = "tqdm"', "timer = 3", "timer: expected a text, found 3"),
        ("[builds]", "[bilds]", "no builds"),
    ],
)
def test_figures_without_their_origin_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A table that does not say when, with what and how it was measured is not imported."""
    path = copy_source(CSV, tmp_path).with_suffix(".toml")
    path.write_text(path.read_text().replace(old, new, 1))

    with pytest.raises(ValueError, match=f"{path.name}: {said}"):
        throughput.family_documents(path.with_suffix(".csv"))


@pytest.mark.parametrize("option", ["--gpu-key=nvidia-a100", "--pipeline=sd15"])
def test_a_table_of_families_is_imported_whole(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """A GPU key would claim what the source does not say."""
    assert main(["import-published", str(CSV), option]) == 2
    assert "of whole GPU families: leave out --gpu-key and --pipeline" in capsys.readouterr().err
