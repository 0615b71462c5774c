"""The latency verdict: an interval decides, or a tolerance for the bare ratio where there is none."""

import math
import random
import statistics

import pytest

from speedgate.gate import Policy, judge_latency, ratio_interval
from speedgate.records import Outcome
from tests.baseline_samples import INT8, make_baseline, make_run

POLICY = Policy()
QUIET_S = (2.49, 2.50, 2.51, 2.50, 2.495)


def spanning(low, high):
    """Two process medians whose 99 % interval against a baseline of twice 1 s is `low` to `high`."""
    from scipy import stats

    centre, half = math.log(low * high) / 2, math.log(high / low) / 2
    step = half / stats.t.ppf(0.995, 2)
    return math.exp(centre - step), math.exp(centre + step)


def simulate(rng, median_s, *, spread, count):
    """Process medians of a machine with that relative spread."""
    return [median_s * math.exp(rng.gauss(0, spread)) for _ in range(count)]


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

    found = ratio_interval(new_s, old_s, confidence=confidence)

    assert found == pytest.approx((math.exp(expected.low), math.exp(expected.high)), rel=1e-9)


def test_one_process_against_a_set_has_the_prediction_interval():
    """A single process is set against the spread of the others, whichever side it stands on."""
    from scipy import stats

    logs = [math.log(value) for value in QUIET_S]
    half = stats.t.ppf(0.995, len(logs) - 1) * statistics.stdev(logs) * math.sqrt(1 + 1 / len(logs))
    shift = math.log(2.6) - statistics.fmean(logs)
    low, high = math.exp(shift - half), math.exp(shift + half)

    assert ratio_interval([2.6], QUIET_S, confidence=0.99) == pytest.approx((low, high), rel=1e-9)
    assert ratio_interval(QUIET_S, [2.6], confidence=0.99) == pytest.approx((1 / high, 1 / low), rel=1e-9)


def test_one_process_against_one_has_no_interval():
    """Two values say nothing about their spread."""
    assert ratio_interval([2.4], [2.5], confidence=0.99) is None


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1.031, 1.2, Outcome.SLOWER),
        (1.029, 1.2, Outcome.UNDECIDED),
        (0.98, 1.031, Outcome.UNDECIDED),
        (0.98, 1.029, Outcome.PASS),
        (0.971, 1.029, Outcome.PASS),
        (0.969, 1.02, Outcome.UNDECIDED),
        (0.8, 1.2, Outcome.UNDECIDED),
        (0.9, 0.971, Outcome.UNDECIDED),
        (0.9, 0.969, Outcome.FASTER),
    ],
)
def test_the_whole_interval_decides(low, high, outcome):
    """An interval is a verdict only where all of it lies on one side of the edges at 0.97 and 1.03."""
    verdict = judge_latency(make_run(medians_s=spanning(low, high)), make_baseline(1.0, 1.0), POLICY)

    assert (verdict.outcome, verdict.claim, verdict.case_key) == (outcome, "latency", INT8)


@pytest.mark.parametrize("factor", [1.0, 1.02, 1.05, 0.9])
def test_a_noisy_machine_is_undecided(factor):
    """Processes that are 10 % apart can neither clear nor blame a change of a few percent."""
    run = make_run(medians_s=[factor * value for value in (2.25, 2.5, 2.75)])

    verdict = judge_latency(run, make_baseline(2.25, 2.5, 2.75), POLICY)

    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.sentence.endswith("add --processes")


@pytest.mark.parametrize("spread", [0.002, 0.01, 0.05])
@pytest.mark.parametrize(("slowdown", "wrong"), [(1.035, Outcome.PASS), (1.0, Outcome.SLOWER)])
def test_a_wrong_verdict_is_rare_on_any_machine(spread, slowdown, wrong):
    """In 500 seeded comparisons, a true 3.5 % slowdown passes and no change is blamed in at most 1 %."""
    rng = random.Random(7)  # noqa: S311 - a simulation

    outcomes = [
        judge_latency(
            make_run(medians_s=simulate(rng, slowdown * 2.5, spread=spread, count=3)),
            make_baseline(*simulate(rng, 2.5, spread=spread, count=5)),
            POLICY,
        ).outcome
        for _ in range(500)
    ]

    assert outcomes.count(wrong) <= 5


@pytest.mark.parametrize("processes", [1, 3])
def test_ten_percent_on_a_quiet_machine_is_slower(processes):
    """Several quiet processes show a 10 % slowdown even to a single new one."""
    run = make_run(medians_s=[1.1 * value for value in QUIET_S[:processes]])

    assert judge_latency(run, make_baseline(*QUIET_S), POLICY).outcome is Outcome.SLOWER


@pytest.mark.parametrize(("source", "medians_s"), [("recorded", [1.0]), ("published", [1.0]), ("published", [1.0] * 3)])
@pytest.mark.parametrize(
    ("old_s", "outcome"),
    [(0.8, Outcome.PASS), (0.799, Outcome.SLOWER), (4 / 3, Outcome.PASS), (1.334, Outcome.FASTER)],
)
def test_without_an_interval_the_bare_ratio_decides(source, medians_s, old_s, outcome):
    """One value on each side, or a published one against however many, is judged by the wider point tolerance."""
    policy = Policy(point_tolerance=0.25)

    verdict = judge_latency(make_run(medians_s=medians_s), make_baseline(old_s, source=source), policy)

    assert verdict.outcome is outcome


@pytest.mark.parametrize(
    ("medians_s", "old_s", "source", "sentence"),
    [
        (
            (2.75, 2.75),
            (2.5, 2.5, 2.5),
            "recorded",
            "2.75 s against 2.5 s in 0002_recorded (+10.0%, 99% interval +10.0% to +10.0% from 2 and 3 processes);"
            " tolerance 3%",
        ),
        (
            (2.25,),
            (2.5,),
            "recorded",
            "2.25 s against 2.5 s in 0002_recorded (-10.0%, one value on each side, so no interval); tolerance 10%",
        ),
        (
            (2.0, 2.0),
            (2.5,),
            "published",
            "2 s against 2.5 s in 0001_published (-20.0%, a published figure, so no interval); tolerance 10%"
            ": record a new baseline",
        ),
    ],
)
def test_the_sentence_holds_every_number_that_decided(medians_s, old_s, source, sentence):
    """Both figures, their distance, the interval with its processes and the tolerance can be read off."""
    verdict = judge_latency(make_run(medians_s=medians_s), make_baseline(*old_s, source=source), POLICY)

    assert verdict.sentence == sentence
