"""Draw comparisons from the real series and judge them like the simulated ones.

A comparison takes its processes from the series without replacement, but two comparisons may share some. So the shares are valid
for this machine's processes, and `spread` shows for which other machines they may be.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from speedgate.gate import intervals
from speedgate.plugin import options
from speedgate.results.timings import log_ratio
from tests.proof.peers import RULES
from tests.proof.replay import (
    OURS,
    PAIRS,
    PAIRS_LOOKS,
    SAME,
    STORED_LOOKS,
    TOLERANCE,
    Cell,
    against_stored,
    cell,
    peer_cell,
    sequential,
    sequential_pairs,
)
from tests.proof.series import LEVELS

COMPARISONS = 1000
PEER_COMPARISONS = 200  # for other tools on the rounds of live pairs: criterion's bootstrap of 960 rounds is slow
SEED = 20
ALONE = "tiny SDXL fp32"
LIVE = "given the same live pairs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Describe the real processes: standard deviations between processes, within one, and of pairs, and the drift."""

    processes: int
    pairs: int
    median_s: float
    between: float
    within: float
    between_pairs: float
    order: float
    drift: float
    opening_s: float


def comparisons(series: dict[str, Any], *, count: int = COMPARISONS) -> list[Cell]:
    """Judge every injected slowdown of the real series by every rule."""
    rng = random.Random(SEED)  # noqa: S311 - which processes a comparison takes
    cells = stored(series["alone"], rng, count)
    return cells + [item for level in LEVELS for item in live(series["pairs"], level, rng, count)]


def stored(alone: Sequence[dict[str, Any]], rng: random.Random, count: int) -> list[Cell]:
    """Judge by our rule for stored baselines and by the other tools, with the same processes at each slowdown."""
    seconds = np.array([[process["seconds"][str(level)] for level in LEVELS] for process in alone])
    count_per_comparison = options.RECORD_PROCESSES + STORED_LOOKS.last
    taken = np.array([rng.sample(range(len(alone)), count_per_comparison) for _ in range(count)])
    old = seconds[taken[:, : options.RECORD_PROCESSES], 0]
    new = taken[:, options.RECORD_PROCESSES :]
    return [
        item for index, level in enumerate(LEVELS) for item in against_stored(ALONE, level, seconds[new, index], old)
    ]


def live(pairs: Sequence[dict[str, Any]], level: float, rng: random.Random, count: int) -> list[Cell]:
    """Judge by our rule for live pairs, with both orders in turn as in the suite, and by the other tools on the same rounds."""
    sides = {this_first: _sides(pairs, level, this_first=this_first) for this_first in (True, False)}
    half = PAIRS_LOOKS.last // 2
    drawn = []
    for _ in range(count):
        orders = [rng.sample(sides[this_first], half) for this_first in (True, False)]
        drawn.append([side for both in zip(*orders, strict=True) for side in both])
    judged = [
        sequential_pairs(map(_ratio, comparison).__next__, looks=PAIRS_LOOKS, tolerance=TOLERANCE)
        for comparison in drawn
    ]
    cells = [cell(PAIRS, SAME, ALONE, level, judged)]
    taken = [(comparison[:used], used) for comparison, (_, used) in zip(drawn, judged, strict=True)][:PEER_COMPARISONS]
    for name, rule in RULES.items():
        alarms = [
            rule.same_budget(*([side[arm] for side in chosen] for arm in ("own", "other"))) for chosen, _ in taken
        ]
        cells.append(peer_cell(name, LIVE, ALONE, level, alarms, statistics.fmean(used for _, used in taken)))
    return cells


def pair_ratios(pairs: Sequence[dict[str, Any]], level: float, *, this_first: bool) -> list[float]:
    """Return the log-ratio of each pair of that order that measured this slowdown."""
    return [_ratio(side) for side in _sides(pairs, level, this_first=this_first)]


def _sides(pairs: Sequence[dict[str, Any]], level: float, *, this_first: bool) -> list[dict[str, list[float]]]:
    return [
        pair["seconds"][str(level)]
        for pair in pairs
        if pair["own_first"] is this_first and str(level) in pair["seconds"]
    ]


def _ratio(side: dict[str, list[float]]) -> float:
    return log_ratio(side["own"], side["other"], rounds_in_turn=True)


def independent(series: dict[str, Any]) -> dict[str, list[str]]:
    """Return our verdicts without a change on comparisons that share no process, in the order of measurement."""
    medians = [statistics.median(process["seconds"]["0.0"]) for process in series["alone"]]
    size, first = options.RECORD_PROCESSES + STORED_LOOKS.last, options.RECORD_PROCESSES
    blocks = [medians[start : start + size] for start in range(0, len(medians) - size + 1, size)]
    ratios = [pair_ratios(series["pairs"], 0.0, this_first=this_first) for this_first in (True, False)]
    in_turn = [ratio for both in zip(*ratios, strict=False) for ratio in both]
    size = PAIRS_LOOKS.last
    return {
        OURS[0]: [
            sequential(block[:first], iter(block[first:]).__next__, looks=STORED_LOOKS, tolerance=TOLERANCE)[0].value
            for block in blocks
        ],
        OURS[1]: [
            sequential_pairs(iter(in_turn[start : start + size]).__next__, looks=PAIRS_LOOKS, tolerance=TOLERANCE)[
                0
            ].value
            for start in range(0, len(in_turn) - size + 1, size)
        ],
    }


def in_order(alone: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the shares of our stored rule's verdicts without a change, with a baseline that is older than the run.

    Consecutive processes are the baseline of every run that begins after them, which shows the effect of a drift. These
    comparisons overlap heavily, so their shares are valid for this series only.
    """
    medians = [statistics.median(process["seconds"]["0.0"]) for process in alone]
    recorded, most = options.RECORD_PROCESSES, STORED_LOOKS.last
    outcomes = [
        sequential(
            medians[old : old + recorded],
            iter(medians[new : new + most]).__next__,
            looks=STORED_LOOKS,
            tolerance=TOLERANCE,
        )[0].value
        for old in range(len(medians) - recorded - most + 1)
        for new in range(old + recorded, len(medians) - most + 1)
    ]
    return {name: outcomes.count(name) / len(outcomes) for name in sorted(set(outcomes))}


def drift(alone: Sequence[dict[str, Any]]) -> float:
    """Return how far the median of five consecutive processes moved over the series, as a ratio minus one."""
    medians = [statistics.median(process["seconds"]["0.0"]) for process in alone]
    medians_of_five = [statistics.median(medians[start : start + 5]) for start in range(len(medians) - 4)]
    return max(medians_of_five) / min(medians_of_five) - 1


def spread(series: dict[str, Any]) -> Spread:
    """Compute standard deviations of logarithms, without a change."""
    rounds = [process["seconds"]["0.0"] for process in series["alone"]]
    medians = [math.log(statistics.median(seconds)) for seconds in rounds]
    ratios = {this_first: pair_ratios(series["pairs"], 0.0, this_first=this_first) for this_first in (True, False)}
    orders = [this_first for this_first, values in ratios.items() for _ in values]
    interval = intervals.between_pairs([*ratios[True], *ratios[False]], this_first=orders, confidence=0.99)
    assert interval is not None
    scale = math.sqrt(sum(1 / len(values) for values in ratios.values())) / 2
    return Spread(
        processes=len(rounds),
        pairs=len(orders),
        median_s=math.exp(statistics.fmean(medians)),
        between=statistics.stdev(medians),
        within=statistics.median(statistics.stdev(map(math.log, seconds)) for seconds in rounds),
        between_pairs=interval.error / scale,
        order=(statistics.fmean(ratios[True]) - statistics.fmean(ratios[False])) / 2,
        drift=drift(series["alone"]),
        opening_s=statistics.median(process["opened_s"] for process in series["alone"]),
    )
