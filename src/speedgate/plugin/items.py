"""Read the parameters and fixtures of collected tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest


def parameters_of(item: pytest.Item) -> Mapping[str, Any]:
    """Return the parameters of a test by name; a test without parameters has none."""
    parameters: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return parameters


def fixtures_of(item: pytest.Item) -> Collection[str]:
    """Return the names of the fixtures that a test uses, directly or through another fixture."""
    names: Collection[str] = getattr(item, "fixturenames", ())
    return names


def case_attribute(item: pytest.Item, attribute: str) -> str | None:
    """Return an attribute of the case of a test, or None if it has no case."""
    values = (getattr(value, attribute, None) for value in parameters_of(item).values())
    return next((str(value) for value in values if value), None)


def claim_of(item: pytest.Item) -> str:
    """Return the claim that a test makes: `test_cold_start` makes the claim "cold start"."""
    name = item.name.partition("[")[0]
    return name.removeprefix("test_").replace("_", " ")


def has_gate(items: Iterable[pytest.Item]) -> bool:
    """Return True if any test judges a claim."""
    return any("gate" in fixtures_of(item) for item in items)
