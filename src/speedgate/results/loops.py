"""Loops within a round: what a worker tells of them is checked and kept, and their iterations per second derived.

They are shown beside the seconds of a whole round and judged by nothing.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """The rounds of one process in one of their loops: its iterations, the same in each, and its seconds, in order."""

    iterations: int
    seconds: tuple[float, ...]

    @property
    def iterations_per_s(self) -> float:
        return self.iterations / statistics.median(self.seconds)


def over_rounds(told: Sequence[Any], *, seconds: Sequence[float]) -> dict[str, Loop]:
    """The loops of one process, by name, from what its worker told of each round of `seconds`.

    A worker tells `{name: {"iterations": 4, "seconds": 0.1}}`, or `{}` where it times none. A `ValueError` is a sentence
    about the first round that cannot be: other loops than the first one's, or longer ones than the round.
    """
    for number, (loops, round_s) in enumerate(zip(told, seconds, strict=True), start=1):
        if not _could_be(loops, round_s=round_s):
            raise ValueError(f"round {number} took {round_s:.4g} s and its loops, as the worker tells, {loops!r}")
        if _iterations(loops) != _iterations(told[0]):
            raise ValueError(
                f"round {number} had the loops and iterations {_iterations(loops)}, the first one {_iterations(told[0])}"
            )
    return {
        name: Loop(iterations=count, seconds=tuple(loops[name]["seconds"] for loops in told))
        for name, count in _iterations(told[0]).items()
    }


def iterations_per_s(processes: Sequence[Mapping[str, Loop]]) -> dict[str, float]:
    """Of each loop that all processes timed, by its name: the median over rounds, the geometric mean over processes.

    The centre is the same as that of a latency: of a loop that is the whole round, this is iterations / latency.
    """
    names = [name for name in (processes[0] if processes else ()) if all(name in loops for loops in processes)]
    return {name: statistics.geometric_mean(loops[name].iterations_per_s for loops in processes) for name in names}


def from_json(data: Any, *, rounds: int, where: str) -> dict[str, Loop]:
    """The loops of a stored process of so many rounds; a `ValueError` names `where` and the loop that is wrong."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected an object, found {type(data).__name__}")
    for name, loop in data.items():
        each = loop.get("seconds") if _is_loop(loop) else None
        if not isinstance(each, list | tuple) or len(each) != rounds or not all(map(_is_duration, each)):
            raise ValueError(
                f"{where}[{name!r}]: expected iterations and the seconds of {rounds} rounds, found {loop!r}"
            )
    return {name: Loop(iterations=loop["iterations"], seconds=tuple(loop["seconds"])) for name, loop in data.items()}


def _iterations(loops: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: loop["iterations"] for name, loop in loops.items()}


def _could_be(loops: Any, *, round_s: float) -> bool:
    """Whether these are loops with iterations and seconds that fit into a round."""
    if not isinstance(loops, Mapping) or not all(map(_is_loop, loops.values())):
        return False
    seconds = [loop["seconds"] for loop in loops.values()]
    return all(map(_is_duration, seconds)) and math.fsum(seconds) <= round_s


def _is_loop(loop: Any) -> bool:
    if not isinstance(loop, Mapping) or set(loop) != {"iterations", "seconds"}:
        return False
    return type(loop["iterations"]) is int and loop["iterations"] >= 1


def _is_duration(seconds: Any) -> bool:
    return type(seconds) is float and 0 < seconds < math.inf
