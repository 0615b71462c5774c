"""Comparisons drawn from the real series, judged as the simulated ones are.

A comparison takes its processes from the series without replacement, but two comparisons may share some: the shares tell how
the rules do on this machine's processes, and how far they are from it (`spread`) tells for which other machines.
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
from speedgate.measure.rounds import log_ratio
from speedgate.plugin import options
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
OTHERS = (
    200  # of them, for the other tools on the rounds of live pairs: criterion's bootstrap of 960 rounds takes its time
)
SEED = 20
ALONE = "tiny SDXL fp32"
LIVE = "given the same live pairs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """What the real processes were like: sd of process medians, of rounds within one, and of pairs with and without order."""

    processes: int
    pairs: int
    median_s: float
    between: float
    within: float
    of_pairs: float
    order: float
    drift: float
    opening_s: float


def comparisons(series: dict[str, Any], *, count: int = COMPARISONS) -> list[Cell]:
    """Every rule on every injected slowdown of the real series."""
    rng = random.Random(SEED)  # noqa: S311 - which processes a comparison takes
    cells = stored(series["alone"], rng, count)
    return cells + [item for level in LEVELS for item in live(series["pairs"], level, rng, count)]


def stored(alone: Sequence[dict[str, Any]], rng: random.Random, count: int) -> list[Cell]:
    """Our rule by recorded processes and the other tools', the same processes at each slowdown."""
    seconds = np.array([[process["seconds"][str(level)] for level in LEVELS] for process in alone])
    wanted = options.RECORD_PROCESSES + STORED_LOOKS.last
    taken = np.array([rng.sample(range(len(alone)), wanted) for _ in range(count)])
    old = seconds[taken[:, : options.RECORD_PROCESSES], 0]
    new = taken[:, options.RECORD_PROCESSES :]
    return [
        item for index, level in enumerate(LEVELS) for item in against_stored(ALONE, level, seconds[new, index], old)
    ]


def live(pairs: Sequence[dict[str, Any]], level: float, rng: random.Random, count: int) -> list[Cell]:
    """Our rule by live pairs, in turn from either order as the suite opens them, and the other tools' on the same rounds."""
    sides = {own_first: _sides(pairs, level, own_first=own_first) for own_first in (True, False)}
    half = PAIRS_LOOKS.last // 2
    drawn = []
    for _ in range(count):
        orders = [rng.sample(sides[own_first], half) for own_first in (True, False)]
        drawn.append([side for both in zip(*orders, strict=True) for side in both])
    judged = [
        sequential_pairs(map(_ratio, comparison).__next__, looks=PAIRS_LOOKS, tolerance=TOLERANCE)
        for comparison in drawn
    ]
    cells = [cell(PAIRS, SAME, ALONE, level, judged)]
    taken = [(comparison[:used], used) for comparison, (_, used) in zip(drawn, judged, strict=True)][:OTHERS]
    for name, rule in RULES.items():
        alarms = [rule.same_budget(*([side[arm] for side in few] for arm in ("own", "other"))) for few, _ in taken]
        cells.append(peer_cell(name, LIVE, ALONE, level, alarms, statistics.fmean(used for _, used in taken)))
    return cells


def pair_ratios(pairs: Sequence[dict[str, Any]], level: float, *, own_first: bool) -> list[float]:
    """The log-ratio of each pair of that order that measured this slowdown."""
    return [_ratio(side) for side in _sides(pairs, level, own_first=own_first)]


def _sides(pairs: Sequence[dict[str, Any]], level: float, *, own_first: bool) -> list[dict[str, list[float]]]:
    return [
        pair["seconds"][str(level)]
        for pair in pairs
        if pair["own_first"] is own_first and str(level) in pair["seconds"]
    ]


def _ratio(side: dict[str, list[float]]) -> float:
    return log_ratio(side["own"], side["other"], rounds_in_turn=True)


def independent(series: dict[str, Any]) -> dict[str, list[str]]:
    """Our verdicts on comparisons that share no process, in the order in which they were measured, without a change."""
    medians = [statistics.median(process["seconds"]["0.0"]) for process in series["alone"]]
    size, first = options.RECORD_PROCESSES + STORED_LOOKS.last, options.RECORD_PROCESSES
    blocks = [medians[start : start + size] for start in range(0, len(medians) - size + 1, size)]
    ratios = [pair_ratios(series["pairs"], 0.0, own_first=own_first) for own_first in (True, False)]
    turned = [value for both in zip(*ratios, strict=False) for value in both]
    size = PAIRS_LOOKS.last
    return {
        OURS[0]: [
            sequential(block[:first], iter(block[first:]).__next__, looks=STORED_LOOKS, tolerance=TOLERANCE)[0].value
            for block in blocks
        ],
        OURS[1]: [
            sequential_pairs(iter(turned[start : start + size]).__next__, looks=PAIRS_LOOKS, tolerance=TOLERANCE)[
                0
            ].value
            for start in range(0, len(turned) - size + 1, size)
        ],
    }


def in_order(alone: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Shares of our stored rule's verdicts, without a change, where the baseline is older than the run.

    As many consecutive processes as are recorded are a baseline for every run that begins after them: what a machine that
    drifts does to a stored figure. Such comparisons overlap heavily; their shares tell of this series and of no other.
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
    """How far the middle of five consecutive processes has moved over the series, as a ratio less one."""
    medians = [statistics.median(process["seconds"]["0.0"]) for process in alone]
    middles = [statistics.median(medians[start : start + 5]) for start in range(len(medians) - 4)]
    return max(middles) / min(middles) - 1


def spread(series: dict[str, Any]) -> Spread:
    """Standard deviations of logarithms, without a change."""
    rounds = [process["seconds"]["0.0"] for process in series["alone"]]
    medians = [math.log(statistics.median(seconds)) for seconds in rounds]
    ratios = {own_first: pair_ratios(series["pairs"], 0.0, own_first=own_first) for own_first in (True, False)}
    counts = [own_first for own_first, values in ratios.items() for _ in values]
    interval = intervals.between_pairs([*ratios[True], *ratios[False]], this_first=counts, confidence=0.99)
    assert interval is not None
    scale = math.sqrt(sum(1 / len(values) for values in ratios.values())) / 2
    return Spread(
        processes=len(rounds),
        pairs=len(counts),
        median_s=math.exp(statistics.fmean(medians)),
        between=statistics.stdev(medians),
        within=statistics.median(statistics.stdev(map(math.log, seconds)) for seconds in rounds),
        of_pairs=interval.error / scale,
        order=(statistics.fmean(ratios[True]) - statistics.fmean(ratios[False])) / 2,
        drift=drift(series["alone"]),
        opening_s=statistics.median(process["opened_s"] for process in series["alone"]),
    )
