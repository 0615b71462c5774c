"""Acknowledgements: which ratio is acknowledged, and how a claim is judged by it."""

import math

import msgspec
import pytest

from speedgate.gate import acknowledgement
from speedgate.gate.acknowledgement import Acknowledgement, acknowledge
from speedgate.gate.judge import judge_latency, judge_memory
from speedgate.gate.policy import Policy
from speedgate.results.run import Comparison, Confirmation, Outcome, Turns
from tests.support.baseline_samples import INT8, make_baseline, make_run

POLICY = Policy()
GIB = 2**30


def entry(**at_most):
    return Acknowledgement(why="a reason", baseline="0002_recorded", at_most=at_most)


def judge(claim, run, baseline, at_most):
    judge_by = {"latency": judge_latency, "memory": judge_memory}[claim]
    return acknowledgement.apply(
        claim, entry(**{claim: at_most}), POLICY, INT8, lambda policy: judge_by(run, baseline, policy)
    )


@pytest.mark.parametrize(
    ("medians_s", "source", "at_most", "outcome", "gates"),
    [
        ((1.10, 1.101, 1.099), "recorded", 1.12, Outcome.SLOWER, False),
        ((1.13, 1.131, 1.129), "recorded", 1.12, Outcome.SLOWER, True),
        ((1.0, 1.001, 0.999), "recorded", 1.12, Outcome.PASS, True),
        ((0.9, 0.901, 0.899), "recorded", 1.12, Outcome.FASTER, True),
        # Noise around the tolerance is accepted if all of it lies below the acknowledged ratio.
        ((1.02, 1.03, 1.04), "recorded", 1.12, Outcome.UNDECIDED, False),
        ((1.02, 1.03, 1.04), "recorded", 1.04, Outcome.UNDECIDED, True),
        ((1.2,), "published", 1.25, Outcome.SLOWER, False),
        ((1.3,), "published", 1.25, Outcome.SLOWER, True),
    ],
)
def test_a_latency_is_accepted_up_to_the_acknowledged_ratio(medians_s, source, at_most, outcome, gates):
    """The outcome stays, and the verdict gates again above the ratio; what is green has no mark."""
    baseline = make_baseline(*([1.0] if source == "published" else [1.0, 1.001, 0.999]), source=source)

    verdict = judge("latency", make_run(medians_s=medians_s), baseline, at_most)

    assert (verdict.outcome, verdict.gates, verdict.is_acknowledged) == (outcome, gates, not gates)


@pytest.mark.parametrize(("peak", "gates"), [(3.29, False), (3.4, True)])
def test_a_peak_is_accepted_up_to_the_acknowledged_ratio(peak, gates):
    """A peak of 10 % more than the baseline's was accepted."""
    run = make_run(peak_bytes=[round(peak * GIB)])

    verdict = judge("memory", run, make_baseline(2.4, 2.4, peak_bytes=3 * GIB), 1.1)

    assert (verdict.outcome, verdict.gates) == (Outcome.BIGGER, gates)


def confirmation(ratio, *, reason=""):
    """Live pairs with this ratio."""

    run = make_run(medians_s=[ratio] * 4)
    comparison = Comparison(
        case_key=INT8,
        label="the other arm",
        other=make_run(medians_s=[1.0] * 4),
        turns=Turns.ROUNDS,
        log_ratios=[math.log(ratio)] * 4,
        this_first=[True, False] * 2,
    )
    return Confirmation(
        case_key=INT8,
        stored=Outcome.SLOWER,
        stored_ratio=1.2,
        comparison=comparison,
        processes=run.processes,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("claim", "confirmed", "source", "at_most"),
    [
        ("latency", None, "recorded", 1.2 * 1.03),
        ("latency", None, "published", 1.2 * 1.1),
        ("latency", confirmation(1.05), "recorded", 1.05 * 1.03),
        ("latency", confirmation(1.05, reason="interrupted"), "recorded", 1.2 * 1.03),
        ("memory", None, "recorded", 1.5 * 1.02),
    ],
)
def test_the_present_change_is_acknowledged_and_no_more(claim, confirmed, source, at_most):
    """It is the ratio to the baseline plus the tolerance: of the live pairs if they decided, else of the stored figures."""
    baseline = make_baseline(*([2.0] * (1 if source == "published" else 3)), peak_bytes=6, source=source)
    run = make_run(medians_s=[2.4] * 3, peak_bytes=[9])

    acknowledged = acknowledge(claim, run, baseline, confirmed, why=" a reason ", policy=POLICY)

    assert acknowledged == msgspec.structs.replace(entry(**{claim: round(at_most, 4)}), baseline=baseline.name)


def test_without_a_change_nothing_is_acknowledged():
    """A case that the tolerance covers is in no need of it, as after a promotion."""
    with pytest.raises(
        ValueError, match=r"latency is not worse than in 0002_recorded by more than the tolerance of 3%"
    ):
        acknowledge("latency", make_run(medians_s=[2.0] * 3), make_baseline(*[2.0] * 3), None, why="why", policy=POLICY)
