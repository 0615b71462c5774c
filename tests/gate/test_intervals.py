"""Intervals over processes and pairs, and the error that is spent on looking more than once."""

import dataclasses
import math
import random
import statistics

import pytest

from speedgate.gate.intervals import Looks, between_pairs, between_sets, expected_between_sets, unseen_slowdown

QUIET_S = (2.49, 2.50, 2.51, 2.50, 2.495)


@pytest.mark.parametrize("confidence", [0.9, 0.99])
@pytest.mark.parametrize(
    ("new_s", "old_s"),
    [((2.4, 2.5), (2.3, 2.6)), ((1.0, 1.1, 1.2), (2.0, 2.1, 2.2, 2.4, 1.9)), ((0.1, 0.2, 0.3, 0.4, 0.5), (7.0, 7.7))],
)
def test_the_interval_is_students_with_a_pooled_variance(new_s, old_s, confidence):
    """Two sets of processes have the interval that scipy gives for the difference of their mean logarithms."""
    from scipy import stats

    logs = [[math.log(value) for value in side] for side in (new_s, old_s)]
    expected = stats.ttest_ind(*logs, equal_var=True).confidence_interval(confidence)

    interval = between_sets(new_s, old_s, confidence=confidence)

    assert (interval.low, interval.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)), rel=1e-9)


def test_more_processes_of_the_same_spread_are_expected_to_narrow_the_interval():
    """With the present number the expected interval is the present one; with more it is narrower around the same centre."""
    new_s, old_s = (1.0, 1.1, 1.05), (1.0, 1.02, 1.04, 1.01, 0.99)
    now = between_sets(new_s, old_s, confidence=0.99)

    same, later = (expected_between_sets(new_s, old_s, confidence=0.99, later=count) for count in (3, 8))

    assert dataclasses.astuple(same) == pytest.approx(dataclasses.astuple(now))
    assert later.ratio == pytest.approx(now.ratio) and now.low < later.low < later.high < now.high
    assert expected_between_sets((1.0,), (1.0,), confidence=0.99, later=8) is None


@pytest.mark.parametrize("medians_s", [QUIET_S, (1.0, 1.1, 1.16, 1.05, 1.08)])
def test_a_recording_knows_what_later_verdicts_cannot_see(medians_s):
    """The unseen slowdown is that of a verdict on a run of the same spread; more processes leave less, one says nothing."""
    options = {"confidence": 0.99, "tolerance": 0.03}
    verdict = between_sets(medians_s, medians_s, confidence=0.99).detectable(0.03)

    unseen = [unseen_slowdown(medians_s, later=5, processes=count, **options) for count in (None, 12, 24)]

    assert unseen[0] == pytest.approx(verdict)
    assert unseen[0] > unseen[1] > unseen[2] > 1.03
    assert unseen_slowdown(medians_s[:1], later=5, **options) is None


def test_one_process_against_a_set_has_the_prediction_interval():
    """A single process is set against the spread of the others, whichever side it stands on."""
    from scipy import stats

    logs = [math.log(value) for value in QUIET_S]
    half = stats.t.ppf(0.995, len(logs) - 1) * statistics.stdev(logs) * math.sqrt(1 + 1 / len(logs))
    shift = math.log(2.6) - statistics.fmean(logs)
    low, high = math.exp(shift - half), math.exp(shift + half)

    first, second = (between_sets(*sides, confidence=0.99) for sides in (([2.6], QUIET_S), (QUIET_S, [2.6])))

    assert (first.low, first.high) == pytest.approx((low, high), rel=1e-9)
    assert (second.low, second.high) == pytest.approx((1 / high, 1 / low), rel=1e-9)


def test_pairs_have_the_interval_of_a_regression_on_their_order():
    """The interval of balanced pairs is that of the intercept where the order is a regressor: the textbook's crossover."""
    from scipy import stats

    ratios, this_first = (0.031, -0.012, 0.027, -0.019, 0.034, -0.010), (True, False) * 3
    signs = [1 if first else -1 for first in this_first]
    fit = stats.linregress(signs, ratios)
    half = stats.t.ppf(0.995, 4) * fit.intercept_stderr

    interval = between_pairs(ratios, this_first=this_first, confidence=0.99)

    assert math.log(interval.ratio) == pytest.approx(fit.intercept, rel=1e-9)
    assert math.log(interval.high / interval.low) / 2 == pytest.approx(half, rel=1e-9)


def test_an_order_that_costs_time_is_no_change():
    """Where whoever is opened first is 2 % slower, pairs of both orders say that nothing changed, and say it sharply."""
    ratios = [0.02 + 0.001, -0.02 - 0.001, 0.02 - 0.001, -0.02 + 0.001]

    interval = between_pairs(ratios, this_first=[True, False] * 2, confidence=0.99)

    assert interval.ratio == pytest.approx(1.0)
    assert interval.high < 1.01


@pytest.mark.parametrize(
    ("ratios", "this_first"), [((0.1,), (True,)), ((0.1, 0.2), (True, False)), ((0.1,) * 4, (True,) * 4)]
)
def test_too_few_processes_have_no_interval(ratios, this_first):
    """One process a side and two pairs have no variance left, and pairs of one order cannot tell it from the change."""
    assert between_sets([2.4], [2.5], confidence=0.99) is None
    assert between_pairs(ratios, this_first=this_first, confidence=0.99) is None


@pytest.mark.parametrize(
    ("first", "last", "counts"), [(3, 8, (3, 5, 8)), (6, 12, (6, 9, 12)), (1, 4, (1, 2, 3, 4)), (5, 5, (5,))]
)
def test_looks_grow_by_half(first, last, counts):
    """A verdict is tried at the first number of processes, at half as many again, and at the last."""
    looks = Looks(first=first, last=last)

    assert looks.counts == counts
    assert [looks.following(count) for count in counts] == [*counts[1:], None]


@pytest.mark.parametrize(
    "looks", [Looks(first=3, last=8), Looks(first=6, last=12), Looks(first=1, last=20, confidence=0.95)]
)
def test_the_looks_spend_the_whole_error_and_no_more(looks):
    """The error rates of all looks add up to that of the sequence; a number between two looks counts as the lower one."""
    spent = math.fsum(1 - looks.confidence_at(count) for count in looks.counts)

    assert spent == pytest.approx(1 - looks.confidence)
    assert looks.confidence_at(4) == looks.confidence_at(3 if 4 not in looks.counts else 4)
    assert Looks(first=5, last=5).confidence_at(5) == pytest.approx(0.99)


@pytest.mark.parametrize("spread", [0.003, 0.01])
def test_the_interval_sees_what_it_says(spread):
    """A true slowdown of the size that an interval calls detectable is called slower in about 95 % of comparisons."""
    rng = random.Random(11)  # noqa: S311 - a simulation

    def processes(count, seconds):
        return [seconds * math.exp(rng.gauss(0, spread)) for _ in range(count)]

    detectable = [
        between_sets(processes(5, 1.0), processes(5, 1.0), confidence=0.99).detectable(0.03) for _ in range(200)
    ]
    slowdown = statistics.median(detectable)
    seen = [between_sets(processes(5, slowdown), processes(5, 1.0), confidence=0.99).low > 1.03 for _ in range(1000)]

    assert 0.88 <= statistics.fmean(seen) <= 0.99
