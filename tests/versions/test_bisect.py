"""A bisect's candidates, what it keeps between steps, and what it says in the end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from speedgate.versions.bisect import BisectRequest, BisectState, Trial, between
from speedgate.versions.bisect_search import BisectOutcome
from speedgate.versions.index import WheelOrigin
from tests.support.stub_index import COMMITS

RELEASES = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.10", "2.0rc1"]
NIGHTLIES = ["2.14.0.dev20260803+cpu", "2.15.0.dev20260803+cpu", "2.14.0.dev20260804+cpu", "2.13.0.dev20260805+cpu"]
QUESTION = BisectRequest(package="stub", good="1.0", bad="1.10", metric="latency")


class Judge:
    """Says what a test wants it to say of each version, and remembers which it was asked of."""

    def __init__(self, steps: Mapping[str, BisectOutcome]) -> None:
        self.steps = steps
        self.asked: list[str] = []

    def __call__(self, version: str) -> Trial:
        self.asked.append(version)
        origin = WheelOrigin(
            version=version,
            git_version=COMMITS[RELEASES.index(version)],
            repository="https://github.com/somebody/stub",
        )
        ratio = {"good": 1.0, "bad": 1.06, "skip": None}[self.steps[version]]
        return Trial(step=self.steps[version], reason=f"because of {version}", ratio=ratio, origin=origin)


def judge_from(first_bad: str, *skipped: str) -> Judge:
    """Good before a version and bad from it on, but for what cannot be judged."""
    late = RELEASES[RELEASES.index(first_bad) :]
    steps = {version: BisectOutcome.BAD if version in late else BisectOutcome.GOOD for version in RELEASES}
    return Judge(steps | dict.fromkeys(skipped, BisectOutcome.SKIP))


def history(folder: Path, question: BisectRequest = QUESTION) -> BisectState:
    """As the command opens it."""
    return BisectState(folder / "state.json", question, versions=lambda: RELEASES)


def concluded(folder: Path, judge: Judge) -> list[str]:
    """What is said in the end."""
    made = history(folder)
    return list(made.conclusion(made.bisect(judge, say=lambda line: None)))


@pytest.mark.parametrize(
    ("versions", "good", "bad", "expected"),
    [
        (RELEASES, "1.1", "1.10", ["1.1", "1.2", "1.3", "1.4", "1.10"]),
        (RELEASES, "1.3", "1.1.0", ["1.3", "1.2", "1.1"]),
        (RELEASES, "1.4", "2.0rc1", ["1.4", "1.10", "2.0rc1"]),
        (NIGHTLIES, "20260803", "20260805", [NIGHTLIES[1], NIGHTLIES[2], NIGHTLIES[3]]),
        (NIGHTLIES, "2.15.0.dev20260803", "20260804", [NIGHTLIES[1], NIGHTLIES[2]]),
    ],
)
def test_candidates_lead_from_good_to_bad(versions: list[str], good: str, bad: str, expected: list[str]) -> None:
    """By version, nightlies by date with the higher of two; backwards where the good one is newer; shuffled or not."""
    for some in (versions, versions[::-1]):
        assert between(some, good=good, bad=bad, package="stub") == expected


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("1.7", "1.10", "stub 1.7: no such version for this Python; the newest are 2.0rc1, 1.10, 1.4, "),
        ("1.0", "nonsense", "stub nonsense: no such version"),
        ("1.1", "1.1.0", "stub: the good and the bad version are both 1.1"),
    ],
)
def test_an_end_that_there_is_not_is_refused(good: str, bad: str, said: str) -> None:
    """The message names what there is."""
    with pytest.raises(ValueError, match=said):
        between(RELEASES, good=good, bad=bad, package="stub")


def test_the_conclusion_names_both_versions_the_ratio_and_the_commits(tmp_path: Path) -> None:
    """First bad, last good, how much, and the range of commits between the two."""
    assert concluded(tmp_path, judge_from("1.3")) == [
        "the first bad stub is 1.3; the last good one is 1.2",
        "  1.3: because of 1.3",
        "  latency ratio of 1.3 to 1.0: 1.0600; of 1.2 it was 1.0000",
        f"  git_version of 1.2: {COMMITS[2]}",
        f"  git_version of 1.3: {COMMITS[3]}",
        f"  commits: https://github.com/somebody/stub/compare/{COMMITS[2]}...{COMMITS[3]}",
    ]


def test_what_was_skipped_at_the_boundary_is_among_the_suspects(tmp_path: Path) -> None:
    """With skips directly before the first bad one seen, the range is named, and each skip's reason."""
    assert concluded(tmp_path, judge_from("1.3", "1.2", "1.3"))[:3] == [
        "the first bad stub is one of 1.2, 1.3, 1.4; the last good one is 1.1",
        "  1.2 was skipped: because of 1.2",
        "  1.3 was skipped: because of 1.3",
    ]


@pytest.mark.parametrize("steps_before", range(4))
def test_an_interrupted_bisect_goes_on_where_it_stopped(tmp_path: Path, steps_before: int) -> None:
    """Whenever it is interrupted, nothing is tried twice and the answer is the same."""
    judge, calls = judge_from("1.3"), itertools.count()

    def interrupted(version: str) -> Trial:
        if next(calls) == steps_before:
            raise KeyboardInterrupt
        return judge(version)

    with pytest.raises(KeyboardInterrupt):
        history(tmp_path).bisect(interrupted, say=lambda line: None)

    assert concluded(tmp_path, judge)[0] == "the first bad stub is 1.3; the last good one is 1.2"
    assert len(judge.asked) == len(set(judge.asked)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (judge_from("1.0"), "stub 1.0, named --good, is bad: because of 1.0"),
        (judge_from("2.0rc1"), "stub 1.10, named --bad, is good: because of 1.10"),
        (judge_from("1.3", "1.10"), "stub 1.10, named --bad, is skip: because of 1.10"),
    ],
)
def test_ends_that_are_not_as_claimed_end_it_in_one_sentence(tmp_path: Path, judge: Judge, said: str) -> None:
    """Which end, what it was called, what it is and why."""
    with pytest.raises(ValueError, match=f"^the ends are not as claimed: {said}; "):
        history(tmp_path).bisect(judge, say=lambda line: None)

    assert set(judge.asked) <= {"1.0", "1.10"}


def test_an_end_that_was_skipped_is_tried_again(tmp_path: Path) -> None:
    """What kept it from being judged may be gone; what lies between the ends is known, and is not tried again."""
    with pytest.raises(ValueError, match=r"is skip: because of 1\.10; the same command tries it again$"):
        history(tmp_path).bisect(judge_from("1.3", "1.10"), say=lambda line: None)
    judge = judge_from("1.3")

    assert concluded(tmp_path, judge)[0] == "the first bad stub is 1.3; the last good one is 1.2"
    assert judge.asked == ["1.10", "1.3", "1.2"]


@pytest.mark.parametrize("text", ["{", "[]", '{"candidates": ["1.0"], "tried": {"1.0": {}}}'])
def test_a_state_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    """It is never taken for a bisect without a step."""
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(ValueError, match=r"state\.json: is not what a bisect leaves .*; delete it to start anew"):
        history(tmp_path)


def test_another_question_has_another_folder() -> None:
    """Other pins, another metric or other arguments are another bisect."""
    others = [{"metric": "memory"}, {"arguments": ("--stage=fp32",)}, {"stable": ("torch==2.13.0",)}, {"good": "1.1"}]

    digests = {BisectRequest(**{"package": "stub", "good": "1.0", "bad": "1.10", "metric": "latency"} | one).digest for one in others}  # type: ignore[arg-type]  # fmt: skip

    assert len(digests | {QUESTION.digest}) == 5


def test_the_state_is_json_and_whole(tmp_path: Path) -> None:
    """Request, candidates and every step, for whoever wants to read them."""
    concluded(tmp_path, judge_from("1.3"))

    state = json.loads((tmp_path / "state.json").read_text())
    assert state["question"]["package"] == "stub"
    assert state["candidates"] == RELEASES[:-1]
    assert {version: one["step"] for version, one in state["tried"].items()} == {
        "1.0": "good", "1.10": "bad", "1.3": "bad", "1.2": "good"
    }  # fmt: skip
