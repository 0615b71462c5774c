"""Judge simulated series with a known true change by our rules and by the rules of other tools.

Each process has a level, and its rounds vary around that level. The spread of the levels is an input, not a result.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from speedgate.gate import intervals
from speedgate.gate.intervals import Interval, Looks
from speedgate.gate.judge import classify_interval
from speedgate.gate.policy import Policy
from speedgate.plugin import options
from speedgate.results.run import Outcome
from tests.proof import peers

SEED = 20
REPETITIONS = 3000
ROUNDS = 20
WITHIN = 0.001  # standard deviation of the rounds in a process
ORDER = 0.02  # slowdown of the arm that is opened first in every simulated pair, see `intervals.between_pairs`
CHANGES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.06, 0.10)
SLOWDOWN = 0.06  # twice the tolerance; the gate promises to catch it
TOLERANCE = Policy.latency_tolerance
STORED_LOOKS = Looks(first=options.FIRST_LOOK_PROCESSES, last=options.MAX_PROCESSES)
PAIRS_LOOKS = Looks(first=options.FIRST_LOOK_PAIRS, last=options.MAX_PAIRS)

STORED, PAIRS = "speedgate, stored baseline", "speedgate, live pairs"
OURS = (STORED, PAIRS)
NATIVE, SAME = "by default", "given the same processes"
BUDGETS = (NATIVE, SAME)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Describe a machine: `between` is the standard deviation of its process levels, `modes` the distance of two modes."""

    name: str
    between: float
    modes: float = 0.0


SERIES = (
    Series(name="processes' sd 0.3%", between=0.003),
    Series(name="processes' sd 0.6%", between=0.006),
    Series(name="processes' sd 1.5%", between=0.015),
    Series(name="two modes, 5% apart", between=0.003, modes=0.05),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """Hold the shares of a rule's verdicts on one true change, and the mean number of processes (or pairs) it used.

    `budget` is `NATIVE` for a tool that measures by itself, and `SAME` for a tool that has the same rounds as our stored rule
    at its decision. FASTER counts as PASS, because both are green.
    """

    series: str
    rule: str
    budget: str
    change: float
    alarms: float
    passes: float
    undecided: float
    processes: float


def sequential(
    baseline_s: Sequence[float], draw_s: Callable[[], float], *, looks: Looks, tolerance: float
) -> tuple[Outcome, int]:
    """Judge against recorded process medians, drawing new ones until decided; return the verdict and how many were drawn."""
    medians_s: list[float] = []

    def judge(count: int) -> Interval | None:
        medians_s.extend(draw_s() for _ in range(count - len(medians_s)))
        return intervals.between_sets(medians_s, baseline_s, confidence=looks.confidence_at(count))

    return look_by_look(judge, looks, tolerance)


def sequential_pairs(draw_log_ratio: Callable[[], float], *, looks: Looks, tolerance: float) -> tuple[Outcome, int]:
    """Judge the pairs of a live comparison; this arm is opened first in the first pair and in every second pair after it."""
    log_ratios: list[float] = []

    def judge(count: int) -> Interval | None:
        log_ratios.extend(draw_log_ratio() for _ in range(count - len(log_ratios)))
        this_first = [number % 2 == 0 for number in range(count)]
        return intervals.between_pairs(log_ratios, this_first=this_first, confidence=looks.confidence_at(count))

    return look_by_look(judge, looks, tolerance)


def replay(
    *,
    repetitions: int = REPETITIONS,
    seed: int = SEED,
    series: Sequence[Series] = SERIES,
    changes: Sequence[float] = CHANGES,
) -> list[Cell]:
    """Judge every series and true change by every rule. The changes of a series share their noise, so its curves are smooth."""
    cells: list[Cell] = []
    for number, machine in enumerate(series):
        rng = np.random.default_rng([seed, number])
        old = draw(rng, machine, repetitions, options.RECORD_PROCESSES)
        new = draw(rng, machine, repetitions, STORED_LOOKS.last)
        this_arm, other_arm = (draw(rng, machine, repetitions, PAIRS_LOOKS.last) for _ in range(2))
        for change in changes:
            cells += against_stored(machine.name, change, new * (1 + change), old)
            cells.append(against_live(machine.name, change, this_arm * (1 + change), other_arm))
    return cells


def draw(rng: np.random.Generator, series: Series, repetitions: int, processes: int) -> np.ndarray:
    """Draw seconds without a change, of shape `(repetitions, processes, ROUNDS)`."""
    size = (repetitions, processes, 1)
    levels = rng.normal(0.0, series.between, size) + series.modes * rng.integers(0, 2, size)
    return np.exp(levels + rng.normal(0.0, WITHIN, (repetitions, processes, ROUNDS)))


def against_stored(series: str, change: float, new: np.ndarray, old: np.ndarray) -> list[Cell]:
    """Judge by our rule for stored baselines, and by the other tools on their own budget and on ours."""
    medians, recorded = np.median(new, axis=2).tolist(), np.median(old, axis=2).tolist()
    judged = [
        sequential(before, iter(after).__next__, looks=STORED_LOOKS, tolerance=TOLERANCE)
        for after, before in zip(medians, recorded, strict=True)
    ]
    ours = cell(STORED, SAME, series, change, judged)
    cells = [ours]
    for name, rule in peers.RULES.items():
        few = slice(rule.processes)
        native = [rule.native(*both) for both in zip(new[:, few].tolist(), old[:, few].tolist(), strict=True)]
        same = [
            rule.same_budget(after[:count].tolist(), before.tolist())
            for after, before, (_, count) in zip(new, old, judged, strict=True)
        ]
        cells.append(peer_cell(name, NATIVE, series, change, native, rule.processes))
        cells.append(peer_cell(name, SAME, series, change, same, ours.processes))
    return cells


def against_live(series: str, change: float, this_arm: np.ndarray, other_arm: np.ndarray) -> Cell:
    """Judge by our rule for live pairs. Each process has its own level, so a ratio has the spread of both arms."""
    order = np.where(np.arange(this_arm.shape[1]) % 2 == 0, ORDER, -ORDER)
    log_ratios = np.log(np.median(this_arm, axis=2) / np.median(other_arm, axis=2)) + order
    judged = [
        sequential_pairs(iter(row).__next__, looks=PAIRS_LOOKS, tolerance=TOLERANCE) for row in log_ratios.tolist()
    ]
    return cell(PAIRS, SAME, series, change, judged)


def cells_by_rule(cells: Iterable[Cell], *, series: str, budget: str) -> dict[str, list[Cell]]:
    """Return the cells of one series by rule and rising change: ours, then the other tools' on that budget."""
    chosen = [cell for cell in cells if cell.series == series and (cell.rule in OURS or cell.budget == budget)]
    names = dict.fromkeys([*OURS, *(cell.rule for cell in chosen)])
    return {
        name: sorted((cell for cell in chosen if cell.rule == name), key=lambda cell: cell.change)
        for name in names
        if any(cell.rule == name for cell in chosen)
    }


def look_by_look(
    judge: Callable[[int], Interval | None],
    looks: Looks,
    tolerance: float,
    *,
    classify: Callable[[float, float, float], Outcome] = classify_interval,
) -> tuple[Outcome, int]:
    """Judge at each look until a verdict is reached; return it and the processes (or pairs) of that look."""
    count = looks.first
    while True:
        interval = judge(count)
        outcome = classify(interval.low, interval.high, tolerance) if interval else Outcome.UNDECIDED
        following = looks.following(count)
        if outcome is not Outcome.UNDECIDED or following is None:
            return outcome, count
        count = following


def cell(rule: str, budget: str, series: str, change: float, judged: Sequence[tuple[Outcome, float]]) -> Cell:
    outcomes = Counter(outcome for outcome, _ in judged)
    return Cell(
        series=series,
        rule=rule,
        budget=budget,
        change=change,
        alarms=outcomes[Outcome.SLOWER] / len(judged),
        passes=(outcomes[Outcome.PASS] + outcomes[Outcome.FASTER]) / len(judged),
        undecided=outcomes[Outcome.UNDECIDED] / len(judged),
        processes=math.fsum(count for _, count in judged) / len(judged),
    )


def peer_cell(rule: str, budget: str, series: str, change: float, alarms: Sequence[bool], processes: float) -> Cell:
    judged = [(Outcome.SLOWER if alarm else Outcome.PASS, processes) for alarm in alarms]
    return cell(rule, budget, series, change, judged)
