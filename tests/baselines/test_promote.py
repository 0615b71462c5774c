"""What a recording holds, and what it takes to become a baseline."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speedgate.baselines import benchmark_json, promote
from speedgate.baselines import store as baselines
from tests.support.baseline_samples import BF16, INT8, KEY, make_meta, make_run, obtain, store

PUBLISHED = Path(__file__).parents[2] / "baselines" / KEY / "0001_published.json"


def refusal(root: Path) -> str:
    """The message with which a promotion is refused; it is one line."""
    with pytest.raises(ValueError) as caught:
        promote.promote(root, KEY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_recording_writes_what_promotion_accepts(tmp_path: Path) -> None:
    """record, promote, load: the promoted file is what was recorded, and nothing is left to promote."""
    obtained = obtain(tmp_path, make_run(INT8), make_run(BF16))
    recorded = obtained.read_bytes()

    promoted = promote.promote(tmp_path, KEY)

    assert promoted == tmp_path / KEY / "0001_recorded.json"
    assert promoted.read_bytes() == recorded
    assert list(promoted.parent.iterdir()) == [promoted]
    assert set(baselines.newest_baselines(tmp_path, KEY)) == {INT8, BF16}


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

    assert [found.case_key for found in baselines.read_baselines(path, gpu_key=KEY)] == [BF16]


def test_promotion_takes_the_number_after_the_highest(tmp_path: Path) -> None:
    """A gap is not filled, an older file is not touched, and the name is the one asked for."""
    old = store(tmp_path, "0007_old.json")
    before = old.read_bytes()
    obtain(tmp_path, make_run())

    assert promote.promote(tmp_path, KEY, name="torch-2_14").name == "0008_torch-2_14.json"
    assert old.read_bytes() == before


def test_promotion_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone who takes the number in between keeps the file, and so does the recording."""
    taken = store(tmp_path, "0001_recorded.json", make_run(BF16))
    before = taken.read_bytes()
    obtained = obtain(tmp_path, make_run())
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))

    with pytest.raises(FileExistsError):
        promote.promote(tmp_path, KEY)

    monkeypatch.undo()
    assert taken.read_bytes() == before
    assert sorted(taken.parent.iterdir()) == [taken, obtained]


def test_the_last_number_is_the_last(tmp_path: Path) -> None:
    """Past 9999 the name would no longer be a baseline's, so nothing is renamed to it."""
    store(tmp_path, "9999_last.json")
    obtained = obtain(tmp_path, make_run())

    with pytest.raises(ValueError, match="number 9999 is taken"):
        promote.promote(tmp_path, KEY)

    assert obtained.exists()


def test_every_failing_case_is_listed_and_nothing_is_promoted(tmp_path: Path) -> None:
    """A failing run is never a baseline, whether it was measured to the end or crashed."""
    fp32 = "sdxl/fp32/1024px-30steps-b1"
    failed = {INT8: "SLOWER by 9 %", BF16: "the worker died"}
    obtained = obtain(tmp_path, make_run(fp32), make_run(INT8), failed=failed)

    with pytest.raises(ValueError) as caught:
        promote.promote(tmp_path, KEY)

    assert f"{INT8} (SLOWER by 9 %)" in str(caught.value)
    assert f"{BF16} (the worker died)" in str(caught.value)
    assert fp32 not in str(caught.value)
    assert [path.name for path in obtained.parent.iterdir()] == ["obtained.json"]


def test_a_session_in_which_everything_crashed_cannot_be_promoted(tmp_path: Path) -> None:
    """No benchmark at all, but the reasons are there."""
    obtain(tmp_path, failed={BF16: "the worker died"})

    with pytest.raises(ValueError, match="the worker died"):
        promote.promote(tmp_path, KEY)


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
        promote.promote(tmp_path, KEY)


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


@pytest.mark.parametrize("medians_s", [(2.4,), (2.4, 2.5)])
def test_fewer_than_three_processes_are_not_enough(tmp_path: Path, medians_s: tuple[float, ...]) -> None:
    """Without replication there is no noise model, however many rounds each process ran."""
    obtained = obtain(tmp_path, make_run(medians_s=medians_s))

    said = refusal(tmp_path)

    assert f"{obtained}: {INT8}: process_medians_s: holds {len(medians_s)} of at least 3 processes" in said
    assert said.endswith("record it anew with --processes 3 or more")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("process_medians_s", None),
        ("process_medians_s", [2.4, 0, 2.5]),
        ("process_medians_s", [2.4, math.nan, 2.5]),
        ("process_medians_s", [2.4, -2.4, 2.5]),
        ("peak_bytes", None),
        ("peak_bytes", 0),
        ("peak_bytes", math.nan),
        ("peak_bytes", -1),
    ],
)
def test_a_figure_that_is_none_is_never_promoted(tmp_path: Path, field: str, value: Any) -> None:
    """Missing, zero, undefined or negative: the message names the file and the field, and no file is made of it."""
    obtained = obtain(tmp_path, make_run())
    document = json.loads(obtained.read_text())
    document["benchmarks"][0]["extra_info"]["speedgate"][field] = value
    obtained.write_text(json.dumps(document))

    assert re.match(
        rf"{obtained}: benchmarks\[0\]\.extra_info\.speedgate\.{field}(\[1\])?: expected", refusal(tmp_path)
    )
    assert list(obtained.parent.iterdir()) == [obtained]


def test_a_key_that_stands_twice_is_never_promoted(tmp_path: Path) -> None:
    """Which of two peaks was measured cannot be known, so neither becomes a baseline."""
    obtained = obtain(tmp_path, make_run())
    obtained.write_text(obtained.read_text().replace('"peak_bytes": 9', '"peak_bytes": 1, "peak_bytes": 9'))

    assert refusal(tmp_path).startswith(f"{obtained}: key 'peak_bytes' stands twice")


def test_promoting_an_unknown_key_names_those_that_can_be(tmp_path: Path) -> None:
    """The valid keys are the folders with something to promote, not those with a baseline."""
    obtain(tmp_path, make_run())
    store(tmp_path, "0001_a.json", gpu_key="nvidia-h100")

    with pytest.raises(ValueError, match=f"keys that hold one: {KEY}; record it with --gate record"):
        promote.promote(tmp_path, "nvidia-h100")


@pytest.mark.parametrize("name", ["", "Recorded", "a b", "../up", "-x", "_x", "a.b", "a\n", "é"])
def test_a_baseline_name_is_checked(tmp_path: Path, name: str) -> None:
    """A name becomes part of a file name, so it is lower-case letters, digits, '-' and '_'."""
    obtained = obtain(tmp_path, make_run())

    with pytest.raises(ValueError, match="name"):
        promote.promote(tmp_path, KEY, name=name)

    assert obtained.exists()


def test_machine_info_of_another_gpu_is_our_mistake() -> None:
    """The caller cannot record one GPU's figures under another's key."""
    with pytest.raises(AssertionError):
        benchmark_json.make_document(
            [], gpu_key=KEY, machine_info={"speedgate": {"gpu_key": "t4"}}, commit_info={}, datetime="", version=""
        )


def test_the_statistics_are_the_ones_pytest_benchmark_stores() -> None:
    """A new or dropped field in pytest-benchmark's class is a change of the format, to be looked at."""
    found = benchmark_json.timing_stats([1.0, 2.0, 4.0])

    assert set(found) == benchmark_json.STATS_FIELDS
    assert (found["median"], found["total"], found["rounds"], found["stddev_outliers"]) == (2.0, 7.0, 3, 1)
    assert found["ops"] == pytest.approx(3 / 7)


def accepted(root: Path) -> Path:
    """A promoted file that says why it is slower."""
    store(root, "0001_recorded.json", make_run(medians_s=(2.0, 2.0, 2.0)))
    obtain(root, make_run())
    return promote.promote(root, KEY, accept_slower="deterministic kernels")


@pytest.mark.parametrize(
    "stored", [lambda root: PUBLISHED, lambda root: store(root, "0001_recorded.json", make_run()), accepted]
)
def test_pytest_benchmark_reads_a_baseline(tmp_path: Path, stored: Callable[[Path], Path]) -> None:
    """The tool's own comparison lists a published, a recorded and an accepted slower file without a warning."""
    path = stored(tmp_path)

    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=median,rounds"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "test_latency[sdxl-int8]" in done.stdout
    assert done.stderr == ""
