"""A worker and a budget that is over: out of time is told from failing, for whoever asks."""

import pytest

from speedgate.measure.worker import OutOfTime
from tests.measure.test_worker import is_alive, start


def test_what_the_budget_ended_answers_that_it_is_over(tmp_path):
    """A worker that several cases share is out of time for each of them and no failure of any; nothing new is begun."""
    left = [20.0]
    worker = start(tmp_path, left_s=lambda: left[0])
    left[0] = 0.2
    with pytest.raises(OutOfTime, match="'hang' was ended when the budget was over"):
        worker.call("hang")

    for left_s in (0.2, 0.0):
        left[0] = left_s
        with pytest.raises(OutOfTime, match="the budget was over before 'pid'"):
            worker.call("pid")


def test_what_no_time_is_left_for_is_not_begun(tmp_path):
    """Neither a request nor a worker: the one that lives is left in peace."""
    left = [20.0]
    worker = start(tmp_path, left_s=lambda: left[0])
    pid = worker.call("pid")
    left[0] = -1.0

    with pytest.raises(OutOfTime, match="the budget was over before 'hang'"):
        worker.call("hang")
    with pytest.raises(OutOfTime, match="the budget was over before 'start'"):
        start(tmp_path, left_s=lambda: left[0])
    assert is_alive(pid)
    worker.close()
