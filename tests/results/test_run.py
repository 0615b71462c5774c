"""Records: what is read back, what is refused, and how a file is written."""

import dataclasses
import json
import math

import pytest

from speedgate.results.json_io import positive, to_json, write_json
from speedgate.results.run import Process, run_from_json
from tests.support.baseline_samples import COLD, make_run

FILE = "0002_recorded.json"


def stored(run=None):
    """A run as it comes back from a JSON file."""
    return json.loads(json.dumps(to_json(run or make_run())))


def without(name):
    """A change that takes a field out."""
    return lambda data: data.pop(name)


def in_process(**fields):
    """A change of the second process's fields."""
    return lambda data: data["processes"][1].update(fields)


def test_a_run_survives_json():
    """What was measured is read back equal, tuples and nested records included."""
    run = make_run(medians_s=(2.4, 2.6))

    assert run_from_json(stored(run), where=FILE) == run


def test_a_run_without_rounds_survives_json():
    """A run that holds structure and no rounds yet is valid."""
    run = make_run(medians_s=())

    assert run_from_json(stored(run), where=FILE) == run


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("case_key"), "missing field case_key"),
        (without("structure"), "missing field structure"),
        (lambda data: data.update(fps=3), "unknown field fps"),
        (lambda data: data.update(cold_start=None), "cold_start: expected an object, found NoneType"),
        (lambda data: data["cold_start"].pop("load_s"), "cold_start: missing field load_s"),
        (lambda data: data.update(processes=3), "processes: expected a list, found int"),
        (lambda data: data.update(processes="no"), "processes: expected a list, found str"),
        (lambda data: data.update(processes=[7]), "processes[0]: expected an object, found int"),
        (lambda data: data["processes"][1].pop("seconds"), "processes[1]: missing field seconds"),
        (in_process(seconds=[]), "processes[1]: seconds: a process holds at least one round, found []"),
        (in_process(seconds=2.4), "processes[1]: seconds: a process holds at least one round, found 2.4"),
        (in_process(seconds=[2.4, 0.0]), "processes[1]: seconds: expected a finite number above zero, found 0.0"),
        (in_process(seconds=[math.nan]), "processes[1]: seconds: expected a finite number above zero, found nan"),
        (in_process(seconds=["2.4"]), "processes[1]: seconds: expected a finite number above zero, found '2.4'"),
        (in_process(peak_bytes=[]), "processes[1]: peak_bytes: a process holds at least one round, found []"),
        (in_process(peak_bytes=[-1]), "processes[1]: peak_bytes: expected a finite number above zero, found -1"),
        (in_process(cold_start={}), "processes[1]: cold_start: missing field apply_s"),
        (in_process(colour="red"), "processes[1]: unknown field colour"),
    ],
)
def test_a_malformed_run_names_the_file_and_the_field(spoil, said):
    """The message begins with the place and ends with what was found there."""
    data = stored()
    spoil(data)

    with pytest.raises(ValueError) as caught:
        run_from_json(data, where=FILE)

    assert str(caught.value).startswith(f"{FILE}: {said}")


@pytest.mark.parametrize("data", [None, [], "run", 3])
def test_what_is_no_object_is_no_run(data):
    """Any other JSON value is refused by its type."""
    with pytest.raises(ValueError, match=f"^{FILE}: expected an object, found {type(data).__name__}$"):
        run_from_json(data, where=FILE)


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (0.5, 0.5), (5e-324, 5e-324), (10**300, 1e300)])
def test_a_positive_number_becomes_a_float(value, expected):
    """Whole numbers and fractions above zero are taken."""
    found = positive(value, where=FILE)

    assert (found, type(found)) == (expected, float)


@pytest.mark.parametrize("value", [0, -1, -0.0, math.nan, math.inf, -math.inf, 10**400, True, "1", None, [1], 1j])
def test_what_is_not_positive_is_refused_by_name(value):
    """Zero, negative, infinite, undefined and foreign values name the place; none becomes a figure."""
    with pytest.raises(ValueError, match=f"^{FILE}: expected a finite number above zero, found "):
        positive(value, where=FILE)


def test_the_process_is_the_unit():
    """A case's latency is the geometric mean of its process medians, and its peak that of all rounds."""
    run = make_run(medians_s=(1.0, 4.0, 2.0), peak_bytes=(3, 8, 4))

    assert (run.process_medians_s, run.peak_bytes) == ((1.0, 4.0, 2.0), 8)
    assert run.latency_s == pytest.approx(2.0)


def test_a_slow_round_does_not_move_a_process():
    """One outlier among three rounds leaves the process's median alone."""
    process = Process(seconds=(1.0, 9.0, 1.1), peak_bytes=(1, 1, 1), cold_start=COLD)

    assert process.median_s == 1.1


def test_the_cold_start_is_the_sum_of_its_parts():
    """From an empty worker to the first image: import, load, apply, an imported compile cache and that image."""
    imported = dataclasses.replace(COLD, cache_load_s=0.5)

    assert (COLD.total_s, imported.total_s) == (10.0, 10.5)
    assert (COLD.stage_s, imported.stage_s) == (7.0, 7.5)


def test_a_file_is_written_whole_and_for_review(tmp_path):
    """Folders are made; the JSON is sorted, indented and ends with a line break, so that a diff is readable."""
    path = tmp_path / "a" / "b.json"

    write_json(path, {"b": 1, "a": [0.1]})

    assert path.read_text() == '{\n  "a": [\n    0.1\n  ],\n  "b": 1\n}\n'


@pytest.mark.parametrize("data", [{"a": 1, "b": math.nan}, {"a": [math.inf]}, {"a": object()}])
def test_a_failed_write_leaves_the_old_file(tmp_path, data):
    """What cannot be written as JSON raises, and neither harms the old file nor leaves a part of the new one."""
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    with pytest.raises((ValueError, TypeError)):
        write_json(path, data)

    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    """The new file comes under its name by renaming: a file that is open keeps what it had."""
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    with path.open() as reader:
        write_json(path, {"new": 2})
        seen = json.load(reader)

    assert (seen, json.loads(path.read_text())) == ({"old": 1}, {"new": 2})
