"""A budget by a clock of its own: what is expected not to fit is not started; and where the seconds went."""

import json

import pytest

from speedgate.measure.budget import DONE, ENDED, Budget, TimingLog, process_age_s, read_timings, timing_table, utc_now
from speedgate.measure.worker import OutOfTime

LOAD, PROCESS = "load and apply", "process"


class Clock:
    """Stands still until it is told."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(tmp_path, clock):
    return TimingLog(path=tmp_path / "times.jsonl", command="this one", clock=clock)


@pytest.fixture
def budget(log, clock):
    """Of 100 s, of which 10 are kept for ending."""
    return Budget(seconds=100.0, clock=clock, log=log)


def saw(log, case, activity, seconds, *, outcome=DONE, command=None):
    """Log a finished activity."""
    mine, log.command = log.command, command or log.command
    log.add(case, activity, seconds=seconds, started_at=utc_now(), outcome=outcome)
    log.command = mine


def test_what_was_never_seen_may_start_while_anything_is_left(budget, clock):
    """Nothing is known of the first case, and after the last second nothing starts."""
    budget.afford("int8", LOAD, PROCESS)
    clock.now_s = 90.0

    with pytest.raises(OutOfTime, match="the budget is over"):
        budget.afford("int8", LOAD, PROCESS)


def test_a_process_that_does_not_fit_is_not_started(budget, clock, log):
    """Its own seconds so far decide, all activities of its start together."""
    saw(log, "int8", LOAD, 20.0)
    saw(log, "int8", "process 1 of 5", 15.0)
    clock.now_s = 54.0
    budget.afford("int8", LOAD, "process 2 of 5")
    clock.now_s = 56.0

    with pytest.raises(
        OutOfTime, match=r"apply \+ process: expected to take 35 s, but only 34 s of the budget are left"
    ):
        budget.afford("int8", LOAD, PROCESS)


def test_a_case_that_is_new_is_expected_to_take_what_the_longest_took(log):
    """Nothing better is known of it."""
    saw(log, "fp32", LOAD, 20.0)
    saw(log, "bf16", LOAD, 12.0)

    assert log.expected_s("sdpa", LOAD) == 20.0


def test_what_was_ended_is_not_tried_with_less(log):
    """An attempt that was cut short says how long it takes at least: a campaign does not spend each budget on the same one."""
    saw(log, "compile", LOAD, 200.0, outcome=ENDED, command="earlier")
    saw(log, "sdpa", LOAD, 20.0)

    assert log.expected_s("compile", LOAD) == 200.0


def test_this_command_knows_best(log):
    """What was compiled cold in an earlier command may be warm by now, and may not: the longest counts until it is seen."""
    saw(log, "compile", LOAD, 200.0, command="earlier")
    saw(log, "compile", LOAD, 15.0, command="earlier")
    assert log.expected_s("compile", LOAD) == 200.0
    saw(log, "compile", LOAD, 14.0)

    assert log.expected_s("compile", LOAD) == 14.0


def test_without_a_budget_everything_fits(log, clock):
    """A recording that is given no seconds takes as long as it takes."""
    saw(log, "int8", PROCESS, 1e6)
    clock.now_s = 1e6

    assert Budget(log=log, clock=clock).afford("int8", PROCESS) is None


def test_nested_activities_count_once(log, clock):
    """An activity excludes the seconds of those inside it, so that all of them add up to the time that passed."""
    with log.time("int8", "claims"):
        clock.now_s += 1.0
        with pytest.raises(OutOfTime), log.time("int8", LOAD, ended_by=OutOfTime):
            clock.now_s += 5.0
            raise OutOfTime("over")
        clock.now_s += 2.0

    assert [(entry.activity, entry.seconds, entry.outcome) for entry in log.entries] == [
        (LOAD, 5.0, ENDED),
        ("claims", 3.0, DONE),
    ]


def test_the_log_is_read_back_without_what_was_cut_short(log):
    """A torn line costs itself and nothing else."""
    saw(log, "int8", LOAD, 3.0)
    with log.path.open("a") as stream:
        stream.write('{"command": "to\n[]\n{"seconds": -1}\n\x00\n')
    saw(log, "int8", PROCESS, 4.0)

    assert read_timings(log.path) == log.entries
    assert len(log.path.read_text().splitlines()) == 6
    assert json.loads(log.path.read_text().splitlines()[0])["seconds"] == 3.0


def test_the_table_tells_the_remainder(log):
    """Activities of this command alone, longest first, then what no activity covers."""
    saw(log, "int8", LOAD, 99.0, command="earlier")
    saw(log, "int8", LOAD, 2.0)
    saw(log, "int8", "process 1 of 2", 3.0)
    saw(log, "int8", "process 2 of 2", 3.0)

    lines = timing_table(log.entries, command=log.command, wall_s=10.0)

    assert [line.split() for line in lines] == [
        ["process", "2", "6.0", "s", "60.0%"],
        ["load", "and", "apply", "1", "2.0", "s", "20.0%"],
        ["in", "no", "activity", "2.0", "s", "20.0%"],
        ["this", "command", "10.0", "s"],
    ]


def test_the_time_since_the_start_is_that_of_the_process():
    """A budget counts from the interpreter's start, before anything of ours was imported."""
    import time

    import psutil

    assert process_age_s() == pytest.approx(time.time() - psutil.Process().create_time(), abs=1.5)
