"""The shell scripts of the workflows: which commits may run on a GPU machine, and a pin's way from job to job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.repository.workflow_rules import SHELL

MAIN = "refs/heads/main"
PIN = Path(".github/pins/nightly.txt")


def run(name: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run a script as a job would, in `folder`; return its status, its outputs and its log."""
    (folder / "script").write_text(SHELL[name])
    output = folder / "output"
    output.unlink(missing_ok=True)
    completed = subprocess.run(
        ["bash", "-e", "script"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "GITHUB_OUTPUT": "output", **environment},
        capture_output=True,
        text=True,
    )
    return completed.returncode, output.read_text() if output.exists() else "", completed.stdout


def git(folder: Path, *arguments: str) -> str:
    """Run git without this machine's settings; return its output."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def commit(folder: Path, message: str) -> str:
    """Commit on top of what is checked out; return the hash."""
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository at main, with a tag, a branch, and the object of a fork's commit, as GitHub keeps it."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "old")
    git(folder, "tag", "old")
    git(folder, "checkout", "-q", "-b", "fork")
    commit(folder, "fork")
    git(folder, "checkout", "-q", "main")
    git(folder, "tag", "new", commit(folder, "new"))
    git(folder, "tag", "blob", git(folder, "hash-object", "-w", "/dev/null"))
    return folder


@pytest.fixture(scope="module")
def hashes(repository: Path) -> dict[str, str]:
    """The hashes of the repository's objects by name."""
    return {name: git(repository, "rev-parse", name) for name in ("old", "new", "fork", "blob")}


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_commit_of_main_goes_on(repository: Path, hashes: dict[str, str], name: str) -> None:
    """The newest commit of main and every ancestor of it is handed to the following jobs."""
    assert run("vet", repository, COMMIT=hashes[name], GITHUB_REF=MAIN) == (0, f"commit={hashes[name]}\n", "")


NO_HASHES = ("main", "", "-h", "{new:.12}", "A" * 40, "{new}\n", "x\n{new}", "x\n::set-output name=commit::y")


@pytest.mark.parametrize(
    ("commit", "ref", "message"),
    [
        *((commit, MAIN, "This commit is not in main's history") for commit in ("{fork}", "{blob}", "0" * 40)),
        *((text, MAIN, "Give the full hash of a commit: 40 lower-case hexadecimal digits.") for text in NO_HASHES),
        *(("{new}", ref, "Start the workflow from main") for ref in ("refs/heads/topic", "refs/tags/main")),
    ],
)
def test_another_commit_is_refused(repository, hashes, commit: str, ref: str, message: str) -> None:
    """A fork's commit, text that may name something else a moment later, and a run of another branch end the job, unlogged."""
    status, outputs, log = run("vet", repository, COMMIT=commit.format(**hashes), GITHUB_REF=ref)

    assert (status, outputs, log.count("\n")) == (2, "", 1)
    assert log.startswith(message)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a place for the pin."""
    (tmp_path / PIN).parent.mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("data", [b"a\ncommit=evil\r\n::x::\x00\xff", bytes(64 * 2**10)])
def test_a_pin_arrives_as_it_was(checkout: Path, data: bytes) -> None:
    """Bytes that would end a line of the output, or begin another, arrive unchanged, as do 64 KiB."""
    (checkout / PIN).write_bytes(data)

    status, outputs, _ = run("give", checkout)
    (line,) = outputs.splitlines()
    name, _, value = line.partition("=")
    (checkout / PIN).unlink()

    assert (status, name) == (0, "pin")
    assert run("take", checkout, PIN=value)[0] == 0
    assert (checkout / PIN).read_bytes() == data


@pytest.mark.parametrize("data", [b"", None])
def test_an_empty_pin_is_not_given(checkout: Path, data: bytes | None) -> None:
    """A pin that is empty or missing ends the job, and so does an output that is not base64."""
    if data is not None:
        (checkout / PIN).write_bytes(data)

    status, outputs, _ = run("give", checkout)

    assert (status == 0, outputs) == (False, "")
    assert run("take", checkout, PIN="*")[0] != 0


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("# x\n# date: 20261120\ntorch\n", "date=20261120\n"),
        ("# date: $(id)\n", ""),
        ("torch # date: 20261120\n", ""),
        ("# date: 202611201\n", ""),
    ],
)
def test_a_date_is_eight_digits_or_nothing(checkout: Path, text: str, outputs: str) -> None:
    """The ends of a bisection are read from the pins."""
    (checkout / PIN).write_text(text)

    assert run("new", checkout)[:2] == (0, outputs)
