"""A recording's budget of seconds: what does not fit is not started, and what is running when it is over is ended."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable

from speedgate.measure.phases import PhaseLog, running_s
from speedgate.measure.worker import OutOfTime

# Kept back for ending: a worker is killed after two seconds, then what was recorded is written and told.
_CLOSING_S, _CLOSING_SHARE = 10.0, 0.1


@dataclasses.dataclass(kw_only=True, repr=False)
class Budget:
    """`seconds` from the start of this process on, or None for as long as it takes; `clock` tells how long it has run."""

    seconds: float | None = None
    clock: Callable[[], float] = running_s
    log: PhaseLog | None = None

    @property
    def left_s(self) -> float:
        """Seconds in which something may still run; what ending takes is taken off."""
        if self.seconds is None:
            return math.inf
        return self.seconds - min(_CLOSING_S, _CLOSING_SHARE * self.seconds) - self.clock()

    def timed(self, case: str, phase: str) -> contextlib.AbstractContextManager[None]:
        """Log a phase of which no progress is shown."""
        return self.log.phase(case, phase) if self.log else contextlib.nullcontext()

    def afford(self, case: str, *phases: str) -> None:
        """`OutOfTime` where these phases of a case, one after the other, are not expected to fit into what is left."""
        left_s = self.left_s
        needed_s = sum(self.log.expected_s(case, phase) for phase in phases) if self.log else 0.0
        if left_s <= 0:
            raise OutOfTime("the budget is over")
        if needed_s > left_s:
            raise OutOfTime(
                f"{' + '.join(phases)}: about {needed_s:.0f} s by what was seen so far, {left_s:.0f} s of the budget are left"
            )
