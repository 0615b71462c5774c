"""Which verdicts turn their test red, in each mode of the gate."""

import pytest

from speedgate.gate.policy import Mode, Policy
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import INT8

RED = {
    "report": "",
    "record": "NOT_APPLIED DIFFERENT INVALID",
    "auto": "NOT_APPLIED DIFFERENT INVALID SLOWER BIGGER MORE_WORK",
    "enforce": "NOT_APPLIED DIFFERENT INVALID SLOWER BIGGER MORE_WORK STALE MISSING UNKNOWN UNDECIDED NO_BASELINE",
}
IMPROVED = {"FASTER", "SMALLER"}


@pytest.mark.parametrize("mode", Mode)
def test_each_mode_is_red_for_exactly_its_outcomes(mode):
    """A mode is red for its outcomes alone; --strict-improvement adds a gain where figures are judged, gates=False takes all."""

    def refused(*, gates=True, **options):
        policy = Policy(mode=mode, **options)
        verdicts = [Verdict(case_key=INT8, claim="fit", outcome=each, sentence="", gates=gates) for each in Outcome]
        return {verdict.outcome.value for verdict in verdicts if not policy.accepts(verdict)}

    assert refused() == set(RED[mode].split())
    assert refused(strict_improvement=True) - refused() == (IMPROVED if mode in (Mode.AUTO, Mode.ENFORCE) else set())
    assert refused(strict_improvement=True, gates=False) == set()
