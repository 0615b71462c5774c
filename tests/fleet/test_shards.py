"""How a selection is divided: evenly, the same everywhere, and what belongs together in one part where that can be."""

import itertools
import random

import pytest

from fixtures.cases import Case
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import LADDER
from speedgate.fleet.shards import Task, divide, total_cost
from speedgate.results.case_key import CaseKey


def tasks(**units):
    """Cases of each unit by their costs: `tasks(a=[1, 2])` is a/0 of cost 1 and a/1 of cost 2."""
    return [Task(key=f"{unit}/{n}", unit=unit, cost=it) for unit, costs in units.items() for n, it in enumerate(costs)]


def test_what_belongs_together_stays_together():
    """No unit is cut where there are enough of them."""
    parts = divide(tasks(a=[1, 1], b=[1, 1], c=[1, 1]), 2)

    assert parts == [["a/0", "a/1", "c/0", "c/1"], ["b/0", "b/1"]]


def test_the_dearest_unit_stands_against_the_others():
    """Parts cost about the same: three cheap units against one that costs as much."""
    parts = divide(tasks(a=[1], b=[1], dear=[1, 2], c=[1]), 2)

    assert parts == [["dear/0", "dear/1"], ["a/0", "b/0", "c/0"]]


def test_a_unit_is_cut_where_there_are_too_few():
    """Into neighbours, at the place where the dearer piece is as cheap as it can be."""
    assert divide(tasks(a=[1, 1, 1, 10, 10, 10]), 2) == [["a/4", "a/5"], ["a/0", "a/1", "a/2", "a/3"]]


def test_a_cut_counts_what_has_to_be_made_twice():
    """A piece without its references makes them too, which moves the cut."""
    references = {"a/0": 6.0}
    ladder = [Task(key=f"a/{n}", unit="a", cost=6.0, needs=references if n else {}) for n in range(5)]

    parts = divide(ladder, 2)

    assert sorted(parts) == [["a/0", "a/1", "a/2"], ["a/3", "a/4"]]
    assert [total_cost([task for task in ladder if task.key in part]) for part in sorted(parts)] == [18.0, 18.0]


@pytest.mark.parametrize("count", range(1, 13))
def test_every_case_is_in_one_part_and_no_part_is_empty(count):
    """Whatever N up to the number of cases."""
    selection = tasks(a=[3, 1, 4], b=[1, 5, 9, 2], c=[6], d=[5, 3, 5, 8])

    parts = divide(selection, count)

    assert all(parts)
    assert sorted(itertools.chain(*parts)) == sorted(task.key for task in selection)


def test_more_parts_than_cases_is_an_error():
    """An empty shard would judge nothing and be green."""
    with pytest.raises(ValueError, match="the selection has 2 cases: choose N of at most 2"):
        divide(tasks(a=[1, 1]), 3)


def test_parts_differ_by_less_than_the_dearest_unit():
    """The bound of the greedy rule, over selections of all shapes."""
    draw = random.Random(1)  # noqa: S311 - shapes, no secrets
    for _ in range(100):
        units = {f"u{n}": [draw.uniform(0.1, 10)] * draw.randint(1, 6) for n in range(draw.randint(2, 12))}
        selection = tasks(**units)
        loads = [
            sum(task.cost for task in selection if task.key in part)
            for part in divide(selection, draw.randint(2, len(units)))
        ]
        assert max(loads) - min(loads) <= max(map(sum, units.values())) + 1e-9


def test_a_large_unit_is_divided_at_once():
    """Thirty stages in fifteen parts: looking at every way to cut them would take years."""
    assert len(divide(tasks(a=[1 + n % 7 for n in range(30)]), 15)) == 15


def test_the_ladders_of_all_pipelines_balance_over_two():
    """What costs three times as much as another pipeline's ladder stands against three of those."""
    cases = [Case(pipeline=name, size="tiny", stage=stage) for name in pipelines() for stage in LADDER]
    selection = [Task(key=case.key, unit=case.unit, cost=case.cost) for case in cases]

    parts = divide(selection, 2)

    loads = [sum(task.cost for task in selection if task.key in part) for part in parts]
    assert max(loads) <= 1.1 * min(loads)
    assert {CaseKey.parse(key).pipeline for key in parts[0]}.isdisjoint(
        {CaseKey.parse(key).pipeline for key in parts[1]}
    )
