"""Measure rounds beside busy loops, derive when a machine is busy, and write `docs/busy.md`: `python -m tests.proof.busy`.

It takes six minutes and needs a machine on which nothing else runs. `--rows FILE` stores what was measured, or reads it if the
file is there.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from speedgate.measure import host_load
from speedgate.measure.host_load import BusyDetector, Counters, RoundLoad, process_family, read_counters, round_load
from speedgate.measure.import_server import ImportServers
from speedgate.measure.machine import resolve_machine
from speedgate.measure.monitor import HostMonitor
from speedgate.measure.rounds import InvalidMeasurement, Measurement, MeasurementPlan, measure_process
from speedgate.measure.worker import Worker
from speedgate.plugin import options
from speedgate.results.run import ColdStart, Outcome
from tests.proof.replay import STORED_LOOKS, TOLERANCE, sequential

ROOT = Path(__file__).parents[2]
LOOPS = (0, 1, 2, 4)
IDLE = "none"
SOMETIMES = "1, for 1 s of every 4 s"
BUSY = "while True: pass"
BUSY_SOMETIMES = """
import time
while True:
    end = time.monotonic() + 1
    while time.monotonic() < end:
        pass
    time.sleep(3)
"""
REPETITIONS = 12  # of the products in a round
TURNS = 2  # so that a drift of the machine does not fall on one condition
IDLE_S, LOADED_S = 5.0, 3.0  # of rounds, in each turn
TURN_BLOCKS = 60
AFTER_SAME, AFTER_OTHER = "after its own", "after the other's"
SPIN_VARIABLE = "GOMP_SPINCOUNT"  # of GNU's OpenMP: with 0, a thread sleeps as soon as it has nothing to do
SESSIONS = {0: 5, 1: 4, 2: 4, 4: 4, SOMETIMES: 2}
DRAWS = 200
WAIT_LIMITS = (0.02, 0.05, 0.08, 0.12, 0.20, 0.30)
OTHERS_LIMITS = (0.03, 0.05, 0.10, 0.15, 0.25)
NEVER = 1e9
PLAN = MeasurementPlan(processes=1, rounds=options.ROUNDS, min_total_s=options.MIN_TOTAL_S)
COLD_START = ColdStart(import_s=0, load_s=0, apply_s=0, first_image_s=0, cache_hits=0, cache_misses=0, cache_load_s=0)

Chunks = list[list["Row"]]  # one for each turn
Samples = dict[tuple["Kind", int], Chunks]  # by the program's kind and loops


@dataclasses.dataclass(frozen=True)
class Kind:
    """A program: how many threads it has, and whether they wait for each other awake, as they do by default."""

    threads: int
    spins: bool = True

    def __str__(self) -> str:
        return f"{self.threads}{'' if self.spins else ' (sleep)'}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One round: the seconds of the worker, and the load."""

    seconds: float
    load: RoundLoad


@contextlib.contextmanager
def neighbours(count: int, code: str = BUSY) -> Iterator[None]:
    """Run busy loops, each in a session of its own as those of other users are: the kernel shares by sessions."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True))
            stack.callback(process.kill)
        time.sleep(0.3 if count else 0.0)
        yield


@contextlib.contextmanager
def workers() -> Iterator[Callable[[Kind], Worker]]:
    """Yield a function that starts a worker; all of one environment come from one server, which has imported torch."""
    paths = [str(ROOT), str(ROOT / "src")]
    with (
        tempfile.TemporaryDirectory() as folder,
        ImportServers(["torch"]) as servers,
        pytest.MonkeyPatch.context() as patch,
    ):
        numbers = itertools.count()
        patch.delenv(SPIN_VARIABLE, raising=False)
        spinning = servers.server("", python=sys.executable, paths=paths)
        patch.setenv(SPIN_VARIABLE, "0")
        sleeping = servers.server("", python=sys.executable, paths=paths)

        def start(kind: Kind) -> Worker:
            worker = Worker(
                "tests.proof.busy_workload:Workload",
                arguments={"repetitions": REPETITIONS},
                paths=paths,
                log=Path(folder) / f"{next(numbers)}.log",
                timeout_s=120.0,
                server=spinning if kind.spins else sleeping,
            )
            worker.call("use_threads", count=kind.threads)
            worker.call("generate")
            worker.call("generate")
            return worker

        yield start


def measure_rows(start: Callable[[Kind], Worker], kinds: Sequence[Kind]) -> Samples:
    """Measure rounds of every kind beside every number of loops; none is discarded."""
    samples: Samples = collections.defaultdict(list)
    with contextlib.ExitStack() as stack:
        living = {kind: stack.enter_context(contextlib.closing(start(kind))) for kind in kinds}
        for _ in range(TURNS):
            for loops in LOOPS:
                with neighbours(loops):
                    for kind, worker in living.items():
                        samples[kind, loops].append(_rounds(worker, LOADED_S if loops else IDLE_S))
    return samples


def _rounds(worker: Worker, least_s: float) -> list[Row]:
    rows: list[Row] = []
    family = process_family(worker.pid)

    def read() -> Counters:
        return read_counters(family, time_s=time.perf_counter(), session_s=time.process_time())

    time.sleep(0.1)  # the threads of the worker before it come to rest
    end_s = time.perf_counter() + least_s
    while time.perf_counter() < end_s:
        before = read()
        seconds = worker.call("generate")["seconds"]
        rows.append(Row(seconds, round_load(before, read())))
    return rows


def measure_turns(start: Callable[[Kind], Worker], kind: Kind) -> dict[str, list[dict[str, Any]]]:
    """Measure rounds of two live workers in turn, as in a live comparison on the idle machine."""
    turns: dict[str, list[dict[str, Any]]] = {AFTER_SAME: [], AFTER_OTHER: []}
    monitor, last = HostMonitor(), None
    with contextlib.closing(start(kind)) as this, contextlib.closing(start(kind)) as other:
        for block in range(TURN_BLOCKS):
            for worker in (this, other) if block % 2 == 0 else (other, this):
                monitor.begin(worker.pid)
                seconds = worker.call("generate")["seconds"]
                reading = monitor.end()
                turns[AFTER_SAME if worker is last else AFTER_OTHER].append(
                    {
                        "seconds": seconds,
                        "waited_s": reading.facts["waited_s"],
                        "discarded": reading.discarded_reason is not None,
                    }
                )
                last = worker
    return turns


def measure_sessions(start: Callable[[Kind], Worker], kind: Kind, *, end_s: float) -> dict[str, list[dict[str, Any]]]:
    """Record a baseline on the idle machine, and judge sessions beside loops by it, as the gate does, until the end."""

    def process_median_s(discarded: list[str]) -> float:
        with contextlib.closing(start(kind)) as worker:
            measurement = Measurement(worker=worker, cold_start=COLD_START, plan=PLAN, monitor=HostMonitor())
            try:
                return statistics.median(measure_process(measurement).seconds)
            finally:
                discarded += measurement.discarded_reasons

    def session() -> dict[str, Any]:
        discarded: list[str] = []
        started_s = time.perf_counter()
        try:
            outcome, _ = sequential(
                baseline_s, lambda: process_median_s(discarded), looks=STORED_LOOKS, tolerance=TOLERANCE
            )
        except InvalidMeasurement:
            outcome = Outcome.INVALID
        return {"outcome": outcome, "discarded": discarded, "wall_s": time.perf_counter() - started_s}

    try:
        baseline_s = [process_median_s([]) for _ in range(options.RECORD_PROCESSES)]
    except InvalidMeasurement as error:
        print(f"no sessions, because this machine is not idle: {error}")
        return {}
    sessions: dict[str, list[dict[str, Any]]] = {str(loops or IDLE): [] for loops in SESSIONS}
    for number, (loops, count) in itertools.product(range(max(SESSIONS.values())), SESSIONS.items()):
        if number < count and time.perf_counter() < end_s:
            with neighbours(loops) if isinstance(loops, int) else neighbours(1, BUSY_SOMETIMES):
                sessions[str(loops or IDLE)].append(session())
    return {name: entries for name, entries in sessions.items() if entries}


def discarded_flags(rows: Sequence[Row], **limits: float) -> list[bool]:
    """Return for each round of a worker whether it is discarded."""
    detector = BusyDetector(**limits)
    return [detector.reason(row.load) is not None for row in rows]


def draw_median_s(chunks: Chunks, draw: random.Random, *, discards: bool) -> float | None:
    """Return the median of a simulated process: rounds in a row from a random one on. None if it is INVALID."""
    chunk = draw.choice(chunks)
    first = draw.randrange(len(chunk))
    detector, seconds, discarded = BusyDetector(), [], 0
    for row in itertools.islice(itertools.cycle(chunk), first, None):
        if discards and detector.reason(row.load) is not None:
            discarded += 1
            if discarded > max(PLAN.max_discarded_rounds, len(seconds) // 10):
                return None
            continue
        seconds.append(row.seconds)
        if len(seconds) >= PLAN.rounds and math.fsum(seconds) >= PLAN.min_total_s:
            return statistics.median(seconds)
    raise AssertionError("a cycle does not end")


def simulate_verdicts(samples: Samples, kind: Kind, loops: int, *, discards: bool) -> collections.Counter[Outcome]:
    """Judge processes beside loops by a baseline of the idle machine; both are drawn from the measured rounds."""
    draw = random.Random(f"{kind} {loops}")  # noqa: S311 - not for secrets
    outcomes: collections.Counter[Outcome] = collections.Counter()

    def median_s(chunks: Chunks) -> float:
        median = draw_median_s(chunks, draw, discards=discards)
        if median is None:
            raise InvalidMeasurement("busy")
        return median

    for _ in range(DRAWS):
        try:
            baseline_s = [median_s(samples[kind, 0]) for _ in range(options.RECORD_PROCESSES)]
            outcome, _ = sequential(
                baseline_s, lambda: median_s(samples[kind, loops]), looks=STORED_LOOKS, tolerance=TOLERANCE
            )
        except InvalidMeasurement:
            outcome = Outcome.INVALID
        outcomes[outcome] += 1
    return outcomes


INTRODUCTION = """\
# A busy machine

After this page you know when a round on a CPU is discarded because other programs used the processors, and why these are
the limits.

On the idle machine at most {idle:.1%} of the rounds of a program were discarded (promised: 1 %). Beside 1, 2 and 4 busy
loops, a stored baseline gave at most {false_alarms:.1%} SLOWER without a change (promised: 1 %); without the rule it gave
up to {ignored:.1%}. Of {sessions} real sessions beside loops, {slower} were SLOWER.

This file is written by `python -m tests.proof.busy`, which measures rounds on an idle machine and beside busy loops. No
number in it is typed by hand, except for promises. The machine is `{machine}`, with {cores} processors. A round is
{repetitions} convolutions and products: {milliseconds:.0f} ms with {cores} threads on the idle machine. Each loop is a
process in a session of its own, as that of another user.

Linux counts around a round:

- **wait**: how long each thread of the worker could have run and got no processor (`/proc/PID/task/*/schedstat`). The waits
  of all threads are added up, because the others wait for a thread that waits, and Linux does not count that. So the sum,
  divided by the seconds of the round, is at least the share of the round that was lost. {wake_us:.0f} us of each wait are free,
  because a thread that is woken waits on an idle machine too.
- **others**: how much of the processors that the worker may use was neither idle nor used by the worker, its children and
  the process that measures (`/proc/stat`, `/proc/PID/stat`). It is counted in ticks of {tick_ms:.0f} ms.
- **steal**: how long the host of a virtual machine took a processor away (`/proc/stat`).

All three are shares of the last second, or of one round if that is longer. One tick of each processor is not counted. A
round is discarded if the worker waited for more than {wait:.0%} of that time, if more than {steal:.0%} was stolen, or if
others used more than {others:.0%} of the processors. Threads that waited {factor} times as long as others ran waited for
each other: the program has more threads than processors, or a limit of its own. Then waits do not count, and `others` and
`steal` decide. No round is discarded for a fact that the kernel does not report.
"""

ROUNDS = """\
## Rounds

"2 (sleep)" is a program of 2 threads that sleep while they wait for each other; by default such threads stay awake. Of
two shares in a cell, the first is the median over the rounds, and 99 of 100 rounds have at most the second. "Wait at a
time" is how long a thread waited on average each time before it got a processor.
"Wait alone" and "others alone" are the rounds that one of the two rules discards without the other.
"""

LIMITS = """\
## Limits

Threads that spin at a barrier wait on an idle machine too, at no cost: rounds with such waits take as long as others. So
the limit on the wait is higher than these waits, and the limit on `others` finds the loops that cause no wait. On the idle
machine, a limit may discard at most 1 % of the rounds of each program. "Slowest" compares the rounds that were not
discarded: their median beside loops, divided by the median on the idle machine, where this ratio is largest.
"""

SIMULATED = """\
## Verdicts

For each row, {draws} sessions are drawn from the measured rounds and judged by a baseline of the idle machine. The program
is always the same. A case is INVALID if more than {discarded} rounds of one process (or a tenth, if that is more) are
discarded.
"""

REAL = """\
Real sessions of the program with {threads} threads, with the worker, the monitor and the rounds of the gate, are judged by a
baseline of {processes} processes on the idle machine. A round is repeated at once, then after half a second, and each
further time after twice as long. So a program that runs now and then makes a session longer, but not INVALID.
"""


IN_TURN = """\
## Live pairs

Two workers are alive and take turns on the idle machine. A round begins when the threads of the other worker sleep: they
stay awake for some milliseconds after their round, and would disturb a round that begins earlier.
"""


def page(
    samples: Samples,
    turns: Mapping[str, Sequence[Mapping[str, Any]]],
    sessions: Mapping[str, Sequence[Mapping[str, Any]]],
    machine: str,
) -> list[str]:
    """Return the lines of `docs/busy.md`."""
    kinds = list(dict.fromkeys(kind for kind, _ in samples))
    fitting = [kind for kind in kinds if kind.threads <= kinds[0].threads]  # the others wait for their own threads
    verdicts = {
        (*key, discards): simulate_verdicts(samples, *key, discards=discards)
        for key in samples
        for discards in (False, True)
    }
    loaded = [entry for name, entries in sessions.items() if name != IDLE for entry in entries]
    return [
        INTRODUCTION.format(
            idle=max(statistics.fmean(_flags(samples[kind, 0])) for kind in kinds),
            false_alarms=_most_slower(verdicts, discards=True),
            ignored=_most_slower(verdicts, discards=False),
            sessions=len(loaded),
            slower=sum(entry["outcome"] == Outcome.SLOWER for entry in loaded),
            machine=machine,
            cores=kinds[0].threads,
            repetitions=REPETITIONS,
            milliseconds=1e3 * _median_s(samples[kinds[0], 0]),
            tick_ms=1e3 * host_load.tick_s(),
            wait=host_load.MAX_WAIT_SHARE,
            steal=host_load.MAX_STEAL_SHARE,
            others=host_load.MAX_OTHERS_SHARE,
            factor=host_load.OWN_WAIT_FACTOR,
            wake_us=1e6 * host_load.WAKE_S,
        ),
        ROUNDS,
        *_table(
            (
                *("threads", "loops", "rounds", "seconds", "wait", "wait at a time"),
                *("others", "steal", "discarded", "wait alone", "others alone"),
            ),
            [_facts(samples, *key) for key in samples],
        ),
        "",
        LIMITS,
        *_table(
            ("limit on the wait", "idle rounds discarded", "least discarded beside loops", "slowest"),
            [
                (f"{limit:.0%}", *_limit(samples, fitting, max_wait_share=limit, max_others_share=NEVER))
                for limit in WAIT_LIMITS
            ],
        ),
        "",
        *_table(
            ("limit on others", "idle rounds discarded", "least discarded beside loops", "slowest"),
            [
                (f"{limit:.0%}", *_limit(samples, kinds, max_wait_share=NEVER, max_others_share=limit))
                for limit in OTHERS_LIMITS
            ],
        ),
        "",
        SIMULATED.format(draws=DRAWS, discarded=PLAN.max_discarded_rounds),
        *_table(
            ("threads", "loops", "without the rule", "false SLOWER", "with the rule", "false SLOWER"),
            [
                (
                    str(kind),
                    str(loops or IDLE),
                    *_cells(verdicts[kind, loops, False]),
                    *_cells(verdicts[kind, loops, True]),
                )
                for kind, loops in samples
            ],
        ),
        "",
        REAL.format(threads=kinds[0].threads, processes=options.RECORD_PROCESSES),
        *_table(
            ("loops", "sessions", "verdicts", "false SLOWER", "rounds discarded", "seconds each"),
            [_session_row(name, entries) for name, entries in sessions.items()],
        ),
        "",
        IN_TURN,
        *_table(
            ("a round", "rounds", "seconds", "wait", "discarded"),
            [
                (
                    name,
                    str(len(entries)),
                    f"{statistics.median(entry['seconds'] for entry in entries):.4f}",
                    _spread([(entry["waited_s"] or 0.0) / entry["seconds"] for entry in entries]),
                    f"{statistics.fmean(entry['discarded'] for entry in entries):.1%}",
                )
                for name, entries in turns.items()
            ],
        ),
    ]


def _most_slower(verdicts: Mapping[tuple[Kind, int, bool], collections.Counter[Outcome]], *, discards: bool) -> float:
    return max(
        counts[Outcome.SLOWER] / counts.total()
        for (_, loops, rule), counts in verdicts.items()
        if loops and rule is discards
    )


def _rows(chunks: Chunks) -> list[Row]:
    return [row for chunk in chunks for row in chunk]


def _median_s(chunks: Chunks) -> float:
    return statistics.median(row.seconds for row in _rows(chunks))


def _flags(chunks: Chunks, **limits: float) -> list[bool]:
    return [flag for chunk in chunks for flag in discarded_flags(chunk, **limits)]


def _facts(samples: Samples, kind: Kind, loops: int) -> tuple[str, ...]:
    chunks = samples[kind, loops]
    rows = _rows(chunks)
    loads = [row.load for row in rows]
    slowdown = _median_s(chunks) / _median_s(samples[kind, 0])
    flags = [_flags(chunks, **limits) for limits in ({}, {"max_others_share": NEVER}, {"max_wait_share": NEVER})]
    dispatches = sum(load.dispatches for load in loads)
    return (
        str(kind),
        str(loops or IDLE),
        str(len(rows)),
        f"x{slowdown:.2f}",
        _spread([(load.waited_s or 0.0) / load.wall_s for load in loads]),
        f"{1e6 * math.fsum(load.waited_s or 0.0 for load in loads) / max(dispatches, 1):.0f} us",
        _spread([(load.others_s or 0.0) / load.wall_s / load.processors for load in loads]),
        _spread([(load.stolen_s or 0.0) / load.wall_s for load in loads]),
        *(f"{statistics.fmean(values):.1%}" for values in flags),
    )


def _spread(shares: Sequence[float]) -> str:
    ordered = sorted(shares)
    return f"{statistics.median(ordered):.1%} / {ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]:.1%}"


def _limit(samples: Samples, kinds: Sequence[Kind], **limits: float) -> tuple[str, ...]:
    slowest = 0.0
    least = 1.0
    for kind, loops in itertools.product(kinds, LOOPS[1:]):
        chunks = samples[kind, loops]
        flags = _flags(chunks, **limits)
        least = min(least, statistics.fmean(flags))
        kept_s = [row.seconds for row, flag in zip(_rows(chunks), flags, strict=True) if not flag]
        if len(kept_s) > len(flags) / 10:
            slowest = max(slowest, statistics.median(kept_s) / _median_s(samples[kind, 0]))
    idle = max(statistics.fmean(_flags(samples[kind, 0], **limits)) for kind in kinds)
    return f"{idle:.1%}", f"{least:.1%}", f"x{slowest:.2f}" if slowest else "few are left"


def _cells(outcomes: collections.Counter[Outcome]) -> tuple[str, str]:
    return _counts(outcomes), f"{outcomes[Outcome.SLOWER] / outcomes.total():.1%}"


def _session_row(name: str, entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    outcomes = collections.Counter(entry["outcome"] for entry in entries)
    return (
        name,
        str(len(entries)),
        _counts(outcomes),
        f"{outcomes[Outcome.SLOWER]} of {len(entries)}",
        str(sum(len(entry["discarded"]) for entry in entries)),
        f"{statistics.fmean(entry['wall_s'] for entry in entries):.1f}",
    )


def _counts(outcomes: collections.Counter[Any]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---:"] * len(header)
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def save(path: Path, samples: Samples, turns: Mapping[str, Any], sessions: Mapping[str, Any], machine: str) -> None:
    """Store what was measured."""
    rows = [
        {
            "kind": dataclasses.asdict(kind),
            "loops": loops,
            "turns": [[dataclasses.asdict(row) for row in turn] for turn in turns],
        }
        for (kind, loops), turns in samples.items()
    ]
    path.write_text(
        json.dumps({"machine": machine, "samples": rows, "turns": turns, "sessions": sessions}), encoding="utf-8"
    )


def load(path: Path) -> tuple[Samples, dict[str, Any], dict[str, Any], str]:
    """Read what `save` has stored."""
    document = json.loads(path.read_text(encoding="utf-8"))
    samples = {
        (Kind(**entry["kind"]), entry["loops"]): [
            [Row(row["seconds"], RoundLoad(**row["load"])) for row in turn] for turn in entry["turns"]
        ]
        for entry in document["samples"]
    }
    return samples, document["turns"], document["sessions"], document["machine"]


def main() -> int:
    """Measure, or read what was measured, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.busy", description=__doc__)
    parser.add_argument("--rows", type=Path, help="store what was measured in this file, or read it if it exists")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "busy.md", help="the page (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=5.2, help="begin no real session after this time (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.rows and arguments.rows.exists():
        samples, turns, sessions, machine = load(arguments.rows)
    else:
        cores, machine = len(os.sched_getaffinity(0)), resolve_machine("cpu").key
        with workers() as start:
            end_s = time.perf_counter() + 60 * arguments.minutes
            kinds = (Kind(cores), Kind(1), Kind(cores, spins=False), Kind(2 * cores))
            samples = measure_rows(start, kinds)
            turns = measure_turns(start, kinds[0])
            sessions = measure_sessions(start, kinds[0], end_s=end_s)
        if arguments.rows:
            save(arguments.rows, samples, turns, sessions, machine)
    text = "\n".join(page(samples, turns, sessions, machine))
    arguments.output.write_text(text.strip() + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
