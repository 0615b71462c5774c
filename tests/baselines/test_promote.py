"""Promotion: the content of a recording, and the conditions for it to become a baseline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from speedgate.baselines import benchmark_json, promote, store
from speedgate.results.run import Run
from tests.support.baseline_samples import BF16, INT8, KEY, make_meta, make_run, obtain, store_file, store_published

PUBLISHED = Path(__file__).parents[2] / "baselines" / KEY / "0001_published.json"
FP32 = "sdxl/fp32/1024px-30steps-b1"


def take(seconds: float, case_key: str = INT8) -> Run:
    """A run of three equal processes."""
    return make_run(case_key, medians_s=(seconds,) * 3)


def refusal(root: Path, **arguments: str) -> str:
    """The message with which a promotion is refused; it is one line, and nothing was promoted."""
    before = sorted(path.name for path in (root / KEY).iterdir())
    with pytest.raises(ValueError) as caught:
        promote.promote(root, KEY, **arguments)
    assert sorted(path.name for path in (root / KEY).iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_recording_writes_what_promotion_accepts(tmp_path):
    """record, promote, load: the promoted file is the last recording byte for byte, and nothing is left to promote."""
    obtain(tmp_path, make_run(FP32))
    obtained = obtain(tmp_path, make_run(INT8), make_run(BF16))
    recorded = obtained.read_bytes()

    promoted = promote.promote(tmp_path, KEY)

    assert promoted == tmp_path / KEY / "0001_recorded.json"
    assert promoted.read_bytes() == recorded
    assert list(promoted.parent.iterdir()) == [promoted]
    assert set(store.newest_baselines(tmp_path, KEY)) == {INT8, BF16}


def test_recording_keeps_every_raw_second_of_every_process(tmp_path):
    """Each second stands once, the statistics are those of all rounds, and the document says where it was recorded."""
    document = json.loads(obtain(tmp_path, make_run(medians_s=(1.0, 3.0))).read_text())

    entry = document["benchmarks"][0]
    processes = entry["extra_info"]["speedgate"]["run"]["processes"]
    assert [process["seconds"] for process in processes] == [[0.99, 1.0, 1.01], [2.99, 3.0, 3.01]]
    assert (entry["stats"]["median"], entry["stats"]["rounds"]) == (2.0, 6)
    assert json.dumps(document).count("2.99") == 1
    assert (entry["group"], entry["name"], entry["param"]) == ("sdxl", "test_latency[sdxl-int8]", "sdxl-int8")
    assert document["machine_info"] == {"python_version": "3.11", "speedgate": {"gpu_key": KEY}}
    assert document["commit_info"] == {"id": "0" * 40}


def test_promotion_takes_the_number_after_the_highest(tmp_path):
    """A gap is not filled, an older file is not touched, the name is the given one, and after 9999 there is none."""
    old = store_file(tmp_path, "0007_old.json")
    before = old.read_bytes()
    obtain(tmp_path, make_run())

    assert promote.promote(tmp_path, KEY, name="torch-2_14").name == "0008_torch-2_14.json"
    assert old.read_bytes() == before
    store_file(tmp_path, "9999_last.json")
    obtain(tmp_path, make_run())
    assert "number 9999 is taken" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"components_s": {"denoiser": float("nan")}}, "cannot be stored: "),
        ({"processes": ()}, "no process was measured); record it again"),
        ({}, "no test benchmarked it); record it again"),
    ],
)
def test_a_run_that_cannot_be_stored_does_not_lose_the_others(tmp_path, changes, reason):
    """A run with a figure that is not finite, without a round or without a test is a failed case; the others are stored."""
    broken = msgspec.structs.replace(make_run(BF16), **changes)
    path = store.write_obtained(
        tmp_path,
        KEY,
        runs=[broken, make_run(INT8)],
        failed={},
        benchmarks_meta={case_key: make_meta(case_key) for case_key in (INT8, *([BF16] if changes else []))},
        machine_info={},
        commit_info={},
    )

    (entry,) = json.loads(path.read_text())["benchmarks"]
    assert entry["extra_info"]["speedgate"]["run"]["case_key"] == INT8
    assert f"{BF16} ({reason}" in refusal(tmp_path)


def test_promotion_never_overwrites(tmp_path, monkeypatch):
    """Someone who takes the number in between keeps the file, and so does the recording."""
    taken = store_file(tmp_path, "0001_recorded.json", make_run(BF16))
    before = taken.read_bytes()
    obtained = obtain(tmp_path, make_run())
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))

    with pytest.raises(FileExistsError):
        promote.promote(tmp_path, KEY)

    monkeypatch.undo()
    assert taken.read_bytes() == before
    assert sorted(taken.parent.iterdir()) == [taken, obtained]


def test_every_failing_case_is_listed_and_nothing_is_promoted(tmp_path):
    """A failing run is never a baseline, whether it was measured to the end or crashed, alone or beside good ones."""
    obtain(tmp_path, make_run(FP32), make_run(INT8), failed={INT8: "SLOWER by 9 %", BF16: "the worker died"})
    message = refusal(tmp_path)
    assert f"{INT8} (SLOWER by 9 %)" in message
    assert f"{BF16} (the worker died)" in message
    assert FP32 not in message

    obtain(tmp_path, failed={BF16: "the worker died"})
    assert f"{BF16} (the worker died)" in refusal(tmp_path)


def test_fewer_than_three_processes_are_not_enough(tmp_path):
    """Without replication there is no noise model, however many rounds each process ran."""
    obtained = obtain(tmp_path, make_run(medians_s=(2.4, 2.5)))

    message = refusal(tmp_path)

    assert f"{obtained}: {INT8}: has 2 of at least 3 processes" in message
    assert message.endswith("record it again with --processes 3 or more")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2.45,", "0,", r"benchmarks\[0\]\.extra_info\.speedgate\.run.*processes\[1\].*seconds"),
        ('"fingerprint": "f00d"', '"fingerprint": "a", "fingerprint": "f00d"', "key 'fingerprint' stands twice"),
    ],
)
def test_a_spoilt_figure_is_never_promoted(tmp_path, old, new, message):
    """A zero second, or a key of which nobody knows which value was measured: the message names the file and the field."""
    obtained = obtain(tmp_path, make_run())
    obtained.write_text(obtained.read_text().replace(old, new))

    assert re.match(f"{obtained}: {message}", refusal(tmp_path))


def test_promoting_an_unknown_key_names_those_that_can_be(tmp_path):
    """The valid keys are the folders with something to promote, not those with a baseline."""
    obtain(tmp_path, make_run())
    store_file(tmp_path, "0001_a.json", gpu_key="nvidia-h100")

    with pytest.raises(ValueError, match=f"GPU keys that have one: {KEY}; record one with --gate record"):
        promote.promote(tmp_path, "nvidia-h100")


@pytest.mark.parametrize("name", ["", "Recorded", "a b", "../up", "-x", "a.b", "a\n", "é"])
def test_a_baseline_name_is_checked(tmp_path, name):
    """A name becomes part of a file name, so it is lower-case letters, digits, '-' and '_'."""
    obtain(tmp_path, make_run())

    assert refusal(tmp_path, name=name).startswith("name ")


def test_the_statistics_are_the_ones_pytest_benchmark_stores():
    """A new or dropped field in pytest-benchmark's class is a change of the format, to be looked at."""
    stats = benchmark_json.timing_stats([1.0, 2.0, 4.0])

    assert set(stats) == set(benchmark_json.Stats.__struct_fields__)
    assert (stats["median"], stats["total"], stats["rounds"], stats["stddev_outliers"]) == (2.0, 7.0, 3, 1)
    assert stats["ops"] == pytest.approx(3 / 7)


def test_pytest_benchmark_reads_a_baseline(tmp_path):
    """The tool's own comparison lists a published, a recorded and an accepted slower file without a warning."""
    recorded = store_file(tmp_path, "0001_recorded.json", take(2.0))
    obtain(tmp_path, take(2.5))
    slower = promote.promote(tmp_path, KEY, accept_slower="deterministic kernels")
    paths = [str(path) for path in (PUBLISHED, recorded, slower)]

    command = [sys.executable, "-m", "pytest_benchmark", "compare", *paths, "--columns=median,rounds"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.count("test_latency[sdxl-int8] (") == len(paths)
    assert done.stderr == ""


def test_small_steps_are_refused_once_they_add_up(tmp_path):
    """Two steps of 2 % are each within a tolerance of 3 %, and together they are not."""
    for seconds in (1.0, 1.02):
        obtain(tmp_path, take(seconds))
        promote.promote(tmp_path, KEY)
    obtained = obtain(tmp_path, take(1.04))

    message = refusal(tmp_path)

    assert message.startswith(f"{obtained}: slower than the lowest figure ever promoted")
    assert f"{INT8} takes 1.04 s against 1 s in 0001_recorded.json (+4.0%, floor 3%)" in message


def test_a_removed_file_does_not_move_the_floor(tmp_path):
    """Steps of 2 % add up although the oldest file is removed each time, and cases that a file lacks are carried through it."""
    figures = {INT8: 1.0, BF16: 2.0}
    store_file(tmp_path, "0001_a.json", *(take(seconds, key) for key, seconds in figures.items()))
    obtain(tmp_path, take(1.02))
    second = promote.promote(tmp_path, KEY)
    (tmp_path / KEY / "0001_a.json").unlink()

    obtain(tmp_path, take(1.04))
    assert f"{INT8} takes 1.04 s against 1 s in 0001_a.json (+4.0%, floor 3%)" in refusal(tmp_path)
    obtain(tmp_path, take(0.9), take(2.02, BF16))
    promote.promote(tmp_path, KEY)
    second.unlink()

    obtain(tmp_path, take(0.93), take(2.1, BF16))
    message = refusal(tmp_path)
    assert f"{INT8} takes 0.93 s against 0.9 s in 0003_recorded.json (+3.3%, floor 3%)" in message
    assert f"{BF16} takes 2.1 s against 2 s in 0001_a.json (+5.0%, floor 3%)" in message


def test_every_case_that_drifted_is_listed(tmp_path):
    """One refusal names all cases that drifted and no other, and the option that accepts them."""
    store_file(tmp_path, "0001_a.json", take(1.0), take(2.0, BF16), take(3.0, FP32))
    obtain(tmp_path, take(1.1), take(2.2, BF16), take(3.0, FP32))

    message = refusal(tmp_path)

    assert f"{INT8} takes 1.1 s against 1 s in 0001_a.json (+10.0%, floor 3%)" in message
    assert f"{BF16} takes 2.2 s against 2 s in 0001_a.json (+10.0%, floor 3%)" in message
    assert FP32 not in message
    assert message.endswith('give a reason with --accept-slower "why"')


@pytest.mark.parametrize(
    ("published_s", "recorded_s", "new_s", "problem"),
    [
        (None, [1.0], [1.029], None),
        (None, [1.0], [1.031], "against 1 s in 0002_a.json (+3.1%, floor 3%)"),
        (None, [1.0], [0.5], None),
        (1.0, None, [1.099], None),
        (1.0, None, [1.101], "against 1 s in 0001_published.json (+10.1%, floor 10%)"),
        (9.0, [2.0], [2.1], "against 2 s in 0002_a.json (+5.0%, floor 3%)"),
        (2.0, [2.0], [3.0], "against 2 s in 0001_published.json (+50.0%, floor 10%)"),
        (None, [1.0, 2.0, 4.0], [1.0, 2.0, 32.0], "against 2 s in 0002_a.json (+100.0%, floor 3%)"),
    ],
)
def test_a_case_is_held_to_its_lowest_figures(tmp_path, published_s, recorded_s, new_s, problem):
    """3 % above the lowest recorded figure, 10 % above a published one; slower than both, it is listed once.

    A figure is the geometric mean of its processes: their median would not show one that became eight times slower.
    """

    def run(medians_s: list[float]) -> Run:
        return make_run(medians_s=medians_s * (3 // len(medians_s)))

    if published_s is not None:
        store_published(tmp_path, published_s)
    if recorded_s is not None:
        store_file(tmp_path, "0002_a.json", run(recorded_s))
    obtain(tmp_path, run(new_s))

    if problem is None:
        assert promote.promote(tmp_path, KEY).exists()
    else:
        message = refusal(tmp_path)
        assert problem in message
        assert message.count(INT8) == 1


def test_a_case_is_held_to_the_oldest_file_that_holds_it(tmp_path):
    """Files without the case do not count, and a case that is new is held to nothing."""
    store_file(tmp_path, "0001_a.json", take(1.0, BF16))
    store_file(tmp_path, "0002_b.json", take(2.0))
    obtain(tmp_path, take(2.0), take(1.0, BF16), take(9.0, FP32))

    assert promote.promote(tmp_path, KEY).name == "0003_recorded.json"


def test_a_reason_is_one_printable_line(tmp_path):
    """A reason is read in reviews and terminals: blank, long or unprintable ones are refused, 500 characters are taken.

    It is stored only for a case that became slower.
    """
    store_file(tmp_path, "0001_a.json", take(1.0))
    obtain(tmp_path, take(1.0))
    assert "promote it without --accept-slower" in refusal(tmp_path, accept_slower="deterministic kernels")
    obtain(tmp_path, take(1.25))

    for reason in ("", "  ", "a\nb", "\x1b[2J", "\u202e", "\ud800", "x" * 501):
        message = refusal(tmp_path, accept_slower=reason)
        assert message.startswith("--accept-slower '")
        assert message.isprintable()
    assert promote.promote(tmp_path, KEY, accept_slower="\u00e9" * 500).exists()


FULL = {BF16: "out of memory on 80.0 GiB, fitted in 0001_a"}


def test_the_promoted_file_says_why_it_is_slower(tmp_path):
    """The reason, and of each case that drifted or fits no longer the older file; the figures are as recorded.

    Out of memory is the slowest that a case can get. The notes for the reviewer list these cases.
    """
    store_file(tmp_path, "0001_a.json", take(1.0), take(2.0, BF16), take(3.0, FP32))
    recorded = json.loads(obtain(tmp_path, take(1.25), take(3.0, FP32), out_of_memory=FULL).read_text())
    assert f"{BF16} is out of memory and took 2 s in 0001_a.json; find the cause" in refusal(tmp_path)

    path = promote.promote(tmp_path, KEY, accept_slower="a bigger picture")

    promoted = json.loads(path.read_text())
    slower = {"oldest": "0001_a.json", "ratio": pytest.approx(1.25)}
    cases = {INT8: slower, BF16: {"oldest": "0001_a.json", "outcome": "oom"}}
    assert promoted["speedgate"].pop("accepted_slower") == {"reason": "a bigger picture", "cases": cases}
    lowest = promoted["speedgate"].pop("lowest_figures")
    assert lowest == {INT8: {"file": "0001_a.json", "latency_s": 1.0}, BF16: {"file": "0001_a.json", "latency_s": 2.0}}
    assert promoted == recorded
    assert store.newest_cases(tmp_path, KEY).out_of_memory == {BF16: "0002_recorded"}
    reason = "accepted in 0002_recorded.json (a bigger picture)"
    assert promote.review_notes(path) == [
        f"{BF16}: out of memory, but not in 0001_a.json; {reason}",
        f"{INT8}: +25.0% compared to what it was in 0001_a.json; {reason}",
        f"{BF16}: out of memory from now on",
    ]


def test_a_case_that_never_fitted_is_promoted_as_it_is(tmp_path):
    """There is no figure that it could be worse than, then or in the next recording; but a file holds one figure at least."""
    obtain(tmp_path, out_of_memory=FULL)
    assert "every case ran out of memory; a baseline file needs a case that fits" in refusal(tmp_path)
    for name in ("0001_recorded.json", "0002_recorded.json"):
        obtain(tmp_path, take(1.0), out_of_memory=FULL)
        assert promote.promote(tmp_path, KEY).name == name


def test_a_recording_cannot_bring_its_own_acceptance(tmp_path):
    """Only promotion writes the reason; one that is in obtained.json already is refused."""
    obtained = obtain(tmp_path, take(1.0))
    document = json.loads(obtained.read_text())
    document["speedgate"] = {"accepted_slower": {"reason": "mine", "cases": {}}}
    obtained.write_text(json.dumps(document))

    assert f"{obtained}: speedgate: only promotion writes accepted_slower" in refusal(tmp_path)


def test_a_broken_baseline_file_stops_promotion(tmp_path):
    """The oldest figure may be in that file, so the message names it and it is not skipped."""
    broken = store_file(tmp_path, "0001_a.json", take(1.0))
    broken.write_text("{")
    obtain(tmp_path, take(1.0))

    assert refusal(tmp_path).startswith(f"{broken}: not JSON")
