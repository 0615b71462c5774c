"""Which candidate to try next, and what is known in the end. Pure: no package, environment or file is known here."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable


class BisectOutcome(enum.StrEnum):
    """What trying one candidate said; SKIP where it said nothing, as exit status 125 does in `git bisect run`."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BisectBoundary:
    """The last candidate that was good and the first after it that was bad; all between them were skipped."""

    last_good: int
    first_bad: int

    @property
    def suspects(self) -> range:
        """The candidates that may be the first bad one: one alone where nothing was skipped beside it."""
        return range(self.last_good + 1, self.first_bad + 1)


class EndsError(ValueError):
    """An end is not what it was said to be: `index`, `claimed` and `found`."""

    def __init__(self, index: int, *, claimed: BisectOutcome, found: BisectOutcome) -> None:
        super().__init__(f"candidate {index} was said to be {claimed} and is {found}")
        self.index, self.claimed, self.found = index, claimed, found


def search(count: int, judge: Callable[[int], BisectOutcome]) -> BisectBoundary:
    """The boundary between good and bad among candidates 0, said to be good, to `count - 1`, said to be bad.

    Each is judged once at most, both ends first; `EndsError` where one is not as said. The middle of those left is always next:
    of the candidates between the ends `steps(count - 2)` are judged at most, which no method can do better, and one more for
    each skip that was met.
    """
    if count < 2:
        raise ValueError(f"{count} candidates: a good and a bad one are needed")
    for index, claimed in ((0, BisectOutcome.GOOD), (count - 1, BisectOutcome.BAD)):
        if (found := judge(index)) is not claimed:
            raise EndsError(index, claimed=claimed, found=found)
    good, bad, left = 0, count - 1, list(range(1, count - 1))
    while left:
        index = left[len(left) // 2]
        step = judge(index)
        if step is BisectOutcome.GOOD:
            good = index
        elif step is BisectOutcome.BAD:
            bad = index
        left = [other for other in left if good < other < bad and other != index]
    return BisectBoundary(last_good=good, first_bad=bad)


def steps(between: int) -> int:
    """How many candidates of `between` two ends are judged at most where none is skipped: ceil(log2(between + 1))."""
    return between.bit_length()
