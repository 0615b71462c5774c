"""The latency verdict: an interval decides, a tolerance for the bare ratio only where the figure is a published one."""

import dataclasses
import math
import random
import time

import pytest

from speedgate.gate.intervals import Looks
from speedgate.gate.judge import judge_latency, judge_latency_against
from speedgate.gate.policy import Policy
from speedgate.results.run import Comparison, Outcome, Turns
from tests.support.baseline_samples import INT8, make_baseline, make_run

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


def compare(*percent, turns=Turns.ROUNDS):
    """A live comparison whose pairs, opened in turn, differ by so much."""
    return Comparison(
        case_key=INT8,
        label="the other arm (diffusers 0.40.0)",
        other=make_run(medians_s=(2.5,)),
        turns=turns,
        log_ratios=tuple(math.log1p(value / 100) for value in percent),
        this_first=tuple(index % 2 == 0 for index in range(len(percent))),
    )


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
    assert verdict.sentence.endswith("raise --max-processes or quieten the machine")


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


def test_one_value_on_each_side_is_never_a_pass():
    """Two equal values say nothing about their spread: UNDECIDED, with what to do."""
    verdict = judge_latency(make_run(medians_s=[1.0]), make_baseline(1.0), POLICY)

    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.sentence.endswith("nothing is known of the spread of 1 and 1 processes: add --processes")


@pytest.mark.parametrize("medians_s", [[1.0], [1.0] * 3])
@pytest.mark.parametrize(
    ("old_s", "outcome"),
    [(0.8, Outcome.PASS), (0.799, Outcome.SLOWER), (4 / 3, Outcome.PASS), (1.334, Outcome.FASTER)],
)
def test_a_published_figure_is_held_to_the_bare_ratio(medians_s, old_s, outcome):
    """One published value against however many processes is judged by the wider point tolerance."""
    policy = Policy(point_tolerance=0.25)

    verdict = judge_latency(make_run(medians_s=medians_s), make_baseline(old_s, source="published"), policy)

    assert verdict.outcome is outcome


def test_a_stage_may_have_a_tolerance_of_its_own():
    """What is SLOWER by the default is within the tolerance that the policy gives to that stage."""
    run, baseline = make_run(medians_s=(1.04, 1.041)), make_baseline(1.0, 1.001)
    policy = Policy(stage_tolerances={"int8": 0.06})

    assert judge_latency(run, baseline, POLICY).outcome is Outcome.SLOWER
    assert judge_latency(run, baseline, policy).outcome is Outcome.PASS


def test_a_later_look_asks_for_more():
    """The same processes that decide where they were all that was planned do not where they are one look of several."""
    run, baseline = make_run(medians_s=spanning(1.031, 1.2)), make_baseline(1.0, 1.0)
    policy = Policy(looks=Looks(first=2, last=8))

    verdict = judge_latency(run, baseline, policy)

    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.sentence.endswith(": not decided yet")
    assert judge_latency(run, baseline, POLICY).outcome is Outcome.SLOWER


@pytest.mark.parametrize(
    ("medians_s", "old_s", "source", "sentence"),
    [
        (
            (2.75, 2.75),
            (2.5, 2.5, 2.5),
            "recorded",
            "2.75 s against 2.5 s in 0002_recorded: +10.0% (99% interval +10.0% to +10.0% from 2 and 3 processes);"
            " tolerance 3%, a slowdown of +3.0% would have been seen",
        ),
        (
            (2.0, 2.0),
            (2.5,),
            "published",
            "2 s against 2.5 s in 0001_published: -20.0% (a published figure, so no interval); tolerance 10%"
            ": record a new baseline",
        ),
    ],
)
def test_the_sentence_holds_every_number_that_decided(medians_s, old_s, source, sentence):
    """Both figures, their ratio, the interval with its processes, the tolerance and what would have been seen."""
    verdict = judge_latency(make_run(medians_s=medians_s), make_baseline(*old_s, source=source), POLICY)

    assert verdict.sentence == sentence


@pytest.mark.parametrize(
    ("percent", "outcome"),
    [
        ((2.1, -1.9, 2.0, -2.0, 1.9, -2.1), Outcome.PASS),
        ((8.1, 4.1, 8.0, 4.0, 7.9, 3.9), Outcome.SLOWER),
        ((-4.1, -8.1, -4.0, -8.0, -3.9, -7.9), Outcome.FASTER),
        ((5.0, -5.0, -4.0, 6.0, 2.0, -3.0), Outcome.UNDECIDED),
        ((6.0, 6.0), Outcome.UNDECIDED),
    ],
)
def test_pairs_are_judged_without_what_their_order_costs(percent, outcome):
    """Where whoever is first is slower by 2 %, equal arms pass, 6 % is seen both ways, and noise or two pairs decide nothing."""
    assert judge_latency_against(make_run(), compare(*percent), POLICY).outcome is outcome


def test_the_sentence_of_a_live_comparison_names_the_other_arm():
    """Who it was compared with, how they took turns and the interval over pairs can be read off."""
    ratios = (2.1, -1.9, 2.0, -2.0, 1.9, -2.1)

    live, in_turn = (
        judge_latency_against(make_run(), compare(*ratios, turns=turns), POLICY).sentence for turns in Turns
    )

    assert "against 2.5 s of the other arm (diffusers 0.40.0): " in live
    assert "from 6 pairs, taking turns round by round)" in live
    assert "from 6 pairs, taking turns process by process, because both do not fit at once)" in in_turn


def test_a_verdict_takes_less_than_50_ms():
    """The judgement of a case costs nothing beside its measurement, its first one with scipy's import apart."""
    run, baseline = make_run(medians_s=QUIET_S * 2), make_baseline(*QUIET_S)
    fresh = [dataclasses.replace(POLICY, looks=Looks(first=3, last=8 + number)) for number in range(20)]
    judge_latency(run, baseline, POLICY)

    started_s = time.perf_counter()
    for policy in fresh:
        judge_latency(run, baseline, policy)

    assert (time.perf_counter() - started_s) / len(fresh) < 0.05
