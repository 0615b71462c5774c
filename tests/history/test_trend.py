"""The trend of a series, and `speedgate trend`: steps, drifts, where they lie, what is printed, and the exit status."""

import dataclasses
import json

import numpy as np
import pytest

from speedgate import cli
from speedgate.history import commands
from speedgate.history.machine import CaseDrift, machine_series
from speedgate.history.trend import MIN_RUNS, PEAK, ChangeKind, analyse
from tests.support.histories import CASE, GPU, flat, make_point, make_series, stepped

STEP = stepped(120, (112, 1.05))


def replaced(series, place, **fields):
    """Replace fields of one point."""
    points = list(series.points)
    points[place] = dataclasses.replace(points[place], **fields)
    return dataclasses.replace(series, points=tuple(points))


MODES = 0.05 * np.random.default_rng(9).integers(0, 2, 200)  # a machine whose processes have two typical speeds
RAMP = np.log(1.01) / 30  # 1 % a month


@pytest.mark.parametrize(
    ("levels", "options", "expected"),
    [
        (flat(200), {"processes": 1}, []),
        (flat(160), {"spread": np.repeat([0.005, 0.010], 80), "processes": 3}, []),  # more noise at the same level
        (flat(160), {"processes": [1] * 80 + [8] * 80}, []),  # less scatter because of more processes for each run
        (MODES, {"spread": 0.003, "processes": 1}, []),
        (flat(40), {"spread": 0}, []),
        (stepped(40, (20, 1.02)), {"spread": 0}, [(ChangeKind.STEP, True)]),
        (stepped(62, (60, 1.03)), {}, []),  # two runs are too few
        (stepped(63, (60, 1.03)), {}, [(ChangeKind.STEP, True)]),
        (stepped(160, (40, 1.03), (80, 1.03), (120, 1.03)), {}, [(ChangeKind.STEP, True)] * 3),  # stairs are no drift
        (
            RAMP * np.arange(240) + stepped(240, (120, 0.95)),
            {},
            [(ChangeKind.DRIFT, True), (ChangeKind.STEP, False), (ChangeKind.DRIFT, True)],
        ),
    ],
    ids=["flat", "noisier", "more processes", "modes", "constant", "exact", "two runs", "three runs", "stairs", "both"],
)
def test_changes_are_found_as_the_right_kind(levels, options, expected):
    """Steps and drifts are found as such, and neither scatter, modes nor a constant series is a change or an outlier."""
    trend = analyse(make_series(levels, **options))

    assert [(change.kind, change.worse) for change in trend.changes] == expected
    assert expected or trend.outliers == ()


def spikes(count, *, since, every, factor=2.0):
    """Levels of nights of which, since one of them, every n-th is slower by this factor."""
    nights = np.arange(count)
    return np.where((nights >= since) & (nights % every == 0), np.log(factor), 0.0)


@pytest.mark.parametrize(
    ("levels", "since"),
    [
        (spikes(90, since=0, every=3), 1),
        (spikes(90, since=60, every=3), 60),
        (spikes(90, since=60, every=3) + stepped(90, (75, 1.04)), 60),  # the 4 % are not seen, and that is said
        (spikes(90, since=50, every=4, factor=1.3), 52),
        (spikes(90, since=0, every=30), None),
        (np.where(np.arange(90) < 60, spikes(90, since=0, every=3), 0.0), None),  # it has become quiet
        (stepped(90, (30, 1.5), (33, 0.5), (60, 2.0)), None),
        (0.05 * np.random.default_rng(9).integers(0, 2, 90), None),
    ],
)
def test_a_series_that_is_too_noisy_says_since_when(levels, since):
    """Every third night twice as slow is no silence; steps, single outliers, small modes and past noise are not called noise."""
    assert analyse(make_series(levels)).noisy_since == since


@pytest.mark.parametrize("ratio", [1.03, 0.97, 1.01])
def test_a_step_is_named_by_its_commits(ratio):
    """A step lies between the right two runs, its interval contains the true ratio, and the spread is that of the runs."""
    trend = analyse(make_series(stepped(120, (80, ratio))))
    (change,) = trend.changes

    assert (change.kind, change.worse) == (ChangeKind.STEP, ratio > 1)
    assert change.before < 80 <= change.after
    assert change.low <= ratio <= change.high
    assert trend.run_spread == pytest.approx(0.005 / 3**0.5, rel=0.2)


def test_versions_tell_the_nightly():
    """Only the versions that differ between both sides of a step are listed."""
    trend = analyse(make_series(stepped(120, (84, 1.05))))

    assert trend.versions(trend.changes[0]) == {"torch": ("2.14.0.dev20260319", "2.14.0.dev20260326")}


def test_a_drift_of_one_percent_a_month_is_one():
    """A slow ramp is reported as one drift with the right rate."""
    (change,) = analyse(make_series(RAMP * np.arange(120))).changes

    assert change.kind is ChangeKind.DRIFT
    assert change.per_month == pytest.approx(1.01, abs=0.002)


def test_a_drift_has_a_beginning():
    """The beginning of a drift after flat runs is found within ten runs, and its end near the last run."""
    (change,) = analyse(make_series(RAMP * np.clip(np.arange(220) - 100, 0, None))).changes

    assert change.kind is ChangeKind.DRIFT
    assert change.before == pytest.approx(100, abs=10)
    assert change.after >= 205


def test_outliers_are_left_out_and_named():
    """Single slow runs are listed as outliers and are no change."""
    levels = flat(120)
    levels[[30, 70]] += 0.2

    trend = analyse(make_series(levels))

    assert (trend.changes, trend.outliers) == ((), (30, 70))


def test_runs_without_a_latency_are_passed_over():
    """Runs without a latency are skipped, and indices still refer to the whole series."""
    series = make_series(stepped(120, (80, 1.03)))
    for place in (10, 79, 80):
        series = replaced(series, place, process_medians_s=())

    (change,) = analyse(series).changes

    assert (change.before, change.after) == (78, 81)


def test_a_short_series_is_refused():
    """Nine runs with a latency are too few, even if other runs exist."""
    series = replaced(make_series(flat(MIN_RUNS)), 4, process_medians_s=())

    with pytest.raises(ValueError, match=rf"^{CASE} on .*: 9 runs with a latency; a trend needs at least 10$"):
        analyse(series)


def test_memory_changes_in_steps():
    """A peak that grows by 1 % is a step of the memory and no change of the latency."""
    peaks = [10**9 + (10**7 if day >= 50 else 0) + day % 3 * 1000 for day in range(80)]

    (change,) = analyse(make_series(flat(80), peaks=peaks)).changes

    assert (change.metric, change.kind, change.run) == (PEAK, ChangeKind.STEP, 50)
    assert change.ratio == pytest.approx(1.01, abs=1e-4)


def test_recent_is_what_came_in_the_last_runs():
    """A step is recent by its run, a drift by its end."""
    step = analyse(make_series(stepped(120, (100, 1.03))))
    drift = analyse(make_series(RAMP * np.arange(120)))

    assert [step.is_recent(step.changes[0], runs) for runs in (19, 20)] == [False, True]
    assert drift.is_recent(drift.changes[0], 14)


def run_trend(series, capsys, *arguments, machines=()):
    """Return the exit status or the error, and the printed text."""
    options = cli._parse(["trend", "--history", "sqlite:///x.db", *arguments])
    try:
        status = commands.report_trends(series, options, machines=machines)
    except ValueError as error:
        status = str(error)
    return status, capsys.readouterr().out


def test_a_regression_is_red_and_says_where_it_came_from(capsys):
    """A regression gives exit status 1 and a line with ratio, interval, both commits and the changed versions."""
    status, output = run_trend([make_series(STEP)], capsys)

    assert status == 1
    (line,) = [line for line in output.splitlines() if "STEP" in line]
    assert line.startswith("  FAIL STEP latency +5.")
    assert "99% interval" in line
    assert f"between {111:012x} (2026-04-22T03:00) and {112:012x} (2026-04-23T03:00), 8 runs ago" in line
    assert line.endswith("torch 2.14.0.dev20260416 -> 2.14.0.dev20260423")


@pytest.mark.parametrize(
    ("levels", "arguments", "line"),
    [
        (STEP, ("--fail-on", "none"), "  STEP latency +5."),
        (STEP, ("--fail-on", "drift"), "  STEP latency +5."),
        (STEP, ("--recent", "7"), "  STEP latency +5."),
        (stepped(120, (112, 0.95)), (), "  STEP latency -5."),  # an improvement
        (stepped(120, (60, 1.05)), ("--last", "50"), "0 of 1 series changed\n"),
    ],
)
def test_a_change_that_is_not_asked_for_is_not_red(capsys, levels, arguments, line):
    """A change of another kind, an older one and an improvement are printed with exit status 0; `--last` ignores earlier runs."""
    status, output = run_trend([make_series(levels)], capsys, *arguments)

    assert (status, line in output) == (0, True)


def drifted(*drifts, baseline="old.json", first, gpu_key=GPU):
    """Make the series of a machine with a confirmed case on each day from `first` on."""
    return machine_series(
        CaseDrift(
            gpu_key=gpu_key,
            measured_at=make_point(first + day, ()).measured_at,
            commit=None,
            baseline=baseline,
            drift=drift,
        )
        for day, drift in enumerate(drifts)
    )


@pytest.mark.parametrize(
    ("machines", "part"),
    [
        (drifted(*[1.05] * 8, first=112), "the machine changed by +5.0%, which explains it"),
        (drifted(*[1.02] * 7, *[1.07] * 8, first=105), "the machine changed by +4.9%, which explains it"),
        (drifted(*[1.0] * 8, first=112), "the machine changed by +0.0%, the program by +5."),
        (drifted(*[1.03] * 8, first=112), "the machine changed by +3.0%, the program by +2."),
        (drifted(*[1.05] * 7, first=105), None),  # only before the step
        (drifted(*[1.05] * 8, first=112, gpu_key="another"), None),
    ],
)
def test_a_step_of_the_machine_is_not_the_programs(capsys, machines, part):
    """An equal step of the machine makes a step no regression; otherwise it is red, with what is left for the program."""
    status, text = run_trend([make_series(STEP)], capsys, machines=machines)

    (line,) = [line for line in text.splitlines() if "STEP" in line]
    is_machine = part is not None and "explains" in part
    assert (status, line.split()[0]) == ((0, "MACHINE") if is_machine else (1, "FAIL"))
    assert part in line if part else "the machine" not in line


@pytest.mark.parametrize(
    ("ratio", "machine_ratio", "of_machine"),
    [(1.05, 1.045, True), (0.95, 0.95, True), (1.05, 1.035, False), (1.008, 1.0, False), (1.008, 0.999, False)],
)
def test_a_machine_explains_a_change_that_is_mostly_its_own(ratio, machine_ratio, of_machine):
    """At most 1 % may remain, and less than the machine's part: a machine that did not change explains nothing."""
    (change,) = analyse(make_series(STEP)).changes

    assert dataclasses.replace(change, ratio=ratio, machine_ratio=machine_ratio).of_machine is of_machine


def test_another_baseline_is_another_beginning():
    """Sessions of a file that was recorded after a step do not show it, and sessions after the next change do not count."""
    old, new = drifted(1.05, 1.05, first=112), drifted(1.0, 1.2, first=114, baseline="new.json")
    machine = dataclasses.replace(old[0], points=old[0].points + new[0].points)
    days = [make_point(day, ()).measured_at for day in range(120)]

    assert machine.ratio(before=days[111], after=days[112]) == pytest.approx(1.05)
    assert machine.ratio(before=days[113], after=days[114], until=days[115]) == pytest.approx(1.0)
    assert machine.ratio(before=days[114], after=days[115]) == pytest.approx(1.2)
    assert machine.ratio(before=days[115], after=days[116]) is None


def test_the_machine_has_a_line_and_is_in_the_json(capsys):
    """The latest drift is shown with its baseline, which will be stale, and the JSON has the drift of all sessions."""
    machines = drifted(1.02, 1.042, first=118)

    _, text = run_trend([make_series(flat(120))], capsys, machines=machines)
    _, document = run_trend([make_series(flat(120))], capsys, "--json", machines=machines)

    *_, line, remark = text.splitlines()
    assert remark.startswith("  old.json will soon be stale: the machine takes 4.2% longer than when it was recorded")
    assert line == (
        f"machine {GPU}: +4.2% seconds since old.json was recorded (1 case, 2026-04-30T03:00);"
        " confirmed cases in 2 sessions"
    )
    assert [point["drift"] for point in json.loads(document)["machines"][0]["points"]] == [1.02, 1.042]


def test_a_noisy_series_is_not_silent(capsys):
    """The line says since which run, the count has it, and it is not red: nothing is known to be slower."""
    series = make_series(spikes(90, since=0, every=3))

    status, output = run_trend([series], capsys)

    lines = output.splitlines()
    point = series.points[1]
    assert (status, lines[-1]) == (0, "0 of 1 series changed, 1 too noisy to judge")
    assert lines[1].startswith(
        f"  TOO NOISY to judge since {point.commit[:12]} ({point.measured_at[:16]}), 89 runs ago: "
    )


def test_red_series_come_first(capsys):
    """Series that fail are printed before series that changed long ago."""
    old, new = make_series(stepped(120, (60, 1.05)), case_key="old"), make_series(STEP, case_key="new")

    _, output = run_trend([old, new], capsys)

    assert [line.split(" on ")[0] for line in output.splitlines() if " on " in line] == ["new", "old"]


def test_json_holds_everything(capsys):
    """`--json` contains series, changes, their runs, what fails, and series that are too short."""
    status, output = run_trend([make_series(STEP), make_series(flat(5), case_key="short")], capsys, "--json")

    document = json.loads(output)
    (trend,) = document["trends"]
    (change,) = trend["changes"]
    assert (status, trend["case_key"], trend["runs"]) == (1, CASE, 120)
    assert (change["kind"], change["run"]["commit"], change["fails"]) == ("step", f"{112:012x}".ljust(40, "0"), True)
    assert document["too_short"] == [{"gpu_key": trend["gpu_key"], "case_key": "short"}]


@pytest.mark.parametrize(
    ("series", "arguments", "message"),
    [
        (
            [make_series(flat(5))],
            (),
            "sqlite:///x.db: the longest series has 5 runs with a latency; a trend needs at least 10",
        ),
        ([], ("--history=postgresql://boss:S3cret@h/db",), "postgresql://boss@h/db: holds no runs"),
        (
            [],
            ("--case", "sdxl/none", "--gpu-key", "t4"),
            "sqlite:///x.db: holds no runs of case sdxl/none on GPU key t4",
        ),
    ],
)
def test_a_history_without_a_trend_is_an_error(capsys, series, arguments, message):
    """Series that are all too short and an unknown case are errors that name the history, without its password."""
    status, _ = run_trend(series, capsys, *arguments)

    assert status == message


def test_the_history_is_that_of_the_other_commands():
    """The default history is the same as for the other commands."""
    assert cli._parse(["trend"]).history == cli._parse(["history", "upgrade"]).history


def test_what_a_run_says_cannot_steer_a_terminal(capsys):
    """Text of a history is printed on one line without control characters."""
    wild = make_series(STEP, case_key="<b>case\x1b[2J\n")

    _, output = run_trend([wild], capsys)

    assert "<b>case?[2J? on " in output
    assert "\x1b" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fail-on", "steps"), "steps: expected step or drift, both, or none"),
        (("--last", "0"), "'0': expected a number of runs, at least 1"),
        (("--recent", "x"), "'x': expected a number of runs, at least 1"),
    ],
)
def test_a_wrong_argument_names_the_valid_ones(capsys, arguments, message):
    """A wrong argument is an error with the valid values."""
    with pytest.raises(SystemExit, match="2"):
        cli._parse(["trend", "--history", "x", *arguments])

    assert message in capsys.readouterr().err
