"""Make series with a run for each day and defaults changes of level and scatter."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from speedgate.history.trend import Series, SeriesPoint

CASE, GPU = "sdxl/int8/1024px-30steps-b1", "nvidia-a100-sxm4-80gb-400w"
START = datetime.datetime(2026, 1, 1, 3, 0, tzinfo=datetime.UTC)


def flat(runs):
    """Return the logarithms of a level without a change."""
    return np.zeros(runs)


def stepped(runs, *changes):
    """Return the logarithms of a level with steps; each is a pair of its first run and its ratio."""
    levels = flat(runs)
    for run, ratio in changes:
        levels[run:] += np.log(ratio)
    return levels


def make_series(levels, *, spread=0.005, processes: int | Sequence[int] = 3, seed=1, peaks=None, **fields: Any):
    """Make a series with the log-latency `levels` and the scatter `spread` of each process (one figure, or one for each run)."""
    rng = np.random.default_rng(seed)
    counts = np.broadcast_to(processes, len(levels))
    spreads = np.broadcast_to(spread, len(levels))
    points = [
        make_point(day, tuple(np.exp(level + rng.normal(0, sd, count))), peak_bytes=peaks[day] if peaks else None)
        for day, (level, sd, count) in enumerate(zip(levels, spreads, counts, strict=True))
    ]
    return Series(**{"gpu_key": GPU, "case_key": CASE, "points": tuple(points)} | fields)


def make_point(day, medians_s, **fields: Any):
    """Make the run of a day; its commit encodes the day, and its nightly of torch is at most a week old."""
    nightly = (START + datetime.timedelta(days=day // 7 * 7)).strftime("%Y%m%d")
    defaults = {
        "run_id": f"run{day}",
        "measured_at": (START + datetime.timedelta(days=day)).isoformat(),
        "commit": f"{day:012x}".ljust(40, "0"),
        "process_medians_s": medians_s,
        "versions": {"torch": f"2.14.0.dev{nightly}", "diffusers": "0.42.1"},
    }
    return SeriesPoint(**defaults | fields)


def r_normal(seed, count):
    """The first numbers of R's `set.seed(seed); rnorm(count)`, by R's documented defaults: Mersenne Twister and inversion.

    R fills the generator by a congruential one (`?RNGkind`), and takes 27 bits of one number and the next one for each normal.
    """
    words = []
    for _ in range(50 + 625):
        seed = (69069 * seed + 1) % 2**32
        words.append(seed)
    twister = np.random.MT19937()
    key = np.array(words[51:], dtype=np.uint64)
    twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}
    uniform = twister.random_raw(2 * count) * 2.328306437080797e-10
    high = np.floor(2**27 * uniform[::2])
    return special.ndtri((high + uniform[1::2]) / 2**27)
