"""Read, check and write JSON files. Stricter than Python's parser: every number finite, every key once, bounded nesting."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

_LARGEST = sys.float_info.max
_DEEPEST = 100  # a recorded run is some ten levels deep; Python's parser, from 3.12 on, takes thousands
# Our words for those of msgspec's messages.
_WORDS = (
    ("Object missing required field", "missing field"),
    ("Object contains unknown field", "unknown field"),
    (f"<= {_LARGEST}", "that is finite"),
    (f">= -{_LARGEST}", "that is finite"),
    ("Expected", "expected"),
    (", got ", ", found "),
    ("Invalid", "invalid"),
    ("> 0.0", "above zero"),
    (">= 0.0", "of zero or above"),
)
_TYPES = {
    "object": "an object",
    "array": "a list",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
_PLACE = re.compile(r" - at (`key` in )?`\$(.*)`$")

Record = TypeVar("Record")
Positive = Annotated[float, Meta(gt=0, le=_LARGEST)]
NonNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]
Finite = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
Count = Annotated[int, Meta(ge=1)]


def read_json(path: Path) -> Any:
    """Parse a file; a `ValueError` names the file and the place in it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_json(data, path=path)


def parse_json(data: bytes, *, path: Path) -> Any:
    """Parse bytes by the same rules as a file; `path` is only used in error messages."""
    repeated: list[str] = []
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=lambda pairs: _unique(pairs, repeated))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, nested too deeply
        raise ValueError(f"{path}: not JSON ({error})") from error
    if repeated:
        raise ValueError(f"{path}: key {repeated[0]!r} stands twice in one object; restore the file as it was recorded")
    _check_finite(document, path=path, field="document")
    return document


def decode(value: Any, record: type[Record], *, where: str) -> Record:
    """Convert parsed JSON to a `msgspec.Struct` or another type, without changing any value's type.

    A `ValueError` is one line: `where` (a file, or `file: field`), the path of the wrong field, what is expected there.
    """
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        raise ValueError(_explain(str(error), where=where)) from error
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can escape and UTF-8 cannot hold
        raise ValueError(f"{where}: a text is not valid Unicode ({error.reason})") from error


def to_json(record: Any) -> dict[str, Any]:
    """A record as builtin types, ready for JSON or for execnet."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return fields


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON. A reader sees the old file or the new one, never half of it."""
    text = _indented(data)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="ascii")


def _indented(data: Any) -> str:
    """Return `data` as indented JSON. With an indent Python's encoder is not the one in C, so msgspec indents the result."""
    compact = json.dumps(data, sort_keys=True, allow_nan=False)
    try:
        return msgspec.json.format(compact, indent=2)
    except msgspec.DecodeError:  # a text has half of a surrogate pair, as the name of a file may have
        return json.dumps(data, indent=2, sort_keys=True, allow_nan=False)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which replaces `path` when the body ends and is removed when the body fails.

    The folder is created where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def as_object(value: Any) -> dict[str, Any]:
    """Return `value` if it is an object, else an empty one, so that the check of each field names what is missing."""
    return value if isinstance(value, dict) else {}


def expect(condition: object, where: str, expected: str, value: Any) -> None:
    """Raise a `ValueError` that names the place, unless `condition` is true."""
    if not condition:
        raise ValueError(f"{where}: expected {expected}, found {value!r}")


def expect_equal(value: Any, expected: str, where: str) -> None:
    """Raise a `ValueError` that names the place, unless both are equal."""
    expect(value == expected, where, repr(expected), value)


def positive(value: Any, *, where: str) -> float:
    """Return `value` as a float; a `ValueError` names `where` unless it is a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
        raise ValueError(f"{where}: expected a finite number above zero, found {value!r}")
    return float(value)


def _explain(message: str, *, where: str) -> str:
    """Turn "Expected `float` > 0.0 - at `$.processes[0].seconds[1]`" into a line that begins with the place."""
    place = _PLACE.search(message)
    field = place[2].removeprefix(".") if place else ""
    problem = message[: place.start()] if place else message
    if not field:
        separator = ""
    elif ": " in where:
        separator = "" if field.startswith("[") else "."
    else:
        separator = ": "
    for words, ours in _WORDS:
        problem = problem.replace(words, ours)
    problem = re.sub(
        r"`([\w |]+)`", lambda match: " or ".join(_TYPES.get(name, name) for name in match[1].split(" | ")), problem
    ).replace("`", "")
    return f"{where}{separator}{field}: {'key: ' if place and place[1] else ''}{problem}"


def _unique(pairs: Sequence[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    """Build the object of `pairs` and note repeated keys, of which Python's parser silently keeps the last."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            repeated.append(name)
        fields[name] = value
    return fields


def _check_finite(value: Any, *, path: Path, field: str, depth: int = 0) -> None:
    """Refuse NaN, Infinity, numbers too large for a float, and bottomless nesting; Python's parser accepts them."""
    if depth > _DEEPEST:
        raise ValueError(f"{path}: nested more than {_DEEPEST} levels deep; restore the file as it was recorded")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_finite(item, path=path, field=name if field == "document" else f"{field}.{name}", depth=depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_finite(item, path=path, field=f"{field}[{index}]", depth=depth + 1)
    elif isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:  # false for NaN as well
        raise ValueError(f"{path}: {field}: expected a finite number")
