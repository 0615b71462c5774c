"""Measuring and checking rounds, pairs of arms, and the replay in pytest-benchmark."""

import itertools
import math

import pytest

from speedgate.measure.monitor import HostMonitor, Reading
from speedgate.measure.rounds import (
    InvalidMeasurement,
    Measurement,
    MeasurementPlan,
    measure_pair,
    measure_process,
)
from speedgate.results.timings import Loop
from tests.support.baseline_samples import COLD

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
    """A target whose n-th image takes n quarters of a second by its own clock; it logs its turns."""

    pid = None

    def __init__(self, name="a", log=None, **reply):
        self.name, self.reply, self.images = name, reply, 1
        self.log = [] if log is None else log

    def call(self, operation, **keywords):
        """Answer like a built case."""
        assert (operation, keywords) == ("generate", {})
        self.images += 1
        self.log.append(self.name)
        return {"seconds": 0.25 * self.images, "peak_bytes": self.images, "images": self.images} | self.reply

    def close(self):
        """Nothing is held."""


class ScriptedMonitor(HostMonitor):
    """A monitor that discards rounds for these reasons, one after the other."""

    def __init__(self, *reasons):
        super().__init__()
        self.reasons, self.pids = itertools.chain(reasons, itertools.repeat(None)), []

    def begin(self, pid=None):
        """Log the process that is watched."""
        self.pids.append(pid)

    def end(self):
        """Return the next reason."""
        return Reading(facts={"stolen_s": 0.5}, discarded_reason=next(self.reasons), pause_s=0.5, remedy="wait")


@pytest.fixture(autouse=True)
def pauses_s(monkeypatch):
    """Return the pauses between rounds, which take no time here."""
    pauses_s = []
    monkeypatch.setattr("speedgate.measure.rounds.time.sleep", pauses_s.append)
    return pauses_s


def make_measurement(worker, *, monitor=None, **plan):
    """Measure with that worker: by default one process of four rounds."""
    plan = MeasurementPlan(**{"processes": 1, "rounds": 4} | plan)
    return Measurement(worker=worker, cold_start=COLD, plan=plan, monitor=monitor or HostMonitor())


def test_pytest_benchmark_sees_exactly_the_workers_seconds(pytester, monkeypatch):
    """After the replay, the data of the real `benchmark` fixture are the measured seconds and nothing else."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(INNER)

    result = pytester.runpytest_inprocess("--benchmark-warmup=off", "-p", "pytest_benchmark.plugin")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("warmup_rounds", [0, 1, 3])
def test_warm_up_rounds_are_not_recorded(warmup_rounds):
    """A process records the seconds and bytes of its rounds, without the images that warm it up."""
    process = measure_process(make_measurement(Scripted(), warmup_rounds=warmup_rounds, rounds=2))

    first = warmup_rounds + 2
    assert process.seconds == (0.25 * first, 0.25 * (first + 1))
    assert process.peak_bytes == (first, first + 1)
    assert process.cold_start is COLD


@pytest.mark.parametrize(("min_total_s", "rounds"), [(0.0, 4), (1.9, 4), (3.0, 6), (1e9, 1000)])
def test_short_rounds_are_repeated_until_they_fill_the_time(min_total_s, rounds):
    """The warm-up round of 0.5 s predicts how many rounds fill the time: at least the plan's number, at most 1000."""
    assert make_measurement(Scripted(), min_total_s=min_total_s).warm_up() == rounds


def test_the_arms_of_a_pair_take_turns_in_blocks_of_four():
    """In each block an arm has one round after its own and one after the other arm's."""
    log = []
    this_arm, other_arm = (make_measurement(Scripted(name, log)) for name in "ab")

    processes = measure_pair(this_arm, other_arm)

    assert "".join(log) == "ab" + "abbaabba"
    assert [len(process.seconds) for process in processes] == [4, 4]


def test_a_discarded_round_is_measured_again_and_recorded():
    """The record has as many rounds as planned, and the reason of each discarded one."""
    process = measure_process(make_measurement(Scripted(), monitor=ScriptedMonitor(None, "hot", None)))

    assert process.seconds == (0.75, 1.25, 1.5, 1.75)
    assert process.discarded_reasons == ("hot",)
    assert process.health["stolen_s"] == 2.0


def test_too_many_discarded_rounds_make_the_measurement_invalid():
    """After the plan's number of discarded rounds the measurement is invalid, with the reason of the last round."""
    measurement = make_measurement(Scripted(), monitor=ScriptedMonitor(*["hot"] * 9), max_discarded_rounds=2)

    with pytest.raises(InvalidMeasurement, match=r"^3 rounds of one process were discarded, .* because: hot; wait$"):
        measure_process(measurement)


def test_a_disturbance_may_pass_before_a_round_is_repeated(pauses_s):
    """The first repetition comes at once, later ones after pauses that double; the next disturbance begins anew."""
    worker, monitor = Scripted(), ScriptedMonitor(*["busy"] * 4, None, "busy", None)
    worker.pid = 70

    process = measure_process(make_measurement(worker, monitor=monitor))

    assert pauses_s == [0.5, 1.0, 2.0]
    assert (len(process.discarded_reasons), monitor.pids) == (5, [70] * 9)


@pytest.mark.parametrize(("disturbed", "is_invalid"), [(20, False), (9, True)])
def test_a_tenth_of_many_rounds_may_be_discarded(disturbed, is_invalid):
    """Of 200 short rounds every 20th is disturbed, ten in all; if every ninth is, the process is invalid."""
    reasons = ["busy" if number % disturbed == 0 else None for number in range(1, 250)]
    measurement = make_measurement(Scripted(), monitor=ScriptedMonitor(*reasons), rounds=200, max_discarded_rounds=2)

    if is_invalid:
        with pytest.raises(InvalidMeasurement, match="rounds of one process were discarded"):
            measure_process(measurement)
    else:
        assert len(measure_process(measurement).discarded_reasons) == 10


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        *(
            ({"seconds": seconds}, "for a round: not a duration")
            for seconds in (0.0, -1.0, math.nan, math.inf, "1", None, 1)
        ),
        *(({"peak_bytes": peak_bytes}, "not a size") for peak_bytes in (0, -1, math.nan, None)),
        ({"images": 1}, "a reused round"),
        ({"images": None}, "too old for a comparison"),
        ({}, "a round came after 1 images of its process"),
    ],
)
def test_a_round_that_cannot_be_used_is_invalid(reply, message):
    """No duration, no size, no new or counted image, or a process that is not warm: the message says which."""
    measurement = make_measurement(Scripted(**reply))
    measurement.image_count = 1

    with pytest.raises(InvalidMeasurement, match=message):
        measurement.round()

    assert measurement.seconds == []


def test_rounds_that_take_longer_than_their_seconds_are_invalid(monkeypatch):
    """If rounds take twice their reported seconds, the device was not synchronised or work was outside of the clock."""
    now_s = itertools.count(0.0, 2.5)
    monkeypatch.setattr("speedgate.measure.rounds.time.perf_counter", lambda: next(now_s))

    with pytest.raises(InvalidMeasurement, match=r"4 rounds took 10 s, of which the worker's clock counted 4.5 s"):
        measure_process(make_measurement(Scripted()))


def test_the_loops_of_each_round_are_recorded():
    """A process, alone or in a pair, records its loop in each round without the warm-up; one longer than its round is refused."""
    loops = {"": {"iterations": 4, "seconds": 0.125}}
    alone = measure_process(make_measurement(Scripted(loops=loops), rounds=2))
    pair = measure_pair(make_measurement(Scripted(loops=loops), rounds=2), make_measurement(Scripted(), rounds=2))

    assert alone.loops == {"": Loop(iterations=4, seconds=(0.125, 0.125))}
    assert [process.loops for process in pair] == [alone.loops, {}]

    with pytest.raises(
        InvalidMeasurement, match=r"round 1 took 0.75 s, and its loops took longer; the worker reports "
    ):
        measure_process(make_measurement(Scripted(loops={"": {"iterations": 4, "seconds": 0.76}})))
