"""A session writes each case to disk while it measures, and lists the cases whose worker died."""

import pytest

from speedgate.measure.machine import Machine
from speedgate.plugin.judgement import Gate
from speedgate.results.run import Outcome
from tests.support.baseline_samples import INT8, KEY, make_run
from tests.support.sessions import make_session


@pytest.fixture
def session(tmp_path):
    """A session on an A100 that has measured nothing yet."""
    machine = Machine(key=KEY, device="cuda", name="NVIDIA A100-SXM4-80GB", memory_bytes=80 * 2**30)
    return make_session(tmp_path, machine=machine)


def test_each_case_is_on_disk_as_soon_as_it_is_stored(session):
    """The result file exists before the session ends, and gets each verdict at once."""
    session.store_run(make_run(INT8))
    path = session.options.results / "sdxl__int8__1024px-30steps-b1.json"
    before = path.read_text()

    Gate(session).latency(session.outcome.runs[INT8])

    assert '"verdicts": []' in before
    assert '"outcome": "NO_BASELINE"' in path.read_text()
    assert [path.name for path in session.options.results.iterdir()] == [path.name]


def test_a_lost_worker_is_an_invalid_case(session):
    """A case whose worker died is INVALID, the reason is its sentence, and its result file exists."""
    Gate(session).mark_worker_lost(INT8, "the worker died during 'build' (SIGABRT)")

    (verdict,) = session.outcome.verdicts[INT8]
    assert (verdict.claim, verdict.outcome) == ("worker", Outcome.INVALID)
    assert verdict.sentence == "the worker died during 'build' (SIGABRT)"
    assert "SIGABRT" in session.result_file(INT8).read_text()
