"""A publication: a CSV of figures and, beside it, a TOML that says what they are of. Every importer reads both."""

from __future__ import annotations

import csv
import datetime
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.checks import positive

LADDER, THROUGHPUT = "ladder", "throughput"
_LAYOUT_VERSION = "5.3.1"  # fixed, so that the committed files do not change with the installed pytest-benchmark
_COMMON = {"test": str, "timer": str, "citation.date": datetime.date, "citation.repository": str}
_SAID = {str: "a text", int: "a whole number", dict: "a table", datetime.date: "a date, such as 2024-01-03"}


def format_of(csv_path: Path) -> str:
    """Which columns and rules `csv_path` has, by the TOML beside it."""
    return str(_toml(csv_path.with_suffix(".toml"))["format"])


def origin(csv_path: Path, *, required: Mapping[str, type]) -> dict[str, Any]:
    """What the figures are of; `required` names the fields, dotted, that this format needs besides the common ones."""
    path = csv_path.with_suffix(".toml")
    found = _toml(path)
    for dotted, kind in {**_COMMON, **required}.items():
        value: Any = found
        for name in dotted.split("."):
            if not isinstance(value, dict) or name not in value:
                raise ValueError(f"{path}: no {dotted}")
            value = value[name]
        if type(value) is not kind:
            raise ValueError(f"{path}: {dotted}: expected {_SAID[kind]}, found {value!r}")
    plain: dict[str, Any] = _plain(found)
    return plain


def imprint(found: Mapping[str, Any]) -> dict[str, Any]:
    """When and where the figures of an origin appeared, as pytest-benchmark's layout says it of a run."""
    citation = found["citation"]
    date = f"{citation['date']}T00:00:00+00:00"
    commit_info = {"id": None, "time": date, "project": citation["repository"], "dirty": False}
    return {"commit_info": commit_info, "datetime": date, "version": _LAYOUT_VERSION}


def rows(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Each row by its columns, with the place where it stands."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header, found = list(reader.fieldnames or ()), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not CSV ({error})") from error
    if header != list(columns):
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}")
    placed = [(f"{path}: row {number}", row) for number, row in enumerate(found, start=2)]
    for where, row in placed:
        if set(row) != set(columns) or None in row.values():
            raise ValueError(f"{where}: expected {len(columns)} values")
    return placed


def number(text: str, *, where: str) -> float:
    """A published figure; a `ValueError` naming `where` unless it is a finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: expected a finite number above zero, found {text!r}") from None
    return positive(value, where=where)


def listed(table: Mapping[str, Any], name: str, *, where: str) -> str:
    """What a table of the TOML says of a name in the CSV."""
    value = table.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name!r} is not listed in the TOML; listed are {', '.join(sorted(table))}")
    return value


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it says on which GPU the figures in the CSV beside it were measured")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    if found.get("format") not in (LADDER, THROUGHPUT):
        raise ValueError(f"{path}: format: expected {LADDER!r} or {THROUGHPUT!r}, found {found.get('format')!r}")
    return found


def _plain(value: Any) -> Any:
    """`value` with each date as text, because JSON has none."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, datetime.date | datetime.time) else value
