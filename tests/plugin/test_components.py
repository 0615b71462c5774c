"""A component that stored figures suspect is judged by live pairs, on fake targets, while the latency keeps its verdict."""

import msgspec
import pytest

from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.other_arm import OtherArm
from speedgate.measure.rounds import MeasurementPlan
from speedgate.plugin.session import ConfirmationPlan
from speedgate.results.run import Origin, Outcome, Process
from speedgate.results.timings import Component
from tests.support import runners
from tests.support.baseline_samples import COLD, make_run
from tests.support.fake_target import FakeTarget
from tests.support.runners import CASE, recorded_baseline

PLAN = ConfirmationPlan(looks=Looks(first=4, last=6), measurement=MeasurementPlan(processes=1, rounds=2))
ENFORCE = Policy(mode=Mode.ENFORCE, looks=Looks(first=3, last=8))
QUICK, SLOW = {"denoiser": [0.4], "host_gap": [0.01]}, {"denoiser": [0.4], "host_gap": [0.03]}


def baseline():
    process = Process(
        seconds=(0.5, 0.5),
        peak_bytes=(9, 9),
        cold_start=COLD,
        components={
            name: Component(seconds=(value, value), call_medians_s=(value,)) for name, (value,) in QUICK.items()
        },
    )
    return msgspec.structs.replace(
        recorded_baseline(*[0.5] * 5),
        run=msgspec.structs.replace(make_run(CASE.key), processes=(process,) * 5),
        origin=Origin(python="3.11.7", packages={}, code_digest="c0de"),
    )


def remake(_):
    return OtherArm(python="python", paths=(), versions={}, label="the arm of the baseline")


def cannot_remake(_):
    raise ValueError("no commit")


def judge(folder, this, other=None, *, make_arm=remake, confirmation=PLAN):
    """Measure a case with these components as its own tests do; return its verdicts on latency and components, and the runner."""
    runner = runners.make_runner(
        folder,
        FakeTarget(components=this),
        others=[FakeTarget(components=components) for components in (other if isinstance(other, list) else [other])],
        make_arm=make_arm,
        confirmation=confirmation,
        policy=ENFORCE,
        baselines={CASE.key: baseline()},
    )
    with runner.live(CASE) as live:
        run = live.measure()
    return runner.gate.latency(run), runner.gate.components(run), runner


@pytest.mark.parametrize(("other", "outcome"), [(SLOW, Outcome.PASS), (QUICK, Outcome.SLOWER)])
def test_the_pairs_decide_on_a_suspected_component(tmp_path, other, outcome):
    """A host gap of three times the stored seconds is measured live; the latency, which was in order, keeps its verdict."""
    latency, components, runner = judge(tmp_path, SLOW, other)

    assert (latency.outcome, "live" in latency.sentence) == (Outcome.PASS, False)
    assert components.outcome is outcome
    assert components.sentence.startswith("live, ") and components.sentence.endswith("the stored figures said SLOWER")
    assert len(runner.session.outcome.confirmations[CASE.key].processes) == 4


def test_pairs_are_added_until_the_suspected_component_is_clear(tmp_path):
    """A latency that passes after four pairs does not end them while the host gap may still be slower."""
    *_, runner = judge(tmp_path, SLOW, [{"denoiser": [0.4], "host_gap": [gap]} for gap in (0.03, 0.02, 0.025, 0.035)])

    assert len(runner.session.outcome.confirmations[CASE.key].processes) == 6


def test_pairs_that_never_clear_a_suspected_component_leave_it_undecided(tmp_path):
    """It is neither convicted nor acquitted without evidence."""
    seconds = [{"denoiser": [0.4], "host_gap": [each]} for each in (0.004, 0.06, 0.01, 0.07, 0.005, 0.05)]

    _, components, runner = judge(tmp_path, SLOW, seconds)

    assert components.outcome is Outcome.UNDECIDED
    assert components.sentence.startswith(
        "stored figures call host_gap slower, and the pairs are too noisy to tell: live, "
    )
    assert len(runner.session.outcome.confirmations[CASE.key].processes) == PLAN.looks.last


def test_an_unsuspected_component_costs_no_measurement(tmp_path):
    """Without a slower component no pair is measured."""
    latency, components, runner = judge(tmp_path, QUICK)

    assert (latency.outcome, components.outcome) == (Outcome.PASS, Outcome.PASS)
    assert [arm for arm, _ in runner.opened] == ["this"] * 3


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"make_arm": cannot_remake}, "not confirmed live: the code and versions of 0001_recorded cannot *: no commit"),
        ({"confirmation": None}, "1 of 3 components slower"),
    ],
)
def test_without_pairs_the_stored_verdict_stands(tmp_path, changes, ending):
    """The component is red by the stored figures, and the sentence says why it was not confirmed."""
    _, components, runner = judge(tmp_path, SLOW, SLOW, **changes)

    assert components.outcome is Outcome.SLOWER
    pytest.LineMatcher([components.sentence]).fnmatch_lines([f"*{ending}"])
    assert "host_gap 0.01 s -> 0.03 s" in runner.session.outcome.explanations[CASE.key][0]
