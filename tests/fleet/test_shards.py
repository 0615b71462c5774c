"""A selection is divided into shards of about equal cost, the same on every runner, and units stay together if possible."""

import itertools
import random

import pytest

from fixtures.cases import Case
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import LADDERS
from speedgate.fleet.shards import Task, divide, total_cost
from speedgate.results.case_key import CaseKey


def tasks(**units):
    """Make the tasks of each unit from their costs: `tasks(a=[1, 2])` is a/0 with cost 1 and a/1 with cost 2."""
    return [Task(key=f"{unit}/{n}", unit=unit, cost=it) for unit, costs in units.items() for n, it in enumerate(costs)]


def test_what_belongs_together_stays_together():
    """No unit is cut if there are enough units, and one that costs as much as three others balances them."""
    assert divide(tasks(a=[1, 1], b=[1, 1], c=[1, 1]), 2) == [["a/0", "a/1", "c/0", "c/1"], ["b/0", "b/1"]]
    assert divide(tasks(a=[1], b=[1], costly=[1, 2], c=[1]), 2) == [["costly/0", "costly/1"], ["a/0", "b/0", "c/0"]]


def test_a_unit_is_cut_where_there_are_too_few():
    """A unit is cut into runs of neighbours, the most expensive as cheap as possible; trying every cut would take years."""
    assert divide(tasks(a=[1, 1, 1, 10, 10, 10]), 2) == [["a/4", "a/5"], ["a/0", "a/1", "a/2", "a/3"]]
    assert len(divide(tasks(a=[1 + n % 7 for n in range(30)]), 15)) == 15


def test_a_cut_counts_what_has_to_be_measured_twice():
    """The cut counts the references that a shard has to measure again."""
    references = {"a/0": 6.0}
    ladder = [Task(key=f"a/{n}", unit="a", cost=6.0, needs=references if n else {}) for n in range(5)]

    shares = divide(ladder, 2)

    assert sorted(shares) == [["a/0", "a/1", "a/2"], ["a/3", "a/4"]]
    assert [total_cost([task for task in ladder if task.key in share]) for share in sorted(shares)] == [18.0, 18.0]


@pytest.mark.parametrize("count", range(1, 13))
def test_every_case_is_in_one_shard_and_no_shard_is_empty(count):
    """For every N up to the number of cases, each case is in one shard and no shard is empty."""
    selection = tasks(a=[3, 1, 4], b=[1, 5, 9, 2], c=[6], d=[5, 3, 5, 8])

    shares = divide(selection, count)

    assert all(shares)
    assert sorted(itertools.chain(*shares)) == sorted(task.key for task in selection)


def test_more_shards_than_cases_is_an_error():
    """An empty shard would judge nothing and be green."""
    with pytest.raises(ValueError, match="the selection has 2 cases: choose N of at most 2"):
        divide(tasks(a=[1, 1]), 3)


def test_shards_differ_by_less_than_the_most_expensive_unit():
    """For random selections, the costs of two shards differ by at most the most expensive unit."""
    draw = random.Random(1)  # noqa: S311 - shapes, no secrets
    for _ in range(100):
        units = {f"u{n}": [draw.uniform(0.1, 10)] * draw.randint(1, 6) for n in range(draw.randint(2, 12))}
        selection = tasks(**units)
        loads = [
            sum(task.cost for task in selection if task.key in share)
            for share in divide(selection, draw.randint(2, len(units)))
        ]
        assert max(loads) - min(loads) <= max(map(sum, units.values())) + 1e-9


def test_the_ladders_of_all_pipelines_balance_over_two():
    """Over two shards the ladders of all pipelines differ by at most 10 % in cost, and no pipeline is cut."""
    cases = [
        Case(pipeline=name, size="tiny", stage=stage)
        for name, spec in pipelines().items()
        for stage in LADDERS[spec.ladder]
    ]
    selection = [Task(key=case.key, unit=case.unit, cost=case.cost) for case in cases]

    shares = divide(selection, 2)

    loads = [sum(task.cost for task in selection if task.key in share) for share in shares]
    assert max(loads) <= 1.1 * min(loads)
    assert {CaseKey.parse(key).pipeline for key in shares[0]}.isdisjoint(
        {CaseKey.parse(key).pipeline for key in shares[1]}
    )
