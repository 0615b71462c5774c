"""How much is tolerated, and which verdicts turn their test red."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from speedgate.gate.intervals import Looks
from speedgate.results.run import Outcome, Verdict


class Mode(enum.StrEnum):
    """How verdicts decide over tests (`--gate`)."""

    AUTO = "auto"  # enforce cases that have a baseline here, name those that have none
    ENFORCE = "enforce"  # a missing, stale or undecided baseline is red too
    RECORD = "record"  # exact claims and parity are enforced, figures are written
    REPORT = "report"  # never red


_RED = {
    Mode.REPORT: frozenset[Outcome](),
    Mode.RECORD: frozenset({Outcome.NOT_APPLIED, Outcome.DIFFERENT, Outcome.INVALID}),
}
_RED[Mode.AUTO] = _RED[Mode.RECORD] | {Outcome.SLOWER, Outcome.BIGGER, Outcome.MORE_WORK}
_RED[Mode.ENFORCE] = _RED[Mode.AUTO] | {
    Outcome.NO_BASELINE,
    Outcome.STALE,
    Outcome.UNKNOWN,
    Outcome.UNDECIDED,
    Outcome.MISSING,
}
_IMPROVED = frozenset({Outcome.FASTER, Outcome.SMALLER})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """The tolerances, as fractions, and the mode of the gate.

    `latency_tolerance` bounds the whole confidence interval of the ratio to the baseline; `stage_tolerances` replaces it
    for the stages that it names, and `component_tolerances` for components that people accepted as slower.
    `point_tolerance` bounds the bare ratio to a published figure, whose spread over machines and processes is unknown.
    `looks` are the numbers of processes at which a verdict is tried, and their error rate.
    `memory_tolerance` is for a peak that was reset, `resident_tolerance` for a process's resident memory.
    A start is SLOWER if it exceeds both `cold_start_tolerance` and `cold_start_floor_s`: it is one noisy value a process. The
    same holds for the seconds of the compiler, which are most of it.
    """

    mode: Mode = Mode.AUTO
    looks: Looks = dataclasses.field(default_factory=lambda: Looks(first=1, last=1))
    latency_tolerance: float = 0.03
    stage_tolerances: Mapping[str, float] = dataclasses.field(default_factory=dict)
    component_tolerances: Mapping[str, float] = dataclasses.field(default_factory=dict)
    point_tolerance: float = 0.10
    memory_tolerance: float = 0.02
    resident_tolerance: float = 0.10
    ladder_tolerance: float = 0.05
    cold_start_tolerance: float = 0.5
    cold_start_floor_s: float = 2.0
    strict_improvement: bool = False

    def accepts(self, verdict: Verdict) -> bool:
        """True if the test that owns this verdict is green."""
        if not verdict.gates:
            return True
        judging = self.mode in (Mode.AUTO, Mode.ENFORCE)
        if self.strict_improvement and judging and verdict.outcome in _IMPROVED:
            return False
        return verdict.outcome not in _RED[self.mode]

    def tolerance(self, stage: str) -> float:
        """The latency tolerance of a stage."""
        return self.stage_tolerances.get(stage, self.latency_tolerance)

    def component_tolerance(self, stage: str, component: str) -> float:
        """The tolerance of a component of a stage: that of the stage, or more if more was accepted."""
        return max(self.tolerance(stage), self.component_tolerances.get(component, 0.0))
