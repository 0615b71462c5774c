"""Rounds: measured in the worker, around the work alone, checked here, and handed to pytest-benchmark by a clock of ours.

pytest-benchmark's documented `timer=` marker argument takes any callable that returns seconds, so it is given one that
stands still until a round hands over what the worker measured: building, messages and fresh processes cost no measured
time.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

from speedgate.measure.monitor import Monitor, Reading, summarize
from speedgate.measure.worker import Target
from speedgate.results import loops, timings
from speedgate.results.run import ColdStart, Process

# What a round may take on our side beyond its own seconds before they are called incomplete: messages cost about 1 ms.
_UNSEEN_SHARE = 0.25
_UNSEEN_S = 0.05
_MOST_ROUNDS = 1000


class InvalidMeasurement(Exception):
    """What was measured cannot be used; the message is the sentence of an INVALID verdict."""


class WorkerClock:
    """Seconds that workers have measured in this session; a benchmark's `timer=`."""

    __name__ = "worker_clock"  # pytest-benchmark writes a timer's name into its JSON

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move on by one round."""
        assert math.isfinite(seconds) and seconds > 0, f"a round of {seconds!r} s was let through"
        self._now_s += seconds


worker_clock = WorkerClock()


def replay_in_benchmark(benchmark: Any, processes: Iterable[Process], *, clock: WorkerClock = worker_clock) -> None:
    """Let pytest-benchmark time what has been measured, one round of its own a round.

    It wants their number beforehand, and how many there are is known only when a verdict is reached.
    """
    seconds = [value for process in processes for value in process.seconds]
    following = iter(seconds)
    benchmark.pedantic(lambda: clock.advance(next(following)), rounds=len(seconds), iterations=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasurementPlan:
    """How much is measured of a case.

    `rounds` in each of `processes` fresh processes, after `warmup_rounds` that are not kept; more rounds where those take
    less than `min_total_s` together. A void round is measured again, `max_discarded_rounds` times in a process at most.
    """

    processes: int
    rounds: int
    min_total_s: float = 0.0
    warmup_rounds: int = 1
    max_discarded_rounds: int = 5


@dataclasses.dataclass(kw_only=True)
class Measurement:
    """A worker that holds a case, and the rounds that have been measured in it; `name` tells it from another one."""

    worker: Target
    cold_start: ColdStart
    plan: MeasurementPlan
    monitor: Monitor
    name: str | None = None
    images: int = 0
    wall_s: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    peak_bytes: list[int] = dataclasses.field(default_factory=list)
    readings: list[Reading] = dataclasses.field(default_factory=list)
    discarded_reasons: list[str] = dataclasses.field(default_factory=list)
    loops: list[Any] = dataclasses.field(default_factory=list)
    components: list[Any] = dataclasses.field(default_factory=list)

    def warm_up(self) -> int:
        """Make the images that are not kept; the number of rounds that this process needs."""
        warm_s = [self._generate()["seconds"] for _ in range(self.plan.warmup_rounds)]
        wanted = self.plan.min_total_s / warm_s[-1] if warm_s and warm_s[-1] > 0 else 0.0
        return max(self.plan.rounds, math.ceil(min(wanted, _MOST_ROUNDS)))

    def round(self) -> None:
        """Measure one round, again where the machine made it void."""
        while True:
            self.monitor.begin()
            started_s = time.perf_counter()
            reply = self._generate()
            wall_s = time.perf_counter() - started_s
            reading = self.monitor.end()
            if reading.discarded_reason is None:
                break
            self.discarded_reasons.append(reading.discarded_reason)
            if len(self.discarded_reasons) > self.plan.max_discarded_rounds:
                raise self._invalid(
                    f"{len(self.discarded_reasons)} rounds of one process were void, the last one: {reading.discarded_reason}"
                )
        self._check(reply)
        self.wall_s += wall_s
        self.readings.append(reading)
        self.seconds.append(reply["seconds"])
        self.peak_bytes.append(reply["peak_bytes"])
        self.loops.append(reply.get("loops", {}))  # an older checkout's worker tells none of either
        self.components.append(reply.get("components", {}))

    def process(self) -> Process:
        """The record of this process."""
        counted_s = math.fsum(self.seconds)
        if self.wall_s > counted_s * (1 + _UNSEEN_SHARE) + _UNSEEN_S * len(self.seconds):
            raise self._invalid(
                f"{len(self.seconds)} rounds took {self.wall_s:.3g} s, of which the worker's clock counted {counted_s:.3g} s:"
                " the device is not synchronised around a round, or work is done outside of the clock"
            )
        try:
            timed = loops.over_rounds(self.loops, seconds=self.seconds)
            spent = timings.over_rounds(self.components, seconds=self.seconds)
        except ValueError as error:
            raise self._invalid(str(error)) from error
        return Process(
            seconds=tuple(self.seconds),
            peak_bytes=tuple(self.peak_bytes),
            cold_start=self.cold_start,
            void=tuple(self.discarded_reasons),
            health=summarize(self.readings),
            loops=timed,
            components=spent,
        )

    def _generate(self) -> dict[str, Any]:
        reply: dict[str, Any] = self.worker.call("generate")
        if not isinstance(reply.get("images"), int):
            raise self._invalid("the worker does not count its images: its checkout is too old to be compared with")
        if reply["images"] <= self.images:
            raise self._invalid(
                f"image {self.images} of a process was followed by image {reply['images']}: a reused round"
            )
        self.images = reply["images"]
        return reply

    def _check(self, reply: dict[str, Any]) -> None:
        seconds = reply["seconds"]
        if not (isinstance(seconds, float) and math.isfinite(seconds) and seconds > 0):
            raise self._invalid(f"the worker measured {seconds!r} s for a round: not a duration")
        peak_bytes = reply["peak_bytes"]
        if not (isinstance(peak_bytes, int) and peak_bytes > 0):
            raise self._invalid(f"the worker read a peak of {peak_bytes!r} bytes: not a size")
        before = self.images - len(self.seconds) - len(self.discarded_reasons) - 1
        if before < 1 + self.plan.warmup_rounds:
            raise self._invalid(
                f"a round followed {before} images of its process: the first one compiles, {self.plan.warmup_rounds} warm up"
            )

    def _invalid(self, sentence: str) -> InvalidMeasurement:
        return InvalidMeasurement(f"{self.name}: {sentence}" if self.name else sentence)


def measure_process(measurement: Measurement) -> Process:
    """All rounds of one process."""
    for _ in range(measurement.warm_up()):
        measurement.round()
    return measurement.process()


def measure_pair(own: Measurement, other: Measurement) -> tuple[Process, Process]:
    """All rounds of two live processes that take turns: own other other own, and so on."""
    rounds = max(own.warm_up(), other.warm_up())
    for index in range(rounds + rounds % 2):
        for measurement in (own, other) if index % 2 == 0 else (other, own):
            measurement.round()
    return own.process(), other.process()


def log_ratio(own_s: Sequence[float], other_s: Sequence[float], *, rounds_in_turn: bool) -> float:
    """The logarithm of own/other: of the medians, or over the rounds of `measure_pair` the median over blocks of four.

    In such a block each measurement has one round that follows its own and one that follows the other's. That matters: on the
    2-core machine that this was written on, the latter was slower by 5 to 7 %.
    """
    if not rounds_in_turn:
        return math.log(statistics.median(own_s) / statistics.median(other_s))
    assert len(own_s) == len(other_s) and len(own_s) % 2 == 0, "rounds come in blocks of own, other, other, own"
    own, other = ([math.log(value) for value in side] for side in (own_s, other_s))
    return statistics.median(
        (own[index] + own[index + 1] - other[index] - other[index + 1]) / 2 for index in range(0, len(own), 2)
    )
