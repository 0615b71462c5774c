"""The proof's document: real series are judged like simulated ones, and every figure in the text comes from the data."""

import random

import pytest

from speedgate.results.run import Outcome
from tests.proof import document, real, replay, series
from tests.proof.faults import COMMAND, Result, _held


def scatter(rng, level, count):
    """Draw the seconds of the rounds of one process."""
    return [level * rng.gauss(1.0, 0.001) for _ in range(count)]


def make_series(*, spread, order=0.02, alone=34, pairs=24):
    """Make a series of a machine with that spread, with slowdowns of exactly the injected size."""
    rng = random.Random(3)  # noqa: S311 - a simulation
    environment = {"torch": "2.13.0", "diffusers": "0.42.1"}
    measured = {"machine": "cpu-made-up", "environment": environment, "alone": [], "pairs": []}
    for _ in range(alone):
        level = rng.gauss(0.05, 0.05 * spread)
        seconds = {str(slow): scatter(rng, level * (1 + slow), 8) for slow in series.LEVELS}
        measured["alone"].append({"opened_s": 4.0, "seconds": seconds})
    for number in range(pairs):
        this_first, seconds = number % 2 == 0, {}
        log_ratio = rng.gauss(order if this_first else -order, spread)
        for slow in series.LEVELS:
            seconds[str(slow)] = {
                "own": scatter(rng, 0.05 * (1 + log_ratio) * (1 + slow), 8),
                "other": scatter(rng, 0.05, 8),
            }
        measured["pairs"].append({"own_first": this_first, "seconds": seconds})
    return measured


@pytest.fixture(scope="module")
def quiet():
    """Make a series of a machine whose processes vary by 0.3 %."""
    return make_series(spread=0.003)


def shares(cells, rule, change):
    """Return the shares of alarms and passes of a rule at a true change."""
    (cell,) = [cell for cell in cells if (cell.rule, cell.change, cell.budget) == (rule, change, replay.SAME)]
    return cell.alarms, cell.passes


def test_real_processes_are_judged_by_both_of_our_rules(quiet):
    """On a quiet machine no change is a PASS, 6 % and 10 % are caught, and the order of opening is no change."""
    cells = real.comparisons(quiet, count=40)

    assert [shares(cells, rule, 0.0) for rule in replay.OURS] == [(0.0, 1.0)] * 2
    assert [shares(cells, rule, change) for rule in replay.OURS for change in (0.06, 0.10)] == [(1.0, 0.0)] * 4


def test_the_spreads_are_those_of_the_series(quiet):
    """The document's figures on the machine are those that the series was made with."""
    spread = real.spread(quiet)

    assert spread.between == pytest.approx(0.003, rel=0.3)
    assert spread.within == pytest.approx(0.001, rel=0.3)
    assert spread.between_pairs == pytest.approx(0.003, rel=0.4)
    assert spread.order == pytest.approx(0.02, rel=0.1)


def test_independent_comparisons_share_no_process(quiet):
    """34 processes make two comparisons of 8 with 8, and 24 pairs make two of 12; all pass."""
    assert real.independent(quiet) == {rule: [Outcome.PASS.value] * 2 for rule in replay.OURS}


def test_every_slowdown_has_equally_many_pairs_of_both_orders():
    """In twelve pairs each injected slowdown is measured four times, twice in each order."""
    measured = [(number % 2, level) for number in range(12) for level in series._levels(number)]

    counts = {(order, level): measured.count((order, level)) for order in (0, 1) for level in series.LEVELS}

    assert {count for (_, level), count in counts.items() if level} == {2}
    assert counts[0, 0.0] == counts[1, 0.0] == 6


def test_the_document_counts_what_was_caught_and_what_was_not(quiet):
    """Faults and harmless changes are counted and listed with their results, at the top and in their section."""
    fields = {"gate": "parity", "description": "a description"}
    faults = [
        Result(family="numerics", name="wrong_mask", held=True, **fields),
        Result(family="cost", name="slower_step", held=False, **fields),
        Result(family="harmless", name="another_seed", held=True, **fields),
    ]
    simulated = replay.replay(repetitions=5)

    text = "\n".join(
        document.lines(
            quiet, real.comparisons(quiet, count=5), simulated, faults, trend=["## Trend"], repetitions=5, replay_s=1.0
        )
    )

    assert "The gates\ncaught 1 of 2 injected faults and fired on 0 of 1 harmless changes." in text
    assert "1 of 2 injected faults are caught by their gate" in text
    assert "no gate fires on 1 of 1 harmless" in text
    assert "| cost | slower step | a description | parity | **missed** |" in text
    assert "live pairs were measured in turn on `cpu-made-up` with" in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("outcomes", "held"),
    [
        ({"test_fault[sdpa-wrong_mask]": True, "test_fault[int8-wrong_mask]": True}, True),
        ({"test_fault[sdpa-wrong_mask]": True, "test_fault[int8-wrong_mask]": False}, False),
        ({"test_fault[another_wrong_mask]": True}, False),
        ({}, False),
    ],
)
def test_a_fault_that_was_not_run_was_not_caught(outcomes, held):
    """Every test with exactly that name must have passed, and there must be at least one."""
    assert _held("wrong_mask", outcomes) is held


def test_the_proof_runs_the_exhaustive_tests_too():
    """Harmless changes of a built case are tested only with `--exhaustive`; without it they would be shown as not held."""
    assert "--exhaustive" in COMMAND


def test_a_drift_is_not_hidden(quiet):
    """On a machine that becomes 10 % slower half-way, later runs are SLOWER, and the document has the size of the drift."""
    later = [
        {**process, "seconds": {"0.0": [1.1 * s for s in process["seconds"]["0.0"]]}} for process in quiet["alone"]
    ]

    drifting = [*quiet["alone"], *later]

    assert real.in_order(quiet["alone"]) == {Outcome.PASS.value: 1.0}
    assert real.in_order(drifting)[Outcome.SLOWER.value] > 0.3
    assert real.drift(drifting) == pytest.approx(0.10, abs=0.01)
