"""Every fault is caught by its gate, and no gate fires without a fault."""

import dataclasses

import pytest

from fixtures.stages.ladder import STAGES
from speedgate.results.run import Outcome
from tests.faults import FAULTS, HARMLESS, sessions

IN_PROCESS = ("recipe", "compile", "measurement")  # intact stages pass parity as harmless changes
FAULT_BY_METHOD_AND_STAGE = {
    (fault.method, stage): fault for fault in FAULTS if fault.method in IN_PROCESS for stage in fault.stages
}
FAST = ("sdxl", "sd15")  # the references of another pipeline take ten seconds
TEST_NAMES = {
    "cold start": "test_cold_start",
    "compile seconds": "test_compile_seconds",
    "measurement": "test_latency",
}  # other tests have the name of their claim


def parameters(changes):
    """Return a parameter for each case of each change; its id has their names. By default a fault is tried on one case."""
    return [
        pytest.param(
            change,
            pipeline,
            stage,
            id=f"{change.family}-{change.name}-{stage}-{pipeline}",
            marks=[pytest.mark.exhaustive] if change.method == "gates" or number or pipeline not in FAST else [],
        )
        for change in changes
        for number, (pipeline, stage) in enumerate(change.cases)
    ]


@pytest.mark.parametrize(
    ("fault", "pipeline", "stage"), parameters(fault for fault in FAULTS if fault.method != "session")
)
def test_a_fault_is_caught(rig, fault, pipeline, stage):
    """The fault's gate gives the expected verdict for the expected reason."""
    verdicts = rig.verdicts(fault, stage, pipeline=pipeline)

    caught = [verdict for verdict in verdicts if (verdict.claim, verdict.outcome) == (fault.gate, fault.outcome)]

    assert caught, verdicts
    assert fault.reason in caught[0].sentence


@pytest.mark.parametrize(("change", "pipeline", "stage"), parameters(HARMLESS))
def test_a_harmless_change_passes(rig, change, pipeline, stage):
    """Every gate gives PASS."""
    verdicts = rig.verdicts(change, stage, pipeline=pipeline)

    assert len(verdicts) >= 3
    assert [verdict for verdict in verdicts if verdict.outcome is not Outcome.PASS] == []


@pytest.mark.parametrize(("method", "stage"), FAULT_BY_METHOD_AND_STAGE)
def test_a_stage_without_its_fault_passes(rig, method, stage):
    """A stage that is built and judged in the same way passes without the fault."""
    intact = dataclasses.replace(FAULT_BY_METHOD_AND_STAGE[method, stage], apply=lambda *_: None)

    assert [verdict for verdict in rig.verdicts(intact, stage) if verdict.outcome is not Outcome.PASS] == []


SESSION_FAULTS = [fault for fault in FAULTS if fault.method == "session"]


@pytest.mark.parametrize(("fault", "pipeline", "stage"), parameters(SESSION_FAULTS))
def test_a_faulty_stage_fails_its_tests_only(bench, fault, pipeline, stage):
    """The claim of the gate is red with the expected reason, and at other stages only the ladder that compares with this one."""
    result = sessions.run(bench, fault, stage)
    expected = f"{TEST_NAMES.get(fault.gate, f'test_{fault.gate}')}[{pipeline}-{stage}]"

    assert expected in result.red
    assert [test for test in result.red if not concerns(test, {stage})] == []
    assert any(
        (verdict.claim, verdict.outcome) == (fault.gate, fault.outcome) and fault.reason in verdict.sentence
        for verdict in sessions.verdicts(result, stage)
    )


def concerns(test, stages):
    """Return True if a failed test is of one of these stages, or the ladder test of a child of one."""
    name, stage = test.removesuffix("]").split("[sdxl-")
    return stage in stages or (name == "test_ladder" and STAGES[stage].parent in stages)
