"""Find the claims that a command promises to judge of each selected case: all of the suite but those that it leaves out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pytest

from speedgate.gate.guard import LEFT_OUT
from speedgate.plugin.items import case_attribute, claim_of, fixtures_of
from speedgate.plugin.session import Session


class PromisePlugin:
    """A pytest plugin that remembers the deselected tests: a claim without a test is a gap, unless the command left it out."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._deselected: list[pytest.Item] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Remember the tests that an option leaves out."""
        self._deselected += items

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Set the promised claims of each selected case, and store that the others are left out by the command."""
        collected = _claims_by_case(session.items)
        self._session.promised = promised_claims(
            {key: tests for key, tests in collected.items() if not tests.isdisjoint(self._session.claims)},
            _claims_by_case(self._deselected),
            claims=self._session.claims,
            names_tests=_names_tests(session.config),
        )
        for key, promised in self._session.promised.items():
            for claim in self._session.claims:
                if claim not in promised:
                    self._session.store_not_judged(key, claim, LEFT_OUT)


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


def check_recording(items: Iterable[pytest.Item], *, required: Collection[str]) -> None:
    """Raise `pytest.UsageError` if no case would be measured, or a case without the test of a claim that its baseline needs.

    A recording without a case would replace the one before it by an empty file.
    """
    items = list(items)
    claims = _claims_by_case(items)
    measured = _claims_by_case(item for item in items if "benchmark" in fixtures_of(item))
    if not measured:
        raise pytest.UsageError(
            "--gate record: no selected test measures a case, or all of these tests are skipped;"
            " run pytest bench/, and select cases with --pipeline and --stage instead of -k"
        )
    for key in measured:
        missing = sorted(set(required) - claims[key])
        if missing:
            tests = ", ".join(f"test_{claim.replace(' ', '_')}" for claim in missing)
            raise pytest.UsageError(
                f"--gate record: {key} cannot become a baseline without {tests}, which this command leaves out;"
                " run pytest bench/, and select cases with --pipeline and --stage instead of -k"
            )


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
