"""Which verdicts turn their test red, in each mode of the gate."""

import pytest

from speedgate.gate.policy import Mode, Policy
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import INT8

RED = {
    "report": "",
    "record": "NOT_APPLIED DIFFERENT INVALID",
    "auto": "NOT_APPLIED DIFFERENT INVALID SLOWER BIGGER",
    "enforce": "NOT_APPLIED DIFFERENT INVALID SLOWER BIGGER STALE MISSING UNDECIDED NO_BASELINE",
}


def verdict_of(outcome):
    """A verdict of that outcome."""
    return Verdict(case_key=INT8, claim="latency", outcome=outcome, sentence="")


@pytest.mark.parametrize("mode", Mode)
def test_each_mode_is_red_for_exactly_its_outcomes(mode):
    """report never; record for what is wrong at any speed; auto for regressions too; enforce for want of proof too."""
    refused = {outcome.value for outcome in Outcome if not Policy(mode=mode).accepts(verdict_of(outcome))}

    assert refused == set(RED[mode].split())


@pytest.mark.parametrize("outcome", [Outcome.FASTER, Outcome.SMALLER])
@pytest.mark.parametrize("mode", Mode)
def test_an_improvement_is_red_where_it_was_asked_for(mode, outcome):
    """With --strict-improvement a gain has to be recorded before auto and enforce are green again."""
    strict, lax = (Policy(mode=mode, strict_improvement=strict) for strict in (True, False))

    assert strict.accepts(verdict_of(outcome)) is (mode in (Mode.REPORT, Mode.RECORD))
    assert lax.accepts(verdict_of(outcome))


@pytest.mark.parametrize("outcome", [Outcome.FASTER, Outcome.BIGGER])
def test_a_verdict_that_does_not_gate_is_green(outcome):
    """It is shown, and no mode makes a test red by it."""
    verdict = Verdict(case_key=INT8, claim="fit", outcome=outcome, sentence="", gates=False)

    assert all(Policy(mode=mode, strict_improvement=True).accepts(verdict) for mode in Mode)
