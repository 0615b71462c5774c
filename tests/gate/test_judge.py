"""Verdicts on latency, memory, cold start, speed-up, regional compilation and facts, and what holds for every claim."""

import math
import random

import msgspec
import pytest

from speedgate.gate.intervals import Looks
from speedgate.gate.judge import (
    judge_cold_start,
    judge_facts,
    judge_ladder,
    judge_latency,
    judge_latency_against,
    judge_memory,
    judge_regional,
    judge_saving,
)
from speedgate.gate.policy import Policy
from speedgate.results.run import Comparison, Outcome, Turns
from tests.support.baseline_samples import BF16, COLD, INT8, make_baseline, make_run

POLICY = Policy()
GIB = 2**30
QUIET_S = (2.49, 2.50, 2.51, 2.50, 2.495)
NOISY_S = (2.25, 2.5, 2.75)


@pytest.mark.parametrize(("judge", "figure"), [(judge_latency, "2.45 s"), (judge_memory, "peak 3.000 GiB")])
def test_a_figure_is_judged_only_by_a_baseline_of_its_recipe(judge, figure):
    """Another fingerprint is STALE, a published figure has none to differ from, and without a baseline the figure is told."""
    run = make_run(peak_bytes=[3 * GIB], fingerprint="beef")

    stale = judge(run, make_baseline(100.0, 100.0, peak_bytes=100), POLICY)
    published = judge(run, make_baseline(2.45, peak_bytes=3 * GIB, source="published"), POLICY)
    missing = judge(run, None, POLICY)

    assert [each.outcome for each in (stale, published, missing)] == [Outcome.STALE, Outcome.PASS, Outcome.NO_BASELINE]
    assert "recorded for recipe f00d, this run is beef" in stale.sentence
    assert missing.sentence.startswith(f"{figure}; no baseline")


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


TOO_NOISY = "raise --max-processes or stop other programs"


@pytest.mark.parametrize(
    ("medians_s", "old_s", "policy", "outcome", "ending"),
    [
        # Processes that are 10 % apart neither clear nor blame a change of a few percent, nor does one on each side.
        *(
            ([factor * each for each in NOISY_S], NOISY_S, {}, Outcome.UNDECIDED, TOO_NOISY)
            for factor in (1, 1.05, 0.9)
        ),
        ([1.0], [1.0], {}, Outcome.UNDECIDED, "the spread of 1 and 1 processes: add --processes"),
        # On a quiet machine even a single new process shows a slowdown of 10 %.
        *(([1.1 * each for each in QUIET_S[:count]], QUIET_S, {}, Outcome.SLOWER, "tolerance 3%") for count in (1, 3)),
        # A stage may have a tolerance of its own.
        ((1.04, 1.041), (1.0, 1.001), {}, Outcome.SLOWER, "tolerance 3%"),
        ((1.04, 1.041), (1.0, 1.001), {"stage_tolerances": {"int8": 0.06}}, Outcome.PASS, " seen"),
        # One look of several asks for more than the only one.
        (spanning(1.031, 1.2), (1.0, 1.0), {}, Outcome.SLOWER, "tolerance 3%"),
        (spanning(1.031, 1.2), (1.0, 1.0), {"looks": Looks(first=2, last=8)}, Outcome.UNDECIDED, ": not decided yet"),
    ],
)
def test_spread_and_policy_decide(medians_s, old_s, policy, outcome, ending):
    """The verdict follows from the spread of both sides, the stage's tolerance and the look; the sentence says what to do."""
    verdict = judge_latency(make_run(medians_s=medians_s), make_baseline(*old_s), Policy(**policy))

    assert verdict.outcome is outcome
    assert verdict.sentence.endswith(ending)


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


@pytest.mark.parametrize(
    ("medians_s", "old_s", "source", "sentence"),
    [
        (
            (2.75, 2.75),
            (2.5, 2.5, 2.5),
            "recorded",
            "2.75 s against 2.5 s in 0002_recorded: +10.0% (99% interval +10.0% to +10.0% from 2 and 3 processes);"
            " tolerance 3%",
        ),
        (
            (2.5, 2.5),
            (2.5, 2.5, 2.5),
            "recorded",
            "2.5 s against 2.5 s in 0002_recorded: +0.0% (99% interval +0.0% to +0.0% from 2 and 3 processes);"
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
    """Both figures, their ratio, the interval with its processes, the tolerance, and what would have been seen if nothing was."""
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


@pytest.mark.parametrize(
    ("peak", "outcome", "against_published"),
    [
        (1021, Outcome.BIGGER, Outcome.BIGGER),
        (1020, Outcome.PASS, Outcome.PASS),
        (980, Outcome.PASS, Outcome.PASS),
        (979, Outcome.SMALLER, Outcome.PASS),
    ],
)
def test_a_recorded_peak_has_two_sides_and_a_published_one_is_a_ceiling(peak, outcome, against_published):
    """2 % either way against a recording; a published peak was never reset, so below it there is nothing to say."""
    run = make_run(peak_bytes=[1, peak * 2**20, 2])
    recorded, published = (
        judge_memory(run, make_baseline(2.5, peak_bytes=1000 * 2**20, source=source), POLICY)
        for source in ("recorded", "published")
    )

    assert (recorded.outcome, published.outcome) == (outcome, against_published)
    figures = f"({(peak - 1000) / 1000:+.1%}); tolerance 2%"
    assert recorded.sentence.startswith(f"peak {peak / 1024:.3f} GiB against 0.977 GiB in 0002_recorded {figures}")
    assert published.sentence == f"peak {peak / 1024:.3f} GiB against ceiling 0.977 GiB in 0001_published {figures}"


@pytest.mark.parametrize(("peak", "outcome"), [(600, Outcome.PASS), (601, Outcome.BIGGER), (1100, Outcome.BIGGER)])
def test_a_promised_saving_is_measured_from_the_parent_stage(peak, outcome):
    """400 MiB less than the parent's peak were promised: a byte less than that is too little, whatever the baseline says."""
    run, parent = (
        make_run(key, medians_s=(1.0,), peak_bytes=(mib * 2**20,)) for key, mib in ((INT8, peak), (BF16, 1000))
    )

    verdict = judge_saving(run, parent, least_bytes=400 * 2**20)

    assert verdict.outcome is outcome
    assert verdict.sentence.endswith(f"{(1000 - peak) / 1024:.3f} GiB less than bf16, at least 0.391 GiB promised")


@pytest.mark.parametrize(
    ("parent_s", "seconds", "expected", "outcome", "rest"),
    [
        ([1.91], [1.0], 2.0, Outcome.PASS, f"1.910x over {BF16}, expected 2.000x; tolerance 5%"),
        ([1.89], [1.0], 2.0, Outcome.SLOWER, f"1.890x over {BF16}, expected 2.000x; tolerance 5%"),
        ([9.0], [1.0], 2.0, Outcome.PASS, f"9.000x over {BF16}, expected 2.000x; tolerance 5%"),
        ([0.96], [1.0], 1.0, Outcome.PASS, f"0.960x over {BF16}, expected 1.000x; tolerance 5%"),
        ([1.5], [1.0], None, Outcome.NO_BASELINE, f"1.500x over {BF16}; no baseline on this GPU holds both stages"),
        ([2 * value for value in NOISY_S], NOISY_S, 2.05, Outcome.UNDECIDED, f"2.000x over {BF16} (99% interval "),
    ],
)
def test_a_stage_may_fall_five_percent_short_of_its_speedup(parent_s, seconds, expected, outcome, rest):
    """The ladder asks for the expected ratio less the tolerance, if it is known; processes 10 % apart decide nothing."""
    verdict = judge_ladder(make_run(medians_s=seconds), make_run(BF16, medians_s=parent_s), expected, POLICY)

    assert verdict.outcome is outcome
    assert verdict.sentence.startswith(rest)


def start(case_key=INT8, *, seconds, hits=0, misses=0, load_s=0.0, count=1):
    """A run whose every process applied its stage and made its first image in so many seconds."""
    run = make_run(case_key, medians_s=(1.0,) * count)
    figures = {"apply_s": 0.0, "first_image_s": seconds - load_s, "cache_load_s": load_s}
    cold = msgspec.structs.replace(run.cold_start, **figures, cache_hits=hits, cache_misses=misses)
    return msgspec.structs.replace(
        run, processes=tuple(msgspec.structs.replace(process, cold_start=cold) for process in run.processes)
    )


def baseline_of(run):
    """The baseline that such a run is recorded as."""
    return msgspec.structs.replace(make_baseline(1.0, 1.0), cold_starts=run.cold_starts)


@pytest.mark.parametrize(
    ("new_s", "old_s", "outcome"),
    [
        (15.0, 10.0, Outcome.PASS),
        (15.1, 10.0, Outcome.SLOWER),
        (1.9, 0.1, Outcome.PASS),
        (2.2, 0.1, Outcome.SLOWER),
        (1.0, 10.0, Outcome.PASS),
    ],
)
def test_a_start_is_slower_by_half_and_by_two_seconds(new_s, old_s, outcome):
    """A first call that takes half as long again is SLOWER, unless that is less than two seconds more or of another recipe."""
    run, baseline = start(seconds=new_s), baseline_of(start(seconds=old_s))
    verdict = judge_cold_start(run, baseline, POLICY)

    assert (verdict.outcome, verdict.claim) == (outcome, "cold start")
    other_recipe = msgspec.structs.replace(run, fingerprint="beef")
    assert judge_cold_start(other_recipe, baseline, POLICY).outcome is Outcome.STALE


def test_a_start_is_compared_with_its_like():
    """Cold, warm and imported caches are held against their like only, and without one in the baseline there is no verdict.

    A start with an imported cache compiles C++ on a CPU although every graph is a hit; its seconds of loading count.
    """
    starts = {
        "warm cache": [start(seconds=10.0, hits=2)],
        "cold cache": [start(seconds=60.0, misses=2), start(seconds=60.0, misses=1, hits=1, load_s=0.1)],
        "imported cache": [start(seconds=50.0, hits=2, load_s=0.1)],
    }
    for cache, runs in starts.items():
        for run in runs:
            seconds = f"{run.cold_starts[0].stage_s:.3g} s"
            same = judge_cold_start(run, baseline_of(run), POLICY)
            others = [each for name, group in starts.items() if name != cache for each in group]
            assert f"{cache}: {seconds} against {seconds}" in same.sentence
            assert {judge_cold_start(run, baseline_of(other), POLICY) for other in others} == {None}


@pytest.mark.parametrize(
    ("first_image_s", "seconds", "outcome", "begin"),
    [
        (
            2.0,
            0.44,
            Outcome.PASS,
            "applied and at its first image in 2 s, 10.00 times sooner than compile with its 20 s",
        ),
        (4.1, 0.44, Outcome.SLOWER, "applied and at its first image in 4.1 s, 4.88 times sooner"),
        (
            2.0,
            0.46,
            Outcome.SLOWER,
            "1.122 times the seconds of compile an image, at most 1.1 promised; 1 other figure is",
        ),
    ],
)
def test_regional_compilation_has_to_be_sooner_and_as_fast(first_image_s, seconds, outcome, begin):
    """Five times sooner at its first image and at most 10 % slower passes; one of the two missed is named and does not."""
    start = msgspec.structs.replace(COLD, apply_s=0.0, first_image_s=20.0)
    whole = msgspec.structs.replace(make_run("sdxl/compile/a", medians_s=[0.41]), cold_start=start)
    run = msgspec.structs.replace(
        make_run("sdxl/compile_regional/a", medians_s=[seconds]),
        cold_start=msgspec.structs.replace(start, first_image_s=first_image_s),
    )

    verdict = judge_regional(run, whole)
    assert verdict.outcome is outcome
    assert verdict.sentence.startswith(begin)
    warm = msgspec.structs.replace(start, cache_misses=0, cache_hits=2)
    assert judge_regional(run, msgspec.structs.replace(whole, cold_start=warm)) is None


@pytest.mark.parametrize(
    ("observed", "outcome", "sentence"),
    [
        ({"graphs": 2, "dtype": "bfloat16", "syncs": None, "more": 1}, Outcome.PASS, "all 3 facts hold"),
        (
            {"graphs": 3, "dtype": "bfloat16", "more": 1},
            Outcome.NOT_APPLIED,
            "graphs is 3, expected 2; syncs is missing, expected None",
        ),
    ],
)
def test_each_wrong_and_each_missing_fact_is_named(observed, outcome, sentence):
    """Each expected fact has to be observed exactly, a None too; nothing else that was observed matters."""
    expected = {"graphs": 2, "dtype": "bfloat16", "syncs": None}

    verdict = judge_facts(INT8, "compile", expected=expected, observed=observed, outcome=Outcome.NOT_APPLIED)

    assert (verdict.outcome, verdict.sentence) == (outcome, sentence)


def test_of_a_mapping_the_entries_that_differ_are_named():
    """Entries that hold are left out, however few they are; a fact of which none holds is shown whole with its expectation."""
    expected = {"attention": {"first": 0, "last": 1, "gone": 2}, "fused": {}, "kernels": {"flash": 4}}
    observed = {"attention": {"first": 0, "last": 3, "new": 4}, "fused": {"q": 1}, "kernels": {"math": 4}}

    verdict = judge_facts(INT8, "recipe", expected=expected, observed=observed, outcome=Outcome.NOT_APPLIED)

    assert verdict.sentence == (
        "attention[last] is 3, expected 1; attention[gone] is nothing, expected 2; attention[new] is 4, expected nothing;"
        " fused is {'q': 1}, expected {}; kernels is {'math': 4}, expected {'flash': 4}"
    )
    long = {f"block{index}": index for index in range(99)}
    text = judge_facts(
        INT8, "recipe", expected={"blocks": long}, observed={"blocks": {"other": 1}}, outcome=Outcome.NOT_APPLIED
    ).sentence
    assert text.startswith("blocks[block0] is nothing, expected 0; blocks[block1] is nothing, expected 1; ")


def test_a_fact_that_nobody_expects_is_wrong_where_facts_are_exact():
    """A structure with something else in it is not the expected one, though each expected fact holds."""
    observed = {"graphs": 2, "weights.changed": ["unet.conv_in.weight"]}

    verdict = judge_facts(
        INT8, "recipe", expected={"graphs": 2}, observed=observed, outcome=Outcome.NOT_APPLIED, exact=True
    )

    assert verdict.outcome is Outcome.NOT_APPLIED
    assert verdict.sentence == "weights.changed is ['unet.conv_in.weight'], expected nothing"
