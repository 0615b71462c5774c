"""When, at which commit and with which versions a case was measured, by what its document says: a line for a reader's head.

A document may be anybody's and may say nothing of it: what is no text of the expected kind is left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

NO_COMMIT = (None, "unknown", "unversioned")  # pytest-benchmark's words
PACKAGES = ("torch", "diffusers", "torchao")
_LONGEST = 60  # characters of a commit or version: a SHA-1 has 40


def when(document: Mapping[str, Any]) -> str:
    """`measured 2026-11-21 21:27 UTC at commit ...`, as far as the document says either; "" where it says neither."""
    found = [_time(document.get("measured_at")), _commit(document.get("commit"))]
    said = " at ".join(filter(None, found))
    return f"measured {said}" if said else ""


def line(document: Mapping[str, Any]) -> str:
    """`when`, and the versions of what the case's worker measured with, as far as they are there."""
    run = document.get("run")
    environment = run.get("environment") if isinstance(run, Mapping) else None
    known = environment if isinstance(environment, Mapping) else {}
    versions = [f"{name} {text}" for name in PACKAGES if (text := _text(known.get(name)))]
    return ", ".join(filter(None, [when(document), *versions]))


def _time(value: Any) -> str:
    try:
        at = datetime.datetime.fromisoformat(_text(value))
        return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC" if at.tzinfo else ""
    except (OverflowError, ValueError):
        return ""


def _commit(value: Any) -> str:
    known = value if isinstance(value, Mapping) else {}
    commit = "" if known.get("id") in NO_COMMIT else _text(known.get("id"))
    return f"commit {commit}{' with uncommitted changes' if known.get('dirty') is True else ''}" if commit else ""


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""
