"""Cases that are expected to fit, to run out of memory or to be unsupported, and the verdict when that changes."""

from __future__ import annotations

import pytest

from speedgate.gate.fit import Expectation, Fit, expect_fit, fit_of_outcome, judge_fit
from speedgate.gate.policy import Mode, Policy
from speedgate.results.family_figure import OUTCOMES, FamilyFigure
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import INT8, make_baseline


def judge(fit: Fit | None, *, fits: bool, alone: bool = True) -> Verdict:
    """The verdict on a device of 15.8 GiB, by an expectation of `0002_recorded` or none."""
    expectation = None if fit is None else Expectation(fit=fit, source="0002_recorded")
    return judge_fit(INT8, expectation, fits=fits, device_bytes=round(15.8 * 2**30), alone=alone)


@pytest.mark.parametrize(
    ("fit", "fits", "outcome", "sentence"),
    [
        (Fit.OK, True, Outcome.PASS, "fits into 15.8 GiB, fitted in 0002_recorded"),
        (Fit.OK, False, Outcome.BIGGER, "out of memory on 15.8 GiB, fitted in 0002_recorded"),
        (Fit.OOM, True, Outcome.FASTER, "fits into 15.8 GiB, out of memory in 0002_recorded: record a new baseline"),
        (Fit.OOM, False, Outcome.PASS, "out of memory on 15.8 GiB, out of memory in 0002_recorded"),
        (
            Fit.UNSUPPORTED,
            True,
            Outcome.FASTER,
            "fits into 15.8 GiB, unsupported in 0002_recorded: record a new baseline",
        ),
        (Fit.UNSUPPORTED, False, Outcome.PASS, "out of memory on 15.8 GiB, unsupported in 0002_recorded"),
    ],
)
def test_what_a_change_means(fit: Fit, fits: bool, outcome: Outcome, sentence: str) -> None:
    """A case that fitted must fit and one that did not may; the sentence names both sides and the device."""
    verdict = judge(fit, fits=fits)

    assert (verdict.outcome, verdict.sentence) == (outcome, sentence)
    assert (verdict.case_key, verdict.claim) == (INT8, "fit")


@pytest.mark.parametrize("fit", list(Fit))
def test_a_shared_device_proves_nothing(fit: Fit) -> None:
    """Out of memory beside other processes is no finding, whatever was expected; a picture is one all the same."""
    assert judge(fit, fits=False, alone=False).outcome is Outcome.INVALID
    assert judge(fit, fits=True, alone=False).outcome is judge(fit, fits=True).outcome


def test_a_case_that_no_longer_fits_is_red() -> None:
    """Wherever baselines are enforced; one that has come to fit is red only where improvements are."""
    worse, better = judge(Fit.OK, fits=False), judge(Fit.OOM, fits=True)

    assert not any(Policy(mode=mode).accepts(worse) for mode in (Mode.AUTO, Mode.ENFORCE))
    assert Policy(mode=Mode.ENFORCE).accepts(better)
    assert not Policy(mode=Mode.ENFORCE, strict_improvement=True).accepts(better)


def test_each_published_outcome_leads_to_an_expectation() -> None:
    """The three ways to run out of memory are one; a dash in a table leads to none."""
    fits_by_outcome = {outcome: fit_of_outcome(outcome) for outcome in OUTCOMES}

    assert fits_by_outcome.pop("not_published") is None
    assert {outcome: str(fit).partition("_")[0] for outcome, fit in fits_by_outcome.items()} == {
        outcome: outcome.partition("_")[0] for outcome in fits_by_outcome
    }


@pytest.mark.parametrize("fits", [True, False])
def test_what_nothing_is_known_of_has_no_baseline(fits: bool) -> None:
    """It is neither better nor worse than anything, and beside other processes still proves nothing."""
    assert judge(None, fits=fits).outcome is Outcome.NO_BASELINE
    assert judge(None, fits=False, alone=False).outcome is Outcome.INVALID


def test_an_unknown_outcome_is_refused() -> None:
    """An outcome that no publication uses is an error and leads to no expectation."""
    with pytest.raises(ValueError, match="outcome 'melted': expected ok, oom"):
        fit_of_outcome("melted")


def figure(outcome: str, build: str) -> FamilyFigure:
    """Make the published figure of one build of torch."""
    rate = 20.0 if outcome == "ok" else None
    return FamilyFigure(family="a100", case_key=INT8, build=build, mode="int8", outcome=outcome, iterations_per_s=rate)


def test_a_baseline_of_this_machine_comes_before_its_family() -> None:
    """A case that fitted here is expected to fit, whatever ran out of memory elsewhere."""
    expectation = expect_fit(make_baseline(2.5), [figure("oom", "2.0"), figure("oom", "nightly")])

    assert expectation == Expectation(fit=Fit.OK, source="0002_recorded", gates=True)


@pytest.mark.parametrize(
    ("outcomes", "fit"),
    [
        (["oom", "oom_after_2nd_iteration"], Fit.OOM),
        (["unsupported", "unsupported"], Fit.UNSUPPORTED),
        (["oom"], None),
        (["ok", "oom"], None),
        (["not_published", "not_published"], None),
        ([], None),
    ],
)
def test_figures_of_a_family_lead_to_an_expectation_together(outcomes: list[str], fit: Fit | None) -> None:
    """Two builds of torch that came to the same end, which is no figure, lead to one expectation, and it does not gate."""
    expectation = expect_fit(None, [figure(outcome, str(number)) for number, outcome in enumerate(outcomes)])

    assert (expectation and (expectation.fit, expectation.gates)) == (fit and (fit, False))
