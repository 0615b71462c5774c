"""Cases that are expected to fit, to run out of memory or to be unsupported, and the verdict when that changes."""

from __future__ import annotations

import pytest

from speedgate.gate.fit import Expectation, Fit, expect_fit, judge_fit
from speedgate.results.family_figure import OUTCOMES, FamilyFigure
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import INT8, make_baseline


def judge(fit: Fit | None, *, fits: bool, alone: bool = True) -> Verdict:
    """The verdict on a device of 15.8 GiB, by an expectation of `0002_recorded` or none."""
    expectation = None if fit is None else Expectation(fit=fit, source="0002_recorded")
    return judge_fit(INT8, expectation, fits=fits, device_bytes=round(15.8 * 2**30), alone=alone)


@pytest.mark.parametrize(
    ("fit", "fits", "outcome", "rest"),
    [
        (Fit.OK, True, Outcome.PASS, ", fitted in 0002_recorded"),
        (Fit.OK, False, Outcome.BIGGER, ", fitted in 0002_recorded"),
        (Fit.OOM, True, Outcome.FASTER, ", out of memory in 0002_recorded: record a new baseline"),
        (Fit.OOM, False, Outcome.PASS, ", out of memory in 0002_recorded"),
        (Fit.UNSUPPORTED, True, Outcome.FASTER, ", unsupported in 0002_recorded: record a new baseline"),
        (Fit.UNSUPPORTED, False, Outcome.PASS, ", unsupported in 0002_recorded"),
        (None, True, Outcome.NO_BASELINE, "; nothing was stored of this case before"),
        (None, False, Outcome.NO_BASELINE, "; nothing was stored of this case before"),
    ],
)
def test_a_case_is_judged_by_its_expectation(fit, fits, outcome, rest):
    """A case that fitted must fit and one that did not may; the sentence names both sides and the device."""
    verdict = judge(fit, fits=fits)

    now = "fits into 15.8 GiB" if fits else "out of memory on 15.8 GiB"
    assert (verdict.outcome, verdict.sentence) == (outcome, f"{now}{rest}")
    assert (verdict.case_key, verdict.claim) == (INT8, "fit")


@pytest.mark.parametrize("fit", [*Fit, None])
def test_a_shared_device_proves_nothing(fit):
    """Out of memory beside other processes is INVALID, whatever was expected; a picture counts all the same."""
    assert judge(fit, fits=False, alone=False).outcome is Outcome.INVALID
    assert judge(fit, fits=True, alone=False).outcome is judge(fit, fits=True).outcome


def figure(outcome: str, build: str) -> FamilyFigure:
    """Make the published figure of one build of torch."""
    rate = 20.0 if outcome == "ok" else None
    return FamilyFigure(family="a100", case_key=INT8, build=build, mode="int8", outcome=outcome, iterations_per_s=rate)


def test_a_baseline_of_this_machine_comes_before_its_family():
    """A case that fitted here is expected to fit, whatever ran out of memory elsewhere."""
    expectation = expect_fit(make_baseline(2.5), [figure("oom", "2.0"), figure("oom", "nightly")])

    assert expectation == Expectation(fit=Fit.OK, source="0002_recorded", gates=True)


@pytest.mark.parametrize(
    ("outcomes", "fit"),
    [
        *(([outcome] * 2, Fit.OOM) for outcome in OUTCOMES if outcome.startswith("oom")),
        (["oom", "oom_after_2nd_iteration"], Fit.OOM),
        (["unsupported"] * 2, Fit.UNSUPPORTED),
        (["oom"], None),
        (["ok"] * 2, None),
        (["ok", "oom"], None),
        (["not_published"] * 2, None),
        ([], None),
    ],
)
def test_figures_of_a_family_lead_to_an_expectation_together(outcomes, fit):
    """Two builds of torch that came to the same end, which is no figure, lead to one expectation, and it does not gate."""
    expectation = expect_fit(None, [figure(outcome, str(number)) for number, outcome in enumerate(outcomes)])

    assert (expectation and (expectation.fit, expectation.gates)) == (fit and (fit, False))
