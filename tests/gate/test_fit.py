"""Out of memory and unsupported as something that is expected, and what it means when it changes."""

from __future__ import annotations

import pytest

from speedgate.gate.fit import Expected, expectation, judge_fit
from speedgate.gate.policy import Mode, Policy
from speedgate.results.family_figure import OUTCOMES
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import INT8


def judge(expected: str | None, *, fits: bool, alone: bool = True) -> Verdict:
    """The verdict on a device of 15.8 GiB."""
    device_bytes = round(15.8 * 2**30)
    return judge_fit(
        INT8, expected=expected, fits=fits, baseline="0002_recorded", device_bytes=device_bytes, alone=alone
    )


@pytest.mark.parametrize(
    ("expected", "fits", "outcome", "sentence"),
    [
        ("ok", True, Outcome.PASS, "fits into 15.8 GiB, fitted in 0002_recorded"),
        ("ok", False, Outcome.BIGGER, "out of memory on 15.8 GiB, fitted in 0002_recorded"),
        ("oom", True, Outcome.FASTER, "fits into 15.8 GiB, out of memory in 0002_recorded: record a new baseline"),
        ("oom", False, Outcome.PASS, "out of memory on 15.8 GiB, out of memory in 0002_recorded"),
        (
            "unsupported",
            True,
            Outcome.FASTER,
            "fits into 15.8 GiB, unsupported in 0002_recorded: record a new baseline",
        ),
        ("unsupported", False, Outcome.PASS, "out of memory on 15.8 GiB, unsupported in 0002_recorded"),
    ],
)
def test_what_a_change_means(expected: str, fits: bool, outcome: Outcome, sentence: str) -> None:
    """What fitted must fit, what did not may, and the sentence says both sides and the device."""
    verdict = judge(expected, fits=fits)

    assert (verdict.outcome, verdict.sentence) == (outcome, sentence)
    assert (verdict.case_key, verdict.claim) == (INT8, "fit")


@pytest.mark.parametrize("expected", list(Expected))
def test_a_shared_device_proves_nothing(expected: Expected) -> None:
    """Out of memory beside other processes is no finding, whatever was expected; a picture is one all the same."""
    assert judge(expected, fits=False, alone=False).outcome is Outcome.INVALID
    assert judge(expected, fits=True, alone=False).outcome is judge(expected, fits=True).outcome


def test_a_case_that_no_longer_fits_is_red() -> None:
    """Wherever baselines are enforced; one that has come to fit is red only where improvements are."""
    worse, better = judge("ok", fits=False), judge("oom", fits=True)

    assert not any(Policy(mode=mode).accepts(worse) for mode in (Mode.AUTO, Mode.ENFORCE))
    assert Policy(mode=Mode.ENFORCE).accepts(better)
    assert not Policy(mode=Mode.ENFORCE, strict_improvement=True).accepts(better)


def test_each_published_outcome_leads_to_an_expectation() -> None:
    """The three ways to run out of memory are one; a dash in a table leads to none."""
    found = {outcome: expectation(outcome) for outcome in OUTCOMES}

    assert found.pop("not_published") is None
    assert {outcome: str(expected).partition("_")[0] for outcome, expected in found.items()} == {
        outcome: outcome.partition("_")[0] for outcome in found
    }


@pytest.mark.parametrize("fits", [True, False])
def test_what_nothing_is_known_of_has_no_baseline(fits: bool) -> None:
    """It is neither better nor worse than anything, and beside other processes still proves nothing."""
    assert judge(None, fits=fits).outcome is Outcome.NO_BASELINE
    assert judge(None, fits=False, alone=False).outcome is Outcome.INVALID


@pytest.mark.parametrize("text", ["", "OOM", "oom_after_warmup", "passed"])
def test_another_expectation_is_refused(text: str) -> None:
    """A misspelt expectation must not become a green verdict."""
    with pytest.raises(ValueError, match="choose from ok, oom, unsupported"):
        judge(text, fits=False)


def test_an_unknown_outcome_is_refused() -> None:
    """What no publication says leads to nothing but an error."""
    with pytest.raises(ValueError, match="outcome 'melted': expected ok, oom"):
        expectation("melted")
