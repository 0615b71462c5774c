"""JSON of files, held to more than Python's parser asks: every number finite, every key once, no bottomless nesting."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LARGEST = sys.float_info.max
_DEEPEST = 100  # a recorded run is some ten levels deep; Python's parser, from 3.12 on, takes thousands


def read(path: Path) -> Any:
    """The parsed file: every number finite, every key once; a `ValueError` names the file and the place."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    return parsed(data, path=path)


def parsed(data: bytes, *, path: Path) -> Any:
    """What `data` says, held to the same as a file; `path` is only what an error names."""
    twice: list[str] = []
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=lambda pairs: _unique(pairs, twice))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, nested too deeply
        raise ValueError(f"{path}: not JSON ({error})") from error
    if twice:
        raise ValueError(f"{path}: key {twice[0]!r} stands twice in one object; restore the file as it was recorded")
    _finite(document, path=path, field="document")
    return document


def _unique(pairs: Sequence[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    """The object of `pairs`, noting the keys that Python's parser would silently let the last one win of."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            twice.append(name)
        found[name] = value
    return found


def _finite(value: Any, *, path: Path, field: str, depth: int = 0) -> None:
    """Refuse what Python's parser lets through: NaN, Infinity, numbers too large for a float, and bottomless nesting."""
    if depth > _DEEPEST:
        raise ValueError(f"{path}: nested more than {_DEEPEST} levels deep; restore the file as it was recorded")
    if isinstance(value, dict):
        for name, item in value.items():
            _finite(item, path=path, field=name if field == "document" else f"{field}.{name}", depth=depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _finite(item, path=path, field=f"{field}[{index}]", depth=depth + 1)
    elif isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:  # false for NaN as well
        raise ValueError(f"{path}: {field}: expected a finite number")
