"""A session keeps each case on disk while it measures, and remembers the cases that it lost."""

from pathlib import Path

import pytest

from speedgate.measure.machine import Machine
from speedgate.plugin.judgement import Gate
from speedgate.results.run import Outcome
from tests.support.baseline_samples import INT8, KEY, make_run
from tests.support.sessions import make_session


@pytest.fixture
def session(tmp_path):
    """A session on an A100 in which nothing was measured yet."""
    machine = Machine(key=KEY, device="cuda", name="NVIDIA A100-SXM4-80GB", memory_bytes=80 * 2**30)
    return make_session(tmp_path, machine=machine)


def test_each_case_is_on_disk_as_soon_as_it_is_kept(session):
    """The file of a case is there before the session ends, and holds its verdicts as they come."""
    session.store_run(make_run(INT8))
    path = session.options.results / "sdxl__int8__1024px-30steps-b1.json"
    before = path.read_text()

    Gate(session).latency(session.outcome.runs[INT8])

    assert '"verdicts": []' in before
    assert '"outcome": "NO_BASELINE"' in path.read_text()
    assert [Path(item).name for item in session.options.results.iterdir()] == [path.name]


def test_a_lost_worker_is_an_invalid_case(session):
    """A case whose worker died is INVALID, with the reason as its sentence, and is on disk."""
    Gate(session).mark_worker_lost(INT8, "the worker died during 'build' (SIGABRT)")

    (verdict,) = session.outcome.verdicts[INT8]
    assert (verdict.claim, verdict.outcome) == ("worker", Outcome.INVALID)
    assert verdict.sentence == "the worker died during 'build' (SIGABRT)"
    assert "SIGABRT" in session.result_file(INT8).read_text()
