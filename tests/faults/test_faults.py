"""Every fault is caught by the gate that is named, and nothing fires where nothing is wrong."""

import dataclasses

import pytest

from fixtures.stages.ladder import STAGES
from speedgate.results.run import Outcome
from tests.faults import FAULTS, HARMLESS
from tests.faults.sessions import plan

IN_PROCESS = ("recipe", "compile", "measurement")  # parity's intact stages are a harmless change
INTACT = {(fault.by, stage): fault for fault in FAULTS if fault.by in IN_PROCESS for stage in fault.stages}
ASKED = {"cold start": "test_cold_start", "measurement": "test_latency"}  # else the test has the name of its claim


def every(changes):
    """A parameter for each stage of each change, whose id holds both names."""
    return [
        pytest.param(
            change,
            stage,
            id=f"{change.family}-{change.name}-{stage}",
            marks=[pytest.mark.exhaustive] if change.by == "gates" else [],
        )
        for change in changes
        for stage in change.stages
    ]


@pytest.mark.parametrize(("fault", "stage"), every(FAULTS))
def test_a_fault_is_caught(rig, fault, stage):
    """The named gate says what it must say, for the reason that it must say."""
    verdicts = rig.verdicts(fault, stage)

    caught = [verdict for verdict in verdicts if (verdict.claim, verdict.outcome) == (fault.gate, fault.outcome)]

    assert caught, verdicts
    assert fault.because in caught[0].sentence


@pytest.mark.parametrize(("change", "stage"), every(HARMLESS))
def test_a_harmless_change_passes(rig, change, stage):
    """Every gate says PASS."""
    verdicts = rig.verdicts(change, stage)

    assert len(verdicts) >= 3
    assert [verdict for verdict in verdicts if verdict.outcome is not Outcome.PASS] == []


@pytest.mark.parametrize(("by", "stage"), INTACT)
def test_nothing_is_caught_where_nothing_is_broken(rig, by, stage):
    """Made and judged in the same way, without its fault, a stage passes."""
    intact = dataclasses.replace(INTACT[by, stage], act=lambda *_: None)

    assert [verdict for verdict in rig.verdicts(intact, stage) if verdict.outcome is not Outcome.PASS] == []


@pytest.mark.parametrize("session", plan(FAULTS), ids=lambda session: "-".join(session))
def test_a_faulty_stage_reddens_its_own_tests(rig, session):
    """The gate's own test is red, and nothing is red at another stage but the ladder that compares with the faulty one."""
    red, _ = rig.sessions.run(session)

    assert {f"{ASKED.get(fault.gate, f'test_{fault.gate}')}[sdxl-{stage}]" for stage, fault in session.items()} <= set(
        red
    )
    assert [test for test in red if not concerns(test, session)] == []


def concerns(test, stages):
    """Whether a red test is of one of these stages, or the ladder of a child of one."""
    name, stage = test.removesuffix("]").split("[sdxl-")
    return stage in stages or (name == "test_ladder" and STAGES[stage].parent in stages)
