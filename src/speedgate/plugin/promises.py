"""Find the claims that a command promises to judge of each selected case: all of the suite but those that it leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

from speedgate.gate.guard import LEFT_OUT
from speedgate.plugin.items import case_attribute, claim_of
from speedgate.plugin.session import Session

DESELECTED = pytest.StashKey[list[pytest.Item]]()


def note_deselected(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Remember tests that an option leaves out: a claim without a test is a gap unless its test was left out."""
    config.stash.setdefault(DESELECTED, []).extend(items)


def find_promises(config: pytest.Config, session: Session, items: Sequence[pytest.Item]) -> None:
    """Set the promised claims of each selected case, and store that the others are left out by the command."""
    left_out: list[pytest.Item] = config.stash.get(DESELECTED, [])
    collected = _claims_by_case(items)
    session.promised = promised_claims(
        {key: tests for key, tests in collected.items() if not tests.isdisjoint(session.claims)},
        _claims_by_case(left_out),
        claims=session.claims,
        names_tests=_names_tests(config),
    )
    for key, promised in session.promised.items():
        for claim in session.claims:
            if claim not in promised:
                session.store_not_judged(key, claim, LEFT_OUT)


def promised_claims(
    collected: Mapping[str, Iterable[str]],
    deselected: Mapping[str, Iterable[str]],
    *,
    claims: Sequence[str],
    names_tests: bool,
) -> dict[str, list[str]]:
    """Return the claims of each case with a collected test: all but the deselected ones, so that a lost test shows.

    A command that names single files or tests promises those alone.
    """
    return {
        key: [claim for claim in claims if claim in tests or not (names_tests or claim in deselected.get(key, ()))]
        for key, tests in collected.items()
    }


def _claims_by_case(items: Iterable[pytest.Item]) -> dict[str, set[str]]:
    """Collect the claims of the tests by the key of their case, without tests that a mark skips."""
    claims: dict[str, set[str]] = {}
    for item in items:
        key = case_attribute(item, "key")
        if key is not None and item.get_closest_marker("skip") is None:
            claims.setdefault(key, set()).add(claim_of(item))
    return claims


def _names_tests(config: pytest.Config) -> bool:
    option = config.option
    is_named = any("::" in argument or argument.endswith(".py") for argument in config.args)
    return is_named or bool(getattr(option, "ignore", None) or getattr(option, "ignore_glob", None))
