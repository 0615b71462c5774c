"""The load of a host around a round, and which rounds it discards."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speedgate.measure.host_load import BusyDetector, RoundLoad, process_family, read_counters, round_load, tick_s
from speedgate.measure.monitor import HostMonitor

PID = 70
TICKS = round(1 / tick_s())  # in a second
STAT = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 5 5 5 {idle} 0 0 0 {stolen} 0 0\ncpu1 5 5 5 0 {idle} 0 0 0 0 0\ncpu2 5 5 5 0 0 0 0 77\n"
OTHERS_WAIT = "waited for a processor 40% of the time"
OTHERS_BESIDE = "other programs used 50% of the processors"


class Kernel:
    """A /proc with a worker on two of three processors, whose counters a test moves on by seconds. Every round takes 1 s."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.now_s, self.session_s = folder, 0.0, 50.0
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def write(self, *, idle_s=0.0, stolen_s=0.0, ran_s=0.0, waits_s=(), parent=1, pid=PID, ran_ns=5):
        """Write the counters of the machine and of one process with a thread for each wait."""
        (self.folder / str(pid)).mkdir(exist_ok=True)
        (self.folder / "stat").write_text(STAT.format(idle=round(idle_s * TICKS / 2), stolen=round(stolen_s * TICKS)))
        times = f"{round(ran_s * TICKS)} 0 0 0"
        (self.folder / str(pid) / "stat").write_text(f"{pid} (a ) b) S {parent} {'7 ' * 9}{times} 20 0 1")
        for number, wait_s in enumerate(waits_s):
            path = self.folder / str(pid) / "task" / str(number) / "schedstat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{ran_ns} {round(wait_s * 1e9)} 3\n")

    def clock(self):
        self.now_s += 1
        return self.now_s

    def monitor(self, **options):
        return HostMonitor(proc=self.folder, clock=self.clock, session_clock=lambda: self.session_s, **options)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    return Kernel(tmp_path, monkeypatch)


def test_a_round_counts_waits_others_and_steal(kernel):
    """Of 2 s, 0.5 s were idle, the worker ran 1.1 s and we 0.1 s; old and new threads count from their own zero."""
    monitor = kernel.monitor()
    kernel.write(idle_s=3, stolen_s=1, ran_s=7, waits_s=(0.5, 2))
    monitor.begin(PID)
    kernel.session_s += 0.1
    kernel.write(idle_s=3.5, stolen_s=1.25, ran_s=8.1, waits_s=(0.6, 2, 0.2))

    reading = monitor.end()

    assert reading.facts == pytest.approx({"waited_s": 0.3, "others_s": 0.3, "stolen_s": 0.25})
    assert (
        reading.discarded_reason
        == "the machine was busy: the worker's threads waited for a processor 30% of the time, all added up"
    )


def test_a_case_in_this_process_counts_once(kernel):
    """Without isolation the worker is the process that measures, whose time must not be taken off twice."""
    monitor = kernel.monitor()
    kernel.write(pid=os.getpid(), waits_s=(0,))
    monitor.begin(os.getpid())
    kernel.write(pid=os.getpid(), waits_s=(0,), ran_s=1, idle_s=1)
    kernel.session_s += 1

    assert monitor.end().facts["others_s"] == 0.0


def test_a_busy_machine_can_be_allowed(kernel):
    """With `allows_busy` the facts are recorded, and no round is discarded."""
    monitor = kernel.monitor(allows_busy=True)
    kernel.write(waits_s=(0,))
    monitor.begin(PID)
    kernel.write(waits_s=(0.5,))

    reading = monitor.end()

    assert (reading.facts["waited_s"], reading.discarded_reason) == (0.5, None)


@pytest.mark.parametrize("ending", ["between", "before"])
def test_an_ended_worker_has_no_facts(kernel, ending):
    """If the worker has died, its facts are unknown, no round is discarded, and the failure of the worker is the one reported."""
    monitor = kernel.monitor()
    kernel.write(waits_s=(0,))
    if ending == "between":
        monitor.begin(PID)
    (kernel.folder / str(PID)).rename(kernel.folder / "ended")
    if ending == "before":
        monitor.begin(PID)

    reading = monitor.end()

    assert (reading.facts["waited_s"], reading.facts["others_s"], reading.discarded_reason) == (None, None, None)


def test_a_thread_that_ends_while_it_is_read_is_left_out(kernel, monkeypatch):
    """Its file is gone, or refuses to be read; the other threads count."""
    kernel.write(waits_s=(0.5, 0.25))
    read_text = Path.read_text

    def end(path, **options):
        if path.parent.name == "1":
            raise OSError(errno.ESRCH, "no such process")
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", end)

    assert read_counters((PID,), time_s=0.0, proc=kernel.folder).waits == {"0": (0.5, 3)}


def test_a_kernel_that_counts_no_waits_has_no_waits(kernel):
    """Such a kernel writes zeros, which must not pass for a quiet machine."""
    kernel.write(waits_s=(0, 0), ran_ns=0)

    assert read_counters((PID,), time_s=0.0, proc=kernel.folder).waits is None


def test_children_of_the_worker_are_no_other_programs(kernel):
    """A child that starts within a round discards nothing, and from then on its time is the worker's."""
    monitor = kernel.monitor()
    kernel.write(waits_s=(0,))
    monitor.begin(PID)
    kernel.write(pid=71, parent=PID, waits_s=(0.5,))
    kernel.write(pid=72, parent=71)
    first = monitor.end()
    monitor.begin(PID)
    kernel.write(pid=72, parent=71, ran_s=1.5, idle_s=0.5)
    second = monitor.end()

    assert process_family(PID, proc=kernel.folder) == (70, 71, 72)
    assert (first.facts["others_s"], first.discarded_reason) == (2.0, None)
    assert (second.facts["others_s"], second.discarded_reason) == (0.0, None)


@pytest.mark.parametrize(("states", "polls"), [("SS", 0), ("SRRSS", 2), ("R" * 200, 50)])
def test_a_round_begins_when_the_other_arm_rests(kernel, monkeypatch, states, polls):
    """Its two threads may stay awake after their round; the wait for them ends, also if one never sleeps."""
    monitor, pauses_s, states = kernel.monitor(), [], list(states)
    kernel.write(pid=71, waits_s=(0, 0))
    read_text = Path.read_text
    monkeypatch.setattr("speedgate.measure.monitor.time.sleep", pauses_s.append)
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, **kw: f"1 (a) {states.pop(0)}" if path.match("71/task/*/stat") else read_text(path, **kw),
    )
    monitor.begin(71)
    assert pauses_s == []
    kernel.write(waits_s=(0,))

    monitor.begin(PID)

    assert pauses_s == [0.001] * polls


def loads(count, *, wall_s=0.05, waited=0.0, dispatches=0, others=0.0, stolen=0.0):
    """Return equal rounds on two processors; the shares are of the wall time, `others` of both processors'."""
    load = RoundLoad(
        wall_s=wall_s,
        processors=2,
        waited_s=waited * wall_s,
        dispatches=dispatches,
        others_s=others * 2 * wall_s,
        stolen_s=stolen * wall_s,
    )
    return [load] * count


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        (loads(40, waited=0.015, others=0.05, stolen=0.01), None),
        (loads(40, waited=0.06, others=0.02), None),  # threads that spin at a barrier, on an idle machine
        (loads(1, waited=0.4, others=0.2), None),  # a few milliseconds of one round: the kernel needs them now and then
        (loads(2, waited=0.4, others=0.2), OTHERS_WAIT),
        # Too short for ticks, and too short to wait for own threads.
        (loads(2, waited=0.3, others=0.01), "waited for a processor 30% of the time"),
        (loads(1, wall_s=5.0, waited=0.4, others=0.2), OTHERS_WAIT),
        (loads(2, waited=0.6, dispatches=200, others=0.2), OTHERS_WAIT),
        (
            loads(40, waited=0.15, dispatches=200, others=0.02),
            None,
        ),  # threads that sleep between products, and are woken
        (loads(40, waited=2.0, others=0.0), None),  # four threads on two processors
        (loads(40, waited=2.0, others=0.04), None),
        (loads(40, waited=2.0, others=0.5), OTHERS_BESIDE),
        (loads(1, others=0.25), None),  # one round of 50 ms: two ticks, each of which may belong to its neighbours
        (loads(2, others=0.5), OTHERS_BESIDE),
        (loads(1, stolen=0.4), None),
        (loads(40, stolen=0.1), "took a processor away for 10% of the time"),
        ([RoundLoad(wall_s=0.05, processors=0, waited_s=0.05, dispatches=1, others_s=None, stolen_s=None)] * 40, None),
    ],
)
def test_a_round_is_discarded_if_others_took_its_processors(rounds, reason):
    """Waits count unless they are for the worker's own threads; steal and others count as far as ticks of 10 ms can tell."""
    detector = BusyDetector()

    reasons = [detector.reason(load) for load in rounds]

    if reason is None:
        assert set(reasons) == {None}
    else:
        assert any(reason in text for text in reasons if text is not None)


def test_a_busy_second_that_is_over_discards_nothing_later():
    """After a discarded round the earlier ones do not count any more."""
    detector = BusyDetector()

    assert detector.reason(*loads(1, wall_s=0.5, others=0.5)) is not None
    assert [detector.reason(load) for load in loads(20)] == [None] * 20


def test_a_real_neighbour_on_the_same_processor_is_seen():
    """While two busy loops share one processor, the kernel counts for each a wait of a good part of the time."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as neighbour:
            before = read_counters((os.getpid(),), time_s=time.perf_counter())
            while time.perf_counter() < before.time_s + 0.2:
                pass
            load = round_load(before, read_counters((os.getpid(),), time_s=time.perf_counter()))
            neighbour.kill()
    finally:
        os.sched_setaffinity(0, usable)

    if load.waited_s is None:
        pytest.skip("this kernel counts no waits")
    assert load.waited_s > 0.1 * load.wall_s
    assert load.others_s > 0.1 * load.wall_s
    assert BusyDetector().reason(load) is not None
