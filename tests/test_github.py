"""Posting through the REST API: once, under our own name only, and without showing the token around."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from speedgate import github
from speedgate.github import Repository, newest_artifact, put_comment, put_issue, put_pull
from tests.fake_github import BOT, REPOSITORY, FakeGitHub, serving

MARKED = "<!-- speedgate: m -->\nold"
STRANGER = {"login": "stranger"}


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    with serving() as found:
        yield found


@pytest.fixture
def repository(fake: FakeGitHub) -> Repository:
    return Repository(api_url=fake.url, name=REPOSITORY, token="t0ken")


def comments(fake: FakeGitHub, *found: dict[str, Any]) -> None:
    """What stands below issue 7, where everything may be written."""
    fake.set("GET", "issues/7/comments", list(found))
    fake.set("POST", "issues/7/comments", {"html_url": "new"})
    fake.set("PATCH", "issues/comments/3", {"html_url": "changed"})


def issues(fake: FakeGitHub, *found: dict[str, Any]) -> None:
    """The open issues, where everything may be written."""
    fake.set("GET", "issues", list(found))
    fake.set("POST", "issues", {"html_url": "new"})
    fake.set("PATCH", "issues/3", {"html_url": "changed"})


def test_the_first_comment_is_added_with_its_marker(fake: FakeGitHub, repository: Repository) -> None:
    """A comment that is not there yet is posted, so that the next call finds it."""
    comments(fake)

    assert put_comment(repository, 7, marker="m", body="new") == "new"
    assert fake.sent("POST", "issues/7/comments") == [{"body": "<!-- speedgate: m -->\nnew"}]


def test_our_comment_is_replaced(fake: FakeGitHub, repository: Repository) -> None:
    """A second result changes the first's comment instead of adding one."""
    comments(fake, {"id": 2, "user": BOT, "body": "else"}, {"id": 3, "user": BOT, "body": MARKED})

    assert put_comment(repository, 7, marker="m", body="new") == "changed"
    assert fake.written == [("PATCH", "issues/comments/3")]


@pytest.mark.parametrize(
    "item",
    [
        {"user": STRANGER, "body": MARKED},
        {"user": None, "body": MARKED},
        {"user": BOT, "body": f"quoted: {MARKED}"},
        {"user": BOT, "body": "<!-- speedgate: other -->"},
        {"user": BOT, "body": None},
    ],
)
def test_a_marker_that_is_not_ours_counts_for_nothing(
    fake: FakeGitHub, repository: Repository, item: dict[str, Any]
) -> None:
    """A stranger who writes the marker neither gets their text replaced nor keeps ours from being posted."""
    comments(fake, {"id": 3, **item})
    issues(fake, {"number": 3, **item})

    assert put_comment(repository, 7, marker="m", body="b") == "new"
    assert put_issue(repository, marker="m", title="t", body="b") == "new"


def test_one_issue_is_kept_open(fake: FakeGitHub, repository: Repository) -> None:
    """A second red night changes the issue of the first; only open ones of the bot are asked for."""
    issues(fake, {"number": 3, "user": BOT, "body": MARKED})

    assert put_issue(repository, marker="m", title="t", body="b") == "changed"
    assert fake.sent("PATCH", "issues/3") == [{"title": "t", "body": "<!-- speedgate: m -->\nb"}]
    assert fake.requests[0][2] == {"per_page": "100", "page": "1", "state": "open", "creator": "github-actions[bot]"}


def test_a_pull_request_is_no_issue(fake: FakeGitHub, repository: Repository) -> None:
    """GitHub lists pull requests among the issues: ours is not overwritten with a red verdict."""
    issues(fake, {"number": 3, "user": BOT, "body": MARKED, "pull_request": {}})

    assert put_issue(repository, marker="m", title="t", body="b") == "new"


def test_a_listing_is_read_to_its_end(fake: FakeGitHub, repository: Repository) -> None:
    """A marker behind a hundred other comments is found, and a listing without an end is an error."""
    comments(fake, *({"id": 2, "user": BOT, "body": "x"} for _ in range(99)), {"id": 3, "user": BOT, "body": MARKED})

    assert put_comment(repository, 7, marker="m", body="b") == "changed"
    assert put_comment(repository, 7, marker="n", body="b") == "new"
    assert [query["page"] for method, _, query, _ in fake.requests if method == "GET"] == ["1", "1", "2"]


def pull_answers(fake: FakeGitHub, *, tree: str = "new-tree", refs: list[Any], opened: list[Any]) -> None:
    """A repository whose main is at `base`, as the calls of `put_pull` see it."""
    fake.set("GET", "git/ref/heads/main", {"object": {"sha": "base"}})
    fake.set("GET", "git/commits/base", {"tree": {"sha": "old-tree"}})
    fake.set("POST", "git/trees", {"sha": tree})
    fake.set("POST", "git/commits", {"sha": "commit"})
    fake.set("GET", "git/matching-refs/heads/auto", refs)
    fake.set("POST", "git/refs", {})
    fake.set("PATCH", "git/refs/heads/auto", {})
    fake.set("GET", "pulls", opened)
    fake.set("POST", "pulls", {"html_url": "new"})
    fake.set("PATCH", "pulls/4", {"html_url": "changed"})


def put(repository: Repository) -> str | None:
    """Put one file."""
    return put_pull(repository, base="main", branch="auto", files={"a": "b"}, title="t", body="b")


def test_a_pull_request_is_one_commit_on_main(fake: FakeGitHub, repository: Repository) -> None:
    """The first bump makes the branch, one commit on the newest main, and opens the pull request."""
    pull_answers(fake, refs=[{"ref": "refs/heads/auto-2"}], opened=[])

    assert put(repository) == "new"
    entry = {"path": "a", "mode": "100644", "type": "blob", "content": "b"}
    assert fake.sent("POST", "git/trees") == [{"base_tree": "old-tree", "tree": [entry]}]
    assert fake.sent("POST", "git/commits") == [{"message": "t", "tree": "new-tree", "parents": ["base"]}]
    assert fake.sent("POST", "git/refs") == [{"ref": "refs/heads/auto", "sha": "commit"}]
    assert fake.sent("POST", "pulls") == [{"title": "t", "body": "b", "head": "auto", "base": "main"}]


def test_the_next_bump_takes_the_same_pull_request(fake: FakeGitHub, repository: Repository) -> None:
    """One pull request at a time: its branch and text are brought up to date."""
    pull_answers(fake, refs=[{"ref": "refs/heads/auto"}], opened=[{"number": 4}])

    assert put(repository) == "changed"
    assert fake.sent("PATCH", "git/refs/heads/auto") == [{"sha": "commit", "force": True}]
    assert ("POST", "pulls") not in fake.written
    assert fake.requests[-2][2] == {"state": "open", "head": "owner:auto", "base": "main"}


def test_no_change_is_no_pull_request(fake: FakeGitHub, repository: Repository) -> None:
    """Where main holds the file already, no branch is touched."""
    pull_answers(fake, tree="old-tree", refs=[], opened=[])

    assert put(repository) is None
    assert fake.written == [("POST", "git/trees")]


def test_the_token_goes_to_the_api_alone(fake: FakeGitHub, repository: Repository) -> None:
    """An artifact lies on another host, which GitHub redirects to: it is not given the token."""
    fake.artifact(9, b"zip")

    assert newest_artifact(repository, 9, prefix="speedgate-", limit_bytes=10) == b"zip"
    assert [headers.get("Authorization") for headers in fake.headers] == ["Bearer t0ken", "Bearer t0ken", None]
    assert "t0ken" not in repr(repository)


def test_the_newest_artifact_of_the_name_is_taken(fake: FakeGitHub, repository: Repository) -> None:
    """A run that was started again has one an attempt; others, and expired ones, are not ours."""
    ids = {5: ("speedgate-1", False), 4: ("speedgate-2", False), 6: ("other", False), 7: ("speedgate-3", True)}
    items = [{"id": i, "name": name, "expired": gone, "size_in_bytes": 3} for i, (name, gone) in ids.items()]
    fake.artifact(9, b"zip")
    fake.set("GET", "actions/runs/9/artifacts", {"artifacts": items})

    assert newest_artifact(repository, 9, prefix="speedgate-", limit_bytes=10) == b"zip"


def test_a_run_without_an_artifact_has_none(fake: FakeGitHub, repository: Repository) -> None:
    """That is not an error: the run may have ended before it had measured anything."""
    fake.artifact(9, None)

    assert newest_artifact(repository, 9, prefix="speedgate-", limit_bytes=10) is None


@pytest.mark.parametrize("stated", [11, 1])
def test_a_large_artifact_is_not_downloaded(fake: FakeGitHub, repository: Repository, stated: int) -> None:
    """Neither by the size that GitHub states nor, where that is wrong, by what comes."""
    fake.artifact(9, b"12345678901")
    item = {"id": 5, "name": "speedgate-1", "expired": False, "size_in_bytes": stated}
    fake.set("GET", "actions/runs/9/artifacts", {"artifacts": [item]})

    with pytest.raises(ValueError, match="more than 10"):
        newest_artifact(repository, 9, prefix="speedgate-", limit_bytes=10)
    assert ("storage" in [path for _, path, _, _ in fake.requests]) == (stated == 1)


def test_a_refusal_is_one_clear_error(fake: FakeGitHub, repository: Repository) -> None:
    """GitHub's status and words reach whoever reads the log, and the token does not."""
    fake.set("POST", "issues", 403)
    fake.set("GET", "issues", [])

    with pytest.raises(ValueError, match="POST issues: GitHub answered 403") as caught:
        put_issue(repository, marker="m", title="t", body="b")
    assert "t0ken" not in str(caught.value)


def test_a_listing_without_an_end_is_an_error(
    fake: FakeGitHub, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than posting a second time because the first was not looked for far enough."""
    monkeypatch.setattr(github, "_MAX_PAGES", 1)
    comments(fake, *({"id": 2, "user": BOT, "body": "x"} for _ in range(100)))

    with pytest.raises(ValueError, match="more than 100 items"):
        put_comment(repository, 7, marker="m", body="b")
    assert fake.written == []
