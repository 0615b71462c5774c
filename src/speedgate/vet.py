"""`python3 -m speedgate.vet`: let a commit onto a GPU machine only if it is part of main's history.

GitHub serves a commit of any fork under the parent repository's name, to whoever asks for it by its hash. So a hash says nothing
about who reviewed what it names; being an ancestor of main does, where main takes reviewed pull requests only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from speedgate.markdown import log_line
from speedgate.rendering import append

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAIN = "refs/heads/main"


def vetted(commit: str, *, ref: str, checkout: Path) -> str:
    """`commit`, once it is a full hash of an ancestor of what `checkout` has checked out, which must be main.

    Raises `ValueError` for a branch, a tag or a short hash, which may name something else a moment later.
    """
    if ref != _MAIN:
        raise ValueError(f"started from {ref}: start the workflow from main, whose own text was reviewed")
    if not _COMMIT.fullmatch(commit):
        raise ValueError(f"{commit!r}: expected a full commit hash of 40 lower-case hexadecimal digits")
    command = ["git", "-C", str(checkout), "merge-base", "--is-ancestor", commit, "HEAD"]
    # 1: no ancestor; 128: no such commit in what was fetched of main
    if subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603 - the hash was matched
        raise ValueError(f"{commit}: not in main's history: merge it first, or give the hash of a commit that is")
    return commit


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Vet COMMIT and hand it to the following jobs as the output `commit`; 0, or 2 with one line on stderr."""
    try:
        commit = vetted(environment["COMMIT"], ref=environment["GITHUB_REF"], checkout=Path.cwd())
    except ValueError as error:
        print("speedgate:", log_line(str(error)), file=sys.stderr)
        return 2
    append(Path(environment["GITHUB_OUTPUT"]), f"commit={commit}\n")
    print(f"{commit} is in main's history")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
