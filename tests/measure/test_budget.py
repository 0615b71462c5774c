"""The budget of a recording, with a fake clock, and the log of where the seconds went."""

import json
import time

import psutil
import pytest

from speedgate.measure.budget import DONE, ENDED, Budget, TimingLog, process_age_s, read_timings, timing_table, utc_now
from speedgate.measure.worker import OutOfTime
from tests.support.fake_worker import FakeClock

LOAD, PROCESS = "load and apply", "process"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def log(tmp_path, clock):
    return TimingLog(path=tmp_path / "times.jsonl", command="this one", clock=clock)


@pytest.fixture
def budget(log, clock):
    """A budget of 100 s, of which 10 s are reserved for the end."""
    return Budget(seconds=100.0, clock=clock, log=log)


def add_entry(log, case, activity, seconds, *, outcome=DONE, command=None):
    """Log a finished activity."""
    this_command, log.command = log.command, command or log.command
    log.add(case, activity, seconds=seconds, started_at=utc_now(), outcome=outcome)
    log.command = this_command


def test_an_unknown_activity_may_start_while_any_time_is_left(budget, log, clock):
    """The first case has no estimate, so it may start until the budget is over; without a budget there is no end."""
    budget.afford("int8", LOAD, PROCESS)
    clock.now_s = 90.0

    with pytest.raises(OutOfTime, match="the budget is over"):
        budget.afford("int8", LOAD, PROCESS)
    assert Budget(log=log, clock=clock).afford("int8", PROCESS) is None


def test_an_activity_that_the_case_never_had_counts_as_in_the_slowest_case(budget, log, clock):
    """A budget is no place for hope: what does not fit for another case is not started."""
    add_entry(log, "fp32", LOAD, 20.0)
    add_entry(log, "bf16", LOAD, 12.0)
    clock.now_s = 71.0

    with pytest.raises(OutOfTime, match="expected to take 20 s, but only 19 s of the budget are left"):
        budget.afford("int8", LOAD)


def test_a_process_that_does_not_fit_is_not_started(budget, clock, log):
    """The case's own earlier seconds are the estimate, summed over all activities of the process."""
    add_entry(log, "int8", LOAD, 20.0)
    add_entry(log, "int8", "process 1 of 5", 15.0)
    clock.now_s = 54.0
    budget.afford("int8", LOAD, "process 2 of 5")
    clock.now_s = 56.0

    with pytest.raises(
        OutOfTime, match=r"apply \+ process: expected to take 35 s, but only 34 s of the budget are left"
    ):
        budget.afford("int8", LOAD, PROCESS)


@pytest.mark.parametrize(
    ("entries", "expected_s"),
    [
        ([("fp32", 20.0, {}), ("bf16", 12.0, {})], 0.0),
        ([("compile", 200.0, {"outcome": ENDED, "command": "earlier"}), ("sdpa", 20.0, {})], 200.0),
        ([("compile", 200.0, {"command": "earlier"}), ("compile", 15.0, {"command": "earlier"})], 200.0),
        ([("compile", 200.0, {"command": "earlier"}), ("compile", 30.0, {}), ("compile", 14.0, {})], 14.0),
    ],
    ids=["never that of another case", "an ended attempt is a lower bound", "a cold compile cache", "this command"],
)
def test_the_best_earlier_seconds_are_the_estimate(log, entries, expected_s):
    """The last time in this command, else the longest of the case, also if it was cut short; another pipeline's says nothing."""
    for case, seconds, options in entries:
        add_entry(log, case, LOAD, seconds, **options)

    assert log.expected_s("compile", LOAD) == expected_s


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


def test_incomplete_lines_of_the_log_are_skipped(log):
    """An incomplete line does not affect the other lines."""
    add_entry(log, "int8", LOAD, 3.0)
    with log.path.open("a") as stream:
        stream.write('{"command": "to\n[]\n{"seconds": -1}\n\x00\n')
    add_entry(log, "int8", PROCESS, 4.0)

    assert read_timings(log.path) == log.entries
    assert len(log.path.read_text().splitlines()) == 6
    assert json.loads(log.path.read_text().splitlines()[0])["seconds"] == 3.0


def test_the_table_ends_with_the_uncovered_seconds(log):
    """The table has the activities of this command, longest first, then the seconds that no activity covers."""
    add_entry(log, "int8", LOAD, 99.0, command="earlier")
    add_entry(log, "int8", LOAD, 2.0)
    add_entry(log, "int8", "process 1 of 2", 3.0)
    add_entry(log, "int8", "process 2 of 2", 3.0)

    lines = timing_table(log.entries, command=log.command, wall_s=10.0)

    assert [line.split() for line in lines] == [
        ["process", "2", "6.0", "s", "60.0%"],
        ["load", "and", "apply", "1", "2.0", "s", "20.0%"],
        ["in", "no", "activity", "2.0", "s", "20.0%"],
        ["this", "command", "10.0", "s"],
    ]


def test_the_age_of_the_process_counts_from_its_start():
    """A budget counts from the start of the interpreter, before any import."""
    earliest_s = process_age_s()
    age_s = time.time() - psutil.Process().create_time()

    assert earliest_s - 1.0 <= age_s <= process_age_s() + 1.0  # the kernel's time of boot is in whole seconds
