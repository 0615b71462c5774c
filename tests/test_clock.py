"""The clock that stands still until a worker has measured, and the rounds that move it."""

import math

import pytest

from speedgate.clock import Plan, Rounds, WorkerClock
from speedgate.records import ColdStart

INNER = """
import pytest
from speedgate.clock import Plan, Rounds, WorkerClock
from tests.test_clock import Factory

factory, clock = Factory(), WorkerClock()


@pytest.mark.benchmark(timer=clock)
def test_seconds(benchmark):
    rounds = factory.rounds(Plan(processes=2, rounds=3), clock=clock)

    benchmark.pedantic(rounds.one, rounds=rounds.total, iterations=1)

    assert benchmark.stats.stats.data == {seconds}
"""


class Scripted:
    """A target whose n-th generation takes 0.25 s times its number, which counts on from worker to worker."""

    def __init__(self, number):
        self.number, self.generated, self.closed = number, 0, False

    def call(self, operation, **keywords):
        """Answer as a built case does."""
        assert (operation, keywords, self.closed) == ("generate", {}, False)
        self.generated += 1
        return {"seconds": 0.25 * (10 * self.number + self.generated), "peak_bytes": 100 * self.number + self.generated}

    def close(self):
        """Refuse whatever follows."""
        self.closed = True


class Factory:
    """Starts scripted workers, one at a time, and keeps count."""

    def __init__(self):
        self.workers = []

    def fresh(self):
        """End the present worker and return a new one with its cold start."""
        for worker in self.workers:
            worker.close()
        number = len(self.workers)
        self.workers.append(Scripted(number))
        return self.workers[-1], cold_start(number)

    def rounds(self, plan, *, clock):
        """Rounds that begin with a worker that is there already."""
        worker, cold = self.fresh()
        return Rounds(plan, fresh=self.fresh, worker=worker, cold_start=cold, clock=clock)


def cold_start(number):
    """The cold start that tells that worker from the others."""
    return ColdStart(import_s=1.0, load_s=float(number), apply_s=0.0, first_image_s=0.0, cache_hits=0, cache_misses=0)


def measure(plan):
    """The factory and what its workers measured by that plan."""
    factory = Factory()
    rounds = factory.rounds(plan, clock=WorkerClock())
    for _ in range(rounds.total):
        rounds.one()
    return factory, rounds


def test_the_clock_stands_still_until_it_is_moved():
    """Reading it twice costs nothing; moving it adds up."""
    clock = WorkerClock()
    before_s = (clock(), clock())

    clock.advance(0.25)
    clock.advance(1.5)

    assert before_s == (0.0, 0.0)
    assert clock() == 1.75


@pytest.mark.parametrize("seconds", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf])
def test_what_is_no_duration_does_not_move_the_clock(seconds):
    """Zero, negative, undefined and infinite seconds are refused with the figure, and the clock stays."""
    clock = WorkerClock()

    with pytest.raises(ValueError, match=rf"measured {seconds!r} s for a round: not a duration"):
        clock.advance(seconds)

    assert clock() == 0.0


def test_rounds_are_spread_over_fresh_processes():
    """Each process holds its own rounds, seconds and bytes, without the warm-up round that precedes them."""
    _, rounds = measure(Plan(processes=3, rounds=2))

    found = rounds.processes()

    assert [process.seconds for process in found] == [(0.5, 0.75), (3.0, 3.25), (5.5, 5.75)]
    assert [process.peak_bytes for process in found] == [(2, 3), (102, 103), (202, 203)]
    assert [process.cold_start for process in found] == [cold_start(number) for number in range(3)]


def test_no_more_processes_are_started_than_planned():
    """The first worker is the one that was built already, and the last is left alive for what follows."""
    factory, rounds = measure(Plan(processes=3, rounds=2))

    assert [worker.closed for worker in factory.workers] == [True, True, False]
    assert rounds.worker is factory.workers[-1]


@pytest.mark.parametrize("warmup_rounds", [0, 1, 3])
def test_warm_up_rounds_are_done_and_not_kept(warmup_rounds):
    """Every process warms up by itself; neither the record nor the clock knows of it."""
    factory, rounds = measure(Plan(processes=2, rounds=2, warmup_rounds=warmup_rounds))

    kept_s = [process.seconds for process in rounds.processes()]

    assert [worker.generated for worker in factory.workers] == [warmup_rounds + 2] * 2
    assert kept_s[0] == (0.25 * (warmup_rounds + 1), 0.25 * (warmup_rounds + 2))
    assert rounds.clock() == sum(map(sum, kept_s))


def test_an_unfinished_process_keeps_the_rounds_it_did():
    """A measurement that was cut short holds what was measured, and asking twice does not change it."""
    rounds = Factory().rounds(Plan(processes=2, rounds=5), clock=WorkerClock())
    rounds.one()

    assert [process.seconds for process in rounds.processes()] == [(0.5,)]
    assert [process.seconds for process in rounds.processes()] == [(0.5,)]


def test_a_round_without_a_duration_is_not_kept(monkeypatch):
    """What the clock refuses does not become part of the record."""
    monkeypatch.setattr(Scripted, "call", lambda *_: {"seconds": 0.0, "peak_bytes": 1})
    rounds = Factory().rounds(Plan(processes=1, rounds=1), clock=WorkerClock())

    with pytest.raises(ValueError, match="not a duration"):
        rounds.one()

    assert rounds.processes() == ()


def test_pytest_benchmark_sees_exactly_the_workers_seconds(pytester):
    """Driven by the real `benchmark` fixture, its data are the measured seconds and nothing else."""
    pytester.makepyfile(INNER.format(seconds=[0.5, 0.75, 1.0, 3.0, 3.25, 3.5]))

    result = pytester.runpytest_inprocess("--benchmark-warmup=off", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=1)
