"""Which code measures, as a digest: processes that an interrupted recording has left count for the same code only.

A commit would not do: a copy of a checkout has none, uncommitted changes stand in none, and a new sentence in the README is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

# The packages that a round passes through, here and in the worker. Packages that judge and report are left out: claims are
# judged again from the stored figures, by the code of the day.
PACKAGES = ("measure", "results")


def measuring_files() -> list[Path]:
    """List the Python files of those packages."""
    speedgate = Path(__file__).parents[1]
    return sorted(path for package in PACKAGES for path in (speedgate / package).rglob("*.py"))


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the names and bytes of `files`, whatever their order, in hexadecimal digits."""
    found = hashlib.sha256()
    for path in sorted(files, key=lambda path: (path.name, path)):
        content = path.read_bytes()
        found.update(f"{path.name} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()
