"""Verdicts on the seconds of the compiler."""

import msgspec
import pytest

from speedgate.gate.compile_seconds import CLAIM, judge_compile_seconds, why_not_judged
from speedgate.gate.policy import Policy
from speedgate.results.run import Outcome
from tests.support.baseline_samples import COLD, INT8, make_baseline, make_run

COLD_START = msgspec.structs.replace(COLD, first_image_s=90.0, cache_misses=2)
WARM_START = msgspec.structs.replace(COLD_START, cache_misses=0, cache_hits=2)


def compiled(*starts, **fields):
    """Make a run of one process for each start."""
    run = make_run(INT8, medians_s=(1.0,) * len(starts))
    processes = [msgspec.structs.replace(run.processes[0], cold_start=start) for start in starts]
    return msgspec.structs.replace(run, processes=tuple(processes), **fields)


def taking(*seconds, start=COLD_START):
    """Make starts whose compiler takes so many seconds."""
    return [msgspec.structs.replace(start, compile_s=each) for each in seconds]


def baseline_of(run):
    """Make the baseline that such a run is recorded as."""
    return msgspec.structs.replace(make_baseline(1.0, 1.0), cold_starts=run.cold_starts)


@pytest.mark.parametrize(
    ("new_s", "old_s", "outcome"),
    [
        ((15.0,), (10.0,), Outcome.PASS),
        ((15.1,), (10.0,), Outcome.SLOWER),
        ((2.4,), (0.5,), Outcome.PASS),
        ((2.6,), (0.5,), Outcome.SLOWER),
        ((10.0, 11.0, 40.0), (10.0,), Outcome.PASS),
        ((1.0,), (10.0,), Outcome.PASS),
    ],
)
def test_the_compiler_is_slower_by_a_share_and_by_seconds(new_s, old_s, outcome):
    """The median has to exceed the baseline's by half and by two seconds; another recipe is STALE."""
    run, baseline = compiled(*taking(*new_s)), baseline_of(compiled(*taking(*old_s)))

    verdict = judge_compile_seconds(run, baseline, Policy())

    assert (verdict.outcome, verdict.claim) == (outcome, CLAIM)
    other_recipe = msgspec.structs.replace(run, fingerprint="beef")
    assert judge_compile_seconds(other_recipe, baseline, Policy()).outcome is Outcome.STALE


def test_each_state_of_the_cache_is_compared_with_its_like():
    """A warm compilation that became slow is seen beside a cold one that did not, which is only counted."""
    run = compiled(*taking(60.0), *taking(9.0, 9.4, 9.2, start=WARM_START), structure={"unet.compiled_regions": 3})
    baseline = baseline_of(compiled(*taking(60.0), *taking(3.0, start=WARM_START)))

    verdict = judge_compile_seconds(run, baseline, Policy())

    assert verdict.outcome is Outcome.SLOWER
    assert verdict.sentence == (
        "compiled in regions, warm cache: 9.2 s against 3 s (3 and 1 starts); 1 other figure is within its limit;"
        " tolerance 50% and 2 s"
    )


@pytest.mark.parametrize(
    ("structure", "how"),
    [
        ({"unet.compiled": True, "unet.compiled_regions": 0}, "as a whole"),
        ({"unet.compiled": False, "unet.compiled_regions": 3}, "in regions"),
        ({"unet.compiled": False, "unet.exported": True}, "ahead of time"),
    ],
)
def test_the_sentence_says_how_the_models_are_compiled(structure, how):
    """The facts of the structure tell regional compilation and an export from compiling whole models."""
    run = compiled(*taking(10.0), structure=structure)

    assert judge_compile_seconds(run, baseline_of(run), Policy()).sentence.startswith(f"compiled {how}, cold cache")


@pytest.mark.parametrize(
    ("starts", "before", "reason"),
    [
        (taking(60.0), taking(None), "not recorded"),
        (taking(None), taking(60.0), "not recorded"),
        (taking(60.0), taking(3.0, start=WARM_START), "compile cache in another state"),
        (taking(60.0), [], "a published figure has no start"),
    ],
)
def test_a_compilation_without_its_like_is_not_judged(starts, before, reason):
    """Baselines and workers older than the figure, published figures and other states of the cache give no verdict."""
    run, baseline = compiled(*starts), msgspec.structs.replace(make_baseline(1.0, 1.0), cold_starts=tuple(before))

    assert judge_compile_seconds(run, baseline, Policy()) is None
    assert why_not_judged(run, baseline)[0] == reason
