"""How many processes a case gets: more at each look while the verdict is undecided, and no verdict between two looks."""

import dataclasses

import pytest

from speedgate.gate import explain
from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.machine import Machine
from speedgate.plugin import after
from speedgate.plugin.judgement import Gate
from speedgate.report import terminal
from tests.support.baseline_samples import INT8, KEY, make_baseline, make_run
from tests.support.sessions import make_session

NOISY_S = (2.25, 2.5, 2.75, 2.3, 2.7, 2.4, 2.6, 2.5)
QUIET_S = (2.5, 2.501, 2.499, 2.5, 2.5, 2.501, 2.499, 2.5)


@pytest.fixture
def session(tmp_path):
    """A session with a recorded baseline of INT8 and looks at 3, 5 and 8 processes."""
    return make_session(
        tmp_path,
        policy=Policy(looks=Looks(first=3, last=8)),
        machine=Machine(key=KEY, device="cuda", name="NVIDIA A100-SXM4-80GB", memory_bytes=1),
        baselines={INT8: make_baseline(*QUIET_S)},
    )


def wanted(session, medians_s):
    """Return the wanted number of processes after each process."""
    return [
        Gate(session).processes_wanted(make_run(medians_s=medians_s[:count])) for count in range(len(medians_s) + 1)
    ]


def test_a_noisy_run_has_three_looks(session):
    """It gets 3, then 5, then 8 processes, and no more than 8."""
    assert wanted(session, NOISY_S) == [3, 3, 3, 5, 5, 8, 8, 8, 8]


def test_a_quiet_run_ends_at_the_first_look(session):
    """Three processes that agree are enough for a verdict."""
    assert wanted(session, QUIET_S[:3]) == [3, 3, 3, 3]


def test_nothing_is_judged_between_two_looks(session):
    """A run that could be decided after four processes gets a fifth: between looks there is no share of the error rate."""
    noisy_then_quiet = (2.4, 2.6, 2.5, 2.5)

    assert Gate(session).latency(make_run(medians_s=[2.5] * 4)).outcome.value == "PASS"
    assert Gate(session).processes_wanted(make_run(medians_s=[2.5] * 4)) == 5
    assert wanted(session, noisy_then_quiet)[-1] == 5


@pytest.mark.parametrize(("source", "mode"), [("published", Mode.AUTO), ("recorded", Mode.RECORD)])
def test_a_case_without_an_interval_gets_the_planned_processes(session, source, mode):
    """With a published baseline, and in a recording, the spread is not used: noise adds no process."""
    session.inputs = dataclasses.replace(session.inputs, baselines={INT8: make_baseline(2.5, source=source)})
    session.options = dataclasses.replace(session.options, policy=Policy(mode=mode, looks=Looks(first=3, last=8)))

    assert wanted(session, ()) == [1]
    assert Gate(session).processes_wanted(make_run(medians_s=[2.5])) == 1


def test_a_case_without_a_baseline_gets_the_planned_processes(session):
    """Without a verdict to decide, the plan is the number of processes."""
    session.inputs = dataclasses.replace(session.inputs, baselines={})

    assert Gate(session).processes_wanted(make_run(medians_s=[2.5])) == 1


@pytest.mark.parametrize(("medians_s", "is_explained"), [((2.6, 2.9, 2.7), True), ((2.2, 2.8, 2.5), False)])
def test_an_undecided_verdict_beyond_the_tolerance_is_explained(session, medians_s, is_explained):
    """A ratio beyond the tolerance is explained, below a line that says that nothing is decided; one within it is not."""
    verdict = Gate(session).latency(make_run(medians_s=medians_s))
    lines = session.outcome.explanations[INT8]

    assert verdict.outcome.value == "UNDECIDED"
    assert [*lines[:1]] == [explain.UNDECIDED_HEAD] * is_explained
    assert Gate(session).failure_text(verdict).splitlines()[1:] == [f"  {line}" for line in lines]
    sentences = terminal.sentences(after.terminal_view(session))
    assert sum(explain.UNDECIDED_HEAD in line for line in sentences) == is_explained


def test_an_undecided_verdict_keeps_the_explanation_of_a_decided_one(session):
    """The explanation of a memory that grew stays, and an undecided latency of the same case replaces no line of it."""
    Gate(session).memory(make_run(medians_s=(2.6, 2.9, 2.7), peak_bytes=(2**40,) * 3))
    lines = list(session.outcome.explanations[INT8])
    verdict = Gate(session).latency(make_run(medians_s=(2.6, 2.9, 2.7)))

    assert session.outcome.explanations[INT8] == lines and explain.UNDECIDED_HEAD not in lines
    assert Gate(session).failure_text(verdict) == str(verdict)
