"""Measure rounds in a worker, check them, and hand their seconds to pytest-benchmark.

The worker measures the seconds around the work alone. pytest-benchmark's documented `timer=` marker argument takes any
callable that returns seconds; `WorkerClock` advances only when a measured round is replayed, so building, messages and
fresh processes cost no measured time.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterable
from typing import Any

from speedgate.measure.monitor import Monitor, Reading, summarize
from speedgate.measure.worker import Target
from speedgate.results import timings
from speedgate.results.run import ColdStart, Process

# How much longer than the worker's seconds a round may take on our side; above it the worker's clock misses work. The
# messages take about 1 ms.
_MAX_OVERHEAD_SHARE = 0.25
_MAX_OVERHEAD_S = 0.05
_MAX_ROUNDS = 1000


class InvalidMeasurement(Exception):
    """Reject a measurement that cannot be used; the message is the sentence of an INVALID verdict."""


class WorkerClock:
    """Count the seconds that workers have measured in this session, for a benchmark's `timer=`."""

    __name__ = "worker_clock"  # pytest-benchmark writes a timer's name into its JSON

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Advance by the seconds of one round."""
        assert math.isfinite(seconds) and seconds > 0, f"a round of {seconds!r} s should have been rejected"
        self._now_s += seconds


worker_clock = WorkerClock()


def replay_in_benchmark(benchmark: Any, processes: Iterable[Process], *, clock: WorkerClock = worker_clock) -> None:
    """Replay the measured rounds to pytest-benchmark, one of its rounds for each.

    Runs after the verdict, because pytest-benchmark needs the number of rounds in advance.
    """
    seconds = [round_s for process in processes for round_s in process.seconds]
    remaining = iter(seconds)
    benchmark.pedantic(lambda: clock.advance(next(remaining)), rounds=len(seconds), iterations=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasurementPlan:
    """Set how much of a case is measured: `rounds` in each of `processes` fresh processes, after `warmup_rounds`.

    A process measures more rounds if `rounds` take less than `min_total_s` in total. A round that the monitor discards is
    measured again; more than `max_discarded_rounds` in a process, or than a tenth of its rounds if that is more, make the
    measurement invalid.
    """

    processes: int
    rounds: int
    min_total_s: float = 0.0
    warmup_rounds: int = 1
    max_discarded_rounds: int = 5


@dataclasses.dataclass(kw_only=True)
class Measurement:
    """Measure the rounds of one worker process. `name` appears in error messages if there are two arms."""

    worker: Target
    cold_start: ColdStart
    plan: MeasurementPlan
    monitor: Monitor
    name: str | None = None
    image_count: int = 0
    wall_s: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    peak_bytes: list[int] = dataclasses.field(default_factory=list)
    readings: list[Reading] = dataclasses.field(default_factory=list)
    discarded_reasons: list[str] = dataclasses.field(default_factory=list)
    loops: list[Any] = dataclasses.field(default_factory=list)
    components: list[Any] = dataclasses.field(default_factory=list)

    def warm_up(self) -> int:
        """Run the warm-up rounds and return how many rounds this process needs."""
        warmup_s = [self._generate()["seconds"] for _ in range(self.plan.warmup_rounds)]
        rounds_to_fill = self.plan.min_total_s / warmup_s[-1] if warmup_s and warmup_s[-1] > 0 else 0.0
        return max(self.plan.rounds, math.ceil(min(rounds_to_fill, _MAX_ROUNDS)))

    def round(self) -> None:
        """Measure one round; repeat it while the monitor discards it."""
        for repetition in itertools.count():
            self.monitor.begin(self.worker.pid)
            started_s = time.perf_counter()
            reply = self._generate()
            wall_s = time.perf_counter() - started_s
            reading = self.monitor.end()
            if reading.discarded_reason is None:
                break
            self.discarded_reasons.append(reading.discarded_reason)
            # A short disturbance now and then discards many of a thousand short rounds, which harms none of the others.
            if len(self.discarded_reasons) > max(self.plan.max_discarded_rounds, len(self.seconds) // 10):
                raise self._invalid(
                    f"{len(self.discarded_reasons)} rounds of one process were discarded, the last one because:"
                    f" {reading.discarded_reason}{f'; {reading.remedy}' if reading.remedy else ''}"
                )
            if repetition > 0:
                time.sleep(reading.pause_s * 2 ** (repetition - 1))
        self._check(reply)
        self.wall_s += wall_s
        self.readings.append(reading)
        self.seconds.append(reply["seconds"])
        self.peak_bytes.append(reply["peak_bytes"])
        self.loops.append(reply.get("loops", {}))  # an older checkout's worker reports neither
        self.components.append(reply.get("components", {}))

    def to_process(self) -> Process:
        """Check the rounds as a whole and return their record."""
        worker_s = math.fsum(self.seconds)
        if self.wall_s > worker_s * (1 + _MAX_OVERHEAD_SHARE) + _MAX_OVERHEAD_S * len(self.seconds):
            raise self._invalid(
                f"{len(self.seconds)} rounds took {self.wall_s:.3g} s,"
                f" of which the worker's clock counted {worker_s:.3g} s:"
                " the device is not synchronised around a round, or work is done outside of the clock"
            )
        try:
            loops_by_name = timings.collect_loops(self.loops, seconds=self.seconds)
            components_by_name = timings.collect_components(self.components, seconds=self.seconds)
        except ValueError as error:
            raise self._invalid(str(error)) from error
        return Process(
            seconds=tuple(self.seconds),
            peak_bytes=tuple(self.peak_bytes),
            cold_start=self.cold_start,
            discarded_reasons=tuple(self.discarded_reasons),
            health=summarize(self.readings),
            loops=loops_by_name,
            components=components_by_name,
        )

    def _generate(self) -> dict[str, Any]:
        reply: dict[str, Any] = self.worker.call("generate")
        if not isinstance(reply.get("images"), int):
            raise self._invalid("the worker does not count its images: its checkout is too old for a comparison")
        if reply["images"] <= self.image_count:
            raise self._invalid(
                f"image {self.image_count} of a process was followed by image {reply['images']}: a reused round"
            )
        self.image_count = reply["images"]
        return reply

    def _check(self, reply: dict[str, Any]) -> None:
        seconds = reply["seconds"]
        if not (isinstance(seconds, float) and math.isfinite(seconds) and seconds > 0):
            raise self._invalid(f"the worker measured {seconds!r} s for a round: not a duration")
        peak_bytes = reply["peak_bytes"]
        if not (isinstance(peak_bytes, int) and peak_bytes > 0):
            raise self._invalid(f"the worker read a peak of {peak_bytes!r} bytes: not a size")
        images_before = self.image_count - len(self.seconds) - len(self.discarded_reasons) - 1
        if images_before < 1 + self.plan.warmup_rounds:
            raise self._invalid(
                f"a round came after {images_before} images of its process;"
                f" the first image compiles and {self.plan.warmup_rounds} warm up"
            )

    def _invalid(self, sentence: str) -> InvalidMeasurement:
        return InvalidMeasurement(f"{self.name}: {sentence}" if self.name else sentence)


def measure_process(measurement: Measurement) -> Process:
    """Measure all rounds of one process."""
    for _ in range(measurement.warm_up()):
        measurement.round()
    return measurement.to_process()


def measure_pair(this_arm: Measurement, other_arm: Measurement) -> tuple[Process, Process]:
    """Measure two live processes in turn: this arm, the other arm, the other arm, this arm, and so on."""
    rounds = max(this_arm.warm_up(), other_arm.warm_up())
    for index in range(rounds + rounds % 2):
        for measurement in (this_arm, other_arm) if index % 2 == 0 else (other_arm, this_arm):
            measurement.round()
    return this_arm.to_process(), other_arm.to_process()
