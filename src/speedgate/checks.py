"""Checks of what a document says: each error names the place, what belongs there and what was found."""

from __future__ import annotations

from typing import Any


def as_object(value: Any) -> dict[str, Any]:
    """`value` where it is an object, else one without fields: what is missing from it is then named by its own check."""
    return value if isinstance(value, dict) else {}


def expect(holds: object, where: str, expected: str, found: Any) -> None:
    """A `ValueError` that names the place, unless it `holds`."""
    if not holds:
        raise ValueError(f"{where}: expected {expected}, found {found!r}")


def equal(found: Any, expected: Any, where: str) -> None:
    """A `ValueError` unless both are the same, type included: True == 1 and 1.0 == 1 in Python."""
    expect(type(found) is type(expected) and found == expected, where, repr(expected), found)
