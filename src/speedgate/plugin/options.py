"""The command-line options of the plugin, and the measurement plan and the gate policy that they result in."""

from __future__ import annotations

import argparse
import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from speedgate.fleet.shards import Shard, parse_shard
from speedgate.gate.intervals import MIN_PROCESSES, Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.history import database
from speedgate.measure.machine import DEVICES
from speedgate.measure.rounds import MeasurementPlan
from speedgate.plugin import gpu_code, injection
from speedgate.plugin.session import ConfirmationPlan

ROUNDS = 10  # in each process, if their total time is long enough
# Processes of a recording. Eight cost time once, and save processes in every later run that is judged by the baseline.
RECORD_PROCESSES, MIN_RECORD_PROCESSES = 8, 5
# Processes before the first verdict by a recorded baseline, and pairs of processes before the first of a live comparison;
# then the largest numbers, at which an undecided verdict stays undecided.
FIRST_LOOK_PROCESSES, FIRST_LOOK_PAIRS = 3, 6
MAX_PROCESSES, MAX_PAIRS = 8, 12
# The least total time of the rounds of one process, in seconds; more rounds are measured until it is reached. On one test
# machine, pairs of processes of the tiny pipeline spread by 1.5 % after 20 rounds of 50 ms and by 0.7 % after 100 rounds.
MIN_TOTAL_S, AGAINST_MIN_TOTAL_S = 1.0, 3.0
# Pairs of processes of a fire drill, and rounds in each: few, because its fault is large. A gate of memory needs no spread of
# processes.
DRILL_FIRST_LOOK_PAIRS, DRILL_MAX_PAIRS, DRILL_MEMORY_PAIRS, DRILL_ROUNDS = 4, 8, 1, 6

Number = TypeVar("Number", int, float)


def add_options(parser: pytest.Parser) -> None:
    """Add every option of the plugin to pytest."""
    group = parser.getgroup("speedgate")
    _add_gate_options(group)
    _add_measurement_options(group)
    _add_result_options(group)
    injection.add_option(group)
    gpu_code.add_options(group)
    group.addoption("--device", choices=DEVICES, default="auto", help="where cases run (default: %(default)s)")
    group.addoption(
        "--gpu-key",
        metavar="KEY",
        help="stop with an error unless this machine has this GPU key (the name of its folder in baselines/)",
    )
    group.addoption(
        "--isolation",
        choices=["process", "none"],
        default="process",
        help="process: each case has a worker process; none: build cases in this process, for a debugger (default: %(default)s)",
    )
    group.addoption(
        "--allow-busy",
        action="store_true",
        help="measure on a CPU although other programs use it: no round is measured again for that, and no case is INVALID"
        " (always so without a baseline to compare with, and in a fire drill)",
    )
    group.addoption(
        "--worker-timeout",
        type=_positive_float,
        default=1800.0,
        metavar="SECONDS",
        help="kill a worker that does not answer one request within this time (default: %(default)s)",
    )


def _add_result_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--results",
        type=Path,
        metavar="DIR",
        help="write the result file of each case into this folder, as soon as the case is done (default: .speedgate/TIME)",
    )
    group.addoption(
        "--report",
        type=Path,
        metavar="FILE",
        help="write a report as one HTML file when the session ends; collects the images of every case for it",
    )
    group.addoption(
        "--history",
        nargs="?",
        const=True,
        type=_history_url,
        metavar="URL",
        help=f"add each case to this history when the session ends: {database.URL_FORMS} (without URL: {database.DEFAULT_FILE})",
    )


def _add_gate_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--gate",
        choices=[mode.value for mode in Mode],
        default=Mode.AUTO.value,
        help="which verdicts fail their test. auto: failed claims, and figures worse than their baseline; enforce: also a "
        "missing, stale or undecided baseline; report: none; record: failed claims only, and write obtained.json "
        "(default: %(default)s)",
    )
    group.addoption(
        "--confirm",
        choices=[confirm.value for confirm in Confirm],
        default=Confirm.AUTO.value,
        help="measure a case that its baseline calls slower, or that stays undecided, again in live pairs with the code and"
        " versions of the baseline; the pairs decide. auto: with --gate enforce; always: with --gate auto too"
        " (default: %(default)s)",
    )
    group.addoption(
        "--strict-improvement",
        action="store_true",
        help="the verdicts FASTER and SMALLER fail the test too, until a new baseline is recorded",
    )
    group.addoption(
        "--tolerance",
        action="append",
        type=_tolerance,
        default=[],
        metavar="[STAGE=]PERCENT",
        help="latency tolerance, for all stages or for one; repeatable (default: 3)",
    )
    group.addoption(
        "--against",
        metavar="PYTHON",
        help="compare each case with the same case in this Python interpreter instead of with a baseline; rounds take turns",
    )
    group.addoption(
        "--against-rootdir",
        type=Path,
        metavar="DIR",
        help="compare each case with the same case of this checkout of the repository (with --against: in that interpreter)",
    )


def _add_measurement_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--budget",
        type=_positive_float,
        metavar="SECONDS",
        help="with --gate record: stop before the command has run this long; the same command continues the recording"
        f" (each case then needs {MIN_PROCESSES} processes only); with --confirm: confirm no case after that time",
    )
    group.addoption(
        "--processes",
        type=_positive_int,
        metavar="N",
        help="fresh worker processes of each case before its first verdict (default: 1;"
        f" with a recorded baseline {FIRST_LOOK_PROCESSES}; with --against {FIRST_LOOK_PAIRS} pairs;"
        f" with --gate record {RECORD_PROCESSES}, and at least {MIN_RECORD_PROCESSES})",
    )
    group.addoption(
        "--max-processes",
        type=_positive_int,
        metavar="N",
        help=f"measure more processes, up to this number, while the verdict is undecided (default: {MAX_PROCESSES};"
        f" with --against {MAX_PAIRS} pairs)",
    )
    group.addoption(
        "--rounds",
        type=_positive_int,
        metavar="N",
        help=f"rounds in each process (default: {ROUNDS}, or as many as take {MIN_TOTAL_S:g} s if that is more;"
        f" {AGAINST_MIN_TOTAL_S:g} s with --against)",
    )
    group.addoption(
        "--shard",
        type=parse_shard,
        default=Shard(),
        metavar="I/N",
        help="measure shard I of N of the selected cases; `speedgate merge` joins the results of all shards",
    )
    group.addoption(
        "--skip-latency",
        action="store_true",
        help="leave out every test that measures rounds: structure and images are judged, latency and memory are not",
    )
    group.addoption(
        "--quick",
        action="store_true",
        help="check structure and images of the stages that compile nothing, in the tiny size and in one process; measure"
        " nothing",
    )


class Confirm(enum.StrEnum):
    """When live pairs confirm a case that its stored figure suspects (`--confirm`)."""

    AUTO = "auto"  # with --gate enforce
    ALWAYS = "always"  # with --gate auto too
    NEVER = "never"


def confirmation_plan(config: pytest.Config) -> ConfirmationPlan | None:
    """Return how suspected cases are confirmed, or None if they are not.

    Raises `pytest.UsageError` if `--confirm always` is combined with an option that leaves nothing to confirm.
    """
    confirm, mode = Confirm(config.getoption("confirm")), Mode(config.getoption("gate"))
    obstacles = {
        f"--gate {mode}": mode in (Mode.RECORD, Mode.REPORT),
        "--quick": config.getoption("quick"),
        "--inject": bool(config.getoption("inject")),
        "--against-rootdir": config.getoption("against_rootdir") is not None,
        "--against": is_live_comparison(config),
        "--gpu-code": bool(config.getoption("gpu_code")),
        "--skip-latency": config.getoption("skip_latency"),
        "--isolation none": config.getoption("isolation") == "none",
    }
    obstacle = next((name for name, is_chosen in obstacles.items() if is_chosen), None)
    if confirm is Confirm.ALWAYS and obstacle is not None:
        raise pytest.UsageError(
            f"--confirm always: cannot be used with {obstacle}, because nothing is confirmed with it; drop one of them"
        )
    if obstacle is not None or not (confirm is Confirm.ALWAYS or (confirm is Confirm.AUTO and mode is Mode.ENFORCE)):
        return None
    rounds = config.getoption("rounds")
    measurement = MeasurementPlan(
        processes=1, rounds=rounds or ROUNDS, min_total_s=0.0 if rounds else AGAINST_MIN_TOTAL_S
    )
    looks = Looks(first=FIRST_LOOK_PAIRS, last=MAX_PAIRS)
    return ConfirmationPlan(looks=looks, measurement=measurement, budget_s=config.getoption("budget"))


def apply_quick(config: pytest.Config) -> None:
    """Set the options that `--quick` stands for. Raises `pytest.UsageError` if another option needs what it leaves out."""
    option = config.option
    if not option.quick:
        return
    chosen = {
        "--gate record": option.gate == Mode.RECORD,
        "--gate enforce": option.gate == Mode.ENFORCE,
        "--against": option.against is not None,
        "--against-rootdir": option.against_rootdir is not None,
        "--inject": bool(option.inject),
        "--history": option.history is not None,
        f"--shard {option.shard}": option.shard.of > 1,
    }
    for name, is_chosen in chosen.items():
        if is_chosen:
            raise pytest.UsageError(
                f"--quick: cannot be used with {name}, because --quick measures nothing and leaves stages out; drop one of them"
            )
    option.skip_latency, option.isolation = True, "none"


def check_measures(config: pytest.Config, mode: Mode) -> None:
    """Raise `pytest.UsageError` if pytest-benchmark measures nothing although a gate, a recording or a confirmation needs it."""
    if is_compared_drill(config):
        purpose = "--inject"
    elif is_live_comparison(config):
        purpose = "--against"
    elif mode in (Mode.ENFORCE, Mode.RECORD):
        purpose = f"--gate {mode}"
    elif config.option.confirm == Confirm.ALWAYS:
        purpose = "--confirm always"
    else:
        return
    for name in ("benchmark-skip", "benchmark-disable"):
        if getattr(config.option, name.replace("-", "_"), False):
            raise pytest.UsageError(
                f"--{name}: {purpose} needs the latency, and this option measures none; drop one of them"
            )


def is_live_comparison(config: pytest.Config) -> bool:
    """Return True if `--against`, `--against-rootdir` or the fault of `--inject` asks for a live comparison."""
    options = config.option
    return options.against is not None or options.against_rootdir is not None or is_compared_drill(config)


def is_compared_drill(config: pytest.Config) -> bool:
    """Return True if the fault of `--inject` is found by a comparison with the same code without the fault."""
    chosen = injection.chosen_fault(config)
    return chosen is not None and chosen.fault.is_compared


def allows_busy(config: pytest.Config, *, has_baselines: bool) -> bool:
    """Return True if rounds on a busy machine count: by `--allow-busy`, or because no close decision depends on them.

    A first run has no baseline, and a fault of the fire drill is far larger than the noise of pairs.
    """
    if config.getoption("allow_busy") or is_compared_drill(config):
        return True
    is_recording = config.getoption("gate") == Mode.RECORD
    return not (has_baselines or is_recording or is_live_comparison(config))


def uses_baselines(config: pytest.Config) -> bool:
    """Return True if verdicts compare with the baselines of this machine."""
    return not is_live_comparison(config) and injection.chosen_fault(config) is None


def measurement_plan(config: pytest.Config) -> MeasurementPlan:
    """Return the number of processes and rounds. Raises `pytest.UsageError` if options contradict one another."""
    is_recording = config.getoption("gate") == Mode.RECORD
    is_isolated = config.getoption("isolation") != "none"
    processes, rounds, budget = (config.getoption(name) for name in ("processes", "rounds", "budget"))
    min_processes = MIN_RECORD_PROCESSES if budget is None else MIN_PROCESSES  # `promote` needs no more than these
    if is_recording and processes is not None and processes < min_processes:
        raise pytest.UsageError(
            f"--processes {processes}: a recording needs at least {min_processes} processes, to measure the spread between"
            " processes"
        )
    has_budget = confirmation_plan(config) is not None or (is_recording and is_isolated)
    if budget is not None and not has_budget:
        remedy = "add --gate record, --gate enforce or --confirm always" if is_isolated else "drop --isolation none"
        raise pytest.UsageError(f"--budget: limits a recording or live pairs, and this command has neither; {remedy}")
    if is_recording and config.getoption("skip_latency"):
        raise pytest.UsageError(
            "--skip-latency: cannot be used with --gate record, which measures latency; drop one of them"
        )
    if is_recording and config.getoption("shard").of > 1:
        raise pytest.UsageError(
            f"--shard {config.getoption('shard')}: cannot be used with --gate record, which writes one file for one machine;"
            " drop --shard, or record and promote one pipeline after the other with --pipeline"
        )
    if is_live_comparison(config) and (is_recording or not is_isolated):
        obstacle, reason = (
            ("--gate record", "stores no baseline")
            if is_recording
            else ("--isolation none", "needs two worker processes")
        )
        raise pytest.UsageError(
            f"--against: cannot be used with {obstacle}, because a live comparison {reason}; drop one of them"
        )
    return MeasurementPlan(
        processes=processes or (RECORD_PROCESSES if is_recording else 1),
        rounds=rounds or (DRILL_ROUNDS if is_compared_drill(config) else ROUNDS),
        min_total_s=0.0 if rounds else _min_total_s(config),
    )


def _min_total_s(config: pytest.Config) -> float:
    is_precise = is_live_comparison(config) and not is_compared_drill(config)
    return AGAINST_MIN_TOTAL_S if is_precise else MIN_TOTAL_S


def gate_policy(config: pytest.Config) -> Policy:
    """Return the tolerances, and the numbers of processes at which a verdict is tried."""
    default_first, default_last = _default_looks(config)
    processes, max_processes = config.getoption("processes"), config.getoption("max_processes")
    first = processes or min(default_first, max_processes or default_first)
    if max_processes is not None and max_processes < first:
        raise pytest.UsageError(
            f"--max-processes {max_processes}: less than --processes {first}; raise it to {first} or more"
        )
    tolerance_by_stage = dict(config.getoption("tolerance"))
    default_tolerance = tolerance_by_stage.pop(None, Policy.latency_tolerance)
    return Policy(
        mode=Mode(config.getoption("gate")),
        looks=Looks(first=first, last=max_processes or max(first, default_last)),
        latency_tolerance=default_tolerance,
        stage_tolerances=tolerance_by_stage,
        strict_improvement=config.getoption("strict_improvement"),
    )


def _default_looks(config: pytest.Config) -> tuple[int, int]:
    """Return the first and the largest number of processes, or of pairs, at which a verdict is tried."""
    chosen = injection.chosen_fault(config)
    if chosen is not None and chosen.fault.gate == "memory":
        return DRILL_MEMORY_PAIRS, DRILL_MEMORY_PAIRS
    if is_compared_drill(config):
        return DRILL_FIRST_LOOK_PAIRS, DRILL_MAX_PAIRS
    return (FIRST_LOOK_PAIRS, MAX_PAIRS) if is_live_comparison(config) else (FIRST_LOOK_PROCESSES, MAX_PROCESSES)


def _history_url(text: str) -> str:
    try:
        return database.check_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _tolerance(text: str) -> tuple[str | None, float]:
    stage, equals, percent = text.rpartition("=")
    value = _number(float, percent.removesuffix("%"))
    if value is None or not 0 < value < 100 or (equals and not stage):
        raise argparse.ArgumentTypeError(
            f"{text}: expected PERCENT or STAGE=PERCENT, above 0 and below 100, for example int8=5"
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
        raise argparse.ArgumentTypeError(f"{text}: expected a number of seconds, above 0")
    return value


def _number(kind: Callable[[str], Number], text: str) -> Number | None:
    """Return the number, or None: argparse's own message for a `ValueError` names our function, not the valid values."""
    try:
        return kind(text)
    except ValueError:
        return None
