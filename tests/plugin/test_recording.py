"""A recording that was killed at any moment continues and gives the same record; a budget ends it in good order."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from speedgate.measure import budget
from speedgate.results.case_key import CaseKey
from speedgate.results.exit_status import ExitStatus
from tests.plugin.test_recording_again import end_workers, obtained
from tests.support.suite import Folder, Suite, red

STAGES = "--stage=fp32,bf16,sdpa,compile"
KILLS, PROCESSES = 10, 4
RECORD = ("--gate=record", "--budget=600", f"--processes={PROCESSES}", "--rounds=4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recording that was not interrupted."""
    suite = Suite(Folder(tmp_path_factory.mktemp("whole")))
    return suite, suite.run(*RECORD, STAGES)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The same command, killed ten times and then run to its end: the suite, the exit statuses, and the last result."""
    suite = Suite(Folder(tmp_path_factory.mktemp("killed")))
    draw = random.Random(7)  # noqa: S311 - not for secrets
    statuses = [kill(suite, builds=draw.choice([0, 1, 1]), then_s=draw.uniform(0, 0.3)) for _ in range(KILLS)]
    last = suite.run(*RECORD, STAGES)
    yield suite, statuses, last
    end_workers(suite)


def kill(suite, *, builds, then_s):
    """Kill a recording some seconds after it has started and has built so many more workers."""
    logs = (
        suite.path / "builds.log",
        suite.path / "baselines" / suite.machine.key / "recording" / budget.TIMINGS_FILE,
    )
    before = [count_lines(path) for path in logs]
    command = [sys.executable, "-m", "pytest", *suite.arguments(*RECORD, STAGES)]
    process = subprocess.Popen(command, cwd=suite.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while count_lines(logs[0]) < before[0] + builds or count_lines(logs[1]) == before[1]:
        assert time.monotonic() < deadline_s and process.poll() is None, "the recording ended before it could be killed"
        time.sleep(0.02)
    time.sleep(then_s)
    process.kill()
    return process.wait()


def count_lines(path):
    """Return the number of lines of a file, 0 if it does not exist yet."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def without_machine(entry):
    """Return the record of a case without its time and the readings of the machine."""
    processes = [{**process, "health": None} for process in entry["run"]["processes"]]
    return {**entry, "session": None, "run": {**entry["run"], "processes": processes}}


def judged(suite, stage):
    """Return claim and outcome of every verdict on a stage."""
    return sorted((verdict["claim"], verdict["outcome"]) for verdict in suite.result(stage)["verdicts"])


def test_ten_kills_change_nothing_in_the_record(whole, killed):
    """Cases, processes, rounds, counts and parity are those of an uninterrupted recording, and every claim is judged."""
    suite, statuses, last = killed
    expected, actual = obtained(whole[0]), obtained(suite)

    assert statuses == [-signal.SIGKILL] * KILLS
    assert (whole[1].ret, last.ret, red(last)) == (0, 0, [])
    assert list(actual) == list(expected) == STAGES.partition("=")[2].split(",")
    for stage, entry in expected.items():
        assert without_machine(actual[stage]) == without_machine(entry)
        assert len(entry["run"]["processes"]) == PROCESSES
        assert judged(suite, stage) == judged(whole[0], stage)


def test_a_kill_costs_one_process_at_most(whole, killed):
    """A finished process is never measured again: each kill loses at most the process that was running."""
    assert len(killed[0].builds()) <= len(whole[0].builds()) + KILLS


def test_a_finished_recording_moves_its_log_to_the_results(killed):
    """The log has all eleven commands, and the folder of checkpoints is removed."""
    suite = killed[0]
    commands = {entry.command for entry in budget.read_timings(suite.path / "results" / budget.TIMINGS_FILE)}

    assert len(commands) == KILLS + 1
    assert not (suite.path / "baselines" / suite.machine.key / "recording").exists()


def test_the_seconds_are_accounted_for(whole):
    """The activities of a command cover most of its wall time, and the table shows the rest."""
    suite, result = whole
    entries = budget.read_timings(suite.path / "results" / budget.TIMINGS_FILE)

    covered_s = sum(entry.seconds for entry in entries)
    assert 0.7 * result.duration < covered_s < result.duration + 1
    result.stdout.re_match_lines([r"load and apply +16 +[\d.]+ s +[\d.]+%", r"in no activity .*", r"this command .*"])


def test_eager_cases_run_before_compiled_ones(whole):
    """In every pipeline, comparisons included, so that an interrupted recording has the cheap cases."""
    options = ("--gate=record", "--collect-only", "--quiet", "--pipeline=sdxl,sd15", "--stage=sdpa,compile")
    lines = [line for line in whole[0].run(*options).outlines if "::test_" in line and "[" in line]
    compiling = [line.rpartition("[")[2].rstrip("]").endswith("compile") for line in lines]

    assert compiling == sorted(compiling)
    assert any("test_parity" in line for line in lines[: compiling.index(True)])
    assert not (whole[0].path / "baselines" / whole[0].machine.key / "recording").exists()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A recording whose second case hangs in its third process until the budget is over, and the same command again."""
    suite = Suite(Folder(tmp_path_factory.mktemp("stopped")))
    suite.misbehave(bf16={"hang": "generate", "from": 3})
    secret = ("-o", "junit_suite_name=postgresql://boss:S3cret!pw@h/db")  # a password in the command
    command = ("--gate=record", "--processes=3", "--rounds=4", "--stage=fp32,bf16,sdpa", *secret)
    first = suite.run("--budget=12", *command)
    checkpoints = sorted(path.name for path in (suite.path / "baselines" / suite.machine.key / "recording").iterdir())
    unfinished = (suite.path / "baselines" / suite.machine.key / "obtained.json").read_text()
    suite.misbehave()
    again = suite.run("--budget=600", *command)
    return suite, first, checkpoints, json.loads(unfinished), again


def test_a_budget_that_is_over_ends_the_running_process(stopped):
    """The command stops in time with an exit status for that, without red tests and without a worker left."""
    suite, first, *_ = stopped

    assert (first.ret, red(first)) == (ExitStatus.UNFINISHED, [])
    assert first.duration < 12 + 10  # to start pytest and to end a worker takes seconds on a busy machine
    pids = [int(line.split()[1]) for line in (suite.path / "builds.log").read_text().splitlines()]
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110 - not a file


def test_the_unfinished_cases_are_listed(stopped):
    """The last lines list each case with its processes, and the command that continues."""
    first = stopped[1]

    assert "the same command continues the recording" in first.outlines[-2]
    assert "S3cret" not in first.stdout.str()
    first.stdout.re_match_lines(
        [
            r"the budget of 12 s is over \(exit status 75\); left to do:",
            r"  sdxl-tiny/bf16/\S+: 2 of 3 processes; 'generate' was ended when the budget was over",
            r"  sdxl-tiny/sdpa/\S+: 0 of 3 processes; the budget is over",
            r"the same command continues the recording: pytest bench .*--budget=12.*",
        ]
    )


def test_an_ended_process_does_not_count(stopped):
    """The ended process is measured again, those before it are not, and before that no case can be promoted."""
    suite, _, checkpoints, unfinished, again = stopped
    reasons = unfinished["speedgate"]["failed"] if "speedgate" in unfinished else {}
    reasons |= {
        block["run"]["case_key"]: block["reason"]
        for entry in unfinished["benchmarks"]
        if (block := entry["extra_info"]["speedgate"])["outcome"] == "failed"
    }

    assert {CaseKey.parse(key).stage for key in reasons} == {"bf16", "sdpa"}
    assert "sdxl-tiny__bf16__64px-4steps-b1.json" in checkpoints
    assert again.ret == 0
    assert suite.builds() == [*["fp32"] * 3, *["bf16"] * 3, "bf16", *["sdpa"] * 3]
    assert all(len(entry["run"]["processes"]) == 3 for entry in obtained(suite).values())
