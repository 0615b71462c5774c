"""How many processes a session asks for: look by look while the verdict is undecided, and nothing judged in between."""

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
    """The number of processes that is wanted after each process, by what was measured until then."""
    return [
        Gate(session).processes_wanted(make_run(medians_s=medians_s[:count])) for count in range(len(medians_s) + 1)
    ]


def test_a_noisy_run_is_looked_at_three_times(session):
    """3, 5 and 8 processes are asked for, and 8 are the last."""
    assert wanted(session, NOISY_S) == [3, 3, 3, 5, 5, 8, 8, 8, 8]


def test_a_quiet_run_ends_at_the_first_look(session):
    """Three processes that agree are enough."""
    assert wanted(session, QUIET_S[:3]) == [3, 3, 3, 3]


def test_nothing_is_judged_between_two_looks(session):
    """A run that would be decided by its fourth process alone still goes on to the fifth: that look has no error to spend."""
    noisy_then_quiet = (2.4, 2.6, 2.5, 2.5)

    assert Gate(session).latency(make_run(medians_s=[2.5] * 4)).outcome.value == "PASS"
    assert Gate(session).processes_wanted(make_run(medians_s=[2.5] * 4)) == 5
    assert wanted(session, noisy_then_quiet)[-1] == 5


@pytest.mark.parametrize(("source", "mode"), [("published", Mode.AUTO), ("recorded", Mode.RECORD)])
def test_what_has_no_interval_takes_what_was_planned(session, source, mode):
    """A published figure and a recording look at no spread, so noise adds no process."""
    session.inputs = dataclasses.replace(session.inputs, baselines={INT8: make_baseline(2.5, source=source)})
    session.options = dataclasses.replace(session.options, policy=Policy(mode=mode, looks=Looks(first=3, last=8)))

    assert wanted(session, ()) == [1]
    assert Gate(session).processes_wanted(make_run(medians_s=[2.5])) == 1


def test_a_case_without_a_baseline_takes_what_was_planned(session):
    """There is nothing to decide."""
    session.inputs = dataclasses.replace(session.inputs, baselines={})

    assert Gate(session).processes_wanted(make_run(medians_s=[2.5])) == 1


@pytest.mark.parametrize(("last_s", "headed"), [((2.6, 2.9, 2.7), True), ((2.2, 2.8, 2.5), False)])
def test_what_is_known_of_an_undecided_verdict_is_told(session, last_s, headed):
    """A ratio that lies beyond the tolerance is explained below a line that nothing is decided; one within it is not."""
    verdict = Gate(session).latency(make_run(medians_s=last_s))
    lines = session.outcome.explanations[INT8]

    assert verdict.outcome.value == "UNDECIDED"
    assert [*lines[:1]] == [explain.UNDECIDED_HEAD] * headed
    assert Gate(session).failure_text(verdict).splitlines()[1:] == [f"  {line}" for line in lines]
    sentences = terminal.sentences(after.terminal_view(session))
    assert sum(explain.UNDECIDED_HEAD in line for line in sentences) == headed


def test_what_is_not_decided_explains_nothing_that_is(session):
    """The explanation of a figure that moved stays with that figure, and loses no line to one that is not decided."""
    Gate(session).memory(make_run(medians_s=(2.6, 2.9, 2.7), peak_bytes=(2**40,) * 3))
    lines = list(session.outcome.explanations[INT8])
    verdict = Gate(session).latency(make_run(medians_s=(2.6, 2.9, 2.7)))

    assert session.outcome.explanations[INT8] == lines and explain.UNDECIDED_HEAD not in lines
    assert Gate(session).failure_text(verdict) == str(verdict)
