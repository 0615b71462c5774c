"""`speedgate bump` and `speedgate bisect` from the command to the files that they leave, over an index of stub wheels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speedgate.versions import bump, environment, suite_run
from speedgate.versions.bisect import BisectRequest
from speedgate.versions.bisect_search import BisectOutcome
from tests.support.desk import LATENCY, THREE_PAIRS, Desk, stocked
from tests.support.stub_index import COMMITS, sha256


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One for all: environments are shared between commands, as they are at a real one."""
    return stocked(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def bisected(desk: Desk) -> list[str]:
    """What is said of a bisect past every kind of candidate."""
    status, lines, err = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8")
    assert (status, err) == (0, "")
    return lines


def test_a_bisect_steps_over_what_cannot_be_judged(bisected: list[str]) -> None:
    """A missing wheel, an import error, a crash and noise are skips with their reason; a slowdown alone is bad."""
    steps = [line.split(": ")[:2] for line in bisected if line[0].isdigit()]
    assert steps == [
        ["1.0", "good"], ["1.8", "bad"], ["1.4", "skip"], ["1.5", "skip"], ["1.3", "skip"], ["1.6", "skip"],
        ["1.2", "good"], ["1.7", "bad"],
    ]  # fmt: skip
    said = "\n".join(bisected)
    for reason in (
        "1.3: skip: cannot be installed: ",
        "raised ImportError: undefined symbol: stub",
        "1.5: skip: UNDECIDED sdxl-tiny/fp32/64px-4steps-b1 latency: ",
        "died during 'generate' (SIGABRT)",
        "1.7: bad: SLOWER sdxl-tiny/fp32/64px-4steps-b1 latency: 0.742 s against 0.7 s of ",
    ):
        assert reason in said


def test_a_bisect_names_the_range_of_the_first_bad_version(desk: Desk, bisected: list[str]) -> None:
    """With skips at the boundary: each suspect, the ratio that was measured, both commits and what lies between them."""
    end = [line for line in bisected if not line[0].isdigit()][2:]

    assert end[0] == "the first bad stubkernel is one of 1.3, 1.4, 1.5, 1.6, 1.7; the last good one is 1.2"
    assert "  latency ratio of 1.7 to 1.0: 1.0600; of 1.2 it was 1.0000" in end
    assert end[-4:] == [
        f"  git_version of 1.2: {COMMITS[2]}",
        f"  git_version of 1.7: {COMMITS[7]}",
        f"  commits: https://github.com/somebody/stubkernel/compare/{COMMITS[2]}...{COMMITS[7]}",
        f"delete {next(desk.path.glob('.speedgate/bisect/stubkernel-*/state.json'))} to try all of it again",
    ]


def test_the_same_command_goes_on_from_what_is_known(desk: Desk, bisected: list[str]) -> None:
    """Said again it comes to the same end, and runs nothing."""
    builds = (desk.path / "builds.log").read_text()

    status, lines, _ = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8")

    assert (status, [line.replace(" (known from an earlier run)", "") for line in lines]) == (0, bisected)
    assert (desk.path / "builds.log").read_text() == builds


def test_a_bisect_by_structure_finds_the_one_version(desk: Desk) -> None:
    """By another metric, with nothing to skip, in as many steps as are needed: the ends and two."""
    arguments = (*THREE_PAIRS, "-k", "not full_recipe")
    metric = "--metric=structure"

    status, lines, _ = desk.run("bisect", "stubkernel", "--good=2.0", "--bad=2.3", metric, pytest_arguments=arguments)

    assert status == 0
    assert len([line for line in lines if line[0].isdigit()]) == 4
    assert "the first bad stubkernel is 2.2; the last good one is 2.1" in lines
    assert any(
        line.startswith("  2.2: NOT_APPLIED ") and "unet.int8_linears is 1, expected 0" in line for line in lines
    )


def test_an_end_that_cannot_be_judged_ends_a_bisect(desk: Desk) -> None:
    """One sentence, exit status 2."""
    status, _, err = desk.run("bisect", "stubkernel", "--good=1.4", "--bad=1.8")

    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("speedgate: the ends are not as claimed: stubkernel 1.4, named --good, is skip: INVALID ")


def test_a_slower_bump_is_red(desk: Desk) -> None:
    """Exit status 1; the verdict and its figures are in a JSON file and on a page, also the job's, and its outputs say red."""
    status, _, _ = desk.run("bump", "stubkernel==1.8", "--results=slow", pytest_arguments=LATENCY)

    verdict = json.loads((desk.path / "slow" / "verdict.json").read_text())
    (case,) = verdict["cases"].values()
    page = (desk.path / "slow" / "summary.md").read_text()
    assert (status, verdict["green"], verdict["outcome"]) == (1, False, "SLOWER")
    assert case["latency_ratio"] == pytest.approx(1.06)
    assert page.startswith("## stubkernel 1.8 against the stable pins: red (SLOWER)\n")
    assert "| sdxl-tiny/fp32/64px-4steps-b1 | 0.742 s | 0.7 s | 1.060 | 1.000 |" in page
    assert page in (desk.path / "job.md").read_text()
    assert (desk.path / "outputs").read_text().endswith("red=true\n")


def test_a_nightly_is_judged_by_its_pin(desk: Desk) -> None:
    """What nightly.txt names by address and checksum is installed from there, and is green where nothing is worse."""
    wheel = desk.index.folder / "stubkernel" / "stubkernel-2.1-py3-none-any.whl"
    (desk.pins / "nightly.txt").write_text(f"# date: 20260804\nstubkernel @ {wheel.as_uri()}#sha256={sha256(wheel)}\n")

    status, _, _ = desk.run("bump", "--channel=nightly", "--results=nightly", pytest_arguments=LATENCY)

    assert status == 0
    assert json.loads((desk.path / "nightly" / "verdict.json").read_text())["green"]
    assert (desk.path / "outputs").read_text().endswith("red=false\n")


def test_ctrl_c_says_how_to_go_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and no traceback."""

    def interrupted(*arguments: object, **options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite_run, "run_suite", interrupted)
    status, _, err = desk.run("bisect", "stubkernel", "--good=2.0", "--bad=2.1")

    assert (status, err) == (2, "speedgate: interrupted; the same command goes on where it stopped\n")


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
    """`--with torchao` takes the build of the same day, the higher of two, and a day without one is skipped; other pins hold."""
    built = []

    def build(layer: environment.OverlayEnvironment, *, cache: Path) -> Path:
        built.append(layer)
        raise environment.InstallFailure("not here")

    versions = ["0.20.0.dev20260804+cpu", "0.19.0.dev20260804+cpu", "0.19.0.dev20260803+cpu", "0.18.0"]
    monkeypatch.setattr(environment, "versions_of", lambda package, **options: versions)
    monkeypatch.setattr(environment, "build", build)
    question = BisectRequest(
        package="torch", good="20260803", bad="20260805", metric="latency", together=("torchao",),
        stable=("numpy==2.4.6", "torch==2.13.0", "torchao==0.18.0"),
    )  # fmt: skip

    tried = bump.Tester(question=question, cache=Path(), folder=Path(), good=version)(version)

    assert tried.step is BisectOutcome.SKIP
    assert (built[0].requirements if built else tried.reason) == expected
    assert [layer.constraints for layer in built] == [("numpy==2.4.6",)] * len(built)


def test_an_index_that_goes_away_is_remembered_of_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the bisect, where a version that is not there would be stepped over."""

    def build(layer: environment.OverlayEnvironment, *, cache: Path) -> Path:
        raise environment.IndexFailure("the index cannot be reached")

    monkeypatch.setattr(environment, "build", build)
    question = BisectRequest(package="stubkernel", good="1.0", bad="1.8", metric="latency")

    with pytest.raises(environment.IndexFailure):
        bump.Tester(question=question, cache=Path(), folder=Path(), good="1.0")("1.1")
