"""`--shard I/N`: which of the selected cases are measured here, when several runners or GPUs share them.

What decides is the selection and N alone, so that every shard finds the same division by itself. A case is what a test's
parameter with a `key` stands for; the mark `shard` says of it which cases it belongs together with and what it costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

MARK = "shard"
MOST = 1000  # as many as a folder has results
_FORM = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """The part `number` of `of`, counted from one."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A case as a division sees it. `unit` names what it belongs together with, `cost` is in any unit of time.

    `needs` holds the cases that it is compared with, and the cost of each: a shard without them has to make them as well.
    """

    key: str
    unit: str
    cost: float = 1.0
    needs: Mapping[str, float] = dataclasses.field(default_factory=dict)


def parse(text: str) -> Shard:
    """A `Shard` from `I/N`; an argparse error unless I is one of 1 to N."""
    form = _FORM.fullmatch(text)
    shard = Shard(number=int(form[1]), of=int(form[2])) if form else None
    if shard is None or not 1 <= shard.number <= shard.of <= MOST:
        raise argparse.ArgumentTypeError(f"{text}: expected I/N with I from 1 to N, as in 1/2 and 2/2")
    return shard


def tasks(items: Iterable[pytest.Item]) -> list[Task]:
    """The cases that tests are about, in their order. One that is only skipped by a mark is none: it makes no result."""
    found: dict[str, Task] = {}
    for item in items:
        if item.get_closest_marker("skip") is not None:
            continue
        mark = item.get_closest_marker(MARK)
        said = dict(mark.kwargs) if mark else {}
        for key in keys_of(item):
            task = Task(**{"key": key, "unit": key, **said})
            # A test that only reads the architecture and one that builds the case may be about the same one.
            if key not in found or found[key].cost < task.cost:
                found[key] = task
    return list(found.values())


def keys_of(item: pytest.Item) -> list[str]:
    """The keys of the cases that a test is about."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return [key for value in parameters.values() if isinstance(key := getattr(value, "key", None), str)]


def split(
    items: Sequence[pytest.Item], part: Iterable[str], *, first: bool
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests of a part and the others. A test about no case belongs to every part, one that is only skipped to the first."""
    known, mine = {task.key for task in tasks(items)}, set(part)
    kept: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        keys = keys_of(item)
        here = not keys or bool(mine & set(keys)) or (first and not known & set(keys))
        (kept if here else others).append(item)
    return kept, others


def divide(all_tasks: Sequence[Task], count: int) -> list[list[str]]:
    """The keys of each of `count` parts, none of them empty, so that the parts cost about the same.

    What belongs together stays together: a unit is cut only where there are fewer units than parts. The dearest goes first,
    each to the part that has the least so far; what is equal goes by order. A `ValueError` where there are too few cases.
    """
    if count > len(all_tasks):
        raise ValueError(f"the selection has {len(all_tasks)} cases: choose N of at most {len(all_tasks)}")
    units: dict[str, list[Task]] = {}
    for task in all_tasks:
        units.setdefault(task.unit, []).append(task)
    pieces = _cut(list(units.values()), count)
    parts: list[list[Task]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for piece in sorted(pieces, key=cost, reverse=True):  # sorting keeps the order of what is equal
        least = min(range(count), key=lambda number: loads[number])
        parts[least] += piece
        loads[least] += cost(piece)
    order = {task.key: number for number, task in enumerate(all_tasks)}
    return [sorted((task.key for task in part), key=order.__getitem__) for part in parts]


def cost(piece: Sequence[Task]) -> float:
    """What a piece costs by itself, the cases included that it is compared with."""
    own = {task.key for task in piece}
    needed = {key: price for task in piece for key, price in task.needs.items() if key not in own}
    return sum(task.cost for task in piece) + sum(needed.values())


def _cut(units: Sequence[Sequence[Task]], count: int) -> list[Sequence[Task]]:
    """At least `count` pieces: the unit whose dearest piece costs most is cut into one more, as often as it takes."""
    cut = [[unit] for unit in units]
    while sum(map(len, cut)) < count:
        divisible = [number for number, unit in enumerate(units) if len(cut[number]) < len(unit)]
        dearest = max(divisible, key=lambda number: max(map(cost, cut[number])))
        cut[dearest] = _pieces(units[dearest], len(cut[dearest]) + 1)
    return [piece for pieces in cut for piece in pieces]


def _pieces(unit: Sequence[Task], count: int) -> list[Sequence[Task]]:
    """`unit` in `count` pieces of neighbours, whose dearest is as cheap as it can be: a stage is built on the one before it."""

    @functools.cache
    def best(start: int, pieces: int) -> tuple[float, tuple[int, ...]]:
        """The cost of the dearest piece from `start` on, and where each begins."""
        if pieces == 1:
            return cost(unit[start:]), (start,)
        found = []
        for end in range(start + 1, len(unit) - pieces + 2):
            dearest, starts = best(end, pieces - 1)
            found.append((max(cost(unit[start:end]), dearest), (start, *starts)))
        return min(found)

    starts = best(0, count)[1]
    return [unit[start:end] for start, end in itertools.pairwise((*starts, len(unit)))]
