"""Replay the stored rule with confirmation: live pairs judge each case that it calls SLOWER or leaves UNDECIDED.

The real comparisons are in the order of measurement: the baseline is older than the run, and the pairs follow the run. A real
series is short, so they share processes and pairs. The simulated machines have a drift between the recording and the run.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from speedgate.gate import intervals
from speedgate.gate.intervals import Interval
from speedgate.gate.judge import classify_confirmed, classify_interval
from speedgate.plugin import options
from speedgate.results.run import Outcome
from speedgate.results.timings import log_ratio
from tests.proof import peers
from tests.proof.replay import (
    ORDER,
    PAIRS_LOOKS,
    SEED,
    SERIES,
    SLOWDOWN,
    STORED_LOOKS,
    TOLERANCE,
    Series,
    draw,
    look_by_look,
    sequential,
)

CHANGES = (0.0, SLOWDOWN)
REPETITIONS = 1000
GREEN = (Outcome.PASS, Outcome.FASTER)
NEXT, RANDOM = "measured, the next pairs", "measured, pairs at random"
DRIFTS = (
    0.0,
    0.05,
    0.09,
    -0.05,
)  # of the simulated machines: none, two slower ones (9 % is the drift of the measured one), a faster


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Hold a live pair: its log-ratio this/other, whether this arm was opened first, and the seconds that it took."""

    log_ratio: float
    this_first: bool
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """Hold the outcome of the stored rule alone, the one with confirmation, and the seconds of both.

    `pairs` is None if the case was not suspected. `screen_s` went into its processes until then, and `pairs_s` into the pairs.
    """

    stored: Outcome
    outcome: Outcome
    pairs: int | None
    stored_s: float
    screen_s: float
    pairs_s: float = 0.0

    @property
    def added_s(self) -> float:
        """Seconds that confirmation adds to those of the stored rule alone."""
        return self.screen_s + self.pairs_s - self.stored_s


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """Hold the judgements of one machine, without a change and with a slowdown of twice the tolerance."""

    machine: str
    unchanged: Sequence[Judgement]
    slower: Sequence[Judgement]


def judge_pairs(pairs: Sequence[Pair]) -> tuple[Outcome, int]:
    """Judge as the gate judges live pairs; return the verdict and the number of pairs that were needed."""

    def judge(count: int) -> Interval | None:
        ratios, orders = [pair.log_ratio for pair in pairs[:count]], [pair.this_first for pair in pairs[:count]]
        return intervals.between_pairs(ratios, this_first=orders, confidence=PAIRS_LOOKS.confidence_at(count))

    return look_by_look(judge, PAIRS_LOOKS, TOLERANCE, classify=classify_confirmed)


def screen(baseline_s: Sequence[float], run_s: Sequence[float]) -> tuple[Outcome, int]:
    """Judge by the stored rule as the gate does before it asks for pairs; return the verdict and the number of processes.

    A run stays UNDECIDED at the first look at which more processes are not expected to acquit it (`judge.may_be_acquitted`).
    """
    count: int | None = STORED_LOOKS.first
    while count is not None:
        both = run_s[:count], baseline_s
        interval = intervals.between_sets(*both, confidence=STORED_LOOKS.confidence_at(count))
        last = STORED_LOOKS.confidence_at(STORED_LOOKS.last)
        expected = intervals.expected_between_sets(*both, confidence=last, later=STORED_LOOKS.last)
        assert interval is not None and expected is not None, "both sides have several processes"
        outcome = classify_interval(interval.low, interval.high, TOLERANCE)
        processes, count = count, STORED_LOOKS.following(count)
        if outcome is not Outcome.UNDECIDED or classify_interval(expected.low, expected.high, TOLERANCE) not in GREEN:
            break
    return outcome, processes


def judge(
    baseline_s: Sequence[float], run_s: Sequence[float], draw_pairs: Callable[[], Sequence[Pair]], *, process_s: float
) -> Judgement:
    """Judge a run by its baseline and, if that leaves a suspicion, by live pairs; `process_s` is the cost of one process."""
    stored, processes = sequential(baseline_s, iter(run_s).__next__, looks=STORED_LOOKS, tolerance=TOLERANCE)
    screened, screening = screen(baseline_s, run_s)
    judgement = Judgement(
        stored=stored, outcome=screened, pairs=None, stored_s=processes * process_s, screen_s=screening * process_s
    )
    if screened in GREEN:
        return judgement
    pairs = draw_pairs()
    outcome, used = judge_pairs(pairs)
    pairs_s = math.fsum(pair.seconds for pair in pairs[:used])
    return dataclasses.replace(judgement, outcome=outcome, pairs=used, pairs_s=pairs_s)


def real(series: dict[str, Any]) -> list[Replay]:
    """Replay the real series in order, with the pairs that were measured next and with pairs at random."""
    rng = random.Random(SEED)  # noqa: S311 - which pairs a comparison takes
    pairs = {change: list(real_pairs(series, change)) for change in CHANGES}
    choices: dict[str, Callable[[float, float], Sequence[Pair]]] = {
        NEXT: lambda change, share: following_pairs(pairs[change], count=len(series["pairs"]), share=share),
        RANDOM: lambda change, _: random_pairs([pair for _, pair in pairs[change]], rng),
    }
    return [
        Replay(machine=name, unchanged=_in_order(series, 0.0, choose), slower=_in_order(series, SLOWDOWN, choose))
        for name, choose in choices.items()
    ]


def _in_order(
    series: dict[str, Any], change: float, choose: Callable[[float, float], Sequence[Pair]]
) -> list[Judgement]:
    """Judge every later run by every consecutive processes, as `real.in_order` does."""
    old_s, new_s = process_medians_s(series, 0.0), process_medians_s(series, change)
    recorded, most, process_s = options.RECORD_PROCESSES, STORED_LOOKS.last, process_seconds(series)
    return [
        judge(
            old_s[old : old + recorded],
            new_s[new : new + most],
            lambda last=new + most - 1: choose(change, last / len(new_s)),  # type: ignore[misc]
            process_s=process_s,
        )
        for old in range(len(old_s) - recorded - most + 1)
        for new in range(old + recorded, len(old_s) - most + 1)
    ]


def process_medians_s(series: dict[str, Any], change: float) -> list[float]:
    """Return the median seconds of each process at that slowdown, in order."""
    return [statistics.median(process["seconds"][str(change)]) for process in series["alone"]]


def real_pairs(series: dict[str, Any], change: float) -> Iterator[tuple[int, Pair]]:
    """Yield each pair that measured this slowdown with its number in the order of measurement."""
    for number, pair in enumerate(series["pairs"]):
        if (sides := pair["seconds"].get(str(change))) is not None:
            rounds_s = math.fsum([*sides["own"], *sides["other"]])
            ratio = log_ratio(sides["own"], sides["other"], rounds_in_turn=True)
            seconds = pair.get("opened_s", 0.0) + rounds_s
            yield number, Pair(log_ratio=ratio, this_first=pair["own_first"], seconds=seconds)


def following_pairs(numbered: Sequence[tuple[int, Pair]], *, count: int, share: float) -> list[Pair]:
    """Return the pairs measured next after that share of the processes, or the last ones if fewer than needed remain.

    Processes and pairs were measured in turn, so after a share of the processes that share of all `count` pairs was measured.
    """
    start = sum(number < math.ceil(share * count) for number, _ in numbered)
    start = max(0, min(start, len(numbered) - PAIRS_LOOKS.last))
    return [pair for _, pair in numbered[start : start + PAIRS_LOOKS.last]]


def random_pairs(pairs: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Draw pairs without replacement, with both orders in turn."""
    half = PAIRS_LOOKS.last // 2
    orders = [rng.sample([pair for pair in pairs if pair.this_first is order], half) for order in (True, False)]
    return [pair for both in zip(*orders, strict=True) for pair in both]


def process_seconds(series: dict[str, Any]) -> float:
    """Return the median seconds of a process of the stored rule: its start and its rounds without a change."""
    return statistics.median(process["opened_s"] + math.fsum(process["seconds"]["0.0"]) for process in series["alone"])


def pair_seconds(series: dict[str, Any]) -> float:
    """Return the median seconds of a pair without a change."""
    return statistics.median(pair.seconds for _, pair in real_pairs(series, 0.0))


def simulated(*, process_s: float, pair_s: float, repetitions: int = REPETITIONS) -> list[Replay]:
    """Replay machines that have drifted between the recording and the run; a process and a pair cost what the real ones did."""
    machines = [(series, drift) for series in SERIES for drift in (DRIFTS if series is SERIES[0] else DRIFTS[:2])]
    return [
        Replay(machine=machine_name(machine, drift), unchanged=unchanged, slower=slower)
        for number, (machine, drift) in enumerate(machines)
        for unchanged, slower in [_simulate(machine, drift, number, process_s, pair_s, repetitions)]
    ]


def machine_name(machine: Series, drift: float) -> str:
    """Name a simulated machine and its drift since the recording."""
    return f"{machine.name}, drift {drift:+.0%}" if drift else f"{machine.name}, no drift"


def _simulate(
    machine: Series, drift: float, number: int, process_s: float, pair_s: float, repetitions: int
) -> tuple[list[Judgement], list[Judgement]]:
    """Judge without a change and with the slowdown, both by the same draws."""
    rng = np.random.default_rng([SEED, number])
    old, new, this_arm, other_arm = (
        np.median(draw(rng, machine, repetitions, count), axis=2)
        for count in (options.RECORD_PROCESSES, STORED_LOOKS.last, PAIRS_LOOKS.last, PAIRS_LOOKS.last)
    )
    orders = [place % 2 == 0 for place in range(PAIRS_LOOKS.last)]
    ratios = np.log(this_arm / other_arm) + np.where(orders, ORDER, -ORDER)

    def judge_all(change: float) -> list[Judgement]:
        return [
            judge(
                old[row].tolist(),
                (new[row] * (1 + drift) * (1 + change)).tolist(),
                lambda row=row: [  # type: ignore[misc]
                    Pair(log_ratio=ratio, this_first=first, seconds=pair_s)
                    for ratio, first in zip((ratios[row] + math.log1p(change)).tolist(), orders, strict=True)
                ],
                process_s=process_s,
            )
            for row in range(repetitions)
        ]

    return judge_all(0.0), judge_all(SLOWDOWN)


def sglang_alarms(series: dict[str, Any], change: float, *, limit: Callable[[float], float]) -> list[bool]:
    """Replay SGLang's retries in order: an alarm needs every attempt, one process each, to be above the limit."""
    old_s, new_s = process_medians_s(series, 0.0), process_medians_s(series, change)
    recorded, attempts = options.RECORD_PROCESSES, peers.SGLANG_ATTEMPTS
    return [
        peers.above_in_every_attempt(new_s[new : new + attempts], limit(statistics.median(old_s[old : old + recorded])))
        for old in range(len(old_s) - recorded - attempts + 1)
        for new in range(old + recorded, len(old_s) - attempts + 1)
    ]


def rustc_perf_alarms(series: dict[str, Any], change: float) -> list[bool]:
    """Replay rustc-perf's history bands in order: each process is a commit, compared with the one before it."""
    old_s, new_s = process_medians_s(series, 0.0), process_medians_s(series, change)
    length = peers.RUSTC_PERF_HISTORY + 1
    return [peers.rustc_perf(new_s[place], old_s[place - length : place]) for place in range(length, len(old_s))]
