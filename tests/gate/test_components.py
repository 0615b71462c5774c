"""Verdicts on the components of an image, by stored figures and by live pairs."""

import math
import random

import msgspec
import pytest

from speedgate.gate.components import judge_components, needs_confirmation
from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Policy
from speedgate.results.run import Comparison, Outcome, Process, Turns
from speedgate.results.timings import REMAINDER, Component, log_ratio
from tests.support.baseline_samples import COLD, make_baseline, make_run

POLICY = Policy(looks=Looks(first=3, last=8))
# Share of the image, and spread between processes (standard deviation of the logarithm), of tiny SDXL in fp32 on two cores.
REAL = {
    "text_encoders": (0.069, 0.16),
    "denoiser": (0.717, 0.041),
    "host_gap": (0.0035, 0.57),
    "scheduler": (0.0048, 0.63),
    "vae_decode": (0.122, 0.15),
    REMAINDER: (0.0837, 0.37),
}
QUIET = {name: (share, 0.01) for name, (share, _) in REAL.items()}
ROUNDS = 2


def process(rng, parts=REAL, *, names=None, **times):
    """A process whose components have a level each; `times` are factors on the seconds of components, by name."""
    seconds = {
        name: [share * times.get(name, 1.0) * level * math.exp(rng.gauss(0, 0.01)) for _ in range(ROUNDS)]
        for name, (share, spread) in parts.items()
        for level in [math.exp(rng.gauss(0, spread))]
    }
    return Process(
        seconds=tuple(map(math.fsum, zip(*seconds.values(), strict=True))),
        peak_bytes=(9,) * ROUNDS,
        cold_start=COLD,
        components={
            name: Component(seconds=tuple(values), call_medians_s=(values[0],))
            for name, values in seconds.items()
            if name != REMAINDER and name in (names or seconds)
        },
    )


def processes(rng, count, *arguments, **keywords):
    return tuple(process(rng, *arguments, **keywords) for _ in range(count))


def run_of(measured):
    return msgspec.structs.replace(make_run(), processes=measured)


def baseline_of(measured, **fields):
    baseline = make_baseline(*(each.median_s for each in measured))
    return msgspec.structs.replace(baseline, **{"run": run_of(measured)} | fields)


def comparison_of(this, other, *, turns=Turns.ROUNDS):
    """A live comparison of the processes of two arms, opened in turn."""
    return Comparison(
        case_key=make_run().case_key,
        label="the other arm",
        other=run_of(other),
        turns=turns,
        log_ratios=tuple(
            log_ratio(a.seconds, b.seconds, rounds_in_turn=turns is Turns.ROUNDS)
            for a, b in zip(this, other, strict=True)
        ),
        this_first=tuple(index % 2 == 0 for index in range(len(this))),
    )


def judge(rng, *arguments, is_live=False, count=5, policy=POLICY, **times):
    """Judge `count` processes against 5 stored ones, or against as many of the other arm."""
    before = processes(rng, count if is_live else 5, *arguments)
    after = processes(rng, count, *arguments, **times)
    reference = comparison_of(after, before) if is_live else baseline_of(before)
    return judge_components(run_of(after), reference, policy)


@pytest.mark.parametrize("is_live", [False, True], ids=["stored", "live"])
@pytest.mark.parametrize("parts", [REAL, QUIET], ids=["real", "quiet"])
def test_no_component_is_blamed_without_a_change(is_live, parts):
    """In 100 seeded comparisons without a change at most one case is red."""
    rng = random.Random(7)  # noqa: S311 - a simulation

    outcomes = [judge(rng, parts, is_live=is_live, count=6 if is_live else 3).outcome for _ in range(100)]

    assert outcomes.count(Outcome.SLOWER) <= 1


@pytest.mark.parametrize("is_live", [False, True], ids=["stored", "live"])
@pytest.mark.parametrize(
    ("times", "outcome", "sentence"),
    [
        # Seen: a sleep of 8 ms a step made the host gap 40 times as long.
        ({"host_gap": 40.0}, Outcome.SLOWER, "host_gap 0.1* s against 0.003* s in *, +13.* of the image; *; 1 of 6 *"),
        ({"denoiser": 1.2, "vae_decode": 1.3}, Outcome.SLOWER, "denoiser *; 2 of 6 components slower, also vae_decode"),
        ({REMAINDER: 1.3}, Outcome.SLOWER, "remainder *, +2.* of the image; *"),
        # Tiny parts may double without a verdict, and large ones may move within the tolerance.
        ({"host_gap": 2.0, "scheduler": 2.0}, Outcome.PASS, "none of 6 components is slower; *"),
        ({"denoiser": 1.02}, Outcome.PASS, "none of 6 components is slower; the largest change: denoiser *"),
        ({"vae_decode": 0.5}, Outcome.PASS, "none of 6 components is slower; *"),
    ],
)
def test_a_component_is_red_beyond_the_tolerance_and_a_hundredth_of_the_image(is_live, times, outcome, sentence):
    """Both limits decide, the sentence names the worst component, and a component that becomes faster hides none."""
    verdict = judge(random.Random(7), QUIET, is_live=is_live, count=6, **times)  # noqa: S311 - a simulation

    assert (verdict.outcome, verdict.claim) == (outcome, "components")
    pytest.LineMatcher([verdict.sentence]).fnmatch_lines([sentence])
    assert needs_confirmation(verdict) == (outcome is Outcome.SLOWER)


def test_the_error_of_a_look_is_shared_by_the_components():
    """Each of six components has a sixth of the error rate of the image's latency at the same look."""
    verdict = judge(random.Random(7), QUIET, count=8)  # noqa: S311 - a simulation

    assert f"({100 - (100 - 100 * POLICY.looks.confidence_at(8)) / 6:.4g}% interval" in verdict.sentence


def test_the_tolerance_of_the_stage_is_that_of_its_components():
    """A component that is slower than 3 % passes in a stage that tolerates more."""
    policies = [Policy(), Policy(stage_tolerances={"int8": 0.2})]

    outcomes = [judge(random.Random(7), QUIET, policy=policy, denoiser=1.1).outcome for policy in policies]  # noqa: S311

    assert outcomes == [Outcome.SLOWER, Outcome.PASS]


def test_a_component_of_one_side_is_named_and_not_judged():
    """Its seconds are in the rest of the other side's image, so the rest is not judged either; the shared ones are."""
    rng = random.Random(7)  # noqa: S311 - a simulation
    fewer = [name for name in QUIET if name not in ("scheduler", "vae_decode")]
    many = {f"part_{number}": (1e-4, 0.01) for number in range(9)}
    before = processes(rng, 5, QUIET, names=fewer)
    after = processes(rng, 5, QUIET | many, names=[*fewer, "vae_decode", *many])

    verdict = judge_components(run_of(after), baseline_of(before), POLICY)

    assert verdict.outcome is Outcome.PASS
    assert verdict.sentence.startswith("none of 3 components is slower")
    assert verdict.sentence.endswith(
        "; only in this run, not judged: vae_decode, part_0, part_1, part_2, part_3 and 5 more"
    )


@pytest.mark.parametrize(
    ("names", "reference", "outcome"),
    [
        (None, None, Outcome.NO_BASELINE),
        (None, {"fingerprint": "beef"}, Outcome.STALE),
        (None, {"run": None}, None),
        ((), {}, None),
        ((), None, None),
    ],
    ids=["no baseline", "another recipe", "published", "none timed", "none timed and no baseline"],
)
def test_components_are_judged_only_if_both_sides_timed_them(names, reference, outcome):
    """A published figure has no components, and neither has the worker of an older checkout: then there is no verdict."""
    rng = random.Random(7)  # noqa: S311 - a simulation
    run = run_of(processes(rng, 3, QUIET, names=QUIET if names is None else ["none of them"]))
    baseline = None if reference is None else baseline_of(processes(rng, 3, QUIET), **reference)

    verdict = judge_components(run, baseline, POLICY)

    assert (verdict and verdict.outcome) == outcome


def test_one_process_on_each_side_decides_nothing():
    """Without a spread no interval is known."""
    rng = random.Random(7)  # noqa: S311 - a simulation
    verdict = judge_components(run_of(processes(rng, 1)), baseline_of(processes(rng, 1)), POLICY)

    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.sentence == "nothing is known of the spread of the components: add --processes"


@pytest.mark.parametrize(("before", "spread"), [(0.0, 0.01), (1e-6, 0.01), (1e-4, 2.5)])
def test_a_component_may_take_no_time_at_all(before, spread):
    """What takes less than a thousandth of the image counts as that much: its own noise does not hide that it has grown."""
    rng = random.Random(8)  # noqa: S311 - a simulation
    parts = QUIET | {"host_gap": (before, spread)}

    outcomes = [judge(rng, parts).outcome for _ in range(2)]
    grown = judge_components(
        run_of(processes(rng, 5, QUIET, host_gap=20)), baseline_of(processes(rng, 5, parts)), POLICY
    )

    assert outcomes == [Outcome.PASS] * 2
    assert grown.outcome is Outcome.SLOWER and grown.sentence.startswith("host_gap 0.07")


def test_arms_that_do_not_fit_at_once_are_compared_by_medians():
    """Pairs whose processes ran one after the other may have other numbers of rounds."""
    rng = random.Random(7)  # noqa: S311 - a simulation
    this, other = processes(rng, 6, QUIET, vae_decode=1.2), processes(rng, 6, QUIET)
    comparison = comparison_of(this, other, turns=Turns.PROCESSES)

    verdict = judge_components(run_of(this), comparison, POLICY)

    assert verdict.outcome is Outcome.SLOWER
    assert verdict.sentence.startswith("vae_decode ") and " in the other arm: " in verdict.sentence
