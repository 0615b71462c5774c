"""Faults that each break one thing in a few lines, with the gate that must catch it, and changes that no gate may fire on."""

from __future__ import annotations

from fixtures.faults import cost, numerics, numerics_precision, structure
from fixtures.faults.registry import FAULTS, HARMLESS, Change
from tests.faults import harmless, measurement

FAMILIES = ("numerics", "structure", "cost", "measurement")

__all__ = [
    "FAMILIES",
    "FAULTS",
    "HARMLESS",
    "Change",
    "cost",
    "harmless",
    "measurement",
    "numerics",
    "numerics_precision",
    "rows",
    "structure",
]


def rows() -> list[tuple[str, str, str, str]]:
    """Return family, name, gate and description of each fault, then of each harmless change."""
    return [(change.family, change.name, change.gate, change.description) for change in (*FAULTS, *HARMLESS)]
