"""The clock that pytest-benchmark reads, and the rounds that move it.

A round's seconds are measured in the worker, around the work alone. pytest-benchmark's documented `timer=` marker
argument takes any callable that returns seconds, so it is given one that stands still until a round hands over what
the worker measured: building, messages and fresh processes cost no measured time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from speedgate.records import ColdStart, Process
from speedgate.worker import Target


class WorkerClock:
    """Seconds that workers have measured in this session; a benchmark's `timer=`."""

    __name__ = "worker_clock"  # pytest-benchmark writes a timer's name into its JSON

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move on by one round; a `ValueError` unless the seconds are finite and above zero."""
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"a worker measured {seconds!r} s for a round: not a duration")
        self._now_s += seconds


worker_clock = WorkerClock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured: `rounds` in each of `processes` fresh processes, after `warmup_rounds` that are not kept."""

    processes: int
    rounds: int
    warmup_rounds: int = 1


@dataclasses.dataclass
class Rounds:
    """Rounds spread over processes. `fresh` ends the present worker and returns a new one with its cold start."""

    plan: Plan
    fresh: Callable[[], tuple[Target, ColdStart]]
    worker: Target
    cold_start: ColdStart
    clock: WorkerClock = worker_clock
    _done: list[Process] = dataclasses.field(default_factory=list)
    _open: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def one(self) -> None:
        """Measure one round, in a fresh process when the present one has had its share."""
        if len(self._open) == self.plan.rounds:
            self._close_process()
            self.worker, self.cold_start = self.fresh()
        if not self._open:
            for _ in range(self.plan.warmup_rounds):
                self.worker.call("generate")
        round_ = self.worker.call("generate")
        self.clock.advance(round_["seconds"])
        self._open.append(round_)

    def processes(self) -> tuple[Process, ...]:
        """What has been measured, one record a process."""
        if self._open:
            self._close_process()
        return tuple(self._done)

    @property
    def total(self) -> int:
        return self.plan.processes * self.plan.rounds

    def _close_process(self) -> None:
        self._done.append(
            Process(
                seconds=tuple(round_["seconds"] for round_ in self._open),
                peak_bytes=tuple(round_["peak_bytes"] for round_ in self._open),
                cold_start=self.cold_start,
            )
        )
        self._open = []
