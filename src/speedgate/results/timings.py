"""Loops and components within the rounds of a process: check what a worker reports of them, and derive rates and shares.

Loops are shown. Components are judged, and compared to explain a verdict.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from speedgate.results.json_io import Count, NonNegative, Positive, decode

REMAINDER = "remainder"  # the seconds of a round that none of its components took
# By how much two clocks may disagree over a round: a device's events and the host's counter.
_RESOLUTION = 1e-3

ComponentName = Annotated[str, Meta(min_length=1, max_length=100, pattern=rf"^(?!{REMAINDER}\Z)")]
_Part = TypeVar("_Part")


class Loop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loop in the rounds of one process: its iterations, the same in each round, and its seconds in each."""

    iterations: Count
    seconds: tuple[Positive, ...]

    @property
    def iterations_per_s(self) -> float:
        return self.iterations / statistics.median(self.seconds)


class Component(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A component in the rounds of one process: its seconds in each round, and of each call the median over rounds."""

    seconds: tuple[NonNegative, ...]
    call_medians_s: Annotated[tuple[NonNegative, ...], Meta(min_length=1)]

    @property
    def calls(self) -> int:
        return len(self.call_medians_s)


class _LoopOfRound(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    iterations: Count
    seconds: Positive


_LoopsOfRound = dict[str, _LoopOfRound]
_Calls = Annotated[list[NonNegative], Meta(min_length=1)]
_ComponentsOfRound = Annotated[dict[ComponentName, _Calls], Meta(max_length=100)]


def collect_loops(replies: Sequence[Any], *, seconds: Sequence[float]) -> dict[str, Loop]:
    """Collect the loops of one process by name, from the worker's reply to each round of `seconds`.

    A reply is `{name: {"iterations": 4, "seconds": 0.1}}`, or `{}` if no loop is timed. A `ValueError` is a sentence about
    the first impossible round: one with other loops than the first, or with longer ones than the round.
    """
    rounds: list[dict[str, _LoopOfRound]] = _check_rounds(
        replies, _LoopsOfRound, noun="loops", seconds=seconds, seconds_of=lambda loop: loop.seconds
    )
    _check_repeated(rounds, noun="iterations of loops", count=lambda loop: loop.iterations)
    return {
        name: Loop(iterations=loop.iterations, seconds=tuple(loops[name].seconds for loops in rounds))
        for name, loop in rounds[0].items()
    }


def collect_components(replies: Sequence[Any], *, seconds: Sequence[float]) -> dict[str, Component]:
    """Collect the components of one process by name, from the worker's reply to each round of `seconds`.

    A reply is `{name: [seconds of each call]}`, or `{}` if no component is timed. A `ValueError` is a sentence about the
    first impossible round: one with other calls than the first, or with more seconds than the round.
    """
    rounds: list[dict[str, list[float]]] = _check_rounds(
        replies, _ComponentsOfRound, noun="components", seconds=seconds, seconds_of=math.fsum, slack=_RESOLUTION
    )
    _check_repeated(rounds, noun="calls of components", count=len)
    return {
        name: Component(
            seconds=tuple(math.fsum(components[name]) for components in rounds),
            call_medians_s=tuple(map(statistics.median, zip(*(each[name] for each in rounds), strict=True))),
        )
        for name in rounds[0]
    }


def iterations_per_s(processes: Sequence[Mapping[str, Loop]]) -> dict[str, float]:
    """Rate of each loop that all processes timed: the median over rounds, the geometric mean over processes.

    The centre is that of a latency: for a loop that is the whole round, this is iterations / latency.
    """
    names = [name for name in (processes[0] if processes else ()) if all(name in loops for loops in processes)]
    return {name: statistics.geometric_mean(loops[name].iterations_per_s for loops in processes) for name in names}


def component_means_s(processes: Sequence[Any]) -> dict[str, float]:
    """Seconds of each component in an image: medians over the rounds of each `Process`, and their mean.

    The rest of the round is given as `remainder`. `{}` unless every process timed the same components.
    """
    names = processes[0].components.keys() if processes else ()
    if not names or any(process.components.keys() != names for process in processes):
        return {}
    medians_s = [
        {name: statistics.median(seconds) for name, seconds in component_rounds_s(process).items()}
        for process in processes
    ]
    return {name: statistics.fmean(each[name] for each in medians_s) for name in (*names, REMAINDER)}


def component_rounds_s(process: Any) -> dict[str, Sequence[float]]:
    """Seconds of each component in each round of a `Process`, and the rest of the round as `remainder`."""
    seconds = {name: component.seconds for name, component in process.components.items()}
    spent_s = [math.fsum(each) for each in zip(*seconds.values(), strict=True)] or [0.0] * len(process.seconds)
    return {**seconds, REMAINDER: [whole - spent for whole, spent in zip(process.seconds, spent_s, strict=True)]}


def log_ratio(this_arm_s: Sequence[float], other_arm_s: Sequence[float], *, rounds_in_turn: bool) -> float:
    """Return the logarithm of this arm's seconds over the other arm's.

    Without `rounds_in_turn` it is the ratio of the medians; with the rounds of a pair that took turns, the median over blocks
    of two rounds per arm. In a block each arm has one round after its own and one after the other arm's: on the 2-core
    machine that this was written on, a round after the other arm's was slower by 5 to 7 %.
    """
    if not rounds_in_turn:
        return math.log(statistics.median(this_arm_s) / statistics.median(other_arm_s))
    assert len(this_arm_s) == len(other_arm_s), "both arms of a pair measure the same number of rounds"
    assert len(this_arm_s) % 2 == 0, "the rounds of a pair come in blocks of two per arm"
    differences = [
        math.log(this_s) - math.log(other_s) for this_s, other_s in zip(this_arm_s, other_arm_s, strict=True)
    ]
    return statistics.median((differences[i] + differences[i + 1]) / 2 for i in range(0, len(differences), 2))


def _check_rounds(
    replies: Sequence[Any],
    form: Any,
    *,
    noun: str,
    seconds: Sequence[float],
    seconds_of: Callable[[_Part], float],
    slack: float = 0.0,
) -> list[dict[str, _Part]]:
    """Decode each round's reply, whose parts together must not take longer than the round."""
    rounds: list[dict[str, _Part]] = []
    for number, (reply, round_s) in enumerate(zip(replies, seconds, strict=True), start=1):
        try:
            parts: dict[str, _Part] = decode(reply, form, where=f"round {number}: {noun}")
        except ValueError as error:
            raise ValueError(f"{error}; the worker reports {reply!r}") from error
        if math.fsum(map(seconds_of, parts.values())) > round_s * (1 + slack):
            problem = f"round {number} took {round_s:.4g} s, and its {noun} took longer"
            raise ValueError(f"{problem}; the worker reports {reply!r}")
        rounds.append(parts)
    return rounds


def _check_repeated(rounds: Sequence[Mapping[str, _Part]], *, noun: str, count: Callable[[_Part], int]) -> None:
    """Refuse a round whose parts were not repeated as often as the first round's: it is no repetition of it."""
    counts = [{name: count(part) for name, part in parts.items()} for parts in rounds]
    for number, counted in enumerate(counts, start=1):
        if counted != counts[0]:
            raise ValueError(f"round {number} had {noun} {counted}, the first one {counts[0]}")
