"""What a series' trend says: steps and drifts told apart, between the runs that they came between."""

import dataclasses
import json

import numpy as np
import pytest

from speedgate import cli
from speedgate.history import commands
from speedgate.history.trend import MIN_RUNS, PEAK, ChangeKind, Series, analyse
from tests.support.histories import CASE, flat, make_series, stepped

STEP = stepped(120, (112, 1.05))


def kinds(trend):
    """Which changes were found, and up or down."""
    return [(change.kind, change.worse) for change in trend.changes]


def replaced(series, place, **fields):
    """The series with another point there."""
    points = list(series.points)
    points[place] = dataclasses.replace(points[place], **fields)
    return dataclasses.replace(series, points=tuple(points))


def test_no_change_is_none():
    """Two hundred runs of one level have a spread and no change."""
    trend = analyse(make_series(flat(200), processes=1))

    assert trend.changes == ()
    assert trend.run_spread == pytest.approx(0.005, rel=0.15)


@pytest.mark.parametrize("ratio", [1.03, 0.97, 1.01])
def test_a_step_is_named_by_its_commits(ratio):
    """It lies between the last run before and the first one after, with its ratio in the interval."""
    (change,) = analyse(make_series(stepped(120, (80, ratio)))).changes

    assert (change.kind, change.worse) == (ChangeKind.STEP, ratio > 1)
    assert change.before < 80 <= change.after
    assert change.low <= ratio <= change.high


def test_a_large_step_is_seen_after_three_runs():
    """Three runs at the end are enough, and two are not."""
    assert kinds(analyse(make_series(stepped(63, (60, 1.03))))) == [(ChangeKind.STEP, True)]
    assert kinds(analyse(make_series(stepped(62, (60, 1.03))))) == []


def test_versions_tell_the_nightly():
    """What the environment says differently on both sides of a step is named, and nothing else."""
    trend = analyse(make_series(stepped(120, (84, 1.05))))

    assert trend.versions(trend.changes[0]) == {"torch": ("2.14.0.dev20260319", "2.14.0.dev20260326")}


def test_a_drift_of_one_percent_a_month_is_one():
    """It is a drift and no stairs, at its rate."""
    (change,) = analyse(make_series(np.log(1.01) / 30 * np.arange(120))).changes

    assert change.kind is ChangeKind.DRIFT
    assert change.per_month == pytest.approx(1.01, abs=0.002)


def test_a_drift_has_a_beginning():
    """After a hundred flat runs it begins where it begins, within ten runs, and goes on to nearly the end."""
    (change,) = analyse(make_series(np.log(1.01) / 30 * np.clip(np.arange(220) - 100, 0, None))).changes

    assert change.kind is ChangeKind.DRIFT
    assert change.before == pytest.approx(100, abs=10)
    assert change.after >= 205


def test_a_step_within_a_drift_stays_a_step():
    """Drift, a step of 5 % that mends it, and drift again."""
    levels = np.log(1.01) / 30 * np.arange(240) + stepped(240, (120, 0.95))

    trend = analyse(make_series(levels))

    assert kinds(trend) == [(ChangeKind.DRIFT, True), (ChangeKind.STEP, False), (ChangeKind.DRIFT, True)]
    assert trend.changes[1].before < 120 <= trend.changes[1].after


def test_stairs_are_steps():
    """Three steps up that are flat in between are no drift."""
    levels = stepped(160, (40, 1.03), (80, 1.03), (120, 1.03))

    assert kinds(analyse(make_series(levels))) == [(ChangeKind.STEP, True)] * 3


@pytest.mark.parametrize("processes", [1, 3])
def test_noise_that_doubles_is_no_change(processes):
    """The level did not change, and none is reported."""
    spread = np.repeat([0.005, 0.010], 80)

    assert analyse(make_series(flat(160), spread=spread, processes=processes)).changes == ()


def test_another_number_of_processes_is_no_change():
    """From one process a run to eight, the scatter of runs falls as it has to, and nothing is said."""
    counts = [1] * 80 + [8] * 80

    assert analyse(make_series(flat(160), processes=counts)).changes == ()


def test_outliers_are_left_out_and_named():
    """Single slow runs change nothing, and are told."""
    levels = flat(120)
    levels[[30, 70]] += 0.2

    trend = analyse(make_series(levels))

    assert (trend.changes, trend.outliers) == ((), (30, 70))


def test_a_machine_with_two_modes_is_not_accused():
    """Processes of two likely speeds 5 % apart are neither steps nor outliers."""
    levels = 0.05 * np.random.default_rng(9).integers(0, 2, 200)

    trend = analyse(make_series(levels, spread=0.003, processes=1))

    assert (trend.changes, trend.outliers) == ((), ())


def test_a_constant_series_has_neither_spread_nor_change():
    """Equal figures, to the last digit, are no trouble; an exact step among them is one."""
    assert analyse(make_series(flat(40), spread=0)).changes == ()

    (change,) = analyse(make_series(stepped(40, (20, 1.02)), spread=0)).changes
    assert (change.run, round(change.ratio, 4)) == (20, 1.02)


def test_runs_without_a_latency_are_passed_over():
    """A run that measured nothing is no figure; places are those of the whole series."""
    series = make_series(stepped(120, (80, 1.03)))
    for place in (10, 79, 80):
        series = replaced(series, place, process_medians_s=())

    (change,) = analyse(series).changes

    assert (change.before, change.after) == (78, 81)


def test_a_short_series_is_refused():
    """Nine runs with a latency are too few, whatever others there are."""
    series = replaced(make_series(flat(MIN_RUNS)), 4, process_medians_s=())

    with pytest.raises(ValueError, match=rf"^{CASE} on .*: 9 runs with a latency; a trend needs at least 10$"):
        analyse(series)


def test_memory_changes_in_steps():
    """A peak that grows by 1 % and wobbles by a millionth is a step of memory and none of latency."""
    peaks = [10**9 + (10**7 if day >= 50 else 0) + day % 3 * 1000 for day in range(80)]

    (change,) = analyse(make_series(flat(80), peaks=peaks)).changes

    assert (change.metric, change.kind, change.run) == (PEAK, ChangeKind.STEP, 50)
    assert change.ratio == pytest.approx(1.01, abs=1e-4)


def test_the_order_of_other_series_changes_nothing():
    """An analysis is a function of its series alone."""
    series, other = make_series(stepped(120, (80, 1.01)), seed=3), make_series(stepped(90, (40, 1.02)), seed=4)
    first = analyse(series)
    analyse(other)

    assert analyse(Series(gpu_key=series.gpu_key, case_key=series.case_key, points=series.points)) == first


def test_recent_is_what_came_in_the_last_runs():
    """A step counts by its run, a drift by its end."""
    step = analyse(make_series(stepped(120, (100, 1.03))))
    drift = analyse(make_series(np.log(1.01) / 30 * np.arange(120)))

    assert [step.is_recent(step.changes[0], runs) for runs in (19, 20)] == [False, True]
    assert drift.is_recent(drift.changes[0], 14)


def run_trend(series, capsys, *arguments):
    """The exit status and what was printed for these series."""
    options = cli._parse(["trend", "--history", "sqlite:///x.db", *arguments])
    try:
        status = commands.report_trends(series, options)
    except ValueError as error:
        status = str(error)
    return status, capsys.readouterr().out


def test_a_regression_is_red_and_says_where_it_came_from(capsys):
    """Exit status 1, and one line with the ratio, the interval, both commits and the nightlies."""
    status, said = run_trend([make_series(STEP)], capsys)

    assert status == 1
    (line,) = [line for line in said.splitlines() if "STEP" in line]
    assert line.startswith("  FAIL STEP latency +5.")
    assert "99% interval" in line
    assert f"between {111:012x} (2026-04-22T03:00) and {112:012x} (2026-04-23T03:00), 8 runs ago" in line
    assert line.endswith("torch 2.14.0.dev20260416 -> 2.14.0.dev20260423")


@pytest.mark.parametrize("arguments", [("--fail-on", "none"), ("--fail-on", "drift"), ("--recent", "7")])
def test_what_is_not_asked_for_is_not_red(capsys, arguments):
    """Another kind of change, or one that is older, is shown with exit status 0."""
    status, said = run_trend([make_series(STEP)], capsys, *arguments)

    assert status == 0
    assert "  STEP latency +5." in said


def test_an_improvement_is_not_red(capsys):
    """What became faster is shown and does not fail."""
    status, said = run_trend([make_series(stepped(120, (112, 0.95)))], capsys)

    assert status == 0
    assert "STEP latency -5." in said


def test_a_step_before_the_last_runs_is_not_seen(capsys):
    """`--last` looks at no more than so many runs."""
    status, said = run_trend([make_series(stepped(120, (60, 1.05)))], capsys, "--last", "50")

    assert (status, said) == (0, "0 of 1 series changed\n")


def test_red_series_come_first(capsys):
    """What fails stands above what changed long ago."""
    old, new = make_series(stepped(120, (60, 1.05)), case_key="old"), make_series(STEP, case_key="new")

    _, said = run_trend([old, new], capsys)

    assert [line.split(" on ")[0] for line in said.splitlines() if " on " in line] == ["new", "old"]


def test_json_holds_everything(capsys):
    """Series, changes, their ends and what fails, as a document."""
    status, said = run_trend([make_series(STEP), make_series(flat(5), case_key="short")], capsys, "--json")

    document = json.loads(said)
    (found,) = document["trends"]
    (change,) = found["changes"]
    assert (status, found["case_key"], found["runs"]) == (1, CASE, 120)
    assert (change["kind"], change["run"]["commit"], change["fails"]) == ("step", f"{112:012x}".ljust(40, "0"), True)
    assert document["too_short"] == [{"gpu_key": found["gpu_key"], "case_key": "short"}]


def test_a_history_of_short_series_is_an_error(capsys):
    """Nothing that could be judged is no pass."""
    status, _ = run_trend([make_series(flat(5))], capsys)

    assert status == "sqlite:///x.db: the longest series has 5 runs with a latency; a trend needs at least 10"


def test_the_history_is_that_of_the_other_verbs(capsys):
    """Where none is named, what a bare `--history` of pytest writes to; and the password of one that is stays unsaid."""
    assert cli._parse(["trend"]).history == cli._parse(["history", "upgrade"]).history

    status, _ = run_trend([], capsys, "--history=postgresql://boss:S3cret@h/db")

    assert status == "postgresql://boss@h/db: holds no runs"


def test_an_unknown_case_is_an_error(capsys):
    """A history without what was asked for says what was asked for."""
    status, _ = run_trend([], capsys, "--case", "sdxl/none", "--gpu-key", "t4")

    assert status == "sqlite:///x.db: holds no runs of case sdxl/none on GPU key t4"


def test_what_a_run_says_cannot_steer_a_terminal(capsys):
    """Keys, commits and versions are shown as text on one line."""
    wild = make_series(STEP, case_key="<b>case\x1b[2J\n")

    _, said = run_trend([wild], capsys)

    assert "<b>case?[2J? on " in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fail-on", "steps"), "steps: expected step or drift, both, or none"),
        (("--last", "0"), "'0': expected a number of runs, at least 1"),
        (("--recent", "x"), "'x': expected a number of runs, at least 1"),
    ],
)
def test_a_wrong_argument_names_the_valid_ones(capsys, arguments, says):
    """argparse ends with status 2 and the choices."""
    with pytest.raises(SystemExit, match="2"):
        cli._parse(["trend", "--history", "x", *arguments])

    assert says in capsys.readouterr().err
