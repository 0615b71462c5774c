"""Stored baselines: what is read back, what is refused, and what may become one."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speedgate import baselines, benchmark_json, published
from tests.baseline_samples import BF16, INT8, KEY, make_document, make_meta, make_run, obtain, store

REPO = Path(__file__).parent.parent
CSV = REPO / "baselines" / "published" / "ladder_a100.csv"
COMMITTED = REPO / "baselines" / KEY / published.NAME
IN_BLOCK = "benchmarks[0].extra_info.speedgate"

Spoil = Callable[[dict[str, Any]], object]


def write(root: Path, document: Any, *, name: str = "0001_recorded.json") -> Path:
    """Write `document` as it is, NaN and all."""
    path = root / KEY / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def block(document: dict[str, Any]) -> dict[str, Any]:
    """Our part of the first benchmark."""
    found: dict[str, Any] = document["benchmarks"][0]["extra_info"]["speedgate"]
    return found


def in_block(**fields: Any) -> Spoil:
    """A change of fields of our part."""
    return lambda document: block(document).update(fields)


def refusal(root: Path) -> str:
    """The message with which the folder is refused; it is one line."""
    with pytest.raises(ValueError) as caught:
        baselines.load(root, KEY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_recorded_run_is_read_back(tmp_path: Path) -> None:
    """What was recorded is what is loaded, figure by figure."""
    path = store(tmp_path, "0001_recorded.json", make_run(medians_s=(2.4, 2.6)))

    baseline = baselines.load(tmp_path, KEY)[INT8]

    assert (baseline.process_medians_s, baseline.peak_bytes, baseline.fingerprint) == ((2.4, 2.6), 9, "f00d")
    assert (baseline.path, baseline.gpu_key, baseline.source) == (str(path), KEY, "recorded")


def test_the_later_file_wins_case_by_case(tmp_path: Path) -> None:
    """A later file replaces the cases it holds and leaves the others to the earlier one."""
    store(tmp_path, "0010_new.json", make_run(INT8, medians_s=(1.0, 1.0)))
    store(tmp_path, "0009_old.json", make_run(INT8), make_run(BF16))

    found = baselines.load(tmp_path, KEY)

    assert {case_key: baseline.name for case_key, baseline in found.items()} == {INT8: "0010_new", BF16: "0009_old"}


@pytest.mark.parametrize(
    "name", ["obtained.json", "recorded.json", "1_x.json", "00001_x.json", "0001_x.json.bak", "sub/0001_x.json"]
)
def test_other_files_are_not_baselines(tmp_path: Path, name: str) -> None:
    """Only NNNN_*.json directly in the folder counts, whatever else lies there."""
    write(tmp_path, "not JSON", name="0001_x.json").unlink()
    (tmp_path / KEY / "sub").mkdir()
    write(tmp_path, "not JSON", name=name)

    assert baselines.load(tmp_path, KEY) == {}
    assert baselines.known_keys(tmp_path) == []
    assert baselines.latest(tmp_path, KEY) is None


def test_a_machine_without_a_folder_has_no_baselines(tmp_path: Path) -> None:
    """A missing folder, and a missing root, hold nothing rather than fail."""
    assert baselines.load(tmp_path / "absent", KEY) == {}
    assert baselines.known_keys(tmp_path / "absent") == []


def test_known_keys_are_the_folders_with_a_baseline(tmp_path: Path) -> None:
    """Keys come sorted; a file, an empty folder and the published CSVs are none."""
    store(tmp_path, "0001_a.json", gpu_key="nvidia-h100")
    store(tmp_path, "0001_a.json", gpu_key="cpu-x86_64")
    (tmp_path / "README.md").touch()
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "ladder.csv").touch()

    assert baselines.known_keys(tmp_path) == ["cpu-x86_64", "nvidia-h100"]


def test_latest_is_the_highest_number(tmp_path: Path) -> None:
    """The newest file is found by number, not by time or name."""
    expected = store(tmp_path, "0010_a.json")
    store(tmp_path, "0009_z.json")

    assert baselines.latest(tmp_path, KEY) == expected


def test_a_number_given_twice_is_refused(tmp_path: Path) -> None:
    """Two branches that took the same number leave no order, so neither wins by its name."""
    store(tmp_path, "0002_a.json")
    store(tmp_path, "0002_b.json")

    assert "0002_b.json: number 0002 is taken by 0002_a.json" in refusal(tmp_path)


@pytest.mark.parametrize("gpu_key", ["", "..", "../elsewhere", "a/b", "/root", "a\\b", ".hidden", "a\n"])
def test_a_gpu_key_cannot_leave_the_root(tmp_path: Path, gpu_key: str) -> None:
    """A key is one folder name."""
    with pytest.raises(ValueError, match="GPU key"):
        baselines.load(tmp_path, gpu_key)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON (line 1, column 1:"),
        ('{"benchmarks": [\n  {"name": ', "not JSON (line 2, column 12:"),
        ("[" * 100_000, "not JSON ("),
        ("9" * 5_000, "not JSON ("),
        ("{}", "benchmarks: expected a list"),
        ("[]", "benchmarks: expected a list"),
        ('{"benchmarks": []}', "benchmarks: expected a list"),
        ('{"benchmarks": 3}', "benchmarks: expected a list"),
        ('{"benchmarks": [3]}', "benchmarks[0]: expected an object, found int"),
        ('{"benchmarks": [{"stats": {"median": NaN}}]}', "benchmarks[0].stats.median: expected a finite number"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    """A truncated or foreign file is an error that says which and where, never an empty set of baselines."""
    path = write(tmp_path, text)

    assert f"{path}: {said}" in refusal(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are reported as a broken file."""
    path = write(tmp_path, "")
    path.write_bytes(b"\xff\xfe{}")

    assert f"{path}: not JSON (" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (in_block(schema=2), f"{IN_BLOCK}.schema: expected 1, found 2"),
        (in_block(schema=True), f"{IN_BLOCK}.schema: expected 1, found True"),
        (in_block(gpu_key="nvidia-t4"), f"{IN_BLOCK}.gpu_key: expected '{KEY}', found 'nvidia-t4'"),
        (in_block(case_key=""), f"{IN_BLOCK}.case_key: expected a case key"),
        (in_block(source="guessed"), f"{IN_BLOCK}.source: expected 'recorded' or 'published', found 'guessed'"),
        (in_block(outcome="failed", reason="slow"), f"outcome: a failing case is never a baseline: {INT8} (slow)"),
        (in_block(outcome=None), f"{IN_BLOCK}.outcome: expected 'passed', found None"),
        (in_block(process_medians_s=[]), f"{IN_BLOCK}.process_medians_s: expected the seconds of at least one"),
        (in_block(process_medians_s=2.4), f"{IN_BLOCK}.process_medians_s: expected the seconds of at least one"),
        (in_block(process_medians_s=[2.4, 0]), f"{IN_BLOCK}.process_medians_s[1]: expected a finite number above"),
        (in_block(process_medians_s=[-2.4]), f"{IN_BLOCK}.process_medians_s[0]: expected a finite number above"),
        (in_block(process_medians_s=["2.4"]), f"{IN_BLOCK}.process_medians_s[0]: expected a finite number above"),
        (in_block(process_medians_s=[True]), f"{IN_BLOCK}.process_medians_s[0]: expected a finite number above"),
        (in_block(process_medians_s=[math.nan]), f"{IN_BLOCK}.process_medians_s[0]: expected a finite number"),
        (in_block(process_medians_s=[math.inf]), f"{IN_BLOCK}.process_medians_s[0]: expected a finite number"),
        (in_block(process_medians_s=[10**400]), f"{IN_BLOCK}.process_medians_s[0]: expected a finite number"),
        (in_block(peak_bytes=0), f"{IN_BLOCK}.peak_bytes: expected a finite number above zero"),
        (in_block(peak_bytes=-1), f"{IN_BLOCK}.peak_bytes: expected a finite number above zero"),
        (in_block(peak_bytes=9.5), f"{IN_BLOCK}.peak_bytes: expected a whole number"),
        (in_block(fingerprint=7), f"{IN_BLOCK}.fingerprint: expected a string or null"),
        (in_block(run=None), f"{IN_BLOCK}.run: expected an object"),
        (lambda document: block(document).pop("run"), f"{IN_BLOCK}.run: missing field case_key"),
        (lambda document: block(document)["run"].update(processes=[]), f"{IN_BLOCK}.run.processes: expected at least"),
        (lambda document: block(document)["run"].update(processes=3), f"{IN_BLOCK}.run: processes: expected a list"),
        (
            lambda document: block(document)["run"]["processes"][1].update(peak_bytes=[]),
            f"{IN_BLOCK}.run: processes[1]: peak_bytes: a process holds at least one round",
        ),
        (lambda document: document["benchmarks"][0].pop("extra_info"), f"{IN_BLOCK}: missing"),
        (lambda document: document["benchmarks"][0].update(extra_info={"mine": 1}), f"{IN_BLOCK}: missing"),
        (lambda document: document["benchmarks"][0].pop("fullname"), "benchmarks[0].fullname: expected a string"),
        (lambda document: document["benchmarks"][0]["stats"].pop("q1"), "benchmarks[0].stats: missing field q1"),
        (lambda document: document.pop("machine_info"), "machine_info.speedgate.gpu_key: expected"),
    ],
)
def test_a_spoilt_field_is_named(tmp_path: Path, spoil: Spoil, said: str) -> None:
    """Each field that a gate relies on is checked, and the message names the file and the field."""
    document = make_document()
    spoil(document)
    path = write(tmp_path, document)

    assert f"{path}: {said}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("process_medians_s", [2.4, 2.6]), ("peak_bytes", 8), ("fingerprint", "beef"), ("case_key", BF16)],
)
def test_an_edited_figure_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    """A figure that the run beside it does not bear out was edited, not recorded."""
    document = make_document(make_run(medians_s=(2.4, 2.5)))
    block(document)[field] = value
    write(tmp_path, document)

    assert f"{IN_BLOCK}.{field}: expected" in refusal(tmp_path)


def test_a_case_that_stands_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    """Within a file there is no later one, so neither figure wins."""
    write(tmp_path, make_document(make_run(), make_run()))

    assert f"case_key: '{INT8}' stands in this file twice" in refusal(tmp_path)


def test_recording_writes_what_promotion_accepts(tmp_path: Path) -> None:
    """record, promote, load: the promoted file holds the run and nothing is left to promote."""
    obtained = obtain(tmp_path, make_run(INT8), make_run(BF16))

    promoted = baselines.promote(tmp_path, KEY)

    assert promoted == tmp_path / KEY / "0001_recorded.json"
    assert not obtained.exists()
    assert set(baselines.load(tmp_path, KEY)) == {INT8, BF16}


def test_recording_keeps_every_raw_second_of_every_process(tmp_path: Path) -> None:
    """The statistics are those of all rounds of all processes, and the document says where it was recorded."""
    document = json.loads(obtain(tmp_path, make_run(medians_s=(1.0, 3.0))).read_text())

    entry = document["benchmarks"][0]
    assert entry["stats"]["data"] == [0.99, 1.0, 1.01, 2.99, 3.0, 3.01]
    assert entry["stats"]["median"] == 2.0
    assert (entry["group"], entry["name"], entry["param"]) == ("sdxl", "test_latency[sdxl-int8]", "sdxl-int8")
    assert document["machine_info"] == {"python_version": "3.11", "speedgate": {"gpu_key": KEY}}
    assert document["commit_info"] == {"id": "0" * 40}


def test_recording_anew_replaces_what_was_obtained(tmp_path: Path) -> None:
    """obtained.json holds the last recording only."""
    obtain(tmp_path, make_run(INT8))
    path = obtain(tmp_path, make_run(BF16))

    assert [found.case_key for found in baselines.read(path, gpu_key=KEY)] == [BF16]


def test_promotion_takes_the_number_after_the_highest(tmp_path: Path) -> None:
    """A gap is not filled, an older file is not touched, and the name is the one asked for."""
    old = store(tmp_path, "0007_old.json")
    before = old.read_bytes()
    obtain(tmp_path, make_run())

    assert baselines.promote(tmp_path, KEY, name="torch-2_14").name == "0008_torch-2_14.json"
    assert old.read_bytes() == before


def test_promotion_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone who takes the number in between keeps the file, and so does the recording."""
    taken = store(tmp_path, "0001_recorded.json", make_run(BF16))
    before = taken.read_bytes()
    obtained = obtain(tmp_path, make_run())
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))

    with pytest.raises(FileExistsError):
        baselines.promote(tmp_path, KEY)

    assert taken.read_bytes() == before
    assert obtained.exists()


def test_the_last_number_is_the_last(tmp_path: Path) -> None:
    """Past 9999 the name would no longer be a baseline's, so nothing is renamed to it."""
    store(tmp_path, "9999_last.json")
    obtained = obtain(tmp_path, make_run())

    with pytest.raises(ValueError, match="number 9999 is taken"):
        baselines.promote(tmp_path, KEY)

    assert obtained.exists()


def test_every_failing_case_is_listed_and_nothing_is_promoted(tmp_path: Path) -> None:
    """A failing run is never a baseline, whether it was measured to the end or crashed."""
    fp32 = "sdxl/fp32/1024px-30steps-b1"
    failed = {INT8: "SLOWER by 9 %", BF16: "the worker died"}
    obtained = obtain(tmp_path, make_run(fp32), make_run(INT8), failed=failed)

    with pytest.raises(ValueError) as caught:
        baselines.promote(tmp_path, KEY)

    assert f"{INT8} (SLOWER by 9 %)" in str(caught.value)
    assert f"{BF16} (the worker died)" in str(caught.value)
    assert fp32 not in str(caught.value)
    assert [path.name for path in obtained.parent.iterdir()] == ["obtained.json"]


def test_a_session_in_which_everything_crashed_cannot_be_promoted(tmp_path: Path) -> None:
    """No benchmark at all, but the reasons are there."""
    obtain(tmp_path, failed={BF16: "the worker died"})

    with pytest.raises(ValueError, match="the worker died"):
        baselines.promote(tmp_path, KEY)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (dataclasses.replace(make_run(BF16), processes=()), "no process was measured"),
        (make_run(BF16, medians_s=(math.nan, 1.0)), "cannot be stored"),
        (make_run(BF16, medians_s=(0.0, 1.0)), "cannot be stored"),
        (dataclasses.replace(make_run(BF16), structure={"graphs": object()}), "cannot be stored"),
    ],
)
def test_one_unusable_run_does_not_lose_the_others(tmp_path: Path, bad: Any, said: str) -> None:
    """A run that could not be read back is written as a failure; the good ones are written all the same."""
    path = obtain(tmp_path, bad, make_run(INT8))

    entries = json.loads(path.read_text())["benchmarks"]
    assert [entry["extra_info"]["speedgate"]["case_key"] for entry in entries] == [INT8]
    with pytest.raises(ValueError, match=said):
        baselines.promote(tmp_path, KEY)


def test_a_run_that_no_benchmark_owns_does_not_lose_the_others(tmp_path: Path) -> None:
    """A run measured for memory alone has no test id to be compared by, and is written as a failure."""
    path = baselines.write_obtained(
        tmp_path,
        KEY,
        runs=[make_run(INT8), make_run(BF16)],
        failed={},
        benchmarks_meta={INT8: make_meta(INT8)},
        machine_info={},
        commit_info={},
    )

    document = json.loads(path.read_text())
    assert len(document["benchmarks"]) == 1
    assert document["speedgate"] == {"failed": {BF16: "no test benchmarked it"}}


def test_one_process_is_not_enough(tmp_path: Path) -> None:
    """Without replication there is no noise model, however many rounds the process ran."""
    obtain(tmp_path, make_run(medians_s=(2.4,)))

    with pytest.raises(ValueError, match=f"{INT8} holds one process.*unit of replication.*--processes"):
        baselines.promote(tmp_path, KEY)


def test_promoting_an_unknown_key_names_those_that_can_be(tmp_path: Path) -> None:
    """The valid keys are the folders with something to promote, not those with a baseline."""
    obtain(tmp_path, make_run())
    store(tmp_path, "0001_a.json", gpu_key="nvidia-h100")

    with pytest.raises(ValueError, match=f"keys that hold one: {KEY}; record it with --gate record"):
        baselines.promote(tmp_path, "nvidia-h100")


@pytest.mark.parametrize("name", ["", "Recorded", "a b", "../up", "-x", "_x", "a.b", "a\n", "é"])
def test_a_baseline_name_is_checked(tmp_path: Path, name: str) -> None:
    """A name becomes part of a file name, so it is lower-case letters, digits, '-' and '_'."""
    obtained = obtain(tmp_path, make_run())

    with pytest.raises(ValueError, match="name"):
        baselines.promote(tmp_path, KEY, name=name)

    assert obtained.exists()


def test_machine_info_of_another_gpu_is_our_mistake() -> None:
    """The caller cannot record one GPU's figures under another's key."""
    with pytest.raises(AssertionError):
        benchmark_json.document(
            [], gpu_key=KEY, machine_info={"speedgate": {"gpu_key": "t4"}}, commit_info={}, datetime="", version=""
        )


def test_the_statistics_are_the_ones_pytest_benchmark_stores() -> None:
    """A new or dropped field in pytest-benchmark's class is a change of the format, to be looked at."""
    found = benchmark_json.stats([1.0, 2.0, 4.0])

    assert set(found) == benchmark_json.STATS_FIELDS
    assert (found["median"], found["total"], found["rounds"], found["stddev_outliers"]) == (2.0, 7.0, 3, 1)
    assert found["ops"] == pytest.approx(3 / 7)


@pytest.mark.parametrize("stored", ["published", "recorded"])
def test_pytest_benchmark_reads_a_baseline(tmp_path: Path, stored: str) -> None:
    """The tool's own comparison lists a published and a recorded file without a warning."""
    path = COMMITTED if stored == "published" else store(tmp_path, "0001_recorded.json", make_run())

    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=median,rounds"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "test_latency[sdxl-int8]" in done.stdout
    assert done.stderr == ""


def test_the_committed_file_is_what_its_csv_says() -> None:
    """The published baseline can be made anew and is not edited by hand."""
    built = published.published_document(CSV, gpu_key=KEY, pipelines=["sdxl"])

    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == built


def test_the_published_ladder() -> None:
    """The six SDXL stages stand in ladder order with the printed seconds and a peak in bytes."""
    found = {baseline.case_key: baseline for baseline in baselines.read(COMMITTED, gpu_key=KEY)}

    seconds = [baseline.median_s for baseline in found.values()]
    assert [case_key.split("/")[1] for case_key in found] == ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]
    assert seconds == [7.362, 4.626, 3.315, 2.538, 2.523, 2.429]
    assert found[INT8].peak_bytes == round(7.866 * 2**30)
    assert (found[INT8].source, found[INT8].fingerprint) == ("published", None)


def test_a_recorded_file_replaces_the_published_one(tmp_path: Path) -> None:
    """On the same key the recorded figure becomes the comparison, and the published ones stay for the rest."""
    write(tmp_path, COMMITTED.read_text(encoding="utf-8"), name=published.NAME)
    obtain(tmp_path, make_run(INT8))
    baselines.promote(tmp_path, KEY)

    found = baselines.load(tmp_path, KEY)

    assert (found[INT8].name, found[BF16].name) == ("0002_recorded", "0001_published")


def copy_source(folder: Path) -> Path:
    """The CSV and the TOML beside it, to be spoilt."""
    for suffix in (".csv", ".toml"):
        source = CSV.with_suffix(suffix)
        (folder / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    return folder / CSV.name


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
    path = copy_source(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))

    with pytest.raises(ValueError, match=f"{path.name}: {said}"):
        published.published_document(path, gpu_key=KEY, pipelines=["sdxl"])


@pytest.mark.parametrize(
    ("gpu_key", "pipelines", "said"),
    [
        ("nvidia-h100", ["sdxl"], f"measured on {KEY}, not on nvidia-h100"),
        (KEY, ["sdxl", "flux"], "flux asked for; choose from sdxl"),
        (KEY, [], "no pipeline asked for; choose from sdxl"),
    ],
)
def test_published_figures_stay_with_their_gpu_and_pipelines(gpu_key: str, pipelines: list[str], said: str) -> None:
    """Figures cannot be filed under another GPU, nor for a pipeline whose workload is not stated."""
    with pytest.raises(ValueError, match=said):
        published.published_document(CSV, gpu_key=gpu_key, pipelines=pipelines)


@pytest.mark.parametrize(("text", "said"), [("[gpu]", "no test"), ("= 3", "not TOML"), (None, "no such file")])
def test_figures_without_their_origin_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    """A CSV whose machine is not stated is not a baseline."""
    path = copy_source(tmp_path)
    path.with_suffix(".toml").unlink()
    if text is not None:
        path.with_suffix(".toml").write_text(text)

    with pytest.raises(ValueError, match=said):
        published.published_document(path, gpu_key=KEY, pipelines=["sdxl"])
