"""What is posted about a run: where GitHub says it belongs, with the artifact as data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import HOSTILE, NAME, archive, encoded, result
from tests.fake_github import COMMENTS, REPOSITORY, FakeGitHub, post, posted, serving

ROOT = Path(__file__).parents[1]
SHA = "a" * 40
OTHER = "b" * 40
OWN = {"full_name": REPOSITORY, "owner": {"login": "owner"}}


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    with serving() as found:
        found.set("GET", COMMENTS, [])
        found.set("POST", COMMENTS, {"html_url": "https://github.example/posted"})
        found.artifact(9, archive({NAME: encoded(result(outcome="SLOWER"))}))
        yield found


def run_of(event: str = "pull_request", **changes: Any) -> dict[str, Any]:
    """The run that a `workflow_run` event tells of, here of a fork's pull request."""
    return {
        "id": 9,
        "name": "ci",
        "event": event,
        "conclusion": "failure",
        "head_sha": SHA,
        "head_branch": "patch&state=closed",
        "head_repository": {"full_name": "fork/name", "owner": {"login": "fork"}},
        "repository": {"full_name": REPOSITORY},
        "html_url": "https://github.example/run",
        **changes,
    }


def pull(number: int = 7, sha: str = SHA, **changes: Any) -> dict[str, Any]:
    """A pull request as GitHub lists it."""
    return {"number": number, "head": {"sha": sha}, "base": {"ref": "main"}, "merged_at": "2026-11-21", **changes}


def test_a_fork_gets_its_comment(fake: FakeGitHub, tmp_path: Path) -> None:
    """The pull request is the open one of that branch at that commit; the branch's name is one query value."""
    fake.set("GET", "pulls", [pull(6, OTHER), pull(7)])

    assert post("comment", fake, tmp_path, run=run_of()) == 0

    text = posted(fake)
    assert text.startswith("<!-- speedgate: results pull_request -->\n`aaaaaaaaaaaa`: ")
    assert "ended with **<code>failure</code>**" in text
    assert "**1 SLOWER**" in text
    (query,) = [query for _, path, query, _ in fake.requests if path == "pulls"]
    assert query == {"state": "open", "head": "fork:patch&state=closed"}


def test_a_commit_that_was_replaced_gets_no_comment(
    fake: FakeGitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results of a commit that is no longer the head would stand there as those of the head."""
    fake.set("GET", "pulls", [pull(7, OTHER)])

    assert post("comment", fake, tmp_path, run=run_of()) == 0

    assert fake.written == []
    assert "no pull request has" in capsys.readouterr().out
    assert "**1 SLOWER**" in (tmp_path / "summary.md").read_text()


def test_a_merged_commit_is_commented_where_it_was_reviewed(fake: FakeGitHub, tmp_path: Path) -> None:
    """The GPU's verdict on main goes to the pull request that the commit came by, and to no open one that holds it."""
    fake.set("GET", f"commits/{SHA}/pulls", [pull(5, merged_at=None), pull(6, base={"ref": "old"}), pull(7)])

    assert post("comment", fake, tmp_path, run=run_of("push", head_repository=OWN)) == 0

    assert fake.written == [("POST", COMMENTS)]


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        ("push", {}),
        ("workflow_dispatch", {}),
        ("workflow_dispatch", {"head_repository": OWN}),
        ("schedule", {"head_repository": OWN}),
        ("issue_comment", {"head_repository": OWN}),
    ],
)
def test_a_run_of_another_kind_is_refused(
    fake: FakeGitHub, tmp_path: Path, event: str, changes: dict[str, Any]
) -> None:
    """Of a run that was started by hand the event's commit need not be the measured one; others are not ours."""
    fake.set("GET", f"commits/{SHA}/pulls", [pull()])

    assert post("comment", fake, tmp_path, run=run_of(event, **changes)) == 2

    assert fake.written == []


@pytest.mark.parametrize(
    ("artifact", "said"),
    [
        (b"no zip", "not a readable zip file"),
        (archive({"../x.json": b"{}"}), "leads out of the archive"),
        (archive({NAME: b"<html>"}), "not JSON"),
        (archive({NAME: bytes(100 * 2**20)}), "more than 4 MiB"),
        (bytes(65 * 2**20), "more than 67108864"),
        (None, "The run left no results."),
    ],
)
def test_a_bad_artifact_is_said_and_not_shown(
    fake: FakeGitHub, tmp_path: Path, artifact: bytes | None, said: str
) -> None:
    """The comment still says how the run ended, and why there are no figures."""
    fake.set("GET", "pulls", [pull()])
    fake.artifact(9, artifact)

    assert post("comment", fake, tmp_path, run=run_of()) == 0

    assert "ended with **<code>failure</code>**" in posted(fake)
    assert said in posted(fake).replace("&#58;", ":")


def test_a_hostile_artifact_reaches_neither_the_comment_nor_the_log(
    fake: FakeGitHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A case key of HTML, Markdown and workflow commands is text in the comment, and is not printed."""
    verdict = {"case_key": HOSTILE[:200], "claim": HOSTILE, "outcome": "SLOWER", "sentence": HOSTILE}
    fake.set("GET", "pulls", [pull()])
    fake.artifact(9, archive({NAME: encoded(result(run=None, verdicts=[verdict]))}))

    assert post("comment", fake, tmp_path, run=run_of(name=HOSTILE)) == 0

    for bad in ("<img", "::set-output", "##[", "@octocat", "](", "https://evil"):
        assert bad not in posted(fake)
    assert "::" not in capfd.readouterr().out


def test_the_summary_shows_this_run(fake: FakeGitHub, tmp_path: Path) -> None:
    """`show` posts nothing: it writes the results of the run's other job to the job summary."""
    assert post("show", fake, tmp_path) == 0

    assert (tmp_path / "summary.md").read_text().startswith("**1 SLOWER** on ")
    assert fake.written == []


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "GITHUB_EVENT_PATH", "GITHUB_STEP_SUMMARY"])
def test_outside_a_job_it_says_so(
    fake: FakeGitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A variable that is missing is named."""
    assert post("show", fake, tmp_path, **{name: ""}) == 2

    assert f"{name} is not set" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["posting", "vet", "handover", "cli"])
def test_the_standard_library_is_enough(module: str) -> None:
    """Where a token may write nothing is installed, so these modules load without a single package."""
    found = subprocess.run(
        [sys.executable, "-S", "-c", f"import speedgate.{module}"],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )

    assert (found.returncode, found.stderr) == (0, "")
