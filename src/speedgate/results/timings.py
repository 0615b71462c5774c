"""The components of a round: what a worker tells of them is checked and kept, and their share of a latency derived.

They are shown, and set against a baseline's to explain a verdict; no gate judges them.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

REMAINDER = "remainder"  # what a round takes beside the components that its worker times
_MOST = 100
_LONGEST_NAME = 100
# What two clocks may disagree by over a round: a device's events and the host's counter.
_RESOLUTION = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """The rounds of one process in one of their components: its seconds in each, and of each call the median over rounds."""

    seconds: tuple[float, ...]
    call_medians_s: tuple[float, ...]

    @property
    def calls(self) -> int:
        return len(self.call_medians_s)


def over_rounds(told: Sequence[Any], *, seconds: Sequence[float]) -> dict[str, Component]:
    """The components of one process, by name, from what its worker told of each round of `seconds`.

    A worker tells `{name: [seconds of each call]}`, or `{}` where it times none. A `ValueError` is a sentence about the first
    round that cannot be: other components or calls than the first one's, or more seconds than the round.
    """
    for number, (spent, round_s) in enumerate(zip(told, seconds, strict=True), start=1):
        if not _could_be(spent, round_s=round_s):
            raise ValueError(f"round {number} took {round_s:.4g} s and its components, as the worker tells, {spent!r}")
        if _calls(spent) != _calls(told[0]):
            raise ValueError(
                f"round {number} called its components {_calls(spent)} times, the first one {_calls(told[0])}"
            )
    return {
        name: Component(
            seconds=tuple(math.fsum(spent[name]) for spent in told),
            call_medians_s=tuple(statistics.median(calls) for calls in zip(*(s[name] for s in told), strict=True)),
        )
        for name in _calls(told[0])
    }


def centre_s(processes: Sequence[Any]) -> dict[str, float]:
    """Seconds of each component in an image: of processes with `components` and `seconds`, medians over rounds, their mean.

    What is left of the round stands under `remainder`. `{}` unless every process has timed the same components.
    """
    names = [tuple(process.components) for process in processes]
    if not names or not names[0] or any(sorted(other) != sorted(names[0]) for other in names):
        return {}
    centre = {
        name: statistics.fmean(statistics.median(process.components[name].seconds) for process in processes)
        for name in names[0]
    }
    rest = statistics.fmean(statistics.median(_remainders_s(process)) for process in processes)
    return {**centre, REMAINDER: rest}


def from_json(data: Any, *, rounds: int, where: str) -> dict[str, Component]:
    """The components of a stored process of so many rounds; a `ValueError` names `where` and the one that is wrong."""
    if not isinstance(data, Mapping) or len(data) > _MOST:
        raise ValueError(f"{where}: expected an object of at most {_MOST} components")
    for name, component in data.items():
        if not _is_stored(component, rounds=rounds) or not _is_name(name):
            raise ValueError(
                f"{where}[{str(name)[:_LONGEST_NAME]!r}]: expected the seconds of {rounds} rounds and the medians of its calls"
            )
    return {name: Component(**{field: tuple(values) for field, values in one.items()}) for name, one in data.items()}


def _remainders_s(process: Any) -> list[float]:
    each = zip(*(component.seconds for component in process.components.values()), strict=True)
    return [round_s - math.fsum(spent) for round_s, spent in zip(process.seconds, each, strict=True)]


def _calls(spent: Mapping[str, Sequence[float]]) -> dict[str, int]:
    return {name: len(calls) for name, calls in spent.items()}


def _could_be(spent: Any, *, round_s: float) -> bool:
    """Whether these are components with the seconds of their calls, which fit into a round."""
    if not isinstance(spent, Mapping) or len(spent) > _MOST or not all(map(_is_name, spent)):
        return False
    if not all(isinstance(calls, list | tuple) and calls and all(map(_is_share, calls)) for calls in spent.values()):
        return False
    return math.fsum(second for calls in spent.values() for second in calls) <= round_s * (1 + _RESOLUTION)


def _is_stored(component: Any, *, rounds: int) -> bool:
    if not isinstance(component, Mapping) or set(component) != {"seconds", "call_medians_s"}:
        return False
    if not all(isinstance(values, list | tuple) and all(map(_is_share, values)) for values in component.values()):
        return False
    return len(component["seconds"]) == rounds and len(component["call_medians_s"]) > 0


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name != REMAINDER


def _is_share(seconds: Any) -> bool:
    return type(seconds) is float and 0 <= seconds < math.inf
