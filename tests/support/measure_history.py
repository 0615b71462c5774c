"""`python -m tests.support.measure_history series|writers|trends [URL]`: the figures that docs/history.md states of a history.

`URL` has to be of an empty database; without it, one of a PostgreSQL server started for this. `trends` needs none. Needs an
idle machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import time
from collections.abc import Sequence

from speedgate.history import database, queries
from speedgate.history.trend import analyse
from tests.support.histories import flat, make_series, stepped
from tests.support.history_samples import case_keys, entry, fill
from tests.support.postgres import running


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.measure_history")
    parser.add_argument("what", choices=("series", "writers", "trends"))
    parser.add_argument("url", nargs="?")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=16)
    options = parser.parse_args(argv)
    if options.what == "trends":
        measure_trends(cases=options.cases, runs=options.runs)
    elif options.url is None:
        with running() as server:
            options.url = server.create("measure")
            measure(options)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """What was asked for."""
    if options.what == "series":
        measure_series(options.url, cases=options.cases, runs=options.runs)
    else:
        measure_writers(options.url, writers=options.writers, runs=options.runs)


def measure_series(url: str, *, cases: int, runs: int) -> None:
    """Read every series, and one of them."""
    fill(url, cases=cases, runs=runs)
    started_s, used_s = time.perf_counter(), time.process_time()
    found = queries.read_series(url)
    took_s, used_s = time.perf_counter() - started_s, time.process_time() - used_s
    print(
        f"all: {took_s:.2f} s, {used_s:.2f} s of them this process's, for {sum(len(one.points) for one in found)} points"
    )
    started_s = time.perf_counter()
    (one,) = queries.read_series(url, case_key=found[len(found) // 2].case_key)
    print(f"one: {time.perf_counter() - started_s:.3f} s for {len(one.points)} points")


def measure_trends(*, cases: int, runs: int) -> None:
    """Judge made-up series, half of them without a change and half with two steps, each whole and by its last 200 runs."""
    stable, moved = flat(runs), stepped(runs, (runs // 3, 1.05), (2 * runs // 3, 0.97))
    found = [make_series((stable, moved)[number % 2], seed=number) for number in range(cases)]
    for name, last in (("whole", runs), ("the last 200", 200)):
        series = [dataclasses.replace(one, points=one.points[-last:]) for one in found]
        started_s = time.perf_counter()
        changed = sum(bool(analyse(one).changes) for one in series)
        print(f"{name}: {time.perf_counter() - started_s:.2f} s for {len(series)} series, {changed} of them changed")


def measure_writers(url: str, *, writers: int, runs: int) -> None:
    """As many processes at once, each with `runs` transactions of its own; every run twice."""
    database.prepare_history(url)
    context = multiprocessing.get_context("spawn")
    with context.Pool(writers) as pool:
        pool.starmap(write, [(url, number, 0) for number in range(writers)], chunksize=1)  # what starts, and imports
        started_s = time.perf_counter()
        done = pool.starmap(write, [(url, number // 2, runs) for number in range(writers)], chunksize=1)
        seconds = time.perf_counter() - started_s
    added, known = sum(one.added for one in done), sum(one.present for one in done)
    print(f"{writers} writers: {seconds:.2f} s for {added} runs added and {known} already stored")


def write(url: str, writer: int, runs: int) -> queries.UploadCounts:
    """What one writer does: its own case, which another one may be writing too."""
    (key,) = case_keys(writer + 1)[-1:]
    return queries.add_entries(url, (entry(key, number=number) for number in range(runs)))


if __name__ == "__main__":
    main()
