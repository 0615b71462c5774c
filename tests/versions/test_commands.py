"""`speedgate bisect` from the command to its last line, and what `bump`, `bisect` and `pin update` refuse."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from speedgate.cli import main
from speedgate.versions import bisect, suite_run
from tests.support.desk import THREE_PAIRS, Desk, FakeRuns, stocked
from tests.support.stub_index import COMMITS


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return stocked(tmp_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    """Neither pip nor the suite is run."""
    return FakeRuns().replace(monkeypatch)


def trials(lines: list[str]) -> list[list[str]]:
    """Return the version and the outcome of each trial."""
    return [line.split(": ")[:2] for line in lines if line[0].isdigit()]


def test_a_bisect_steps_over_what_cannot_be_judged(desk: Desk, runs: FakeRuns) -> None:
    """A missing wheel, an import error, a crash and noise are skips with their reason; the end names all suspects."""
    status, lines, err = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8")

    assert (status, err) == (0, "")
    assert trials(lines) == [
        ["1.0", "good"], ["1.8", "bad"], ["1.4", "skip"], ["1.5", "skip"], ["1.3", "skip"], ["1.6", "skip"],
        ["1.2", "good"], ["1.7", "bad"],
    ]  # fmt: skip
    for reason in (
        "1.3: skip: cannot be installed: ",
        "raised ImportError: undefined symbol: stub",
        "1.5: skip: UNDECIDED sdxl-tiny/fp32/32px-4steps-b1 latency: ",
        "died during 'generate' (SIGABRT)",
        "1.7: bad: SLOWER sdxl-tiny/fp32/32px-4steps-b1 latency: 0.742 s against 0.7 s",
        "the first bad stubkernel is one of 1.3, 1.4, 1.5, 1.6, 1.7; the last good one is 1.2",
        "  latency ratio of 1.7 to 1.0: 1.0600; of 1.2 it was 1.0000",
    ):
        assert reason in "\n".join(lines)
    assert lines[-2:] == [
        f"  commits: https://github.com/somebody/stubkernel/compare/{COMMITS[2]}...{COMMITS[7]}",
        f"delete {next(desk.path.glob('.speedgate/bisect/stubkernel-*/state.json'))} to try all of it again",
    ]


def test_the_same_command_goes_on_from_what_is_known(desk: Desk, runs: FakeRuns) -> None:
    """The same command, given again, prints the same conclusion and runs nothing."""
    command = ("bisect", "stubkernel", "--good=1.0", "--bad=1.8")
    _, first, _ = desk.run(*command)
    run_before = list(runs.versions)

    status, lines, _ = desk.run(*command)

    assert (status, [line.replace(" (known from an earlier run)", "") for line in lines]) == (0, first)
    assert runs.versions == run_before


def test_a_bisect_by_structure_finds_the_one_version(desk: Desk, runs: FakeRuns) -> None:
    """Another metric finds its first bad version, in four trials for four candidates."""
    status, lines, _ = desk.run("bisect", "stubkernel", "--good=2.0", "--bad=2.3", "--metric=structure")

    assert (status, len(trials(lines))) == (0, 4)
    assert "the first bad stubkernel is 2.2; the last good one is 2.1" in lines
    (line,) = [line for line in lines if line.startswith("  2.2: NOT_APPLIED ")]
    assert "unet.int8_linears is 1, expected 0" in line


def test_an_end_that_cannot_be_judged_ends_a_bisect(desk: Desk, runs: FakeRuns) -> None:
    """An end that cannot be judged is one line and exit status 2."""
    status, _, err = desk.run("bisect", "stubkernel", "--good=1.4", "--bad=1.8")

    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("speedgate: the ends are not as claimed: stubkernel 1.4, named --good, is skip: INVALID ")


def test_a_mistake_in_the_arguments_is_remembered_of_no_version(desk: Desk, runs: FakeRuns) -> None:
    """A wrong pytest argument ends the command with pytest's message and exit status 2, and no trial is stored."""
    runs.status, runs.log = 4, "ERROR: usage: pytest [options]\npytest: error: unrecognized arguments: --stag=fp32\n"

    status, lines, err = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8")

    state = Path(lines[0].split(":")[0])
    assert (status, err.count("\n")) == (2, 1)
    assert "1.0: pytest ended with exit status 4: unrecognized arguments: --stag=fp32" in err
    assert json.loads(state.read_text())["tried"] == {}


def test_ctrl_c_says_how_to_go_on(desk: Desk, runs: FakeRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C, one line says how to continue; there is no traceback."""

    def interrupted(*arguments: object, **options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite_run, "run_suite", interrupted)
    status, _, err = desk.run("bisect", "stubkernel", "--good=2.0", "--bad=2.1")

    assert (status, err) == (2, "speedgate: interrupted; the same command continues where it stopped\n")


def test_a_bisect_says_what_it_could_not_write(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no option for the folder of its state, so the message says where to run it."""
    monkeypatch.setattr(bisect, "FOLDER", Path("/proc/x"))

    status, _, err = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8")

    assert (status, err.count("\n")) == (2, 1)
    assert err.endswith("; a bisect keeps its state there: run it in a folder that can be written\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bump"], "bump: name either PACKAGE==VERSION or --channel nightly"),
        (["bump", "stubkernel"], "bump: 'stubkernel' does not name one version; expected PACKAGE==VERSION"),
        (["bump", "stubkernel==1.*"], "bump: 'stubkernel==1.*' does not name one version"),
        (["bump", "stubkernel==1.8", "--results=bench"], "--results "),
        (["bump", "stubkernel==1.8", "stubkernel==1.7"], "bump: stubkernel is named twice, as stubkernel==1.8 and stubk"),
        (["bump", "stubkernel==1.8", "Packaging==HERE"], "bump: packaging HERE is pinned already: nothing to compare; name "),
        (["bump", "stubkernel==1.8", "--cache=/proc/x"], "/proc/x: cannot be written (No such file or directory); enviro"),
        (["bump", "stubkernel==1.8", "--results=/proc/x"], "/proc/x: cannot be written (No such file or directory); the "),
        (["bisect", "stubkernel", "--good=1.0", "--bad=1.8", "--cache=/proc/x"], "/proc/x: cannot be written (No such "),
        (["bisect", "stubkernel", "--good=foo", "--bad=1.8"], "--good foo: expected a version, as in 2.12.0, or the day of a"),
        (["bisect", "stubkernel", "--good=1.0", "--bad=bar"], "--bad bar: expected a version, as in 2.12.0, or the day of"),
        (["bump", "--channel=nightly", "--pins=elsewhere"], "elsewhere/stable.txt: does not exist; run this at the root"),
        (["bump", "stubkernel==1.8", "--pins=old"], "this environment is not the one of old/stable.txt: packaging is "),
        (["bisect", "stubkernel", "--good=1.0", "--bad=7"], "stubkernel 7: no such version for this Python; the newest"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(desk: Desk, runs: FakeRuns, arguments: list[str], message: str) -> None:
    """Wrong input is one line that names the problem, and nothing is measured."""
    (desk.path / "old").mkdir(exist_ok=True)
    (desk.path / "old" / "stable.txt").write_text("packaging==0.1\n")
    here = importlib.metadata.version("packaging")

    status, _, err = desk.run(*[argument.replace("HERE", here) for argument in arguments])

    assert (status, err.count("\n")) == (2, 1)
    assert err.removeprefix("speedgate: ").startswith(message.replace("HERE", here))
    assert runs.versions == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bump", "stubkernel==9.9"], "Could not find a version that satisfies the requirement stubkernel==9.9"),
        (["bisect", "nosuchpackage", "--good=1", "--bad=2"], "No matching distribution found for nosuchpackage"),
    ],
)
def test_a_version_that_pip_cannot_find_is_one_line(desk: Desk, arguments: list[str], message: str) -> None:
    """What pip does not find is one line with pip's own message."""
    status, _, err = desk.run(*arguments)

    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"speedgate: {message}")


@pytest.mark.slow
def test_a_bisect_of_wheels_finds_the_first_slow_one(desk: Desk) -> None:
    """With pip, an environment for each candidate and the suite, the first slow wheel is named with its commits."""
    desk.index.add("stubkernel", "1.4", code="BEHAVIOUR = {'slower': 1.06}", commit=COMMITS[4])

    status, lines, err = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8")

    assert (status, err) == (0, "")
    assert trials(lines) == [["1.0", "good"], ["1.8", "bad"], ["1.4", "bad"]]
    assert "the first bad stubkernel is 1.4; the last good one is 1.0" in lines
    assert lines[-2].endswith(f"/stubkernel/compare/{COMMITS[0]}...{COMMITS[4]}")


@pytest.mark.parametrize("option", ["--results=mine", "--gate=report"])
@pytest.mark.parametrize("command", [["bump", "stubkernel==1.8"], ["bisect", "stubkernel", "--good=1.0", "--bad=1.8"]])
def test_a_verdict_is_of_the_arms_that_it_names(desk: Desk, command: list[str], option: str) -> None:
    """An argument of pytest that would replace an arm or the results, or prevent a verdict, is refused before anything runs."""
    status, lines, err = desk.run(*command, pytest_arguments=(*THREE_PAIRS, option))

    assert (status, lines, err.count("\n")) == (2, [], 1)
    assert err.startswith(f"speedgate: {option.replace('gate=', 'gate ').partition('=')[0]} after `--`: ")


def test_pins_that_cannot_be_written_are_not_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    """If the pins cannot be written, the message names the option for another folder, before any index is read."""
    assert main(["pin", "update", "--channel=nightly", "--pins=/proc/x", "--index-url=http://127.0.0.1:9"]) == 2

    message = "speedgate: /proc/x: cannot be written (No such file or directory); the pins are kept there: name another folder"
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("bump stubkernel==1.8", "--stage int8"), ("bisect stubkernel --good=1.0 --bad=1.8", "-k fp32")],
)
def test_options_of_pytest_have_their_place(command: str, arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A pytest option before `--` is refused with a hint to put it after `--`."""
    with pytest.raises(SystemExit, match=r"^2$"):
        main(f"{command} {arguments}".split())

    assert capsys.readouterr().err.endswith(f"come after `--`: ... -- {arguments}\n")


@pytest.mark.parametrize("command", ["bump", "bisect"])
def test_the_usage_shows_where_pytests_arguments_go(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of `--help` ends with the place of pytest's arguments, and the last one has an example of this command."""
    with pytest.raises(SystemExit):
        main([command, "--help"])

    text = capsys.readouterr().out
    assert text.splitlines()[0].endswith(" [-- pytest arguments]")
    assert f"for example: speedgate {command} torchao" in " ".join(text.split())
