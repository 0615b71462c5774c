"""The page on busy machines, from rounds that are made up."""

import pytest

from speedgate.measure.host_load import RoundLoad
from speedgate.results.run import Outcome
from tests.proof import busy

KIND = busy.Kind(2)
SESSIONS = {busy.IDLE: [{"outcome": Outcome.PASS, "discarded": [], "wall_s": 4.0}]}
TURNS = {busy.AFTER_OTHER: [{"seconds": 0.05, "waited_s": 0.01, "discarded": True}] * 3}


def chunk(seconds, *, wait=0.0):
    """Return a turn of rounds of nearly so many seconds, which waited for a share of it."""
    loads = [
        RoundLoad(
            wall_s=seconds, processors=2, waited_s=wait * seconds, dispatches=2, others_s=wait * seconds, stolen_s=0
        )
        for _ in range(40)
    ]
    return [busy.Row(seconds * (1 + 1e-4 * (number % 5)), load) for number, load in enumerate(loads)]


@pytest.fixture
def samples(monkeypatch):
    """Rounds of 50 ms without loops, of 100 ms beside one, and of 60 ms without a wait beside two."""
    monkeypatch.setattr(busy, "LOOPS", (0, 1, 2))
    monkeypatch.setattr(busy, "DRAWS", 5)
    return {(KIND, 0): [chunk(0.05)] * 2, (KIND, 1): [chunk(0.1, wait=0.5)], (KIND, 2): [chunk(0.06)]}


def test_disturbed_rounds_lead_to_invalid_and_never_to_slower(samples):
    """Without the rule the same rounds are SLOWER; a slowdown without a wait is SLOWER with and without it."""
    outcomes = {
        (loops, rule): busy.simulate_verdicts(samples, KIND, loops, discards=rule)
        for loops in busy.LOOPS
        for rule in (False, True)
    }

    assert {key: dict(counts) for key, counts in outcomes.items()} == {
        (0, False): {Outcome.PASS: 5},
        (0, True): {Outcome.PASS: 5},
        (1, False): {Outcome.SLOWER: 5},
        (1, True): {Outcome.INVALID: 5},
        (2, False): {Outcome.SLOWER: 5},
        (2, True): {Outcome.SLOWER: 5},
    }


def test_the_page_is_the_same_from_stored_rounds(samples, tmp_path):
    """What is stored is read back without a loss, and the page's rows have the shares of discarded rounds and the verdicts."""
    busy.save(tmp_path / "rows.json", samples, TURNS, SESSIONS, "a-machine")
    lines = busy.page(*busy.load(tmp_path / "rows.json"))

    assert lines == busy.page(samples, TURNS, SESSIONS, "a-machine")
    assert (
        "| 2 | 1 | 40 | x2.00 | 50.0% / 50.0% | 25000 us | 25.0% / 25.0% | 0.0% / 0.0% | 100.0% | 100.0% | 100.0% |"
        in lines
    )
    assert "| 2 | 1 | 5 SLOWER | 100.0% | 5 INVALID | 0.0% |" in lines
    assert "| after the other's | 3 | 0.0500 | 20.0% / 20.0% | 100.0% |" in lines
    assert "| none | 1 | 1 PASS | 0 of 1 | 0 | 4.0 |" in lines
