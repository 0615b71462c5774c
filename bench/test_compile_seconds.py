"""Each stage is compiled as fast as in its baseline."""

import pytest

from speedgate.gate.compile_seconds import why_not_judged

pytestmark = pytest.mark.rounds


def test_compile_seconds(case, gate):
    """The compiler takes at most the baseline's time, with the compile cache in the same state."""
    if not case.spec.compiles:
        gate.cannot_judge(case.key, "compile seconds", "nothing is compiled", f"{case.key} is eager")
    if gate.is_live:
        gate.cannot_judge(case.key, "compile seconds", "live comparison", "the other arm runs at the same time")
    run = case.measure()

    verdict = gate.compile_seconds(run)

    if verdict is None:
        gate.cannot_judge(case.key, "compile seconds", *why_not_judged(run, gate.baselines[case.key]))
    gate.check(verdict)
