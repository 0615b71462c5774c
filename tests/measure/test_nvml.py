"""What voids a round on a GPU and what is only recorded, on scripted answers of NVML: see `tests/support/fake_nvml.py`."""

import functools

import pytest

from tests.support.fake_nvml import NAMES, one_round, open_gpu

REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
MEMORY = "nvmlDeviceGetMemoryInfo nvmlMemory_v2"
DELTAS = ("power_cap_ns", "thermal_ns", "sync_boost_ns", "board_limit_ns", "reliability_ns", "energy_mj")


@pytest.fixture
def gpu(monkeypatch):
    """Open a monitor of a scripted GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return functools.partial(open_gpu, monkeypatch)


def violation(policy, *times_ns):
    """The question for a policy's counter, with its answers."""
    answers = [{"referenceTime": 0, "violationTime": time_ns} for time_ns in times_ns]
    return {f"nvmlDeviceGetViolationStatus NVML_PERF_POLICY_{policy}": answers}


def listed(*counts):
    """The question for the processes, with as many of them as `counts` say, time after time."""
    return {PROCESSES: [[{"pid": pid, "usedGpuMemory": None} for pid in range(count)] for count in counts]}


def in_use(used_bytes):
    """The question for the memory, with so much of it in use."""
    return {MEMORY: [{"total": 2**37, "reserved": 2**29, "used": used_bytes}]}


@pytest.mark.parametrize(
    ("name", "void"),
    [
        ("idle_h200", None),
        ("power_capped_a100", None),
        ("published_a100", None),
        ("mig_on", None),
        ("half_supported", None),
        (
            "throttled_a100",
            "GPU clocks lowered by software thermal slowdown (0x20); GPU clocks held down for 250 ms by the thermal limit",
        ),
        ("foreign_process", "1 other process on the GPU"),
        (
            "container",
            "5.0 GiB of GPU memory were in use before the first worker, by processes that NVML does not list here",
        ),
    ],
)
def test_a_round_is_void_where_something_else_set_its_seconds(gpu, name, void):
    """Heat, other processes and memory that nobody owns up to void it, in one sentence; a power cap and MIG do not."""
    assert one_round(gpu(name)).discarded_reason == void


def test_every_scripted_gpu_has_its_verdict():
    """No file in tests/nvml goes unused."""
    (cases,) = (mark.args[1] for mark in test_a_round_is_void_where_something_else_set_its_seconds.pytestmark)

    assert sorted(name for name, _ in cases) == NAMES


@pytest.mark.parametrize("when", ["begin", "end"])
@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        (0x8, "hardware slowdown"),
        (0x10, "sync boost"),
        (0x20, "software thermal slowdown"),
        (0x40, "hardware thermal slowdown"),
        (0x80, "hardware power brake"),
        (0x200, "board limit"),
        (0x400, "reliability limit"),
        (0x800, "an unknown reason"),
        (1 << 63, "an unknown reason"),
    ],
)
def test_a_throttled_round_is_void(gpu, bit, reason, when):
    """Seen before the round or after it, and whether or not anybody knows the reason yet."""
    reading = one_round(gpu(changed={REASONS: [bit, 0] if when == "begin" else [0, bit]}))

    assert reading.discarded_reason == f"GPU clocks lowered by {reason} ({bit:#x})"
    assert reading.facts["throttle_reasons"] == bit


@pytest.mark.parametrize("bit", [0x1, 0x2, 0x4, 0x100], ids=["idle", "application clocks", "power cap", "display"])
def test_a_harmless_reason_is_recorded(gpu, bit):
    """Idling, chosen clocks and the power cap are how a healthy GPU runs."""
    reading = one_round(gpu(changed={REASONS: [bit, 0]}))

    assert (reading.discarded_reason, reading.facts["throttle_reasons"]) == (None, bit)


def test_both_looks_at_the_reasons_count(gpu):
    """The mask holds what was seen at either moment, and every harmful reason in it is named."""
    reading = one_round(gpu(changed={REASONS: [0x41, 0x84]}))

    assert reading.facts["throttle_reasons"] == 0xC5
    assert reading.discarded_reason == (
        "GPU clocks lowered by hardware thermal slowdown (0x40); GPU clocks lowered by hardware power brake (0x80)"
    )


@pytest.mark.parametrize(
    ("policy", "fact", "limit"),
    [
        ("THERMAL", "thermal_ns", "the thermal limit"),
        ("SYNC_BOOST", "sync_boost_ns", "sync boost"),
        ("BOARD_LIMIT", "board_limit_ns", "the board limit"),
        ("RELIABILITY", "reliability_ns", "the reliability limit"),
    ],
)
def test_a_limit_that_held_the_clocks_down_voids_the_round(gpu, policy, fact, limit):
    """NVML's counter tells what fell between the two looks at the mask."""
    reading = one_round(gpu(changed=violation(policy, 5_000_000, 17_340_000)))

    assert (reading.discarded_reason, reading.facts[fact]) == (
        f"GPU clocks held down for 12.3 ms by {limit}",
        12_340_000,
    )


def test_what_a_counter_held_before_the_round_is_not_the_rounds(gpu):
    """Only growth counts: each fact is the difference of two looks, and a power cap of any length is harmless."""
    reading = one_round(gpu())

    assert [reading.facts[name] for name in DELTAS] == [2_000_000, 0, 0, 0, 0, 1500]
    assert reading.discarded_reason is None


def test_a_round_starts_from_its_own_counters(gpu):
    """What happened between two rounds belongs to neither."""
    monitor = gpu(changed=violation("THERMAL", 0, 0, 900, 900))

    one_round(monitor)
    monitor.begin()

    assert monitor.end().discarded_reason is None


def test_a_round_that_was_given_up_leaves_nothing_behind(gpu):
    """Where a worker died within a round, the next one begins anew."""
    monitor = gpu(changed=violation("THERMAL", 0, 900))
    monitor.facts()
    monitor.begin()
    monitor.begin()

    assert monitor.end().discarded_reason is None


def test_a_counter_that_was_reset_is_no_time_at_a_limit(gpu):
    """A driver that starts to count anew has not held any clock down."""
    assert one_round(gpu(changed=violation("THERMAL", 900, 0))).discarded_reason is None


@pytest.mark.parametrize(
    ("own", "counts", "void"),
    [
        (1, (0, 1, 1), None),
        (1, (0, 0, 1), None),
        (1, (0, 1, 2), "1 other process on the GPU"),
        (1, (2, 3, 1), "2 other processes on the GPU"),
        (2, (0, 2, 2), None),
        (2, (0, 2, 3), "1 other process on the GPU"),
    ],
)
def test_processes_are_counted(gpu, own, counts, void):
    """More of them than are ours, before the round or after it, void it; their ids say nothing in a container."""
    reading = one_round(gpu(changed=listed(*counts), expected_workers=own))

    assert (reading.discarded_reason, reading.facts["gpu_processes"]) == (void, max(counts[1:]))


def test_a_second_worker_can_be_announced(gpu):
    """A live comparison opens its second worker later, and then two processes are ours."""
    monitor = gpu(changed=listed(0, 2))
    assert one_round(monitor).discarded_reason == "1 other process on the GPU"

    monitor.expected_workers = 2
    monitor.begin()

    assert monitor.end().discarded_reason is None


@pytest.mark.parametrize("processes", [[[]], ["NVML_ERROR_NOT_SUPPORTED"]], ids=["empty list", "no list"])
@pytest.mark.parametrize(("used_bytes", "voids"), [(2**30, False), (2**30 + 2**28, True)])
def test_memory_that_nobody_is_listed_for_voids_every_round(gpu, processes, used_bytes, voids):
    """More than 1 GiB before our first worker is somebody's; a driver alone holds less."""
    monitor = gpu(changed={PROCESSES: processes, **in_use(used_bytes)})

    readings = [one_round(monitor)]
    monitor.begin()
    readings.append(monitor.end())

    void = "1.2 GiB of GPU memory were in use before the first worker, by processes that NVML does not list here"
    assert [reading.discarded_reason for reading in readings] == [void if voids else None] * 2


@pytest.mark.parametrize(
    ("changed", "alone"),
    [
        (listed(0), True),
        (listed(0, 1), False),
        ({PROCESSES: ["NVML_ERROR_NOT_SUPPORTED"]}, True),
        ({**listed(0), **in_use(2**31)}, False),
    ],
    ids=["nobody", "a process", "no list", "memory that nobody is listed for"],
)
def test_the_memory_is_ours_while_nobody_else_is_seen(gpu, changed, alone):
    """Asked while no worker of ours lives: each process is another's, and so is what was in use before the first."""
    monitor = gpu(changed=changed)
    monitor.facts()

    assert monitor.is_exclusive() is alone


def test_memory_of_a_listed_process_is_no_riddle(gpu):
    """Where the list names who held it and he is gone, the round stands."""
    assert one_round(gpu(changed={**listed(1, 1), **in_use(2**33)})).discarded_reason is None


def test_a_round_needs_the_facts_before_it(gpu):
    """Without them the memory before the first worker would be unknown, and a busy container would pass."""
    monitor = gpu("container")

    with pytest.raises(AssertionError, match="before the first worker starts"):
        monitor.begin()
