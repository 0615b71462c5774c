"""Published figures: reading the CSVs, the GPUs that they are shown for, and the errors of a spoilt CSV."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from fixtures.cases import Case
from speedgate.baselines import promote, published, store
from speedgate.cli import main
from speedgate.results.family_figure import FamilyFigure
from tests.support.baseline_samples import (
    BF16,
    INT8,
    KEY,
    copy_source,
    make_run,
    obtain,
    publish_throughput,
    store_file,
)

ROOT = Path(__file__).parents[2] / "baselines"
LADDER = ROOT / "published" / "ladder_a100.csv"
THROUGHPUT = ROOT / "published" / "torch2_throughput.csv"
LATENCY = ROOT / "published" / "image_latency.csv"
COMMITTED = ROOT / KEY / published.NAME
WORKLOADS = dict.fromkeys(("sdxl", "ssd-1b", "pixart-alpha"), "1024px-30steps-b1") | {"sd15": "512px-30steps-b1"}
FP32 = "sdxl/fp32/1024px-30steps-b1"
# The names of the throughput table: of a GPU in the column `gpu`, and as its driver writes it.
GPUS = {
    "A100": "NVIDIA A100-SXM4-80GB",
    "V100": "Tesla V100-SXM2-16GB",
    "T4": "Tesla T4",
    "RTX 3090": "NVIDIA GeForce RTX 3090",
    "RTX 4090": "NVIDIA GeForce RTX 4090",
}
FAMILIES = {"A100": "a100", "V100": "v100", "T4": "t4", "RTX 3090": "3090", "RTX 4090": "4090"}
NAMES = tomllib.loads(THROUGHPUT.with_suffix(".toml").read_text(encoding="utf-8"))


def test_the_committed_file_is_what_its_csv_says():
    """The published baseline can be made anew and is not edited by hand."""
    built = published.published_document(LADDER, gpu_key=KEY)

    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == built


def test_the_published_ladder():
    """All 24 rows, four pipelines of six stages, each with the printed seconds, repeats and remark, and a peak in bytes."""
    baselines = {baseline.case_key: baseline for baseline in store.read_baselines(COMMITTED, gpu_key=KEY)}
    blocks = [entry["extra_info"]["speedgate"] for entry in json.loads(COMMITTED.read_text())["benchmarks"]]
    with LADDER.open(encoding="utf-8", newline="") as stream:
        rows = {f"{row['pipeline']}/{row['stage']}/{WORKLOADS[row['pipeline']]}": row for row in csv.DictReader(stream)}

    assert len(rows) == 24
    assert list(baselines) == list(rows)
    for (case_key, row), block in zip(rows.items(), blocks, strict=True):
        baseline = baselines[case_key]
        assert baseline.process_medians_s == (float(row["latency_s"]),)
        assert baseline.peak_bytes == round(float(row["peak_memory_gb"]) * 2**30)
        assert (baseline.source, baseline.fingerprint) == ("published", None)
        repeats = [float(value) for value in row["repeat_latencies_s"].split(";") if value]
        assert (block["repeat_latencies_s"], block["note"]) == (repeats, row["note"])


def test_a_recorded_file_replaces_the_published_one(tmp_path):
    """On the same key the recorded figure becomes the comparison, and the published ones stay for the rest."""
    (tmp_path / KEY).mkdir()
    shutil.copy(COMMITTED, tmp_path / KEY)
    obtain(tmp_path, make_run(INT8))
    promote.promote(tmp_path, KEY)

    newest = store.newest_baselines(tmp_path, KEY)

    assert (newest[INT8].name, newest[BF16].name) == ("0002_recorded", "0001_published")


def spoil(source: Path, folder: Path, old: str, new: str, *, suffix: str = ".csv") -> Path:
    """Copy a CSV and its TOML, with a change in one of them; return the copy of the CSV."""
    csv_path = copy_source(source, folder)
    path = csv_path.with_suffix(suffix)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return csv_path


NO_FIGURE = "expected a finite number above zero"


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        (".csv", "sdxl,int8,2.429", "sdxl,int8,nan", f"row 7: latency_s: {NO_FIGURE}"),
        (".csv", "sdxl,int8,2.429", "sdxl,int8,", f"row 7: latency_s: {NO_FIGURE}"),
        (".csv", "2.429,7.866", "2.429,0", f"row 7: peak_memory_gb: {NO_FIGURE}"),
        (".csv", "2.424;2.429", "2.424;x", f"row 7: repeat_latencies_s: {NO_FIGURE}"),
        (".csv", "pipeline,stage", "model,stage", "expected the columns pipeline, stage"),
        (".csv", "sd15,int8,0.525", "sd15,int8,0.525,9,9,9,9", "row 19: expected 6 values"),
        (".csv", "ssd-1b,bf16,3.068,6.599,,", "ssd-1b,bf16,3.068", "row 9: expected 6 values"),
        (".toml", 'format = "ladder"', "format = 3", "format: expected ladder, throughput, latency, found 3"),
        (".toml", 'format = "ladder"', "= 3", "not TOML"),
        (".toml", 'sd15 = "512px-30steps-b1"\n', "", "row 14: pipeline: 'sd15' is not listed in the TOML"),
    ],
)
def test_a_spoilt_ladder_is_named(tmp_path, suffix, old, new, message):
    """A published figure and its origin are checked where they enter; the error names file, row and column."""
    path = spoil(LADDER, tmp_path, old, new, suffix=suffix)

    with pytest.raises(ValueError, match=rf"{path.stem}\.(csv|toml): {message}"):
        published.published_document(path, gpu_key=KEY)


def test_an_origin_is_needed_and_may_say_more(tmp_path):
    """A CSV whose machine is not stated is not a baseline; a further date is kept as text, because JSON has none."""
    path = spoil(LADDER, tmp_path, "power_limit_w = 400", "power_limit_w = 400\nseen = 2024-01-03", suffix=".toml")
    assert published.published_document(path)["machine_info"]["gpu"]["seen"] == "2024-01-03"

    path.with_suffix(".toml").unlink()
    with pytest.raises(ValueError, match="no such file"):
        published.published_document(path)


@pytest.mark.parametrize(
    ("gpu_key", "pipelines", "message"),
    [
        ("nvidia-h100", ["sdxl"], f"measured on {KEY}, not on nvidia-h100"),
        (KEY, ["sdxl", "flux"], "flux asked for; choose from pixart-alpha, sd15, sdxl, ssd-1b"),
        (KEY, [], "no pipeline asked for; choose from pixart-alpha, sd15, sdxl, ssd-1b"),
    ],
)
def test_published_figures_stay_with_their_gpu_and_pipelines(gpu_key, pipelines, message):
    """A part of a ladder is in the order of its rows; no figure is filed under another GPU or an unknown pipeline."""
    part = published.published_document(LADDER, gpu_key=KEY, pipelines=["sd15", "ssd-1b"])
    assert [entry["group"] for entry in part["benchmarks"]] == ["ssd-1b"] * 6 + ["sd15"] * 6
    with pytest.raises(ValueError, match=message):
        published.published_document(LADDER, gpu_key=gpu_key, pipelines=pipelines)


def family_figures(gpu: str) -> list[FamilyFigure]:
    """Look up all committed figures for a GPU of the column `gpu`."""
    return [figure for figures in published.family_figures(ROOT, GPUS[gpu]).values() for figure in figures]


def rows() -> list[dict[str, str]]:
    """Read the throughput table without any of the code under test."""
    with THROUGHPUT.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def expected(row: dict[str, str]) -> FamilyFigure:
    """Derive the figure of a row without any of the code under test."""
    pipeline, workload = (NAMES[table][row["pipeline"]] for table in ("pipelines", "workloads"))
    rate = {"it/s": float, "s/it": lambda text: 1 / float(text), "": lambda text: None}[row["unit"]](row["value"])
    return FamilyFigure(
        family=FAMILIES[row["gpu"]],
        case_key=f"{pipeline}/{NAMES['stages'][row['mode']]}/{workload}-b{row['batch']}",
        build=NAMES["builds"][row["torch_build"]],
        mode=row["mode"],
        outcome=row["outcome"],
        iterations_per_s=rate,
        note=f"printed as {row['value']} s/it" if row["unit"] == "s/it" else row["note"],
    )


def test_all_366_cells_are_found():
    """Each row of the CSV is found once through the lookup by GPU name: value in one unit, outcome, torch build, case."""
    figures_by_gpu = {gpu: family_figures(gpu) for gpu in GPUS}
    figures = [figure for group in figures_by_gpu.values() for figure in group]

    assert len(figures) == 366
    assert {gpu: len(group) for gpu, group in figures_by_gpu.items()} == Counter(row["gpu"] for row in rows())
    assert Counter(figures) == Counter(map(expected, rows()))


@pytest.mark.parametrize(
    ("gpu", "case_key", "text"),
    [
        ("A100", "sd15/fp16/512px-50steps-b1", "21.66 it/s (torch 2.0)"),
        ("A100", "deepfloyd-if-stage3/compile_reduce_overhead/256px-75steps-b1", "111.7 it/s (torch nightly)"),
        ("A100", "sdxl/compile_reduce_overhead/1024px-50steps-b1", "not published (torch 2.0)"),
        ("A100", "deepfloyd-if/compile_reduce_overhead/64px-100steps-b1", "unsupported (torch 2.0)"),
        ("T4", "sd15/fp16/512px-50steps-b16", "0.4274 it/s (torch 2.0)"),  # printed as 2.34 s/it
    ],
)
def test_a_cell_of_the_csv_is_shown(gpu, case_key, text):
    """A cell is found under its case key and shown with its build of torch, seconds per iteration as a rate."""
    figures = published.family_figures(ROOT, GPUS[gpu])[case_key]

    assert text in [figure.description for figure in figures]


@pytest.mark.parametrize(
    ("machine_name", "family"),
    [
        *((GPUS[gpu], family) for gpu, family in FAMILIES.items()),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("A100-SXM4-40GB", "a100"),
    ],
)
def test_a_gpu_belongs_to_its_family(machine_name, family):
    """Maker, brand, bus and memory make no difference, and the committed figures are found by the driver's name."""
    figures_by_case = published.family_figures(ROOT, machine_name)

    assert published.family_of_gpu(machine_name) == family
    assert {figure.family for figures in figures_by_case.values() for figure in figures} == {family}


@pytest.mark.parametrize(
    "machine_name",
    [
        "NVIDIA",
        *(f"NVIDIA {name}" for name in ("RTX A4090", "A100X", "A100-SXM4-80GB MIG 1g.10gb", "H200 NVL")),
        *(f"NVIDIA GeForce {name}" for name in ("RTX 3090 Ti", "RTX 4090 Laptop GPU")),
        *("GRID A100-10C", "Tesla V100S-PCIE-32GB"),
    ],
)
def test_a_gpu_with_a_similar_name_does_not(tmp_path, machine_name):
    """A suffix, a slice or another number is another GPU, for which nothing is shown, nor for any GPU without a CSV."""
    (tmp_path / "published").mkdir()

    assert published.family_figures(ROOT, machine_name) == {}
    assert published.family_figures(tmp_path, "Tesla T4") == {}
    assert published.family_figures(tmp_path / "absent", "Tesla T4") == {}


def figure(build: str = "2.0", *, rate: float | None = 21.66, outcome: str = "ok") -> FamilyFigure:
    """A published figure of one case with one build of torch."""
    return FamilyFigure(family="a100", case_key=FP32, build=build, mode="eager", outcome=outcome, iterations_per_s=rate)


def test_a_later_file_replaces_the_same_build(tmp_path):
    """The last file by name wins, build by build; the other builds stay, and a ladder beside them changes nothing."""
    publish_throughput(tmp_path, figure(), figure("nightly", rate=None, outcome="oom"), name="2023_guide")
    publish_throughput(tmp_path, figure(rate=30.0), name="2024_guide")
    copy_source(LADDER, tmp_path / "published")

    (figures,) = published.family_figures(tmp_path, "NVIDIA A100-SXM4-80GB").values()

    assert [(figure.build, figure.iterations_per_s) for figure in figures] == [("2.0", 30.0), ("nightly", None)]


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        *((".csv", "21.66,it/s", f"{value},it/s", f"row 2: value: {NO_FIGURE}") for value in ("nan", '"21,.66"', "")),
        (".csv", "21.66,it/s", "21.66,img/s", "row 2: unit: expected it/s or s/it, found 'img/s'"),
        (".csv", "21.66,it/s,ok", "21.66,it/s,OOM", "row 2: outcome: expected ok, oom, oom_after_warmup"),
        (".csv", "21.66,it/s,ok", "21.66,it/s,oom", "row 2: value: expected none with outcome oom"),
        (".csv", "A100,1,sd15-txt2img", "A100,0,sd15-txt2img", "row 2: batch: expected a whole number"),
        (".csv", "A100,1,sd15-txt2img", "A100,1,sd99", "row 2: pipeline: 'sd99' is not listed"),
        (".csv", "A100,1,sd15-txt2img", "RTX 3090 Ti,1,sd15-txt2img", "row 2: gpu: expected the name"),
        (".csv", "sd15-txt2img,nightly", "sd15-txt2img,torch2.0", "row 3: 'sd15/fp16/512px-50steps-b1' on a100"),
        (".csv", "21.66,it/s", '"21.66,it/s', "not CSV"),
        (".toml", "date = 2024-01-31", 'date = "lately"', "citation.date: invalid"),
    ],
)
def test_a_spoilt_throughput_table_is_named(tmp_path, suffix, old, new, message):
    """Every cell and its origin are checked when the table is read, and the error names its row and column."""
    path = spoil(THROUGHPUT, tmp_path / "published", old, new, suffix=suffix).with_suffix(suffix)

    with pytest.raises(ValueError, match=f"{path.name}: {message}"):
        published.family_figures(tmp_path, "NVIDIA A100-SXM4-80GB")


def test_published_seconds_are_those_of_our_workloads():
    """Each row is found by the GPU's name as the driver writes it, as a case of the suite at its pipeline's full workload."""
    with LATENCY.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))

    for row in rows:
        case = Case(pipeline=row["pipeline"], size="full", stage=row["stage"])
        figures = published.family_figures(ROOT, f"NVIDIA {row['gpu']} 80GB HBM3")[case.key]
        assert case.unsupported is None
        assert float(row["latency_s"]) in [figure.latency_s for figure in figures]
        assert all(figure.source and row["note"] in figure.description for figure in figures)


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        (".csv", "7.454", "unread (picture)", f"row 2: latency_s: {NO_FIGURE}"),
        (".csv", ",blackwell,", ",hearsay,", "row 2: source: 'hearsay' is not listed"),
        (".csv", "B200,1,qwen-image", "B200,1,qwen", "row 2: pipeline: 'qwen' is not listed"),
        (".csv", "B200,1", "B200 Ti,1", "row 2: gpu: expected the name"),
        (".toml", 'title = "Faster', 'name = "Faster', r"sources.*: missing field title"),
    ],
)
def test_a_spoilt_table_of_seconds_is_named(tmp_path, suffix, old, new, message):
    """A figure that stands in a picture alone is no figure, and each one needs its source."""
    path = spoil(LATENCY, tmp_path, old, new, suffix=suffix)

    with pytest.raises(ValueError, match=message):
        published.read_figures(path)


def test_a_csv_that_is_no_text_is_refused(tmp_path):
    """Bytes that are no UTF-8 are one error with the file's name."""
    path = copy_source(THROUGHPUT, tmp_path)
    path.write_bytes(b"\xff")

    with pytest.raises(ValueError, match=f"{path.name}: not UTF-8"):
        published.read_figures(path)


def test_a_throughput_table_cannot_be_imported(tmp_path, capsys):
    """It names no SKU and no power limit, so it cannot become the baseline of a GPU key."""
    assert main(["--root", str(tmp_path), "import-published", str(THROUGHPUT)]) == 2

    assert "torch2_throughput.toml: format: expected 'ladder', found 'throughput'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_check_reads_the_csvs_as_well(tmp_path, capsys):
    """One call validates the baselines of every key and all published figures."""
    store_file(tmp_path, "0001_recorded.json")
    publish_throughput(tmp_path, figure(), figure("nightly", rate=None, outcome="oom"))
    broken = publish_throughput(tmp_path, figure(), figure(), name="broken")

    assert main(["--root", str(tmp_path), "check"]) == 2

    out, err = capsys.readouterr()
    assert "0001_recorded.json: 1 case" in out
    assert "guide.csv: 2 figures of GPU families, not gated" in out
    assert err.startswith(f"speedgate: {broken}: row 3: ")


def test_the_committed_files_are_in_order(capsys):
    """Every committed baseline and figure passes the check that a contributor runs."""
    assert main(["--root", str(ROOT), "check"]) == 0

    out = capsys.readouterr().out
    assert f"ladder_a100.csv: 24 figures of {KEY}" in out
    assert "image_latency.csv: " in out
    assert "torch2_throughput.csv: 366 figures of GPU families, not gated" in out
