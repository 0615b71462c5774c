"""What `speedgate bump` and `speedgate bisect` refuse, and that neither takes a run that judged nothing for a verdict."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from speedgate.cli import main
from speedgate.versions import bump
from tests.support.desk import LATENCY, THREE_PAIRS, Desk, stocked


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One for all: environments are shared between commands, as they are at a real one."""
    return stocked(tmp_path_factory.mktemp("desk"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bump"], "bump: name either PACKAGE==VERSION or --channel nightly"),
        (["bump", "stubkernel"], "bump: 'stubkernel' does not name one version; expected PACKAGE==VERSION"),
        (["bump", "stubkernel==1.*"], "bump: 'stubkernel==1.*' does not name one version"),
        (["bump", "stubkernel==9.9"], "Could not find a version that satisfies the requirement stubkernel==9.9"),
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
        (["bisect", "nosuchpackage", "--good=1", "--bad=2"], "No matching distribution found for nosuchpackage"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(desk: Desk, arguments: list[str], said: str) -> None:
    """It names what is wrong, and no case is built."""
    (desk.path / "old").mkdir(exist_ok=True)
    (desk.path / "old" / "stable.txt").write_text("packaging==0.1\n")

    here = importlib.metadata.version("packaging")

    status, _, err = desk.run(*[argument.replace("HERE", here) for argument in arguments])

    assert (status, err.count("\n")) == (2, 1)
    assert err.removeprefix("speedgate: ").startswith(said.replace("HERE", here))


@pytest.mark.parametrize(
    "option", ["--results=mine", "--against=python", "--collect-only", "--gate=report", "--shard=1/2"]
)
@pytest.mark.parametrize("command", [["bump", "stubkernel==1.8"], ["bisect", "stubkernel", "--good=1.0", "--bad=1.8"]])
def test_a_verdict_is_of_the_arms_that_it_names(desk: Desk, command: list[str], option: str) -> None:
    """An argument of pytest that would replace an arm, the results or the judgement ends the command before it begins."""
    status, lines, err = desk.run(*command, pytest_arguments=(*THREE_PAIRS, option))

    assert (status, lines, err.count("\n")) == (2, [], 1)
    assert err.startswith(f"speedgate: {option.replace('gate=', 'gate ').partition('=')[0]} after `--`: ")


def test_a_bump_that_measured_nothing_is_not_judged(desk: Desk) -> None:
    """pytest ends well with its help, and that is neither green nor red: exit status 2."""
    status, _, err = desk.run("bump", "stubkernel==2.1", "--results=none", pytest_arguments=("--fixtures",))

    verdict = json.loads((desk.path / "none" / "verdict.json").read_text())
    assert (status, verdict["green"], verdict["judged"], verdict["verdicts"]) == (2, False, False, [])
    assert err == f"speedgate: {desk.path / 'none'}: not judged, pytest ended with exit status 0 and no verdict\n"
    assert (desk.path / "outputs").read_text().endswith("red=false\n")


def test_a_bump_goes_into_a_history_and_a_report(desk: Desk) -> None:
    """Both options of pytest do there what they do without a bump."""
    given = (*LATENCY, "--report", "page.html", "--history")

    status, _, err = desk.run("bump", "stubkernel==2.1", "--results=handed-on", pytest_arguments=given)

    assert (status, err) == (0, "")
    assert "<html" in (desk.path / "page.html").read_text()
    assert (desk.path / ".speedgate" / "history.sqlite").stat().st_size > 0


def test_a_bump_whose_history_is_out_of_reach_was_not_judged(desk: Desk) -> None:
    """A mistake that pytest names before it measures is no red bump: exit status 2."""
    given = (*LATENCY, "--history=sqlite:////proc/x/history.sqlite")

    status, _, err = desk.run("bump", "stubkernel==2.1", "--results=unreached", pytest_arguments=given)

    assert (status, err.endswith("not judged, pytest ended with exit status 4\n")) == (2, True)


def test_pins_that_cannot_be_written_are_not_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    """What the folder is for and which option names another one, before an index is asked."""
    assert main(["pin", "update", "--channel=nightly", "--pins=/proc/x", "--index-url=http://127.0.0.1:9"]) == 2

    said = "speedgate: /proc/x: cannot be written (No such file or directory); the pins are kept there: name another folder"
    assert capsys.readouterr().err.startswith(said)


def test_a_bisect_says_what_it_could_not_write(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its steps are kept there is no option for, so that it says where to run."""
    monkeypatch.setattr(bump, "BISECTS", Path("/proc/x"))

    status, _, err = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8")

    assert (status, err.count("\n")) == (2, 1)
    assert err.endswith("; the steps of a bisect are kept there: run it where that can be written\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["bump", "stubkernel==1.8", "--stage", "int8"], "`--`: ... -- --stage int8"),
        (["bisect", "stubkernel", "--good=1.0", "--bad=1.8", "-k", "fp32"], "`--`: ... -- -k fp32"),
    ],
)
def test_options_of_pytest_have_their_place(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who gives one as ours is told where it belongs."""
    with pytest.raises(SystemExit, match=r"^2$"):
        main(given)

    assert capsys.readouterr().err.endswith(f"come after {said}\n")


def test_a_mistake_in_the_arguments_is_remembered_of_no_version(desk: Desk) -> None:
    """The command ends with pytest's words and exit status 2, and nothing is known of the first end."""
    given = (*THREE_PAIRS, "--stag=fp32")

    status, lines, err = desk.run("bisect", "stubkernel", "--good=1.0", "--bad=1.8", pytest_arguments=given)

    state = Path(lines[0].split(":")[0])
    assert (status, err.count("\n")) == (2, 1)
    assert "1.0: pytest ended with exit status 4: " in err
    assert "unrecognized arguments: --stag=fp32" in err
    assert json.loads(state.read_text())["tried"] == {}
