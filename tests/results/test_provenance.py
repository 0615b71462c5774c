"""Why no commit is known of a checkout, in a line that says what to do."""

import pytest
from pytest_benchmark.utils import get_commit_info

from speedgate.results.provenance import commit_problem

FATAL = (
    "fatal: detected dubious ownership in repository at '/srv/repo'\nTo add an exception for this directory, call:\n"
)
DUBIOUS = f"CalledProcessError(128, {FATAL!r})"


def test_a_machine_without_git_says_so(tmp_path, monkeypatch):
    """In a repository, pytest-benchmark hides that git is missing behind the commit `unknown`."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert commit_problem(get_commit_info(project_name="p")) == (
        "git is not installed, or not on PATH: install it, and the commit is recorded"
    )


@pytest.mark.parametrize(
    ("commit", "problem"),
    [
        (
            {"error": DUBIOUS},
            "git refuses a checkout of another user: git config --global --add safe.directory /srv/repo",
        ),
        ({"error": "CalledProcessError(128, 'fatal: bad object HEAD')"}, "git cannot read this checkout: "),
        ({"id": "unversioned"}, None),
        ({"id": "abc"}, None),
        ({"id": None, "error": 7}, None),
    ],
)
def test_what_git_says_is_passed_on(commit, problem):
    """Another owner of the checkout has its remedy, and a folder outside of any repository has no problem."""
    line = commit_problem({"id": "unknown"} | commit)

    assert line is None if problem is None else line.startswith(problem) and "\n" not in line
    assert commit_problem({}) is None
