"""Digest the code that measures: an interrupted recording continues only with processes of the same code.

A commit is not enough: a copy of a checkout has none, it misses uncommitted changes, and it changes with the README.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

# The packages that run while a round is measured, here and in the worker. Packages that judge and report are left out:
# verdicts are computed again from the stored figures by the current code.
PACKAGES = ("measure", "results")
# Modules of the plugin that start workers and decide what happens between rounds.
RUNNER_FILES = ("plugin/builder.py", "plugin/pairs.py", "plugin/runner.py")


def measuring_files() -> list[Path]:
    """List the Python files of those packages, and those modules of the plugin."""
    speedgate = Path(__file__).parents[1]
    files = [path for package in PACKAGES for path in (speedgate / package).rglob("*.py")]
    return sorted([*files, *(speedgate / name for name in RUNNER_FILES)])


def digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the names and bytes of `files`, independent of their order, in hexadecimal digits."""
    sha256 = hashlib.sha256()
    for path in sorted(files, key=lambda path: (path.name, path)):
        content = path.read_bytes()
        sha256.update(f"{path.name} {len(content)}\n".encode())
        sha256.update(content)
    return sha256.hexdigest()
