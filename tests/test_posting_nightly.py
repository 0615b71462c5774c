"""What a night is posted as: a pull request for the pin, or an issue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from speedgate import handover
from speedgate.posting import BRANCH
from tests.artifacts import NAME, SESSION, archive, encoded, result
from tests.fake_github import REPOSITORY, FakeGitHub, post, posted, serving

PIN = "torch @ https://example.org/torch.whl\n"


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    with serving() as found:
        found.set("GET", "issues", [])
        found.set("POST", "issues", {"html_url": "https://github.example/posted"})
        found.artifact(9, archive({NAME: encoded(result(outcome="SLOWER"))}))
        yield found


BUMP = f"bump/{SESSION}"
DESCRIBED = result(run=None, verdicts=[result()["verdicts"][0] | {"claim": "recipe"}])


def nightly_artifact(*, green: Any, outcome: str = "PASS") -> bytes:
    """What a night leaves."""
    own = {f"{BUMP}/summary.md": b"# <b>red</b>\n\n@octocat\n", "bisect/torch-1/state.json": b'{"torch": [1]}'}
    verdict = {f"{BUMP}/verdict.json": encoded({"schema": 1, "green": green})}
    return archive({f"{BUMP}/case.json": encoded(result(outcome=outcome)), **own, **verdict})


def test_a_red_night_is_one_issue(fake: FakeGitHub, tmp_path: Path) -> None:
    """The issue holds the address of the run, the bump's and the bisection's words as plain text, and the cases."""
    fake.artifact(9, nightly_artifact(green=False, outcome="SLOWER"))

    assert post("issue", fake, tmp_path) == 0

    text = posted(fake, "issues")
    assert text.startswith("<!-- speedgate: nightly -->\n")
    assert f"https://github.example/{REPOSITORY}/actions/runs/9" in text
    assert "<pre>&#35;" in text
    assert "<pre>&#123;&#34;torch&#34;&#58; &#91;1&#93;&#125;</pre>" in text
    assert "@octocat" not in text
    assert "**1 SLOWER**" in text


def test_a_long_night_fits_into_an_issue(fake: FakeGitHub, tmp_path: Path) -> None:
    """All files and cases together stay below what GitHub takes."""
    verdicts = [{"case_key": "k", "claim": str(i), "outcome": "SLOWER", "sentence": "\u4e2d" * 600} for i in range(200)]
    files = {f"nightly/{i}.md": ("\u4e2d" * 20 + "\n").encode() * 20_000 for i in range(6)}
    fake.artifact(9, archive({NAME: encoded(result(run=None, verdicts=verdicts)), **files}))

    assert post("issue", fake, tmp_path) == 0

    assert 40_000 < len(posted(fake, "issues")) < 65_536


def pull_answers(fake: FakeGitHub) -> None:
    """A repository without an open bump."""
    fake.set("GET", "git/ref/heads/main", {"object": {"sha": "base"}})
    fake.set("GET", "git/commits/base", {"tree": {"sha": "old"}})
    fake.set("POST", "git/trees", {"sha": "new"})
    fake.set("POST", "git/commits", {"sha": "commit"})
    fake.set("GET", f"git/matching-refs/heads/{BRANCH}", [])
    fake.set("POST", "git/refs", {})
    fake.set("GET", "pulls", [])
    fake.set("POST", "pulls", {"html_url": "https://github.example/pull"})


MORE = {"HANDED_OVER": handover.packed(PIN.encode()), "PIN_PATH": ".github/pins/nightly.txt"}


def test_a_green_night_moves_the_pin_that_was_handed_over(fake: FakeGitHub, tmp_path: Path) -> None:
    """The pin of the pull request is the hosted job's: the GPU machine's artifact has no say in it."""
    pull_answers(fake)
    fake.artifact(9, nightly_artifact(green=True))

    assert post("pull", fake, tmp_path, **MORE) == 0

    (tree,) = fake.sent("POST", "git/trees")
    assert [(entry["path"], entry["content"]) for entry in tree["tree"]] == [(".github/pins/nightly.txt", PIN)]
    assert "**1 PASS**" in posted(fake, "pulls")


@pytest.mark.parametrize(
    "artifact",
    [
        None,
        b"no zip",
        nightly_artifact(green=False),
        nightly_artifact(green="true"),
        archive({NAME: encoded(result())}),
        archive({f"{BUMP}/verdict.json": b'{"green": true}'}),
        archive({NAME: encoded(result()), f"{BUMP}/verdict.json": b"[]"}),
        archive({f"{BUMP}/case.json": encoded(DESCRIBED), f"{BUMP}/verdict.json": b'{"green": true}'}),
    ],
)
def test_without_a_green_verdict_nothing_is_moved(fake: FakeGitHub, tmp_path: Path, artifact: bytes | None) -> None:
    """A job that ended well and left no green verdict of a measured case has said nothing."""
    pull_answers(fake)
    fake.artifact(9, artifact)

    assert post("pull", fake, tmp_path, **MORE) == 2

    assert fake.written == []


@pytest.mark.parametrize("path", ["", ".github/workflows/ci.yml", ".github/pins/../workflows/ci.yml", "/etc/passwd"])
def test_only_a_pin_is_moved(fake: FakeGitHub, tmp_path: Path, path: str) -> None:
    """A bump changes a file of the pins folder and nothing else."""
    pull_answers(fake)
    fake.artifact(9, nightly_artifact(green=True))

    assert post("pull", fake, tmp_path, **{**MORE, "PIN_PATH": path}) == 2

    assert fake.written == []


def test_a_pin_that_was_not_handed_over_is_an_error(
    fake: FakeGitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty job output is no empty pin."""
    assert post("pull", fake, tmp_path, PIN_PATH=".github/pins/nightly.txt") == 2

    assert "HANDED_OVER is empty" in capsys.readouterr().err
    assert fake.written == []
