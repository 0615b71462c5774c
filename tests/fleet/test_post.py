"""Results are posted where GitHub says that the run belongs, and the artifact is treated as a stranger's data."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from speedgate.fleet import post
from speedgate.results.folder import MAX_ARCHIVE_BYTES
from speedgate.versions import pins
from tests.repository.workflow_rules import INSTALL_POST, ROOT
from tests.support.artifacts import HOSTILE, NAME, SESSION, archive, encoded, result
from tests.support.fake_gh import REPOSITORY, TOKEN, FakeGh

SHA = "a" * 40
OTHER_SHA = "b" * 40
OWNER = {"full_name": REPOSITORY, "owner": {"login": "owner"}}
BOT = {"login": post.BOT}
STRANGER = {"login": "stranger"}
COMMENTS = "issues/7/comments"
POSTED = {"html_url": "https://github.example/posted"}
MARKER = "<!-- speedgate: results pull_request -->\n"
NIGHTLY_MARKER = "<!-- speedgate: nightly -->\n"
PIN = "torch @ https://example.org/torch.whl\n"
PIN_OUTPUT = base64.b64encode(PIN.encode()).decode()
BUMP = f"bump/{SESSION}"
DESCRIBED = result(run=None, verdicts=[result()["verdicts"][0] | {"claim": "recipe"}])


@pytest.fixture
def gh_program(tmp_path: Path) -> FakeGh:
    """A fake GitHub with an open pull request of a fork, no posts, and an artifact with a SLOWER case."""
    fake = FakeGh(tmp_path / "gh")
    for path, listed in {"pulls": [pull(7)], COMMENTS: [], "issues": []}.items():
        fake.set("GET", path, listed)
    for path in (COMMENTS, "issues", "issues/3/comments"):
        fake.set("POST", path, POSTED)
    for path in ("issues/comments/3", "issues/3"):
        fake.set("PATCH", path, POSTED)
    fake.artifact(9, archive({NAME: encoded(result(outcome="SLOWER"))}))
    return fake


@pytest.fixture
def gh(gh_program: FakeGh, monkeypatch: pytest.MonkeyPatch) -> FakeGh:
    """The same, answered in this process instead of one process for each call."""
    monkeypatch.setattr(subprocess, "Popen", gh_program.process)
    return gh_program


def run_verb(verb: str, gh: FakeGh, *, run: dict[str, Any] | None = None, **environment: str) -> int:
    """Run a verb as a job does; return its exit status."""
    folder = gh.folder
    (folder / "event.json").write_text(json.dumps({"workflow_run": run}))
    job = {
        "PATH": str(gh.bin),
        "GH_TOKEN": TOKEN,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_RUN_ID": "9",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    return post.main([verb], {**job, **environment})


def summary(gh: FakeGh) -> str:
    """Read the job summary."""
    return (gh.folder / "summary.md").read_text()


def posted(gh: FakeGh, path: str = COMMENTS, method: str = "POST") -> str:
    """Return the only text that was posted."""
    (fields,) = gh.sent(method, path)
    return str(fields["body"])


def run_of(event: str = "pull_request", **changes: Any) -> dict[str, Any]:
    """Make the run of a `workflow_run` event, of a fork's pull request."""
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
    """Make a pull request as GitHub lists it."""
    return {"number": number, "head": {"sha": sha}, "base": {"ref": "main"}, "merged_at": "2026-11-21", **changes}


def nightly_artifact(*, green: Any, outcome: str = "PASS") -> bytes:
    """Make the artifact of a nightly run."""
    texts = {f"{BUMP}/summary.md": b"# <b>red</b>\n\n@octocat\n", "bisect/torch-1/state.json": b'{"torch": [1]}'}
    verdict = {f"{BUMP}/verdict.json": encoded({"schema": 1, "green": green})}
    return archive({f"{BUMP}/case.json": encoded(result(outcome=outcome)), **texts, **verdict})


# A comment on a pull request


def test_a_fork_gets_its_comment(gh: FakeGh) -> None:
    """The pull request is the open one of the run's branch at the run's commit; the branch's name is one query value."""
    gh.set("GET", "pulls", [pull(6, OTHER_SHA), pull(7)])

    assert run_verb("comment", gh, run=run_of()) == 0

    text = posted(gh)
    assert text.startswith(f"{MARKER}`aaaaaaaaaaaa`: ")
    assert "ended with **<code>failure</code>**" in text
    assert "**1 SLOWER**" in text
    (query,) = [call["query"] for call in gh.calls if call["path"] == "pulls"]
    assert query == {"state": "open", "head": "fork:patch&state=closed"}


def test_a_commit_that_was_replaced_gets_no_comment(gh: FakeGh, capsys: pytest.CaptureFixture[str]) -> None:
    """Results of a commit that is no longer the head are not posted: readers would take them for the head's."""
    gh.set("GET", "pulls", [pull(7, OTHER_SHA)])

    assert (run_verb("comment", gh, run=run_of()), gh.written) == (0, [])
    assert "no pull request has" in capsys.readouterr().out
    assert "**1 SLOWER**" in summary(gh)


def test_a_merged_commit_is_commented_where_it_was_reviewed(gh: FakeGh) -> None:
    """A verdict on main is posted on the merged pull request of the commit, and not on open ones that contain it."""
    gh.set("GET", f"commits/{SHA}/pulls", [pull(5, merged_at=None), pull(6, base={"ref": "old"}), pull(7)])

    assert run_verb("comment", gh, run=run_of("push", head_repository=OWNER)) == 0

    assert gh.written == [("POST", COMMENTS)]


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        ("push", {}),
        ("workflow_dispatch", {}),
        ("workflow_dispatch", {"head_repository": OWNER}),
        ("schedule", {"head_repository": OWNER}),
        ("issue_comment", {"head_repository": OWNER}),
        ("pull_request", {"head_sha": "main"}),
        ("pull_request", {"head_repository": None}),
    ],
)
def test_a_run_of_another_kind_is_refused(gh: FakeGh, event: str, changes: dict[str, Any]) -> None:
    """Runs that were started by hand, which may have measured another commit, and runs of other repositories are not posted."""
    gh.set("GET", f"commits/{SHA}/pulls", [pull()])

    assert (run_verb("comment", gh, run=run_of(event, **changes)), gh.written) == (2, [])


@pytest.mark.parametrize(
    "item",
    [
        {"user": STRANGER, "body": f"{MARKER}old"},
        {"user": None, "body": f"{MARKER}old"},
        {"user": BOT, "body": f"quoted: {MARKER}"},
        {"user": BOT, "body": "<!-- speedgate: results main -->"},
        {"user": BOT, "body": None},
    ],
)
def test_a_marker_that_is_not_ours_counts_for_nothing(item: dict[str, Any]) -> None:
    """A comment counts as ours by its author and by the marker at its beginning, so a stranger's is not replaced."""
    assert not post.is_ours(item, "results pull_request")


@pytest.mark.parametrize(("behind", "method"), [(1, "PATCH"), (100, "PATCH"), (99, "PATCH"), (None, "POST")])
def test_our_comment_is_replaced_on_whichever_page_it_is(gh: FakeGh, behind: int | None, method: str) -> None:
    """A second result replaces the comment of the first, which may be on the second page of the listing."""
    others = [{"id": 2, "user": BOT, "body": "x"}] * (100 if behind is None else behind)
    ours = [] if behind is None else [{"id": 3, "user": BOT, "body": f"{MARKER}old"}]
    path = COMMENTS if behind is None else "issues/comments/3"
    gh.set("GET", COMMENTS, [*others, *ours])

    assert run_verb("comment", gh, run=run_of()) == 0

    assert gh.written == [(method, path)]
    assert posted(gh, path, method).startswith(f"{MARKER}`aaaaaaaaaaaa`")
    pages = [call["query"]["page"] for call in gh.calls if call["path"] == COMMENTS and call["method"] == "GET"]
    assert pages == (["1"] if behind in (1, 99) else ["1", "2"])


def test_a_listing_without_an_end_is_an_error(gh: FakeGh, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a listing has too many pages, nothing is posted, because our comment may be on a later page."""
    monkeypatch.setattr(post, "_MAX_PAGES", 1)
    gh.set("GET", COMMENTS, [{"id": 2, "user": BOT, "body": "x"}] * 100)

    assert (run_verb("comment", gh, run=run_of()), gh.written) == (2, [])


# The artifact


@pytest.mark.parametrize(
    ("artifact", "reason"),
    [
        (b"no zip", "not a readable zip file"),
        (archive({NAME: b"<html>"}), "not JSON"),
        (bytes(MAX_ARCHIVE_BYTES + 1), f"more than {MAX_ARCHIVE_BYTES}"),
        (None, "The run left no results."),
    ],
)
def test_a_bad_artifact_is_named_and_not_shown(gh: FakeGh, artifact: bytes | None, reason: str) -> None:
    """Without usable results, the comment has the run's conclusion and the reason."""
    gh.artifact(9, artifact)

    assert run_verb("comment", gh, run=run_of()) == 0

    assert "ended with **<code>failure</code>**" in posted(gh)
    assert reason in posted(gh).replace("&#58;", ":")


def test_a_hostile_artifact_reaches_neither_the_comment_nor_the_log(
    gh: FakeGh, capfd: pytest.CaptureFixture[str]
) -> None:
    """A case key of HTML, Markdown and workflow commands is plain text in the comment, and is not printed to the log."""
    verdict = {"case_key": HOSTILE[:200], "claim": HOSTILE, "outcome": "SLOWER", "sentence": HOSTILE}
    gh.artifact(9, archive({NAME: encoded(result(run=None, verdicts=[verdict]))}))

    assert run_verb("comment", gh, run=run_of(name=HOSTILE)) == 0

    for bad in ("<img", "::set-output", "##[", "@octocat", "](", "https://evil"):
        assert bad not in posted(gh)
    assert "::" not in capfd.readouterr().out


def test_the_newest_artifact_of_the_name_is_taken(gh: FakeGh) -> None:
    """`show` writes the newest artifact of ours that has not expired to the job summary, and posts nothing."""
    names = {4: "speedgate-2", 5: "speedgate-1", 6: "other", 7: "speedgate-3"}
    artifacts = [
        {"id": number, "name": name, "expired": number == 7, "size_in_bytes": 3} for number, name in names.items()
    ]
    gh.set("GET", "actions/runs/9/artifacts", {"artifacts": artifacts})

    assert (run_verb("show", gh), gh.written) == (0, [])
    assert summary(gh).startswith("**1 SLOWER** on ")


@pytest.mark.parametrize("stated_bytes", [11, 1])
def test_a_large_artifact_is_not_downloaded(gh: FakeGh, monkeypatch: pytest.MonkeyPatch, stated_bytes: int) -> None:
    """A large artifact is refused by the size that GitHub states, and if that is wrong by the bytes that arrive."""
    monkeypatch.setattr(post.folder, "MAX_ARCHIVE_BYTES", 10)
    artifact = {"id": 5, "name": "speedgate-1", "expired": False, "size_in_bytes": stated_bytes}
    gh.set("GET", "actions/runs/9/artifacts", {"artifacts": [artifact]})

    assert run_verb("show", gh) == 0

    assert "more than 10" in summary(gh)
    assert ("actions/artifacts/5/zip" in [call["path"] for call in gh.calls]) == (stated_bytes == 1)


# The nightly


def test_a_red_night_is_one_issue(gh: FakeGh) -> None:
    """The issue has the address of the run, the texts of the bump and the bisect as plain text, and the cases."""
    gh.artifact(9, nightly_artifact(green=False, outcome="SLOWER"))

    assert run_verb("open-issue", gh) == 0

    text = posted(gh, "issues")
    assert text.startswith(NIGHTLY_MARKER)
    assert f"https://github.example/{REPOSITORY}/actions/runs/9" in text
    assert "<pre>&#35;" in text
    assert "<pre>&#123;&#34;torch&#34;&#58; &#91;1&#93;&#125;</pre>" in text
    assert "@octocat" not in text
    assert "**1 SLOWER**" in text


def test_the_next_red_night_changes_the_issue(gh: FakeGh) -> None:
    """A second red nightly updates the issue of the first; only open issues of the bot are listed."""
    gh.set("GET", "issues", [{"number": 3, "user": BOT, "body": f"{NIGHTLY_MARKER}old"}])

    assert run_verb("open-issue", gh) == 0

    assert gh.written == [("PATCH", "issues/3")]
    assert "**1 SLOWER**" in posted(gh, "issues/3", "PATCH")
    (query,) = [call["query"] for call in gh.calls if call["path"] == "issues" and call["method"] == "GET"]
    assert query == {"per_page": "100", "page": "1", "state": "open", "creator": post.BOT}


@pytest.mark.parametrize(
    "item", [{"user": STRANGER, "body": NIGHTLY_MARKER}, {"user": BOT, "body": NIGHTLY_MARKER, "pull_request": {}}]
)
def test_an_issue_that_is_not_ours_is_left_alone(gh: FakeGh, item: dict[str, Any]) -> None:
    """A stranger's issue, and a pull request, which GitHub lists as an issue, are neither changed nor closed."""
    gh.set("GET", "issues", [{"number": 3, **item}])
    gh.artifact(9, nightly_artifact(green=True))

    assert (run_verb("close-issue", gh), gh.written) == (0, [])
    assert (run_verb("open-issue", gh), gh.written) == (0, [("POST", "issues")])


def test_a_long_night_fits_into_an_issue(gh: FakeGh) -> None:
    """The text of all files and cases together stays below GitHub's limit."""
    verdicts = [{"case_key": "k", "claim": str(i), "outcome": "SLOWER", "sentence": "\u4e2d" * 600} for i in range(200)]
    files = {f"nightly/{i}.md": ("\u4e2d" * 20 + "\n").encode() * 20_000 for i in range(6)}
    gh.artifact(9, archive({NAME: encoded(result(run=None, verdicts=verdicts)), **files}))

    assert run_verb("open-issue", gh) == 0

    assert 40_000 < len(posted(gh, "issues")) < 65_536


def test_a_green_night_closes_the_issue(gh: FakeGh) -> None:
    """A green nightly closes the issue of the red one, with the run's address in a comment."""
    gh.set("GET", "issues", [{"number": 3, "user": BOT, "body": f"{NIGHTLY_MARKER}old"}])
    gh.artifact(9, nightly_artifact(green=True))

    assert run_verb("close-issue", gh) == 0

    assert gh.written == [("POST", "issues/3/comments"), ("PATCH", "issues/3")]
    assert f"https://github.example/{REPOSITORY}/actions/runs/9" in posted(gh, "issues/3/comments")
    assert gh.sent("PATCH", "issues/3") == [{"state": "closed"}]


def pull_answers(
    gh: FakeGh, *, tree: str = "new-tree", refs: tuple[str, ...] = (), pulls: tuple[int, ...] = ()
) -> None:
    """Set the answers of a repository whose main is at `base`, and the artifact of a green nightly."""
    gh.artifact(9, nightly_artifact(green=True))
    gh.set("GET", "git/ref/heads/main", {"object": {"sha": "base"}})
    gh.set("GET", "git/commits/base", {"tree": {"sha": "old-tree"}})
    gh.set("POST", "git/trees", {"sha": tree})
    gh.set("POST", "git/commits", {"sha": "commit"})
    gh.set("GET", f"git/matching-refs/heads/{post.BRANCH}", [{"ref": f"refs/heads/{ref}"} for ref in refs])
    gh.set("POST", "git/refs", {})
    gh.set("PATCH", f"git/refs/heads/{post.BRANCH}", {})
    gh.set("GET", "pulls", [{"number": number} for number in pulls])
    gh.set("POST", "pulls", POSTED)
    gh.set("PATCH", "pulls/4", POSTED)


def test_a_green_night_moves_the_pin_that_a_hosted_job_gave(gh: FakeGh) -> None:
    """The pull request is one commit on main with the hosted job's pin, which the GPU machine's artifact cannot change."""
    pull_answers(gh, refs=(f"{post.BRANCH}-2",))

    assert run_verb("open-pull", gh, PIN=PIN_OUTPUT) == 0

    entry = {"path": ".github/pins/nightly.txt", "mode": "100644", "type": "blob", "content": PIN}
    title = "Move the pin of the PyTorch nightly"
    assert gh.sent("POST", "git/trees") == [{"base_tree": "old-tree", "tree": [entry]}]
    assert gh.sent("POST", "git/commits") == [{"message": title, "tree": "new-tree", "parents": ["base"]}]
    assert gh.sent("POST", "git/refs") == [{"ref": f"refs/heads/{post.BRANCH}", "sha": "commit"}]
    (fields,) = gh.sent("POST", "pulls")
    assert "**1 PASS**" in fields.pop("body")
    assert fields == {"title": title, "head": post.BRANCH, "base": "main"}


def test_the_next_bump_takes_the_same_pull_request(gh: FakeGh) -> None:
    """There is one pull request at a time: a later pin updates its branch and text."""
    pull_answers(gh, refs=(post.BRANCH,), pulls=(4,))

    assert run_verb("open-pull", gh, PIN=PIN_OUTPUT) == 0

    assert gh.sent("PATCH", f"git/refs/heads/{post.BRANCH}") == [{"sha": "commit", "force": True}]
    assert ("POST", "pulls") not in gh.written
    assert gh.calls[-2]["query"] == {"state": "open", "head": f"owner:{post.BRANCH}", "base": "main"}


def test_no_change_is_no_pull_request(gh: FakeGh) -> None:
    """If main has the pin already, no branch is changed."""
    pull_answers(gh, tree="old-tree")

    assert (run_verb("open-pull", gh, PIN=PIN_OUTPUT), gh.written) == (0, [("POST", "git/trees")])


@pytest.mark.parametrize("verb", ["open-pull", "close-issue"])
@pytest.mark.parametrize(
    "artifact",
    [
        None,
        b"no zip",
        nightly_artifact(green=False),
        nightly_artifact(green="true"),
        archive({NAME: encoded(result()), f"{BUMP}/verdict.json": b"[]"}),
        archive({f"{BUMP}/case.json": encoded(DESCRIBED), f"{BUMP}/verdict.json": b'{"green": true}'}),
    ],
)
def test_without_a_green_verdict_nothing_changes(gh: FakeGh, verb: str, artifact: bytes | None) -> None:
    """Without a green verdict of a measured case, the pin is not changed and the issue is not closed."""
    pull_answers(gh)
    gh.set("GET", "issues", [{"number": 3, "user": BOT, "body": NIGHTLY_MARKER}])
    gh.artifact(9, artifact)

    assert (run_verb(verb, gh, PIN=PIN_OUTPUT), gh.written) == (2, [])


@pytest.mark.parametrize("pin", ["", "*", "YQ", "/w==", f"{PIN_OUTPUT}!"])
def test_a_pin_that_was_not_given_is_an_error(gh: FakeGh, pin: str) -> None:
    """An empty job output, or one that is no base64 of a text, is an error."""
    pull_answers(gh)

    assert (run_verb("open-pull", gh, PIN=pin), gh.written) == (2, [])


def test_the_pin_that_is_moved_is_the_one_that_is_read() -> None:
    """The pull request changes the file that `tox -e nightly` judges."""
    assert Path(post.PIN_PATH) == pins.FOLDER / pins.NIGHTLY


# gh


def test_the_token_is_in_the_environment_alone(gh_program: FakeGh) -> None:
    """The token is in no argument of gh and no repr, and a body is passed through stdin."""
    assert run_verb("comment", gh_program, run=run_of()) == 0

    assert {call["token"] for call in gh_program.calls} == {TOKEN}
    assert TOKEN not in json.dumps([call["arguments"] for call in gh_program.calls])
    arguments = f"api --method POST repos/{REPOSITORY}/{COMMENTS} --input -"
    assert gh_program.calls[-1]["arguments"] == arguments.split()


def test_a_refusal_is_one_clear_error(gh_program: FakeGh, capsys: pytest.CaptureFixture[str]) -> None:
    """gh's status and message are in the log, on one line that is no workflow command."""
    refusal = "gh: Resource not accessible by integration (HTTP 403)"
    gh_program.fail("POST", COMMENTS, status=4, message=f"{refusal}\n::error::x")

    assert run_verb("comment", gh_program, run=run_of()) == 2

    message = capsys.readouterr().err
    assert message.startswith(f"speedgate: POST {COMMENTS}: gh ended with exit status 4: {refusal}")
    assert message.count("\n") == 1 and "::" not in message


def test_a_machine_without_gh_says_so(gh_program: FakeGh, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing gh is an error of one line, not a traceback."""
    (gh_program.bin / "gh").unlink()

    assert run_verb("comment", gh_program, run=run_of()) == 2

    assert capsys.readouterr().err == "speedgate: gh is not on the PATH; GitHub's hosted runners have it\n"


@pytest.mark.parametrize(
    ("method", "path", "answer", "message"),
    [
        ("GET", "pulls", b"<html>", "GET pulls: the answer is not JSON"),
        ("GET", "pulls", b'{"message": "x"}', "expected a list of objects"),
        ("GET", "pulls", b'[{"number": 7}]', "expected a field head.sha"),
        ("POST", COMMENTS, b"[]", "expected a field html_url"),
    ],
)
def test_an_answer_of_another_form_is_an_error(
    gh: FakeGh, capsys: pytest.CaptureFixture[str], method: str, path: str, answer: bytes, message: str
) -> None:
    """An answer that is not JSON, or lacks a field, is an error that names it."""
    gh.set_bytes(method, path, answer)

    assert run_verb("comment", gh, run=run_of()) == 2

    assert message in capsys.readouterr().err


def test_an_answer_that_is_too_long_is_an_error(gh_program: FakeGh, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is read up to a limit, then gh is stopped."""
    monkeypatch.setattr(post, "_MAX_ANSWER_BYTES", 1000)
    gh_program.set("GET", "pulls", [pull()] * 20)

    assert (run_verb("comment", gh_program, run=run_of()), gh_program.written) == (2, [])


@pytest.mark.parametrize("name", ["GH_TOKEN", "GITHUB_EVENT_PATH", "GITHUB_STEP_SUMMARY"])
def test_outside_a_job_it_says_so(gh: FakeGh, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A missing variable is named."""
    assert run_verb("show", gh, **{name: ""}) == 2

    assert f"{name} is not set" in capsys.readouterr().err


def test_posting_needs_only_what_its_jobs_install() -> None:
    """The jobs with a token install one pinned package; `speedgate.fleet.post` imports nothing else from outside."""
    installed = INSTALL_POST.split()[-1]
    script = (
        "import sys; sys.modules['typing_extensions'] = None; before = set(sys.modules); import speedgate.fleet.post;"
        " print(*set(sys.modules) - before)"  # msgspec imports typing_extensions where it is installed, and can do without
    )
    completed = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in completed.stdout.split()} - sys.stdlib_module_names

    assert "speedgate" in loaded
    assert {name.lstrip("_") for name in loaded} <= {"speedgate", installed}
    assert f"\n{installed}==" in (ROOT / ".github/pins/stable.txt").read_text()
