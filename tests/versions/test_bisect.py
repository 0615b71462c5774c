"""A bisect lists its candidates, finds the first bad one, stores its state, and runs one candidate."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from speedgate.versions import environment, index, suite_run
from speedgate.versions.bisect import (
    BisectRequest,
    BisectState,
    CandidateRunner,
    candidates_between,
    find_boundary,
    max_trials,
)
from speedgate.versions.index import WheelOrigin
from speedgate.versions.suite_run import BisectOutcome, Trial
from tests.support.stub_index import COMMITS

RELEASES = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.10", "2.0rc1"]
NIGHTLIES = ["2.14.0.dev20260803+cpu", "2.15.0.dev20260803+cpu", "2.14.0.dev20260804+cpu", "2.13.0.dev20260805+cpu"]
REQUEST = BisectRequest(package="stub", good="1.0", bad="1.10", metric="latency")


class Judge:
    """Returns the outcome that a test chose for each version, and records the versions."""

    def __init__(self, outcomes: Mapping[str, BisectOutcome]) -> None:
        self.outcomes = outcomes
        self.versions: list[str] = []

    def __call__(self, version: str) -> Trial:
        self.versions.append(version)
        origin = WheelOrigin(
            version=version,
            git_version=COMMITS[RELEASES.index(version)],
            repository="https://github.com/somebody/stub",
        )
        ratio = {"good": 1.0, "bad": 1.06, "skip": None}[self.outcomes[version]]
        return Trial(outcome=self.outcomes[version], reason=f"because of {version}", ratio=ratio, origin=origin)


def judge_from(first_bad: str, *skipped: str) -> Judge:
    """Make a judge: good before a version, bad from it on, and some skipped."""
    late = RELEASES[RELEASES.index(first_bad) :]
    outcomes = {version: BisectOutcome.BAD if version in late else BisectOutcome.GOOD for version in RELEASES}
    return Judge(outcomes | dict.fromkeys(skipped, BisectOutcome.SKIP))


def open_state(folder: Path, request: BisectRequest = REQUEST) -> BisectState:
    """Open the state as the command does."""
    return BisectState(folder / "state.json", request, list_versions=lambda: RELEASES)


def concluded(folder: Path, judge: Judge) -> list[str]:
    """Run the bisect and return its conclusion."""
    state = open_state(folder)
    return list(state.describe(state.search(judge, print_line=lambda line: None)))


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
    """Candidates are ordered by version, nightlies by date with the higher of two; in reverse if the good end is newer."""
    for some in (versions, versions[::-1]):
        assert candidates_between(some, good=good, bad=bad, package="stub") == expected


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("1.7", "1.10", "stub 1.7: no such version for this Python; the newest are 2.0rc1, 1.10, 1.4, "),
        ("1.0", "nonsense", "stub nonsense: no such version"),
        ("1.1", "1.1.0", "stub: the good and the bad version are both 1.1"),
    ],
)
def test_an_end_that_there_is_not_is_refused(good: str, bad: str, message: str) -> None:
    """The message of an end that does not exist names the versions that do."""
    with pytest.raises(ValueError, match=message):
        candidates_between(RELEASES, good=good, bad=bad, package="stub")


def test_the_conclusion_names_both_versions_the_ratio_and_the_commits(tmp_path: Path) -> None:
    """The conclusion names the first bad and the last good version, the ratio, and the commits between."""
    assert concluded(tmp_path, judge_from("1.3")) == [
        "the first bad stub is 1.3; the last good one is 1.2",
        "  1.3: because of 1.3",
        "  latency ratio of 1.3 to 1.0: 1.0600; of 1.2 it was 1.0000",
        f"  git_version of 1.2: {COMMITS[2]}",
        f"  git_version of 1.3: {COMMITS[3]}",
        f"  commits: https://github.com/somebody/stub/compare/{COMMITS[2]}...{COMMITS[3]}",
    ]


def test_what_was_skipped_at_the_boundary_is_among_the_suspects(tmp_path: Path) -> None:
    """If versions at the boundary were skipped, the conclusion names the range and the reason of each skip."""
    assert concluded(tmp_path, judge_from("1.3", "1.2", "1.3"))[:3] == [
        "the first bad stub is one of 1.2, 1.3, 1.4; the last good one is 1.1",
        "  1.2 was skipped: because of 1.2",
        "  1.3 was skipped: because of 1.3",
    ]


@pytest.mark.parametrize("trials_before", range(4))
def test_an_interrupted_bisect_goes_on_where_it_stopped(tmp_path: Path, trials_before: int) -> None:
    """After an interruption at any trial, no version is tried twice and the conclusion is the same."""
    judge, calls = judge_from("1.3"), itertools.count()

    def interrupted(version: str) -> Trial:
        if next(calls) == trials_before:
            raise KeyboardInterrupt
        return judge(version)

    with pytest.raises(KeyboardInterrupt):
        open_state(tmp_path).search(interrupted, print_line=lambda line: None)

    assert concluded(tmp_path, judge)[0] == "the first bad stub is 1.3; the last good one is 1.2"
    assert len(judge.versions) == len(set(judge.versions)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (judge_from("1.0"), "stub 1.0, named --good, is bad: because of 1.0"),
        (judge_from("1.3", "1.0"), "stub 1.0, named --good, is skip: because of 1.0"),
        (judge_from("2.0rc1"), "stub 1.10, named --bad, is good: because of 1.10"),
        (judge_from("1.3", "1.10"), "stub 1.10, named --bad, is skip: because of 1.10"),
    ],
)
def test_ends_that_are_not_as_claimed_end_it_in_one_sentence(tmp_path: Path, judge: Judge, message: str) -> None:
    """The error names the end, the claim, the outcome and its reason; nothing after that end is tried."""
    with pytest.raises(ValueError, match=f"^the ends are not as claimed: {message}; "):
        open_state(tmp_path).search(judge, print_line=lambda line: None)

    assert judge.versions == (["1.0"] if "--good" in message else ["1.0", "1.10"])


def test_an_end_that_was_skipped_is_tried_again(tmp_path: Path) -> None:
    """A skipped end is tried again, because the cause may be gone; the other trials are kept."""
    with pytest.raises(ValueError, match=r"is skip: because of 1\.10; the same command tries it again$"):
        open_state(tmp_path).search(judge_from("1.3", "1.10"), print_line=lambda line: None)
    judge = judge_from("1.3")

    assert concluded(tmp_path, judge)[0] == "the first bad stub is 1.3; the last good one is 1.2"
    assert judge.versions == ["1.10", "1.3", "1.2"]


@pytest.mark.parametrize("text", ["{", "[]", '{"candidates": ["1.0"], "tried": {"1.0": {}}}'])
def test_a_state_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    """A state file that cannot be read is an error, never a new bisect."""
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(ValueError, match=r"state\.json.*: not the state of a bisect; delete the file to start again"):
        open_state(tmp_path)


def test_another_request_has_another_folder() -> None:
    """Other pins, another metric, other arguments or other code make another bisect."""
    others = [
        {"metric": "memory"}, {"arguments": ("--stage=fp32",)}, {"stable": ("torch==2.13.0",)}, {"good": "1.1"},
        {"code": "6f1d"},
    ]  # fmt: skip

    digests = {dataclasses.replace(REQUEST, **changes).digest for changes in others}  # type: ignore[arg-type]

    assert len(digests | {REQUEST.digest}) == 6


def test_the_state_is_json_and_whole(tmp_path: Path) -> None:
    """The state file is JSON with the request, the candidates and every trial."""
    concluded(tmp_path, judge_from("1.3"))

    state = json.loads((tmp_path / "state.json").read_text())
    assert state["question"]["package"] == "stub"
    assert state["candidates"] == RELEASES[:-1]
    assert {version: trial["step"] for version, trial in state["tried"].items()} == {
        "1.0": "good", "1.10": "bad", "1.3": "bad", "1.2": "good"
    }  # fmt: skip


def judged(count, *, first_bad, skipped=frozenset()):
    """Search a sequence; return the boundary and the judged candidates."""
    judged_indices = []

    def judge(index):
        judged_indices.append(index)
        if index in skipped:
            return BisectOutcome.SKIP
        return BisectOutcome.BAD if index >= first_bad else BisectOutcome.GOOD

    return find_boundary(count, judge), judged_indices


@pytest.mark.parametrize("count", range(2, 11))
def test_the_first_bad_candidate_is_always_found(count):
    """With any skips, the suspects are the first bad candidate and the skipped ones next to it.

    At most ceil(log2(count - 1)) candidates are judged and one more for each skip, none twice.
    """
    between = range(1, count - 1)
    skips = [set(some) for size in range(count - 1) for some in itertools.combinations(between, size)]
    for first_bad, skipped in itertools.product(range(1, count), skips):
        boundary, judged_indices = judged(count, first_bad=first_bad, skipped=skipped)

        good = max(index for index in range(first_bad) if index not in skipped)
        bad = min(index for index in range(first_bad, count) if index not in skipped)
        most = math.ceil(math.log2(count - 1))  # each but the good end may be the first bad one
        assert (boundary.last_good, boundary.first_bad) == (good, bad)
        assert first_bad in boundary.suspects
        assert len(judged_indices) == len(set(judged_indices))
        assert len(set(judged_indices) - skipped) <= most == max_trials(count - 2)


def test_a_sequence_that_goes_back_and_forth_still_ends_at_a_boundary():
    """If good and bad alternate, a bad candidate follows a good one; sixty nightlies that do not take six trials at most."""
    draw = random.Random(7)  # noqa: S311 - no secret
    for _ in range(500):
        outcomes = [BisectOutcome.GOOD, *draw.choices(list(BisectOutcome), k=draw.randrange(20)), BisectOutcome.BAD]

        boundary = find_boundary(len(outcomes), outcomes.__getitem__)

        assert (outcomes[boundary.last_good], outcomes[boundary.first_bad]) == (BisectOutcome.GOOD, BisectOutcome.BAD)
        assert {outcomes[index] for index in boundary.suspects[:-1]} <= {BisectOutcome.SKIP}
    assert max(len(judged(60, first_bad=first_bad)[1]) for first_bad in range(1, 60)) == max_trials(58) == 6


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.14.0.dev20260804+cpu", ("torch==2.14.0.dev20260804+cpu", "torchao==0.20.0.dev20260804+cpu")),
        ("2.14.0.dev20260805+cpu", "cannot be installed: no torchao of the date of 2.14.0.dev20260805+cpu"),
    ],
)
def test_a_nightly_is_tried_with_its_companion(
    version: str, expected: str | tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--with torchao` installs the build of the same day, the higher of two; a day without one is skipped, other pins stay."""
    overlays = []

    def build(overlay: environment.OverlayEnvironment, *, cache: Path) -> Path:
        overlays.append(overlay)
        raise environment.InstallFailure("not here")

    trial = nightly_runner(monkeypatch, build)(version)

    assert trial.outcome is BisectOutcome.SKIP
    assert (overlays[0].requirements if overlays else trial.reason) == expected
    assert [overlay.constraints for overlay in overlays] == [("numpy==2.4.6",)] * len(overlays)


def test_an_index_that_goes_away_is_remembered_of_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that does not answer ends the bisect and is not stored as a skip."""

    def build(overlay: environment.OverlayEnvironment, *, cache: Path) -> Path:
        raise environment.IndexFailure("the index cannot be reached")

    with pytest.raises(environment.IndexFailure):
        nightly_runner(monkeypatch, build)("2.14.0.dev20260804+cpu")


@pytest.mark.parametrize(
    ("metric", "variant", "ran"), [("gpu-code", "cpu", False), ("gpu-code", "cu130", True), ("latency", "cpu", True)]
)
def test_a_build_for_cpus_is_skipped_where_gpu_code_is_judged(
    metric: str, variant: str, ran: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index may have only a CPU build of a version: the search goes on, and every other metric judges it."""
    monkeypatch.setattr(environment, "build", lambda overlay, *, cache: Path(overlay.requirements[0]))
    monkeypatch.setattr(environment, "package_folders", lambda python: (str(python),))
    monkeypatch.setattr(index, "torch_variant", lambda folders: variant if folders == ("torch==2.13.0",) else "")
    monkeypatch.setattr(index, "read_origin", lambda package, folders: WheelOrigin(version="2.13.0"))
    monkeypatch.setattr(suite_run, "run_suite", lambda python, **options: 0)
    monkeypatch.setattr(suite_run, "read_documents", lambda results: [])
    monkeypatch.setattr(
        suite_run, "judge_metric", lambda metric, documents: Trial(outcome=BisectOutcome.GOOD, reason="ran")
    )
    request = BisectRequest(package="torch", good="2.12.1", bad="2.14.1", metric=metric)

    trial = CandidateRunner(request=request, cache=Path(), folder=Path("absent"), good="2.12.1")("2.13.0")

    expected = "ran" if ran else "a build for CPUs, for which no GPU code can be generated"
    assert (trial.outcome is BisectOutcome.GOOD, trial.reason) == (ran, expected)


def nightly_runner(patch: pytest.MonkeyPatch, build: Callable[..., Path]) -> CandidateRunner:
    """Make a runner of nightlies of torch and torchao, which builds environments with `build`."""
    versions = ["0.20.0.dev20260804+cpu", "0.19.0.dev20260804+cpu", "0.19.0.dev20260803+cpu", "0.18.0"]
    patch.setattr(environment, "list_versions", lambda package, **options: versions)
    patch.setattr(environment, "build", build)
    request = BisectRequest(
        package="torch", good="20260803", bad="20260805", metric="latency", together=("torchao",),
        stable=("numpy==2.4.6", "torch==2.13.0", "torchao==0.18.0"),
    )  # fmt: skip
    return CandidateRunner(request=request, cache=Path(), folder=Path(), good="2.14.0.dev20260803+cpu")
