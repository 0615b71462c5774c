"""Baseline files: reading them, the newest file of each case, and the errors of spoilt ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from speedgate.baselines import store
from speedgate.gate.intervals import Looks
from speedgate.gate.judge import judge_latency
from speedgate.gate.policy import Policy
from speedgate.results.run import Outcome, Process
from tests.support.baseline_samples import BF16, INT8, KEY, make_document, make_run, obtain, store_file

PUBLISHED = Path(__file__).parents[2] / "baselines" / KEY / "0001_published.json"
OLD_FORM = Path(__file__).parent / "samples" / "recorded_with_copies.json"
IN_BLOCK = "benchmarks[0].extra_info.speedgate"

Spoil = Callable[[dict[str, Any]], object]


def write(root: Path, document: Any, *, name: str = "0001_recorded.json") -> Path:
    """Write `document` as it is, NaN and all."""
    path = root / KEY / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def block(document: dict[str, Any]) -> dict[str, Any]:
    """Our part of the first benchmark."""
    data: dict[str, Any] = document["benchmarks"][0]["extra_info"]["speedgate"]
    return data


def in_block(**fields: Any) -> Spoil:
    """A change of fields of our part."""
    return lambda document: block(document).update(fields)


def in_run(**fields: Any) -> Spoil:
    """A change of fields of the first run."""
    return lambda document: block(document)["run"].update(fields)


def refusal(root: Path) -> str:
    """The message with which the folder is refused; it is one line."""
    with pytest.raises(ValueError) as caught:
        store.newest_baselines(root, KEY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_recorded_run_is_read_back(tmp_path):
    """The baseline that is read has the figures of the recorded run."""
    path = store_file(tmp_path, "0001_recorded.json", make_run(medians_s=(2.4, 2.6)))

    baseline = store.newest_baselines(tmp_path, KEY)[INT8]

    assert (baseline.process_medians_s, baseline.peak_bytes, baseline.fingerprint) == ((2.4, 2.6), 9, "f00d")
    assert (baseline.path, baseline.gpu_key, baseline.source) == (str(path), KEY, "recorded")


def test_the_later_file_wins_case_by_case(tmp_path):
    """The file with the highest number replaces the cases it holds and leaves the others to the earlier one."""
    later = store_file(tmp_path, "0010_new.json", make_run(INT8, medians_s=(1.0, 1.0)))
    store_file(tmp_path, "0009_old.json", make_run(INT8), make_run(BF16))

    newest = store.newest_baselines(tmp_path, KEY)

    assert store.latest_file(tmp_path, KEY) == later

    assert {case_key: baseline.name for case_key, baseline in newest.items()} == {INT8: "0010_new", BF16: "0009_old"}


def test_other_files_are_not_baselines(tmp_path):
    """Only NNNN_*.json directly in the folder counts, whatever else lies there; a missing folder holds nothing."""
    for name in ("obtained.json", "1_x.json", "00001_x.json", "0001_x.json.bak", "sub/0001_x.json"):
        write(tmp_path, "not JSON", name=name)

    for root in (tmp_path, tmp_path / "absent"):
        assert store.newest_baselines(root, KEY) == {}
        assert store.gpu_keys(root) == []
        assert store.latest_file(root, KEY) is None


def test_the_newest_file_says_whether_a_case_fits(tmp_path):
    """A figure ends an older out-of-memory and the other way round; a case is never both."""
    store_file(tmp_path, "0001_a.json", make_run(INT8), make_run(BF16))
    obtain(tmp_path, make_run(INT8), out_of_memory={BF16: "full"}).rename(tmp_path / KEY / "0002_b.json")
    obtain(tmp_path, make_run(BF16), out_of_memory={INT8: "full"}).rename(tmp_path / KEY / "0003_c.json")

    cases = store.newest_cases(tmp_path, KEY)

    assert (set(cases.baselines), dict(cases.out_of_memory)) == ({BF16}, {INT8: "0003_c"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("outcome", "unsupported", "outcome: invalid enum value 'unsupported'"),
        ("gpu_key", "another", f"gpu_key: expected {KEY!r}, found 'another'"),
        ("case_key", "sdxl/int8", "case_key: expected a case key, PIPELINE/STAGE/WORKLOAD, found 'sdxl/int8'"),
        ("case_key", INT8, f"case_key: {INT8!r} stands in this file twice"),
        ("note", "", "note: expected a text of length >= 1"),
    ],
)
def test_a_spoilt_out_of_memory_is_named(tmp_path, field, value, message):
    """A case out of memory is checked as strictly as a figure, and the message names the field."""
    path = obtain(tmp_path, make_run(INT8), out_of_memory={BF16: "full"})
    document = json.loads(path.read_text())
    document["speedgate"]["without_figure"][0][field] = value
    path.with_name("0001_a.json").write_text(json.dumps(document))

    assert f"0001_a.json: speedgate.without_figure[0].{message}" in refusal(tmp_path)


def test_a_misspelt_field_beside_the_benchmarks_is_refused(tmp_path):
    """Its content would otherwise be lost without a message."""
    path = obtain(tmp_path, make_run(INT8), out_of_memory={BF16: "full"})
    text = path.read_text().replace('"without_figure"', '"without_figures"')
    path.with_name("0001_a.json").write_text(text)

    assert "0001_a.json: speedgate: expected no more than accepted_slower, lowest_figures, without_figure" in refusal(
        tmp_path
    )


def test_gpu_keys_are_the_folders_with_a_baseline(tmp_path):
    """Keys come sorted; a file and a folder without baselines are none."""
    store_file(tmp_path, "0001_a.json", gpu_key="nvidia-h100")
    store_file(tmp_path, "0001_a.json", gpu_key="cpu-x86_64")
    (tmp_path / "README.md").touch()
    (tmp_path / "published").mkdir()

    assert store.gpu_keys(tmp_path) == ["cpu-x86_64", "nvidia-h100"]


def test_a_number_given_twice_is_refused(tmp_path):
    """Two branches that took the same number leave no order, so neither wins by its name."""
    store_file(tmp_path, "0002_a.json")
    store_file(tmp_path, "0002_b.json")

    assert "0002_b.json: number 0002 is taken by 0002_a.json" in refusal(tmp_path)


@pytest.mark.parametrize("gpu_key", ["", "..", "a/b", "/root", "a\\b", "a\n"])
def test_a_gpu_key_cannot_leave_the_root(tmp_path, gpu_key):
    """A key is one folder name."""
    with pytest.raises(ValueError, match="GPU key"):
        store.newest_baselines(tmp_path, gpu_key)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON (line 1, column 1:"),
        (b'{"benchmarks": [\n  {"name": ', "not JSON (line 2, column 12:"),
        (b"\xff\xfe{}", "not JSON ("),
        (b"[" * 100_000, "not JSON ("),
        (b"9" * 5_000, "not JSON ("),
        (b"{}", "missing field benchmarks"),
        (b'{"benchmarks": []}', "benchmarks: expected a list of length >= 1"),
        (b'{"benchmarks": [{"stats": {"median": 1, "median": 2}}]}', "key 'median' stands twice in one object"),
        (b'{"a": ' * 101 + b"1" + b"}" * 101, "nested more than 100 levels deep"),
        (b"[" * 102 + b"]" * 102, "nested more than 100 levels deep"),
        (b'{"benchmarks": [{"stats": {"median": NaN}}]}', "benchmarks[0].stats.median: expected a finite number"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path, data, message):
    """A truncated or foreign file is an error that says which and where, never an empty set of baselines."""
    path = write(tmp_path, "")
    path.write_bytes(data)

    assert f"{path}: {message}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (in_block(schema=2), f"{IN_BLOCK}.schema: invalid enum value 2"),
        (in_block(gpu_key="nvidia-t4"), f"{IN_BLOCK}.gpu_key: expected '{KEY}', found 'nvidia-t4'"),
        (in_block(source="guessed"), f"{IN_BLOCK}.source: invalid value 'guessed'"),
        (in_block(outcome="failed", reason="slow"), f"a failing case is never a baseline: {INT8} (slow)"),
        (in_block(roofline={"share": 0}), f"{IN_BLOCK}.roofline.share: expected a number above zero"),
        (lambda document: block(document).pop("run"), f"{IN_BLOCK}: missing field run"),
        (in_run(case_key="sdxl"), f"{IN_BLOCK}.run.case_key: expected a case key"),
        (in_run(processes=[]), f"{IN_BLOCK}.run.processes: expected at least one process"),
        (lambda document: block(document)["run"]["processes"][1].update(seconds=[2.4, 0]), f"{IN_BLOCK}.run"),
        (lambda document: document["benchmarks"][0].update(extra_info={"mine": 1}), f"{IN_BLOCK}: missing; only what"),
        (lambda document: document["benchmarks"][0]["stats"].pop("q1"), "benchmarks[0].stats: missing field q1"),
        (lambda document: document.pop("machine_info"), "machine_info.speedgate.gpu_key: expected"),
    ],
)
def test_a_spoilt_field_is_named(tmp_path, spoil, message):
    """Each field that a gate relies on is checked, and the message names the file and the field."""
    document = make_document()
    spoil(document)
    path = write(tmp_path, document)

    assert f"{path}: {message}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"process_medians_s": [0]}, ".process_medians_s[0]: expected a number above zero"),
        ({"fingerprint": "f00d"}, ".fingerprint: expected null"),
        ({"case_key": "sdxl"}, ".case_key: expected a case key"),
    ],
)
def test_a_spoilt_published_figure_is_named(tmp_path, change, message):
    """A published baseline has no run, so its figures are checked where they stand."""
    document = json.loads(PUBLISHED.read_text())
    block(document).update(change)
    path = write(tmp_path, document)

    assert f"{path}: {IN_BLOCK}{message}" in refusal(tmp_path)


def test_a_file_with_copies_of_its_figures_still_gates(tmp_path):
    """A file that was recorded when medians and seconds were stored twice is read as it is, and judges runs as before."""
    path = tmp_path / "cpu-amd-epyc-2c" / "0001_recorded.json"
    path.parent.mkdir()
    shutil.copy(OLD_FORM, path)

    (baseline,) = store.read_baselines(path, gpu_key=path.parent.name)

    assert baseline.process_medians_s == (0.2901298719998522, 0.3118921489999593, 0.25807581000003665)
    assert (baseline.peak_bytes, baseline.fingerprint) == (775266304, "5217abda44ea")
    slow_run = msgspec.structs.replace(baseline.run, processes=tuple(map(doubled, baseline.run.processes)))
    policy = Policy(looks=Looks(first=3, last=3))
    outcomes = [judge_latency(run, baseline, policy=policy).outcome for run in (baseline.run, slow_run)]
    assert outcomes == [Outcome.UNDECIDED, Outcome.SLOWER]


def doubled(process: Process) -> Process:
    return msgspec.structs.replace(process, seconds=tuple(2 * value for value in process.seconds))


def test_a_case_that_stands_twice_in_a_file_is_refused(tmp_path):
    """Within a file there is no later one, so neither figure wins."""
    write(tmp_path, make_document(make_run(), make_run()))

    assert f"'{INT8}' stands in this file twice" in refusal(tmp_path)
