"""JSON files: written whole, and decoded strictly with errors that name the place."""

import json
import math

import msgspec
import pytest

from speedgate.results.json_io import Count, Positive, decode, positive, write_json

FILE = "0002_recorded.json"


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record within the record of these tests."""

    seconds: tuple[Positive, ...]
    counts: dict[str, Count] = msgspec.field(default_factory=dict)


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of these tests."""

    items: tuple[Inner, ...]
    note: str | None = None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "{}: expected an object, found a list"),
        ({}, "{}: missing field items"),
        ({"items": [], "fps": 3}, "{}: unknown field fps"),
        ({"items": [], "note": 3}, "{}: note: expected a text or null, found a whole number"),
        (
            {"items": [{"seconds": [0.5]}, {"seconds": [0.5, 0]}]},
            "{}: items[1].seconds[1]: expected a number above zero",
        ),
        ({"items": [{"seconds": [True]}]}, "{}: items[0].seconds[0]: expected a number, found true or false"),
        ({"items": [{"seconds": [math.inf]}]}, "{}: items[0].seconds[0]: expected a number that is finite"),
        ({"items": [{"seconds": [], "counts": {"a": 1.0}}]}, "{}: items[0].counts[...]: expected a whole number"),
        ({"items": [{"seconds": [], "counts": {3: 1}}]}, "{}: items[0].counts: key: expected a text"),
    ],
)
def test_a_malformed_document_names_the_place_and_the_expectation(data, message):
    """One line that begins with the file, or the place within it that the caller names, and has the path of the field."""
    with pytest.raises(ValueError) as caught:
        decode(data, Record, where=FILE)
    assert str(caught.value).startswith(message.format(FILE))

    with pytest.raises(ValueError) as caught:
        decode(data, Record, where=f"{FILE}: run")
    within = message.format(f"{FILE}: run").replace("run: items", "run.items").replace("run: note", "run.note")
    assert str(caught.value).startswith(within)


def test_values_keep_their_types():
    """A whole number may stand where a number is expected; a text is never read as one."""
    assert decode({"items": [{"seconds": [1]}]}, Record, where=FILE).items[0].seconds == (1.0,)
    with pytest.raises(ValueError, match="expected a number, found a text"):
        decode({"items": [{"seconds": ["1"]}]}, Record, where=FILE)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 10**400, True, "1", None])
def test_a_figure_is_a_positive_number(value):
    """Zero, negative, infinite, undefined and foreign values name the place; none becomes a figure."""
    assert [positive(number, where=FILE) for number in (1, 0.5, 10**300)] == [1.0, 0.5, 1e300]
    with pytest.raises(ValueError, match=f"^{FILE}: expected a finite number above zero, found "):
        positive(value, where=FILE)


def test_a_file_is_written_whole_and_for_review(tmp_path):
    """Folders are made, the JSON is readable in a diff, and who reads the old file meanwhile keeps it to its end."""
    path = tmp_path / "a" / "b.json"
    write_json(path, {"old": 1})

    with path.open() as reader:
        write_json(path, {"b": 1, "a": [0.1]})
        assert json.load(reader) == {"old": 1}

    assert path.read_text() == '{\n  "a": [\n    0.1\n  ],\n  "b": 1\n}\n'


@pytest.mark.parametrize("text", ['\u00e9\u2028"\\', "\udcff"])
def test_any_text_is_written_as_python_does(tmp_path, text):
    """Escapes, empty containers and half of a surrogate pair are those of Python's encoder with an indent."""
    path, document = tmp_path / "a.json", {"b": [text, [], {}], "a": {text: [1e300, -0.0, None]}}
    write_json(path, document)

    assert path.read_text() == json.dumps(document, indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("data", [{"a": 1, "b": math.nan}, {"a": [math.inf]}, {"a": object()}])
def test_a_failed_write_leaves_the_old_file(tmp_path, data):
    """Data that is no JSON raises an error, leaves the old file as it was and no part of a new one."""
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    with pytest.raises((ValueError, TypeError)):
        write_json(path, data)

    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
