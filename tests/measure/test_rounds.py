"""Rounds as they are measured and checked, and the clock that hands them to pytest-benchmark."""

import itertools
import math

import pytest

from speedgate.measure.monitor import HostMonitor, Reading
from speedgate.measure.rounds import (
    InvalidMeasurement,
    Measurement,
    MeasurementPlan,
    WorkerClock,
    log_ratio,
    measure_pair,
    measure_process,
    replay_in_benchmark,
)
from speedgate.results.loops import Loop
from tests.support.baseline_samples import COLD, make_run

INNER = """
import pytest
from speedgate.measure.rounds import WorkerClock, replay_in_benchmark
from tests.support.baseline_samples import make_run

clock = WorkerClock()


@pytest.mark.benchmark(timer=clock)
def test_seconds(benchmark):
    replay_in_benchmark(benchmark, make_run(medians_s=(0.5, 3.0)).processes, clock=clock)

    assert benchmark.stats.stats.data == pytest.approx([0.49, 0.5, 0.51, 2.99, 3.0, 3.01])
"""


class Scripted:
    """A target whose n-th image takes n quarters of a second, without taking any; it keeps a log of its turns."""

    def __init__(self, name="a", log=None, **reply):
        self.name, self.reply, self.images = name, reply, 1
        self.log = [] if log is None else log

    def call(self, operation, **keywords):
        """Answer as a built case does."""
        assert (operation, keywords) == ("generate", {})
        self.images += 1
        self.log.append(self.name)
        return {"seconds": 0.25 * self.images, "peak_bytes": self.images, "images": self.images} | self.reply

    def close(self):
        """Nothing is held."""


class Moody(HostMonitor):
    """A machine that voids the rounds it is told to."""

    def __init__(self, *void):
        super().__init__()
        self.answers = itertools.chain(void, itertools.repeat(None))

    def end(self):
        """The next answer."""
        return Reading(facts={"stolen_s": 0.5}, discarded_reason=next(self.answers))


def make_arm(worker, *, monitor=None, **plan):
    """An measurement with that worker, one process of four rounds unless told otherwise."""
    plan = MeasurementPlan(**{"processes": 1, "rounds": 4} | plan)
    return Measurement(worker=worker, cold_start=COLD, plan=plan, monitor=monitor or HostMonitor())


def test_the_clock_stands_still_until_it_is_moved():
    """Reading it twice costs nothing; moving it adds up."""
    clock = WorkerClock()
    before_s = (clock(), clock())

    clock.advance(0.25)
    clock.advance(1.5)

    assert before_s == (0.0, 0.0)
    assert clock() == 1.75


def test_pytest_benchmark_sees_exactly_the_workers_seconds(pytester):
    """Handed to the real `benchmark` fixture, its data are the measured seconds and nothing else."""
    pytester.makepyfile(INNER)

    result = pytester.runpytest_inprocess("--benchmark-warmup=off", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("warmup_rounds", [0, 1, 3])
def test_warm_up_rounds_are_made_and_not_kept(warmup_rounds):
    """A process keeps its rounds, seconds and bytes, without the images that warm it up."""
    process = measure_process(make_arm(Scripted(), warmup_rounds=warmup_rounds, rounds=2))

    first = warmup_rounds + 2
    assert process.seconds == (0.25 * first, 0.25 * (first + 1))
    assert process.peak_bytes == (first, first + 1)
    assert process.cold_start is COLD


@pytest.mark.parametrize(("min_total_s", "rounds"), [(0.0, 4), (1.9, 4), (3.0, 6), (1e9, 1000)])
def test_short_rounds_are_repeated_until_they_fill_the_time(min_total_s, rounds):
    """A warm-up round of 0.5 s tells how many rounds fill the time; never fewer than asked for, never more than 1000."""
    assert make_arm(Scripted(), min_total_s=min_total_s).warm_up() == rounds


def test_a_pair_takes_turns_so_that_each_follows_itself_as_often_as_the_other():
    """Own other other own: in a block of four each measurement has one round after its own and one after the other's."""
    log = []
    own, other = (make_arm(Scripted(name, log)) for name in "ab")

    processes = measure_pair(own, other)

    assert "".join(log) == "ab" + "abbaabba"
    assert [len(process.seconds) for process in processes] == [4, 4]


def test_the_ratio_of_a_pair_cancels_what_a_turn_costs():
    """With a round after the other measurement's 7 % slower, two equal arms have the ratio 1, and 3 % more work shows as 3 %."""
    after_own, after_other = 1.0, 1.07
    own = [after_own, after_other] * 10
    other = [after_other, after_own] * 10

    assert log_ratio(own, other, rounds_in_turn=True) == pytest.approx(0.0)
    assert math.exp(log_ratio([1.03 * value for value in own], other, rounds_in_turn=True)) == pytest.approx(1.03)


def test_the_ratio_of_a_pair_is_blind_to_a_drift_of_the_machine():
    """A machine that slows down by half over the rounds does so for both arms."""
    drift = [1 + 0.5 * turn / 80 for turn in range(80)]
    own = [seconds for turn, seconds in enumerate(drift) if turn % 4 in (0, 3)]
    other = [seconds for turn, seconds in enumerate(drift) if turn % 4 in (1, 2)]

    assert log_ratio(own, other, rounds_in_turn=True) == pytest.approx(0.0, abs=1e-4)


def test_arms_that_do_not_fit_at_once_are_compared_by_their_medians():
    """Process by process there are no blocks, and the numbers of rounds may differ."""
    assert math.exp(log_ratio([3.0, 2.0, 9.0], [2.0, 4.0], rounds_in_turn=False)) == pytest.approx(1.0)


def test_a_void_round_is_measured_again_and_told():
    """The record holds as many rounds as planned, and why others were dropped."""
    process = measure_process(make_arm(Scripted(), monitor=Moody(None, "hot", None)))

    assert process.seconds == (0.75, 1.25, 1.5, 1.75)
    assert process.void == ("hot",)
    assert process.health["stolen_s"] == 2.0


def test_a_machine_that_goes_on_voiding_ends_the_measurement():
    """After a set number of void rounds the measurement is void, with the reason of the last."""
    measurement = make_arm(Scripted(), monitor=Moody(*["hot"] * 9), max_discarded_rounds=2)

    with pytest.raises(InvalidMeasurement, match="3 rounds of one process were discarded, the last one because: hot"):
        measure_process(measurement)


@pytest.mark.parametrize("seconds", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf, "1", None, 1])
def test_what_is_no_duration_is_void(seconds):
    """Zero, negative, undefined and infinite seconds, and what is no number of seconds, are refused with the figure."""
    measurement = make_arm(Scripted(seconds=seconds), min_total_s=0.0)

    with pytest.raises(InvalidMeasurement, match="for a round: not a duration"):
        measurement.round()

    assert measurement.seconds == []


@pytest.mark.parametrize("peak_bytes", [0, -1, math.nan, None])
def test_what_is_no_peak_is_void(peak_bytes):
    """A peak that was not read would otherwise be the smallest there ever was."""
    measurement = make_arm(Scripted(peak_bytes=peak_bytes))

    with pytest.raises(InvalidMeasurement, match="not a size"):
        measure_process(measurement)


def test_a_reused_round_is_void():
    """Seconds that come without a new image are those of an earlier round."""
    with pytest.raises(InvalidMeasurement, match="image 7 of a process was followed by image 7: a reused round"):
        measure_process(make_arm(Scripted(images=7)))


def test_a_round_of_a_cold_process_is_void():
    """The image that compiles and the one that warms up are never a round."""
    with pytest.raises(InvalidMeasurement, match="a round came after 1 images of its process"):
        make_arm(Scripted()).round()


def test_a_worker_that_does_not_count_its_images_is_too_old():
    """A checkout from before the count is refused in words instead of being trusted."""
    with pytest.raises(InvalidMeasurement, match="too old for a comparison"):
        measure_process(make_arm(Scripted(images=None)))


def test_seconds_that_the_worker_did_not_count_are_void(monkeypatch):
    """Rounds that take twice what they say were not synchronised, or work was done outside of the clock."""
    now_s = itertools.count(0.0, 2.5)
    monkeypatch.setattr("speedgate.measure.rounds.time.perf_counter", lambda: next(now_s))

    with pytest.raises(InvalidMeasurement, match=r"4 rounds took 10 s, of which the worker's clock counted 4.5 s"):
        measure_process(make_arm(Scripted()))


def test_the_loops_of_each_round_are_kept():
    """Of a process and of both arms of a pair: the iterations, and the seconds of each round without the warm-up."""
    told = {"": {"iterations": 4, "seconds": 0.125}}
    alone = measure_process(make_arm(Scripted(loops=told), rounds=2))
    pair = measure_pair(make_arm(Scripted(loops=told), rounds=2), make_arm(Scripted(), rounds=2))

    assert alone.loops == {"": Loop(iterations=4, seconds=(0.125, 0.125))}
    assert [process.loops for process in pair] == [alone.loops, {}]


def test_a_loop_that_took_longer_than_its_round_is_void():
    """Nothing is made of figures that contradict one another."""
    with pytest.raises(InvalidMeasurement, match=r"round 1 took 0.75 s and its loops, as the worker tells, "):
        measure_process(make_arm(Scripted(loops={"": {"iterations": 4, "seconds": 0.76}})))


def test_a_run_is_handed_over_in_one_call():
    """pytest-benchmark is asked for exactly as many rounds as there are."""
    asked = {}

    class Fixture:
        def pedantic(self, function, **keywords):
            asked.update(keywords)

    replay_in_benchmark(Fixture(), make_run(medians_s=(0.5, 3.0)).processes)

    assert asked == {"rounds": 6, "iterations": 1}
