"""Checks of what a document says: each error names the place, what belongs there and what was found."""

from __future__ import annotations

import sys
from typing import Any


def as_object(value: Any) -> dict[str, Any]:
    """`value` where it is an object, else one without fields: what is missing from it is then named by its own check."""
    return value if isinstance(value, dict) else {}


def expect(holds: object, where: str, expected: str, found: Any) -> None:
    """A `ValueError` that names the place, unless it `holds`."""
    if not holds:
        raise ValueError(f"{where}: expected {expected}, found {found!r}")


def is_finite(value: Any) -> bool:
    """Whether it is a number, of those that a float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def equal(found: Any, expected: Any, where: str) -> None:
    """A `ValueError` unless both are the same, type included: True == 1 and 1.0 == 1 in Python."""
    expect(type(found) is type(expected) and found == expected, where, repr(expected), found)


def positive(value: Any, *, where: str) -> float:
    """`value` as a float; a `ValueError` naming `where` unless it is a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise ValueError(f"{where}: expected a finite number above zero, found {value!r}")
    return float(value)
