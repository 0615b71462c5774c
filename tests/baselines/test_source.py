"""The code of a commit is read as it was committed, from the default branch's history only, and runs nothing."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from speedgate.baselines import source
from tests.support.git_repository import FILES, Repository

CODE = {name: text.encode() for name, text in FILES.items() if name != "README.md"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("template"))


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    return template.copied(tmp_path / "clone")


@pytest.mark.parametrize("inside", [".", "packages/suite"])
def test_the_code_of_a_commit_is_what_was_committed(tmp_path, inside):
    """A later change of the checkout does not reach it, also where the checkout is a folder of a larger repository."""
    repository = Repository(tmp_path / "clone", inside=inside)
    repository.commit({"fixtures/__init__.py": "LATER = 1\n"})

    assert source.read_commit(repository.root, repository.first) == CODE


def test_reading_a_commit_runs_no_hook_and_no_filter(repository, tmp_path):
    """A post-checkout hook, a smudge filter and a replaced object of the clone change nothing and are not started."""
    hook = repository.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    repository.git("config", "filter.evil.smudge", f"touch {tmp_path}/ran; cat")
    second = repository.commit({".gitattributes": "*.py filter=evil\n"})
    third = repository.commit({"fixtures/__init__.py": "LATER = 1\n"})
    repository.git("replace", second, third)

    assert source.read_commit(repository.root, second) == CODE
    assert not (tmp_path / "ran").exists()


def test_code_that_differs_from_the_commit_is_in_no_commit(repository, monkeypatch):
    """A changed, an additional or a missing file counts; other files of the checkout, and files that nothing imports, do not."""
    repository.write({"README.md": "changed\n", "fixtures/notes.txt": "a note\n", "fixtures/__pycache__/a.py": ""})
    assert source.commit_of(repository.root, repository.code) == repository.first

    for name, text in {"fixtures/facts.json": "[]", "fixtures/new.py": ""}.items():
        repository.write({name: text})
        assert source.commit_of(repository.root, repository.code) is None, name
        repository.git("stash", "--include-untracked", "--quiet")
    assert source.commit_of(repository.root, repository.code) == repository.first

    (repository.root / "fixtures" / "facts.json").unlink()
    assert source.commit_of(repository.root, repository.code) is None


def test_code_without_a_repository_or_git_is_in_no_commit(repository, tmp_path, monkeypatch):
    """A copy of a checkout, also one that a repository around it ignores, has no commit; without git nobody can say."""
    copy = repository.root / "ignored" / "copy"
    for name, data in CODE.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(data)
    repository.write({".gitignore": "ignored\n"})
    code = {name: copy / name for name in repository.code}

    assert source.commit_of(copy, code) is None
    assert source.commit_of(copy.rename(tmp_path / "alone"), {name: tmp_path / "alone" / name for name in code}) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source.commit_of(repository.root, repository.code) is None


@pytest.mark.parametrize(
    ("commit", "problem"),
    [
        ("--output=/tmp/file", "expected a full name of 40 or 64 hexadecimal digits"),
        ("main", "expected a full name"),
        ("0123abc", "expected a full name"),
        ("0" * 40, "is not in this clone: fetch it, or it is of another repository"),
    ],
)
def test_a_name_that_is_no_commit_of_this_clone_is_refused(repository, commit, problem):
    """An option, a branch and an abbreviation never reach git; a commit of another repository has its own sentence."""
    with pytest.raises(ValueError, match=problem):
        source.read_commit(repository.root, commit)


@pytest.mark.parametrize("reference", ["refs/heads/main", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"])
def test_a_commit_beside_the_default_branch_is_refused(repository, reference):
    """A branch of a stranger may be in the clone and checked out, and still nothing of it is run."""
    repository.git("checkout", "--quiet", "-b", "topic")
    commit = repository.commit({"fixtures/__init__.py": "EVIL = 1\n"})
    if reference != "refs/heads/main":
        repository.git("branch", "--quiet", "--force", "main", commit)  # of two, that of the remote counts
        repository.git("update-ref", reference, repository.first)

    with pytest.raises(
        ValueError, match=f"^commit {commit[:12]} is not in the history of .*(main|origin/HEAD), and only"
    ):
        source.read_commit(repository.root, commit)
    assert source.read_commit(repository.root, repository.first) == CODE


def test_a_shallow_clone_says_how_to_get_the_history(repository, tmp_path):
    """A clone of depth 1, as a job of a workflow has it, lacks the commit, and the error names the command that fetches it."""
    repository.commit({"README.md": "later\n"})
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.root}", str(tmp_path / "shallow"))

    with pytest.raises(ValueError, match=r"not in this clone; .* git fetch --unshallow$"):
        source.read_commit(tmp_path / "shallow", repository.first)


def test_a_link_in_a_commit_is_refused(repository):
    """A link could lead to a file that no commit holds."""
    (repository.root / "fixtures" / "linked.py").symlink_to("/etc/passwd")
    commit = repository.commit({})

    with pytest.raises(ValueError, match=r"fixtures/linked.py: a link"):
        source.read_commit(repository.root, commit)


def test_an_archive_holds_the_code_and_is_the_same_each_time(repository):
    """Times and modes of files do not change its name, and a changed byte does."""
    name, data = source.pack(source.read_folders(repository.code))
    os.utime(repository.root / "fixtures" / "__init__.py", (0, 0))
    path = repository.root / name
    path.write_bytes(data)
    repository.commit({})

    assert source.pack(source.read_folders(repository.code)) == (name, data)
    assert source.read_archive(repository.root, path) == CODE
    repository.write({"fixtures/__init__.py": "CHANGED = 1\n"})
    assert source.pack(source.read_folders(repository.code))[0] != name


def test_an_archive_that_is_not_in_the_history_is_refused(repository, tmp_path):
    """A file that nobody committed, one with other bytes than committed, and one outside are not unpacked."""
    name, data = source.pack(source.read_folders(repository.code))
    path = repository.root / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match="the archive is not committed in the history of main"):
        source.read_archive(repository.root, path)

    repository.commit({})
    assert source.is_committed(repository.root, path)
    path.write_bytes(data + b"\0")
    assert not source.is_committed(repository.root, path)
    assert not source.is_committed(repository.root, tmp_path / name)


def test_an_archive_without_a_repository_is_trusted_as_the_checkout_is(tmp_path):
    """A copy of a checkout that has no history runs the code that lies beside its baseline, if it is what its name says."""
    name, data = _archive(CODE)
    (tmp_path / name).write_bytes(data)
    assert source.read_archive(tmp_path, tmp_path / name) == CODE

    (tmp_path / name).write_bytes(_archive({"fixtures/a.py": b"2"})[1])
    with pytest.raises(ValueError, match="its bytes do not match its name"):
        source.read_archive(tmp_path, tmp_path / name)


@pytest.mark.parametrize(
    ("entry", "size", "problem"),
    [
        ("fixtures/../../evil.py", 1, "leads out of the archive"),
        ("fixtures/alone.py", 1, "has no src/speedgate; it is of another project"),
        ("conftest.py", 1, "expected files in src/speedgate and fixtures only"),
        ("fixtures/bomb.py", 4 * 2**20 + 1, "more than 4 MiB"),
    ],
)
def test_an_archive_with_harmful_files_is_refused(tmp_path, entry, size, problem):
    """A name that leads elsewhere and a file that unpacks to too much end in one line, before anything is written."""
    name, data = _archive({entry: bytes(size)})
    (tmp_path / name).write_bytes(data)

    with pytest.raises(ValueError, match=problem):
        source.read_archive(tmp_path, tmp_path / name)


def _archive(files: dict[str, bytes]) -> tuple[str, bytes]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return source.archive_name(stream.getvalue()), stream.getvalue()
