"""`speedgate trend`: what it prints, what is red, and what it refuses."""

import json

import pytest

from speedgate import cli
from speedgate.history import cli_trend
from tests.support.histories import CASE, flat, make_series, stepped

STEP = stepped(120, (112, 1.05))


def trend(series, capsys, *arguments):
    """The exit status and what was printed for these series."""
    options = cli._parse(["trend", "--history", "sqlite:///x.db", *arguments])
    try:
        status = cli_trend.judge(series, options)
    except ValueError as error:
        status = str(error)
    return status, capsys.readouterr().out


def test_a_regression_is_red_and_says_where_it_came_from(capsys):
    """Exit status 1, and one line with the ratio, the interval, both commits and the nightlies."""
    status, said = trend([make_series(STEP)], capsys)

    assert status == 1
    (line,) = [line for line in said.splitlines() if "STEP" in line]
    assert line.startswith("  FAIL STEP latency +5.")
    assert "99% interval" in line
    assert f"between {111:012x} (2026-04-22T03:00) and {112:012x} (2026-04-23T03:00), 8 runs ago" in line
    assert line.endswith("torch 2.14.0.dev20260416 -> 2.14.0.dev20260423")


@pytest.mark.parametrize("arguments", [("--fail-on", "none"), ("--fail-on", "drift"), ("--recent", "7")])
def test_what_is_not_asked_for_is_not_red(capsys, arguments):
    """Another kind of change, or one that is older, is shown with exit status 0."""
    status, said = trend([make_series(STEP)], capsys, *arguments)

    assert status == 0
    assert "  STEP latency +5." in said


def test_an_improvement_is_not_red(capsys):
    """What became faster is shown and does not fail."""
    status, said = trend([make_series(stepped(120, (112, 0.95)))], capsys)

    assert status == 0
    assert "STEP latency -5." in said


def test_a_step_before_the_last_runs_is_not_seen(capsys):
    """`--last` looks at no more than so many runs."""
    status, said = trend([make_series(stepped(120, (60, 1.05)))], capsys, "--last", "50")

    assert (status, said) == (0, "0 of 1 series changed\n")


def test_red_series_come_first(capsys):
    """What fails stands above what changed long ago."""
    old, new = make_series(stepped(120, (60, 1.05)), case_key="old"), make_series(STEP, case_key="new")

    _, said = trend([old, new], capsys)

    assert [line.split(" on ")[0] for line in said.splitlines() if " on " in line] == ["new", "old"]


def test_json_holds_everything(capsys):
    """Series, changes, their ends and what fails, as a document."""
    status, said = trend([make_series(STEP), make_series(flat(5), case_key="short")], capsys, "--json")

    document = json.loads(said)
    (found,) = document["trends"]
    (change,) = found["changes"]
    assert (status, found["case_key"], found["runs"]) == (1, CASE, 120)
    assert (change["kind"], change["run"]["commit"], change["fails"]) == ("step", f"{112:012x}".ljust(40, "0"), True)
    assert document["too_short"] == [{"gpu_key": found["gpu_key"], "case_key": "short"}]


def test_a_history_of_short_series_is_an_error(capsys):
    """Nothing that could be judged is no pass."""
    status, _ = trend([make_series(flat(5))], capsys)

    assert status == "sqlite:///x.db: 5 runs with a latency at most; a trend needs 10 at least"


def test_the_history_is_that_of_the_other_verbs(capsys):
    """Where none is named, what a bare `--history` of pytest writes to; and the password of one that is stays unsaid."""
    assert cli._parse(["trend"]).history == cli._parse(["history", "upgrade"]).history

    status, _ = trend([], capsys, "--history=postgresql://boss:S3cret@h/db")

    assert status == "postgresql://boss@h/db: holds no runs"


def test_an_unknown_case_is_an_error(capsys):
    """A history without what was asked for says what was asked for."""
    status, _ = trend([], capsys, "--case", "sdxl/none", "--gpu-key", "t4")

    assert status == "sqlite:///x.db: holds no runs of case sdxl/none on GPU key t4"


def test_what_a_run_says_cannot_steer_a_terminal(capsys):
    """Keys, commits and versions are shown as text on one line."""
    wild = make_series(STEP, case_key="<b>case\x1b[2J\n")

    _, said = trend([wild], capsys)

    assert "<b>case?[2J? on " in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fail-on", "steps"), "steps: not of step, drift,"),
        (("--last", "0"), "'0': a number of runs from 1"),
        (("--recent", "x"), "'x': a number of runs from 1"),
    ],
)
def test_a_wrong_argument_names_the_valid_ones(capsys, arguments, says):
    """argparse ends with status 2 and the choices."""
    with pytest.raises(SystemExit, match="2"):
        cli._parse(["trend", "--history", "x", *arguments])

    assert says in capsys.readouterr().err
