"""`python -m tests.support.measure_history series|writers|trends [URL]`: measure the figures in docs/history.md.

`URL` must name an empty database. Without it, a PostgreSQL server is started. `trends` needs no database. Run it on an idle
machine.
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
    """Run the selected measurement."""
    if options.what == "series":
        measure_series(options.url, cases=options.cases, runs=options.runs)
    else:
        measure_writers(options.url, writers=options.writers, runs=options.runs)


def measure_series(url: str, *, cases: int, runs: int) -> None:
    """Time reading all series, and one of them."""
    fill(url, cases=cases, runs=runs)
    started_s, used_s = time.perf_counter(), time.process_time()
    all_series = queries.read_series(url)
    took_s, used_s = time.perf_counter() - started_s, time.process_time() - used_s
    print(
        f"all: {took_s:.2f} s, {used_s:.2f} s of them in this process,"
        f" for {sum(len(series.points) for series in all_series)} points"
    )
    started_s = time.perf_counter()
    (series,) = queries.read_series(url, case_key=all_series[len(all_series) // 2].case_key)
    print(f"one: {time.perf_counter() - started_s:.3f} s for {len(series.points)} points")


def measure_trends(*, cases: int, runs: int) -> None:
    """Time the analysis of made-up series, half of them with two steps: of all runs, and of the last 200 runs."""
    without_steps, with_steps = flat(runs), stepped(runs, (runs // 3, 1.05), (2 * runs // 3, 0.97))
    all_series = [make_series((without_steps, with_steps)[number % 2], seed=number) for number in range(cases)]
    for name, last in (("whole", runs), ("the last 200", 200)):
        shortened = [dataclasses.replace(series, points=series.points[-last:]) for series in all_series]
        started_s = time.perf_counter()
        changed = sum(bool(analyse(series).changes) for series in shortened)
        print(f"{name}: {time.perf_counter() - started_s:.2f} s for {len(shortened)} series, {changed} of them changed")


def measure_writers(url: str, *, writers: int, runs: int) -> None:
    """Time `writers` processes that upload `runs` runs each at the same time; two processes upload each run."""
    database.prepare_history(url)
    context = multiprocessing.get_context("spawn")
    with context.Pool(writers) as pool:
        pool.starmap(
            write, [(url, number, 0) for number in range(writers)], chunksize=1
        )  # start the processes and import
        started_s = time.perf_counter()
        counts = pool.starmap(write, [(url, number // 2, runs) for number in range(writers)], chunksize=1)
        seconds = time.perf_counter() - started_s
    added, present = sum(count.added for count in counts), sum(count.present for count in counts)
    print(f"{writers} writers: {seconds:.2f} s for {added} runs added and {present} already stored")


def write(url: str, writer: int, runs: int) -> queries.UploadCounts:
    """Upload runs of one case; another writer may upload the same ones."""
    (key,) = case_keys(writer + 1)[-1:]
    return queries.add_entries(url, (entry(key, number=number) for number in range(runs)))


if __name__ == "__main__":
    main()
