"""Describe in a line when, at which commit and with which versions a case was measured, as its document states.

A document may be a stranger's and may lack these fields: a value that is no text of the expected kind is left out.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from speedgate.results.json_io import as_object

NO_COMMIT = (None, "unknown", "unversioned")  # pytest-benchmark's words
PACKAGES = ("torch", "diffusers", "torchao")
_DUBIOUS = re.compile(r"dubious ownership in repository at \\?'(.+?)\\?'")
_LONGEST_ERROR = 300
_LONGEST = 60  # characters of a commit or version: a SHA-1 has 40


def describe_time(document: Mapping[str, Any]) -> str:
    """`measured 2026-11-21 21:27 UTC at commit ...`, or as much of it as the document states; "" if nothing."""
    when = " at ".join(filter(None, [_time(document.get("measured_at")), _commit(document.get("commit"))]))
    return f"measured {when}" if when else ""


def describe(document: Mapping[str, Any]) -> str:
    """`describe_time`, and the versions of the packages that the case's worker ran with."""
    environment = as_object(as_object(document.get("run")).get("environment"))
    versions = [f"{name} {text}" for name in PACKAGES if (text := _text(environment.get(name)))]
    return ", ".join(filter(None, [describe_time(document), *versions]))


def commit_problem(commit: Mapping[str, Any]) -> str | None:
    """Return why pytest-benchmark found no commit in a checkout, in a line that says what to do; None if nothing was wrong.

    Outside of a repository there is nothing wrong.
    """
    error = commit.get("error")
    if not isinstance(error, str):
        return None
    if "FileNotFoundError" in error:
        return "git is not installed, or not on PATH: install it, and the commit is recorded"
    if folder := _DUBIOUS.search(error):
        return f"git refuses a checkout of another user: git config --global --add safe.directory {folder[1]}"
    return f"git cannot read this checkout: {error[:_LONGEST_ERROR]}"


def _time(value: Any) -> str:
    try:
        at = datetime.datetime.fromisoformat(_text(value))
        return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC" if at.tzinfo else ""
    except (OverflowError, ValueError):
        return ""


def _commit(value: Any) -> str:
    fields = as_object(value)
    commit = "" if fields.get("id") in NO_COMMIT else _text(fields.get("id"))
    return f"commit {commit}{' with uncommitted changes' if fields.get('dirty') is True else ''}" if commit else ""


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""
