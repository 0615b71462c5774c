"""A session keeps each case on disk while it measures, and remembers the cases that it lost."""

from pathlib import Path

import pytest

from speedgate.gate.policy import Policy
from speedgate.measure.machine import Machine
from speedgate.measure.rounds import MeasurementPlan
from speedgate.plugin.judgement import Session
from speedgate.results.run import Outcome
from tests.support.baseline_samples import INT8, KEY, make_run


@pytest.fixture
def session(tmp_path):
    """A session on an A100 in which nothing was measured yet."""
    return Session(
        policy=Policy(),
        machine=Machine(key=KEY, device="cuda", name="NVIDIA A100-SXM4-80GB", memory_bytes=80 * 2**30),
        plan=MeasurementPlan(processes=1, rounds=3),
        isolation="process",
        worker_timeout_s=60.0,
        root=tmp_path,
        results=tmp_path / "results",
    )


def test_each_case_is_on_disk_as_soon_as_it_is_kept(session):
    """The file of a case is there before the session ends, and holds its verdicts as they come."""
    session.keep(make_run(INT8))
    path = session.results / "sdxl__int8__1024px-30steps-b1.json"
    before = path.read_text()

    session.latency(session.runs[INT8])

    assert '"verdicts": []' in before
    assert '"outcome": "NO_BASELINE"' in path.read_text()
    assert [Path(item).name for item in session.results.iterdir()] == [path.name]


def test_a_lost_worker_is_an_invalid_case(session):
    """A case whose worker died is INVALID, with the reason as its sentence, and is on disk."""
    session.lose(INT8, "the worker died during 'build' (SIGABRT)")

    (verdict,) = session.verdicts[INT8]
    assert (verdict.claim, verdict.outcome) == ("worker", Outcome.INVALID)
    assert verdict.sentence == "the worker died during 'build' (SIGABRT)"
    assert "SIGABRT" in session.file_of(INT8).read_text()
