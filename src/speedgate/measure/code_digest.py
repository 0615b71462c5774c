"""Which code measures, as a digest: processes that an interrupted recording has left count for the same code only.

A commit would not do: a copy of a checkout has none, uncommitted changes stand in none, and a new sentence in the README is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

# The modules of ours that a round passes through, here and in the worker. What judges and reports is left out: claims are
# judged anew, by the code of the day, from what is kept. `tests/test_source.py` holds the list to what these import.
MEASURING = (
    "artifacts", "attribution", "checks", "clock", "components", "environment", "files", "health", "host", "loops",
    "nvml", "records", "worker",
)  # fmt: skip


def measuring() -> list[Path]:
    """The files of those modules."""
    return [Path(__file__).with_name(f"{name}.py") for name in MEASURING]


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the names and bytes of `files`, whatever their order, in hexadecimal digits."""
    found = hashlib.sha256()
    for path in sorted(files, key=lambda path: (path.name, path)):
        content = path.read_bytes()
        found.update(f"{path.name} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()
