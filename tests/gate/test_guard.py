"""Which claims are guarded, and which of the others turn a session red."""

import pytest

from speedgate.gate import guard
from speedgate.gate.policy import Mode, Policy
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import BF16, INT8

ENFORCE = Policy(mode=Mode.ENFORCE)


def judged(**outcomes):
    """Make verdicts on INT8 from outcomes by claim."""
    return {INT8: [Verdict(case_key=INT8, claim=c, outcome=o, sentence="") for c, o in outcomes.items()]}


@pytest.mark.parametrize(
    ("verdicts", "not_judged", "sentence"),
    [
        (
            judged(latency=Outcome.SLOWER, recipe=Outcome.PASS, memory=Outcome.NO_BASELINE, worker=Outcome.INVALID),
            {INT8: {"ladder": "CPU"}, BF16: {"ladder": "CPU", "roofline": "CPU"}},
            "guarded: 2 claims of 1 case; not guarded here: ladder 2, roofline 1 (CPU); memory 1 (no baseline)",
        ),
        (judged(latency=Outcome.UNDECIDED), {}, "guarded: no claims; not guarded here: latency 1 (undecided)"),
        (
            {INT8: [Verdict(case_key=INT8, claim="fit", outcome=Outcome.PASS, sentence="", gates=False)]},
            {"": {"coverage": "no baseline"}},
            "guarded: no claims; not guarded here: fit 1 (by another GPU of the family); coverage 1 (no baseline)",
        ),
        (judged(latency=Outcome.PASS), {}, "guarded: 1 claim of 1 case"),
    ],
)
def test_a_claim_is_guarded_by_a_comparison_alone(verdicts, not_judged, sentence):
    """A verdict that compares nothing or gates nothing guards nothing; every claim that is not guarded has its reason."""
    assert sorted(guard.count_guarded(verdicts, not_judged).sentence.split("; ")) == sorted(sentence.split("; "))


@pytest.mark.parametrize(
    ("verdicts", "not_judged", "broken", "gaps"),
    [
        (judged(recipe=Outcome.PASS, memory=Outcome.PASS), {}, (), []),
        (judged(recipe=Outcome.PASS), {INT8: {"memory": "CPU"}}, (), []),
        (judged(recipe=Outcome.PASS), {BF16: {"memory": "CPU"}}, (), ["memory"]),
        (judged(recipe=Outcome.PASS), {INT8: {"memory": guard.NO_BASELINE}}, (), ["memory"]),
        ({}, {}, (), ["recipe", "memory"]),
        ({}, {}, (INT8,), []),
        (judged(recipe=Outcome.NO_BASELINE), {}, (), []),
    ],
)
def test_a_promise_that_nobody_judged_or_excused_is_missing(verdicts, not_judged, broken, gaps):
    """A claim without verdict and reason is MISSING, as is one without a baseline; a case that is red or broken has no gap."""
    promised = {INT8: ["recipe", "memory"]}

    missing = guard.unguarded_claims(promised, verdicts, not_judged, policy=ENFORCE, broken=broken)

    assert [(verdict.case_key, verdict.claim, verdict.outcome) for verdict in missing] == [
        (INT8, claim, Outcome.MISSING) for claim in gaps
    ]
