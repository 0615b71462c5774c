"""The search for the first bad candidate: every monotone history up to twelve candidates, with every set of skips."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedgate.versions.bisect_search import BisectOutcome, EndsError, search, steps


def histories(count):
    """Each first bad candidate with each set of candidates between the ends that cannot be judged."""
    between = range(1, count - 1)
    skips = [set(some) for size in range(count - 1) for some in itertools.combinations(between, size)]
    return itertools.product(range(1, count), skips)


def judged(count, *, first_bad, skipped=frozenset()):
    """What the search found, and which candidates it asked for."""
    asked = []

    def judge(index):
        asked.append(index)
        if index in skipped:
            return BisectOutcome.SKIP
        return BisectOutcome.BAD if index >= first_bad else BisectOutcome.GOOD

    return search(count, judge), asked


@pytest.mark.parametrize("count", range(2, 13))
def test_the_first_bad_candidate_is_always_found(count):
    """Whatever is skipped, the suspects are the first bad one and what was skipped directly before or at it."""
    for first_bad, skipped in histories(count):
        found, _ = judged(count, first_bad=first_bad, skipped=skipped)

        good = max(index for index in range(first_bad) if index not in skipped)
        bad = min(index for index in range(first_bad, count) if index not in skipped)
        assert (found.last_good, found.first_bad) == (good, bad)
        assert first_bad in found.suspects


@pytest.mark.parametrize("count", range(2, 13))
def test_no_step_too_many_is_taken(count):
    """After the ends: ceil(log2) of the possible answers, one more for each skip that was met, and nothing twice."""
    for first_bad, skipped in histories(count):
        _, asked = judged(count, first_bad=first_bad, skipped=skipped)

        answers = count - 1  # each but the good end may be the first bad one
        assert len(asked) == len(set(asked))
        assert len(set(asked[2:]) - skipped) <= math.ceil(math.log2(answers))


@st.composite
def long_histories(draw):
    """A history longer than can be tried exhaustively, monotone, with skips anywhere between its ends."""
    count = draw(st.integers(2, 400))
    first_bad = draw(st.integers(1, count - 1))
    between = range(1, count - 1)
    return count, first_bad, draw(st.frozensets(st.sampled_from(between))) if between else frozenset()


@given(long_histories())
def test_any_monotone_history_is_searched_in_the_fewest_steps(history):
    """Whatever is skipped, both neighbours of the boundary are found, after ceil(log2) of the answers and a step a skip."""
    count, first_bad, skipped = history

    found, asked = judged(count, first_bad=first_bad, skipped=skipped)

    assert found.last_good == max(index for index in range(first_bad) if index not in skipped)
    assert found.first_bad == min(index for index in range(first_bad, count) if index not in skipped)
    assert len(set(asked[2:]) - skipped) <= steps(count - 2) == math.ceil(math.log2(count - 1))


@given(long_histories(), st.sampled_from([BisectOutcome.GOOD, BisectOutcome.SKIP]))
def test_any_history_whose_bad_end_is_not_bad_is_refused(history, found):
    """Nothing between the ends is tried where the last candidate is not what it was said to be."""
    count, _, _ = history
    asked = []

    with pytest.raises(EndsError):
        search(count, lambda index: asked.append(index) or (found if index else BisectOutcome.GOOD))

    assert asked == [0, count - 1]


def test_sixty_nightlies_take_six_steps():
    """What a nightly index lists is searched in six steps after the ends, wherever the first bad one is."""
    counts = {len(judged(60, first_bad=first_bad)[1]) - 2 for first_bad in range(1, 60)}

    assert max(counts) == steps(58) == 6


def test_a_history_that_goes_back_and_forth_still_ends_at_a_boundary():
    """Where good and bad alternate, what is named is a bad one whose last judged predecessor was good."""
    draw = random.Random(7)  # noqa: S311 - no secret
    for _ in range(500):
        said = [BisectOutcome.GOOD, *draw.choices(list(BisectOutcome), k=draw.randrange(20)), BisectOutcome.BAD]

        found = search(len(said), said.__getitem__)

        assert (said[found.last_good], said[found.first_bad]) == (BisectOutcome.GOOD, BisectOutcome.BAD)
        assert {said[index] for index in found.suspects[:-1]} <= {BisectOutcome.SKIP}


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ends
        for ends in itertools.product(BisectOutcome, BisectOutcome)
        if ends != (BisectOutcome.GOOD, BisectOutcome.BAD)
    ],
)
def test_ends_that_are_not_as_said_are_refused_first(good, bad):
    """The good end is judged first, then the bad one, and nothing else where one of them is not as said."""
    said = {0: good, 8: bad}
    asked = []

    with pytest.raises(EndsError) as refused:
        search(9, lambda index: asked.append(index) or said[index])

    wrong = 0 if good is not BisectOutcome.GOOD else 8
    assert (refused.value.index, refused.value.found) == (wrong, said[wrong])
    assert asked == [0, 8][: asked.index(wrong) + 1]


def test_one_candidate_is_no_history():
    """Where the good and the bad end are the same there is nothing to search."""
    with pytest.raises(ValueError, match="1 candidates: a good and a bad one are needed"):
        search(1, lambda index: BisectOutcome.GOOD)
