"""Which commits may run on a GPU machine: those of main's own history, by their full hash."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from speedgate.vet import main, vetted

MAIN = "refs/heads/main"


def git(folder: Path, *arguments: str) -> str:
    """What git says, whatever this machine's settings are."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def commit(folder: Path, message: str) -> str:
    """A commit on what is checked out; its hash."""
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def history(tmp_path: Path) -> dict[str, str]:
    """A repository at main, with a tag, a branch, and the object of a fork's commit, as GitHub keeps it."""
    git(tmp_path, "init", "-q", "-b", "main")
    old = commit(tmp_path, "old")
    git(tmp_path, "checkout", "-q", "-b", "fork")
    fork = commit(tmp_path, "fork")
    git(tmp_path, "checkout", "-q", "main")
    git(tmp_path, "tag", "v1")
    return {
        "old": old,
        "fork": fork,
        "new": commit(tmp_path, "new"),
        "blob": git(tmp_path, "hash-object", "-w", "/dev/null"),
    }


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_commit_of_main_goes_on(history: dict[str, str], tmp_path: Path, name: str) -> None:
    """The newest commit of main and every ancestor of it may run."""
    assert vetted(history[name], ref=MAIN, checkout=tmp_path) == history[name]


@pytest.mark.parametrize("name", ["fork", "blob"])
def test_a_commit_from_elsewhere_is_refused(history: dict[str, str], tmp_path: Path, name: str) -> None:
    """A fork's commit is refused although its object is there; so is what is no commit."""
    with pytest.raises(ValueError, match="not in main's history: merge it first"):
        vetted(history[name], ref=MAIN, checkout=tmp_path)


def test_a_commit_that_was_not_fetched_is_refused(history: dict[str, str], tmp_path: Path) -> None:
    """An unknown hash is refused, not looked for elsewhere."""
    with pytest.raises(ValueError, match="not in main's history"):
        vetted("0" * 40, ref=MAIN, checkout=tmp_path)


@pytest.mark.parametrize("given", ["main", "v1", "HEAD", "", "-h", "SHORT", "UPPER", "NEWLINE"])
def test_only_a_full_hash_is_taken(history: dict[str, str], tmp_path: Path, given: str) -> None:
    """A branch, a tag, an option or a part of a hash may name something else a moment later."""
    new = history["new"]
    text = {"SHORT": new[:12], "UPPER": "A" * 40, "NEWLINE": f"{new}\n"}.get(given, given)

    with pytest.raises(ValueError, match="expected a full commit hash"):
        vetted(text, ref=MAIN, checkout=tmp_path)


@pytest.mark.parametrize("ref", ["refs/heads/topic", "refs/tags/main", "refs/pull/1/merge", "main"])
def test_a_run_that_was_started_from_elsewhere_is_refused(history: dict[str, str], tmp_path: Path, ref: str) -> None:
    """A workflow can be started by hand from any branch, with that branch's text and history."""
    with pytest.raises(ValueError, match="start the workflow from main"):
        vetted(history["new"], ref=ref, checkout=tmp_path)


def test_the_hash_is_handed_on(history: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The following jobs take the hash from the output `commit`."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "output"

    assert main({"COMMIT": history["old"], "GITHUB_REF": MAIN, "GITHUB_OUTPUT": str(output)}) == 0

    assert output.read_text() == f"commit={history['old']}\n"


def test_a_refused_commit_hands_nothing_on(
    history: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refusing is status 2 and one line of log that is no workflow command."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "output"

    assert main({"COMMIT": "x\n::set-output name=commit::y", "GITHUB_REF": MAIN, "GITHUB_OUTPUT": str(output)}) == 2

    assert not output.exists()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "::" not in line
