"""A small git repository that looks like a checkout of this project, for tests of the code of a commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

FILES = {
    "fixtures/__init__.py": "",
    "fixtures/facts.json": "{}",
    "src/speedgate/__init__.py": "",
    "src/speedgate/measure/worker.py": "VERSION = 1\n",
    "README.md": "read me\n",
}


class Repository:
    """A repository with one commit of `FILES`, on the branch `main`; `root` may be a folder in it."""

    def __init__(self, top: Path, *, inside: str = ".") -> None:
        self.root = top / inside
        self.root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--template=", "--initial-branch=main", str(top))
        self.first = self.commit(FILES)

    def copied(self, to: Path) -> Repository:
        """Return a copy in another folder, which costs less than to start git four times."""
        shutil.copytree(self.root, to)
        copy = object.__new__(Repository)
        copy.root, copy.first = to, self.first
        return copy

    @property
    def code(self) -> dict[str, Path]:
        return {name: self.root / name for name in ("src/speedgate", "fixtures")}

    def write(self, files: dict[str, str]) -> None:
        """Write files and commit nothing."""
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)

    def commit(self, files: dict[str, str]) -> str:
        """Write files, commit everything, and return the full name of the commit."""
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        """Run git in the root and return its output."""
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, "-C", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
