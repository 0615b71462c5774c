"""Verdicts on memory, the ladder and facts; what holds for every claim; and what each mode makes of an outcome."""

import msgspec
import pytest

from speedgate.gate.judge import judge_cold_start, judge_facts, judge_ladder, judge_latency, judge_memory
from speedgate.gate.policy import Mode, Policy
from speedgate.results.run import Outcome, Verdict, worst_outcome
from tests.support.baseline_samples import BF16, INT8, make_baseline, make_run

POLICY = Policy()
GIB = 2**30
RED = {
    "report": "",
    "record": "NOT_APPLIED DIFFERENT INVALID",
    "auto": "NOT_APPLIED DIFFERENT INVALID SLOWER BIGGER",
    "enforce": "NOT_APPLIED DIFFERENT INVALID SLOWER BIGGER STALE MISSING UNDECIDED NO_BASELINE",
}


def say(outcome):
    """A verdict of that outcome."""
    return Verdict(case_key=INT8, claim="latency", outcome=outcome, sentence="")


def judge_graphs(observed):
    """A verdict on four facts that should hold."""
    expected = {"graphs": 2, "breaks": 0, "dtype": "bfloat16", "syncs": None}
    return judge_facts(INT8, "compile", expected=expected, observed=observed, outcome=Outcome.NOT_APPLIED)


@pytest.mark.parametrize("judge", [judge_latency, judge_memory])
def test_another_recipe_is_stale_however_good_its_figures_are(judge):
    """A baseline of another fingerprint is not compared, and the sentence names both."""
    verdict = judge(make_run(fingerprint="beef"), make_baseline(100.0, 100.0, peak_bytes=100), POLICY)

    assert verdict.outcome is Outcome.STALE
    assert "recorded for recipe f00d, this run is beef" in verdict.sentence


@pytest.mark.parametrize("judge", [judge_latency, judge_memory])
def test_a_published_figure_is_of_no_recipe_and_never_stale(judge):
    """Published figures carry no fingerprint, so any recipe is held against them."""
    verdict = judge(make_run(fingerprint="beef"), make_baseline(2.45, source="published"), POLICY)

    assert verdict.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("judge", "said"), [(judge_latency, "2.45 s; no baseline"), (judge_memory, "peak 3.000 GiB; no baseline")]
)
def test_without_a_baseline_the_figure_is_told_and_not_judged(judge, said):
    """NO_BASELINE still says what was measured."""
    verdict = judge(make_run(peak_bytes=[3 * GIB]), None, POLICY)

    assert verdict.outcome is Outcome.NO_BASELINE
    assert verdict.sentence.startswith(said)


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
    run = make_run(peak_bytes=[1, peak, 2])
    ceiling = make_baseline(2.5, peak_bytes=1000, source="published")

    assert judge_memory(run, make_baseline(2.5, peak_bytes=1000), POLICY).outcome is outcome
    assert judge_memory(run, ceiling, POLICY).outcome is against_published


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("recorded", "peak 3.000 GiB against 2.000 GiB in 0002_recorded (+50.0%); tolerance 2%"),
        ("published", "peak 3.000 GiB against ceiling 2.000 GiB in 0001_published (+50.0%); tolerance 2%"),
    ],
)
def test_the_memory_sentence_holds_every_number(source, sentence):
    """Both peaks, their distance and the tolerance can be read off."""
    baseline = make_baseline(2.5, peak_bytes=2 * GIB, source=source)

    assert judge_memory(make_run(peak_bytes=[3 * GIB]), baseline, POLICY).sentence == sentence


@pytest.mark.parametrize(
    ("parent_s", "expected", "outcome"),
    [(1.91, 2.0, Outcome.PASS), (1.89, 2.0, Outcome.SLOWER), (9.0, 2.0, Outcome.PASS), (0.96, 1.0, Outcome.PASS)],
)
def test_a_stage_may_fall_five_percent_short_of_its_speedup(parent_s, expected, outcome):
    """The ladder asks for the expected ratio less the tolerance, and for no speed-up where none is expected."""
    parent = make_run(BF16, medians_s=[parent_s])

    verdict = judge_ladder(make_run(medians_s=[1.0]), parent, expected, POLICY)

    assert verdict.outcome is outcome
    assert verdict.sentence == f"{parent_s:.3f}x over {BF16}, expected {expected:.3f}x; tolerance 5%"


def test_a_ladder_without_baselines_says_the_speedup():
    """With no expected ratio the speed-up is reported as NO_BASELINE."""
    verdict = judge_ladder(make_run(medians_s=[1.0]), make_run(BF16, medians_s=[1.5]), None, POLICY)

    assert verdict.outcome is Outcome.NO_BASELINE
    assert f"1.500x over {BF16}" in verdict.sentence


def test_each_wrong_and_each_missing_fact_is_named():
    """The sentence lists what is not as expected and nothing else; None does not stand for a missing fact."""
    verdict = judge_graphs({"graphs": 3, "breaks": 0, "more": 1})

    assert verdict.outcome is Outcome.NOT_APPLIED
    assert verdict.sentence == (
        "graphs is 3, expected 2; dtype is 'not reported', expected 'bfloat16'; syncs is 'not reported', expected None"
    )


def test_facts_that_all_hold_pass():
    """PASS says how many facts were held against the case, and does not mind what else was observed."""
    verdict = judge_graphs({"graphs": 2, "breaks": 0, "dtype": "bfloat16", "syncs": None, "more": 1})

    assert (verdict.outcome, verdict.sentence) == (Outcome.PASS, "all 4 facts hold")


@pytest.mark.parametrize("mode", Mode)
def test_each_mode_is_red_for_exactly_its_outcomes(mode):
    """report never; record for what is wrong at any speed; auto for regressions too; enforce for want of proof too."""
    refused = {outcome.value for outcome in Outcome if not Policy(mode=mode).accepts(say(outcome))}

    assert refused == set(RED[mode].split())


def test_the_worst_outcome_speaks_for_a_case():
    """A stage that was not applied hides how fast it was, and any verdict hides a PASS."""
    best_first = [say(outcome) for outcome in reversed(Outcome)]

    assert worst_outcome(best_first) is Outcome.NOT_APPLIED
    assert worst_outcome(best_first[:2]) is Outcome.NO_BASELINE
    assert worst_outcome(best_first[:1]) is Outcome.PASS


def test_a_case_that_nobody_judged_has_no_outcome():
    """Silence is not PASS."""
    assert worst_outcome([]) is None


def start(case_key=INT8, *, seconds, hits=0, misses=0, load_s=0.0, count=1):
    """A run whose every process applied its stage and made its first image in so many seconds."""
    run = make_run(case_key, medians_s=(1.0,) * count)
    figures = {"apply_s": 0.0, "first_image_s": seconds - load_s, "cache_load_s": load_s}
    cold = msgspec.structs.replace(run.cold_start, **figures, cache_hits=hits, cache_misses=misses)
    return msgspec.structs.replace(
        run, processes=tuple(msgspec.structs.replace(process, cold_start=cold) for process in run.processes)
    )


def kept(run):
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
    """A first call that takes half as long again is SLOWER, unless that is less than two seconds more."""
    verdict = judge_cold_start(start(seconds=new_s), kept(start(seconds=old_s)), POLICY)

    assert (verdict.outcome, verdict.claim) == (outcome, "cold start")


def test_a_start_is_compared_with_its_like():
    """A cold cache is held against cold ones only, and where the baseline holds none there is no verdict."""
    warm, cold = start(seconds=10.0, hits=2), start(seconds=60.0, misses=2)

    assert judge_cold_start(cold, kept(warm), POLICY) is None
    assert judge_cold_start(cold, kept(cold), POLICY).outcome is Outcome.PASS


def test_a_start_with_an_imported_cache_is_neither_cold_nor_warm():
    """On a CPU it compiles C++ although every graph is a hit: it is held against its like, with the seconds of loading."""
    imported = start(seconds=50.0, hits=2, load_s=0.1)
    others = (
        start(seconds=10.0, hits=2),
        start(seconds=60.0, misses=2),
        start(seconds=60.0, misses=1, hits=1, load_s=0.1),
    )

    assert {judge_cold_start(imported, kept(other), POLICY) for other in others} == {None}
    assert "imported cache: 50 s against 50 s" in judge_cold_start(imported, kept(imported), POLICY).sentence


def test_a_start_of_another_recipe_is_stale():
    """Compile seconds of another recipe are no baseline."""
    run = msgspec.structs.replace(start(seconds=1.0), fingerprint="beef")

    assert judge_cold_start(run, kept(start(seconds=1.0)), POLICY).outcome is Outcome.STALE


def test_a_noisy_speedup_is_undecided():
    """Stages whose processes are 10 % apart neither have nor lack their speed-up."""
    noisy = [2.25, 2.5, 2.75]

    verdict = judge_ladder(make_run(medians_s=noisy), make_run(BF16, medians_s=[2 * s for s in noisy]), 2.05, POLICY)

    assert verdict.outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("outcome", [Outcome.FASTER, Outcome.SMALLER])
@pytest.mark.parametrize("mode", Mode)
def test_an_improvement_is_red_where_it_was_asked_for(mode, outcome):
    """With --strict-improvement a gain has to be recorded before auto and enforce are green again."""
    strict, lax = (Policy(mode=mode, strict_improvement=strict) for strict in (True, False))

    assert strict.accepts(say(outcome)) is (mode in (Mode.REPORT, Mode.RECORD))
    assert lax.accepts(say(outcome))
