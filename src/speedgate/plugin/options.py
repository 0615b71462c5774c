"""The options that any suite would have, and what they come to: how much is measured and what is tolerated."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from speedgate.fleet.shards import Shard, parse_shard
from speedgate.gate.intervals import MIN_PROCESSES, Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.machine import DEVICES
from speedgate.measure.rounds import MeasurementPlan

ROUNDS = 10
# Processes: recorded, and recorded at least; before the first verdict by a recorded baseline; pairs before the first one of
# a live comparison. Eight recorded ones are paid for once and spare every later run some.
RECORD_PROCESSES, MIN_RECORD_PROCESSES, FIRST_LOOK_PROCESSES, FIRST_LOOK_PAIRS = 8, 5, 3, 6
MAX_PROCESSES, MAX_PAIRS = 8, 12
# Short rounds are repeated for this long in each process: on the machine that this was written on, pairs of processes of
# the tiny pipeline spread by 1.5 % after 20 rounds of 50 ms and by 0.7 % after 100.
MIN_TOTAL_S, AGAINST_MIN_TOTAL_S = 1.0, 3.0

_N = TypeVar("_N", int, float)


def add_options(parser: pytest.Parser) -> None:
    """Register them."""
    group = parser.getgroup("speedgate")
    _add_gate(group)
    _add_measuring(group)
    group.addoption("--device", choices=DEVICES, default="auto", help="where cases run (default: %(default)s)")
    group.addoption(
        "--gpu-key", metavar="KEY", help="refuse to run unless this machine has that key, a folder of baselines/"
    )
    group.addoption(
        "--isolation",
        choices=["process", "none"],
        default="process",
        help="none: build cases in this process, for a debugger (default: %(default)s)",
    )
    group.addoption(
        "--worker-timeout",
        type=_positive_float,
        default=1800.0,
        metavar="SECONDS",
        help="kill a worker that does not answer one request within this (default: %(default)s)",
    )
    group.addoption(
        "--results",
        type=Path,
        metavar="DIR",
        help="where each case is written when it is done (default: .speedgate/TIME)",
    )
    group.addoption(
        "--report",
        type=Path,
        metavar="FILE",
        help="write what was found as one HTML file; looks at what each case makes",
    )


def _add_gate(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--gate",
        choices=[mode.value for mode in Mode],
        default=Mode.AUTO.value,
        help="auto: enforce what has a baseline on this machine; enforce: a missing, stale or undecided one is red "
        "too; record: write obtained.json; report: never red (default: %(default)s)",
    )
    group.addoption(
        "--strict-improvement", action="store_true", help="FASTER and SMALLER are red until their baseline is recorded"
    )
    group.addoption(
        "--tolerance",
        action="append",
        type=_tolerance,
        default=[],
        metavar="[STAGE=]PERCENT",
        help="latency tolerance, of one stage where it is named; repeatable (default: 3)",
    )
    group.addoption(
        "--against",
        metavar="PYTHON",
        help="judge by the same cases in this interpreter, both alive and taking turns, instead of by stored baselines",
    )
    group.addoption(
        "--against-rootdir",
        type=Path,
        metavar="DIR",
        help="the other arm is built by this checkout of the repository (with --against: in that interpreter)",
    )


def _add_measuring(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--budget",
        type=_positive_float,
        metavar="SECONDS",
        help="of a recording: stop cleanly before this command has run so long, and go on when it is given again"
        f" (with it, at least {MIN_PROCESSES} processes)",
    )
    group.addoption(
        "--processes",
        type=_positive_int,
        metavar="N",
        help="fresh worker processes a case before its first verdict, the unit of replication (default: 1;"
        f" {FIRST_LOOK_PROCESSES} where there is a recorded baseline, {FIRST_LOOK_PAIRS} pairs with --against,"
        f" {RECORD_PROCESSES} with --gate record, which takes no fewer than {MIN_RECORD_PROCESSES})",
    )
    group.addoption(
        "--max-processes",
        type=_positive_int,
        metavar="N",
        help=f"add processes up to this many while a verdict is undecided (default: {MAX_PROCESSES}, {MAX_PAIRS} pairs"
        " with --against)",
    )
    group.addoption(
        "--rounds",
        type=_positive_int,
        metavar="N",
        help=f"rounds in each process (default: {ROUNDS}, and more where those take less than {MIN_TOTAL_S:g} s,"
        f" {AGAINST_MIN_TOTAL_S:g} s with --against)",
    )
    group.addoption(
        "--shard",
        type=parse_shard,
        default=Shard(),
        metavar="I/N",
        help="measure the I-th of N parts of the selected cases; `speedgate merge` joins the results of all N",
    )
    group.addoption(
        "--skip-latency",
        action="store_true",
        help="leave out every test that measures rounds: what is built and what it makes is judged, its speed is not",
    )


def is_live_comparison(config: pytest.Config) -> bool:
    """Whether a live comparison was asked for."""
    return config.getoption("against") is not None or config.getoption("against_rootdir") is not None


def measurement_plan(config: pytest.Config) -> MeasurementPlan:
    """How much is measured; `pytest.UsageError` where the options contradict one another."""
    recording = config.getoption("gate") == Mode.RECORD
    asked, rounds = config.getoption("processes"), config.getoption("rounds")
    budget = config.getoption("budget")
    least = MIN_RECORD_PROCESSES if budget is None else MIN_PROCESSES  # where time is short, what can be promoted
    if recording and asked is not None and asked < least:
        raise pytest.UsageError(
            f"--processes {asked}: a baseline takes at least {least}, of which later verdicts learn the spread"
        )
    if budget is not None and (not recording or config.getoption("isolation") == "none"):
        raise pytest.UsageError(
            "--budget: it ends the workers of a recording; add --gate record, and drop --isolation none"
        )
    if recording and config.getoption("skip_latency"):
        raise pytest.UsageError("--skip-latency: --gate record is there to measure; drop one of the two")
    if recording and config.getoption("shard").of > 1:
        raise pytest.UsageError(
            f"--shard {config.getoption('shard')}: --gate record makes one file of one machine; drop --shard, or record and"
            " promote a part at a time with --pipeline: each case's newest figure counts"
        )
    if is_live_comparison(config) and (recording or config.getoption("isolation") == "none"):
        raise pytest.UsageError(
            "--against: a live comparison needs two workers and stores nothing; drop --gate record and --isolation none"
        )
    return MeasurementPlan(
        processes=asked or (RECORD_PROCESSES if recording else 1),
        rounds=rounds or ROUNDS,
        min_total_s=0.0 if rounds else AGAINST_MIN_TOTAL_S if is_live_comparison(config) else MIN_TOTAL_S,
    )


def gate_policy(config: pytest.Config) -> Policy:
    """What is tolerated, and the numbers of processes at which a verdict is tried."""
    first, most = (FIRST_LOOK_PAIRS, MAX_PAIRS) if is_live_comparison(config) else (FIRST_LOOK_PROCESSES, MAX_PROCESSES)
    asked, asked_most = config.getoption("processes"), config.getoption("max_processes")
    first = asked or min(first, asked_most or first)
    if asked_most is not None and asked_most < first:
        raise pytest.UsageError(
            f"--max-processes {asked_most}: fewer than --processes {first}; raise it to {first} or more"
        )
    stages = dict(config.getoption("tolerance"))
    default = stages.pop(None, Policy.latency_tolerance)
    return Policy(
        mode=Mode(config.getoption("gate")),
        looks=Looks(first=first, last=asked_most or max(first, most)),
        latency_tolerance=default,
        stage_tolerances=stages,
        strict_improvement=config.getoption("strict_improvement"),
    )


def _tolerance(text: str) -> tuple[str | None, float]:
    stage, equals, percent = text.rpartition("=")
    value = _number(float, percent.removesuffix("%"))
    if value is None or not 0 < value < 100 or (equals and not stage):
        raise argparse.ArgumentTypeError(
            f"{text}: expected PERCENT or STAGE=PERCENT, above 0 and below 100, as in int8=5"
        )
    return stage or None, value / 100


def _positive_int(text: str) -> int:
    value = _number(int, text)
    if value is None or value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return value


def _positive_float(text: str) -> float:
    value = _number(float, text)
    if value is None or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above zero")
    return value


def _number(kind: Callable[[str], _N], text: str) -> _N | None:
    """None where it is none: argparse's own words for a `ValueError` name our function and not what would do."""
    try:
        return kind(text)
    except ValueError:
        return None
