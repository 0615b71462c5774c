"""Divide the selected cases over runners (`--shard I/N`), and the manifest that each runner leaves beside its results.

Every runner computes the same division from the selection and N alone. `manifest.json` names the selected cases, those of this
shard, and how the session ended. It is written before the first case and again at the end, so that `speedgate merge` can tell
what an interrupted session lacks.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from speedgate.gate.policy import Policy
from speedgate.measure.machine import check_gpu_key
from speedgate.results.json_io import as_object, decode, to_json, write_json
from speedgate.results.run_marks import Injection

if TYPE_CHECKING:
    import pytest

MARK = "shard"
MANIFEST_FILE = "manifest.json"
SCHEMA = 1
MAX_SHARDS = 1000  # as many as a folder has results
_FORM = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shard `number` of `of`, counted from one."""

    number: Annotated[int, Meta(ge=1, le=MAX_SHARDS)] = 1
    of: Annotated[int, Meta(ge=1, le=MAX_SHARDS)] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MAX_SHARDS:
            raise ValueError(f"expected a number from 1 to {self.of}, found {self.number}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One session: the cases, the machine, the versions, the policy and how it ended. Keys are in the order of measuring.

    `selection` holds every selected case, `case_keys` those of this shard, and `skipped` those that every test skipped with a
    reason. `injected` and `quick` are the marks of a fire drill and of `--quick`. `exit_status` is pytest's, or the drill's; None
    until the session has ended.
    """

    shard: Shard
    selection: tuple[str, ...]
    case_keys: tuple[str, ...] = field(name="part")
    gpu_key: str
    commit: dict[str, Any]
    versions: dict[str, Any]
    policy: Policy
    against: str | None = None
    injected: Injection | None = None
    quick: bool = False
    skipped: tuple[str, ...] = ()
    exit_status: int | None = None
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        check_gpu_key(self.gpu_key)
        for name, keys in (("selection", self.selection), ("part", self.case_keys), ("skipped", self.skipped)):
            if len(set(keys)) != len(keys):
                raise ValueError(f"{name}: a case key is listed twice")

    def write(self, folder: Path) -> None:
        """Write `manifest.json` beside the results in `folder`."""
        write_json(folder / MANIFEST_FILE, to_json(self))


def decode_manifest(document: Any, *, where: str) -> Manifest:
    """Check the manifest of a session, which may be a stranger's; a `ValueError` names `where` and the field."""
    schema = as_object(document).get("schema", SCHEMA)
    if schema != SCHEMA:
        raise ValueError(f"{where}: schema: expected {SCHEMA}, found {schema!r}; merge with the version that wrote it")
    return decode(document, Manifest, where=where)


@dataclasses.dataclass(kw_only=True)
class ManifestWriter:
    """Write the manifest of a running session, and collect the outcomes of each case for the end."""

    folder: Path
    manifest: Manifest
    outcomes: dict[str, set[str]] = dataclasses.field(default_factory=dict)

    def begin(self) -> None:
        """Write the manifest before the first case."""
        self.manifest.write(self.folder)

    def add_outcome(self, keys: Sequence[str], outcome: str) -> None:
        """Note that a test of these cases has ended: "passed", "failed" or "skipped"."""
        for key in keys:
            self.outcomes.setdefault(key, set()).add(outcome)

    def end(self, exit_status: int, *, cases_with_result: Sequence[str]) -> None:
        """Write the manifest again after the last case."""
        skipped = tuple(
            key
            for key in self.manifest.case_keys
            if self.outcomes.get(key) == {"skipped"} and key not in cases_with_result
        )
        msgspec.structs.replace(self.manifest, skipped=skipped, exit_status=exit_status).write(self.folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One case of a division: the unit that it should stay with, and its cost in any unit of time.

    `needs` maps the cases that it is compared with to their costs: a shard that does not have them must measure them too.
    """

    key: str
    unit: str
    cost: float = 1.0
    needs: Mapping[str, float] = dataclasses.field(default_factory=dict)


def parse_shard(text: str) -> Shard:
    """Parse `I/N`; an argparse error unless I is one of 1 to N."""
    form = _FORM.fullmatch(text)
    try:
        return Shard(number=int(form[1]), of=int(form[2])) if form else Shard(number=0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected I/N with I from 1 to N, as in 1/2 and 2/2") from None


def collect_tasks(items: Iterable[pytest.Item]) -> list[Task]:
    """Collect the cases of the tests, in their order, without the tests that a mark skips: those leave no result.

    A test's case is a parameter with a `key`. The mark `shard` holds its unit, cost and needs.
    """
    tasks: dict[str, Task] = {}
    for item in items:
        if item.get_closest_marker("skip") is not None:
            continue
        mark = item.get_closest_marker(MARK)
        for key in case_keys_of(item):
            task = Task(**{"key": key, "unit": key, **(mark.kwargs if mark else {})})
            # A test that only reads the architecture and one that builds the case may be about the same case.
            if key not in tasks or tasks[key].cost < task.cost:
                tasks[key] = task
    return list(tasks.values())


def case_keys_of(item: pytest.Item) -> list[str]:
    """List the keys of the cases that a test is about."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return [key for value in parameters.values() if isinstance(key := getattr(value, "key", None), str)]


def split_items(
    items: Sequence[pytest.Item], case_keys: Iterable[str], *, is_first_shard: bool
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Split the tests into those of a shard and the others.

    A test without a case belongs to every shard. A test that is skipped, and so has no task, belongs to the first.
    """
    all_keys, shard_keys = {task.key for task in collect_tasks(items)}, set(case_keys)
    selected: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    for item in items:
        keys = set(case_keys_of(item))
        is_here = not keys or bool(shard_keys & keys) or (is_first_shard and not all_keys & keys)
        (selected if is_here else deselected).append(item)
    return selected, deselected


def divide(tasks: Sequence[Task], count: int) -> list[list[str]]:
    """Divide the cases into `count` lists of keys with about equal costs; none is empty.

    A unit is cut only if there are fewer units than lists. The most expensive piece is placed first, each on the list with
    the lowest cost so far, so that every runner gets the same result. Raises `ValueError` if there are too few cases.
    """
    if count > len(tasks):
        raise ValueError(f"the selection has {len(tasks)} cases: choose N of at most {len(tasks)}")
    units: dict[str, list[Task]] = {}
    for task in tasks:
        units.setdefault(task.unit, []).append(task)
    pieces = _cut(list(units.values()), count)
    shares: list[list[Task]] = [[] for _ in range(count)]
    costs = [0.0] * count
    for piece in sorted(pieces, key=total_cost, reverse=True):  # sorting keeps the order of equal pieces
        cheapest = min(range(count), key=costs.__getitem__)
        shares[cheapest] += piece
        costs[cheapest] += total_cost(piece)
    order = {task.key: number for number, task in enumerate(tasks)}
    return [sorted((task.key for task in share), key=order.__getitem__) for share in shares]


def total_cost(piece: Sequence[Task]) -> float:
    """Add up the costs of the cases, and of the cases that they are compared with."""
    keys = {task.key for task in piece}
    needed = {key: cost for task in piece for key, cost in task.needs.items() if key not in keys}
    return sum(task.cost for task in piece) + sum(needed.values())


def _cut(units: Sequence[Sequence[Task]], count: int) -> list[Sequence[Task]]:
    """Cut the units into at least `count` pieces: again and again the unit with the most expensive piece gets one more."""
    cut = [[unit] for unit in units]
    while sum(map(len, cut)) < count:
        divisible = [number for number, unit in enumerate(units) if len(cut[number]) < len(unit)]
        dearest = max(divisible, key=lambda number: max(map(total_cost, cut[number])))
        cut[dearest] = _pieces(units[dearest], len(cut[dearest]) + 1)
    return [piece for pieces in cut for piece in pieces]


def _pieces(unit: Sequence[Task], count: int) -> list[Sequence[Task]]:
    """Cut a unit into `count` runs of neighbours, because stages build on one another, with the lowest maximum cost."""

    @functools.cache
    def best(start: int, pieces: int) -> tuple[float, tuple[int, ...]]:
        """Return the cost of the most expensive piece from `start` on, and where each piece begins."""
        if pieces == 1:
            return total_cost(unit[start:]), (start,)
        options = []
        for end in range(start + 1, len(unit) - pieces + 2):
            dearest, starts = best(end, pieces - 1)
            options.append((max(total_cost(unit[start:end]), dearest), (start, *starts)))
        return min(options)

    starts = best(0, count)[1]
    return [unit[start:end] for start, end in itertools.pairwise((*starts, len(unit)))]
