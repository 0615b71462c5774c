"""The published ladder: the committed file is what its CSV says, and a spoilt CSV is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from speedgate import baselines, promotion, published
from tests.baseline_samples import BF16, INT8, KEY, copy_source, make_run, obtain

REPO = Path(__file__).parent.parent
WORKLOADS = {
    "sdxl": "1024px-30steps-b1",
    "ssd-1b": "1024px-30steps-b1",
    "sd15": "512px-30steps-b1",
    "pixart-alpha": "1024px-30steps-b1",
}
CSV = REPO / "baselines" / "published" / "ladder_a100.csv"
COMMITTED = REPO / "baselines" / KEY / published.NAME


def test_the_committed_file_is_what_its_csv_says() -> None:
    """The published baseline can be made anew and is not edited by hand."""
    built = published.published_document(CSV, gpu_key=KEY)

    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == built


def test_the_published_ladder() -> None:
    """All 24 rows, four pipelines of six stages, each with the printed seconds and a peak in bytes."""
    found = {baseline.case_key: baseline for baseline in baselines.read(COMMITTED, gpu_key=KEY)}
    with CSV.open(encoding="utf-8", newline="") as stream:
        rows = {f"{row['pipeline']}/{row['stage']}/{WORKLOADS[row['pipeline']]}": row for row in csv.DictReader(stream)}

    assert len(rows) == 24
    assert list(found) == list(rows)
    for case_key, row in rows.items():
        assert found[case_key].process_medians_s == (float(row["latency_s"]),)
        assert found[case_key].peak_bytes == round(float(row["peak_memory_gb"]) * 2**30)
        assert (found[case_key].source, found[case_key].fingerprint) == ("published", None)


def test_nothing_of_the_ladder_is_lost() -> None:
    """The repeats and the remark of each row stand beside its figure."""
    benchmarks = json.loads(COMMITTED.read_text(encoding="utf-8"))["benchmarks"]
    blocks = [entry["extra_info"]["speedgate"] for entry in benchmarks]
    with CSV.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))

    repeats = [[float(value) for value in row["repeat_latencies_s"].split(";") if value] for row in rows]
    assert [block["repeat_latencies_s"] for block in blocks] == repeats
    assert [block["note"] for block in blocks] == [row["note"] for row in rows]


def test_pipelines_can_be_chosen() -> None:
    """A ladder may be imported in part, in the order in which its rows stand."""
    document = published.published_document(CSV, gpu_key=KEY, pipelines=["sd15", "ssd-1b"])

    groups = [entry["group"] for entry in document["benchmarks"]]

    assert groups == ["ssd-1b"] * 6 + ["sd15"] * 6


def test_a_recorded_file_replaces_the_published_one(tmp_path: Path) -> None:
    """On the same key the recorded figure becomes the comparison, and the published ones stay for the rest."""
    (tmp_path / KEY).mkdir()
    shutil.copy(COMMITTED, tmp_path / KEY)
    obtain(tmp_path, make_run(INT8))
    promotion.promote(tmp_path, KEY)

    found = baselines.load(tmp_path, KEY)

    assert (found[INT8].name, found[BF16].name) == ("0002_recorded", "0001_published")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sdxl,int8,2.429", "sdxl,int8,nan", "row 7: latency_s: expected a finite number above zero"),
        ("sdxl,int8,2.429", "sdxl,int8,", "row 7: latency_s: expected a finite number above zero"),
        ("2.429,7.866", "2.429,0", "row 7: peak_memory_gb: expected a finite number above zero"),
        ("2.424;2.429", "2.424;x", "row 7: repeat_latencies_s: expected a finite number above zero"),
        ("pipeline,stage", "model,stage", "expected the columns pipeline, stage"),
        ("sd15,int8,0.525", "sd15,int8,0.525,9,9,9,9", "row 19: expected 6 values"),
        ("ssd-1b,bf16,3.068,6.599,,", "ssd-1b,bf16,3.068", "row 9: expected 6 values"),
    ],
)
def test_a_spoilt_figure_in_the_csv_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A published figure is checked where it enters, with its row and column."""
    path = copy_source(CSV, tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))

    with pytest.raises(ValueError, match=f"{path.name}: {said}"):
        published.published_document(path, gpu_key=KEY, pipelines=["sdxl"])


@pytest.mark.parametrize(
    ("gpu_key", "pipelines", "said"),
    [
        ("nvidia-h100", ["sdxl"], f"measured on {KEY}, not on nvidia-h100"),
        (KEY, ["sdxl", "flux"], "flux asked for; choose from pixart-alpha, sd15, sdxl, ssd-1b"),
        (KEY, [], "no pipeline asked for; choose from pixart-alpha, sd15, sdxl, ssd-1b"),
    ],
)
def test_published_figures_stay_with_their_gpu_and_pipelines(gpu_key: str, pipelines: list[str], said: str) -> None:
    """Figures cannot be filed under another GPU, nor for a pipeline whose workload is not stated."""
    with pytest.raises(ValueError, match=said):
        published.published_document(CSV, gpu_key=gpu_key, pipelines=pipelines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gpu]", "format: expected 'ladder' or 'throughput', found None"),
        ("format = 'ladder'", "no test"),
        ("= 3", "not TOML"),
        (None, "no such file"),
    ],
)
def test_figures_without_their_origin_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    """A CSV whose machine is not stated is not a baseline."""
    path = copy_source(CSV, tmp_path)
    path.with_suffix(".toml").unlink()
    if text is not None:
        path.with_suffix(".toml").write_text(text)

    with pytest.raises(ValueError, match=said):
        published.published_document(path, gpu_key=KEY, pipelines=["sdxl"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("power_limit_w = 400", "power_limit_w = 400\nseen = 2024-01-03", None),
        (
            "memory_unit_bytes = 1_073_741_824",
            'memory_unit_bytes = "GiB"',
            "memory_unit_bytes: expected a whole number",
        ),
        ('key = "nvidia-a100-sxm4-80gb-400w"', "key = 7", "gpu.key: expected a text, found 7"),
        ('sd15 = "512px-30steps-b1"\n', "", "row 14: pipeline: 'sd15' is not listed in the TOML"),
    ],
)
def test_a_field_of_the_origin_has_its_kind(tmp_path: Path, old: str, new: str, said: str | None) -> None:
    """A wrong kind is named in one line; a further date is kept as text, because JSON has none."""
    path = copy_source(CSV, tmp_path)
    toml = path.with_suffix(".toml")
    toml.write_text(toml.read_text().replace(old, new, 1))

    if said is None:
        assert published.published_document(path)["machine_info"]["gpu"]["seen"] == "2024-01-03"
        return
    with pytest.raises(ValueError, match=said):
        published.published_document(path)
