"""Queries to NVML: facts, discarded rounds and the choice of the GPU, with scripted answers of `tests/support/fake_nvml.py`."""

import functools
import hashlib
import json
import sys

import pynvml
import pytest

from speedgate.measure.nvml import GpuError
from tests.support.fake_nvml import NAMES, one_round, open_gpu

REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
MEMORY = "nvmlDeviceGetMemoryInfo nvmlMemory_v2"
TEMPERATURE = "nvmlDeviceGetTemperatureV NVML_TEMPERATURE_GPU"


@pytest.fixture
def gpu(monkeypatch):
    """Open a monitor of a scripted GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return functools.partial(open_gpu, monkeypatch)


def violation(policy, *times_ns):
    """Script the answers about a policy's counter."""
    answers = [{"referenceTime": 0, "violationTime": time_ns} for time_ns in times_ns]
    return {f"nvmlDeviceGetViolationStatus NVML_PERF_POLICY_{policy}": answers}


def listed(*counts):
    """Script the lists of processes, with `counts` processes one after the other."""
    return {PROCESSES: [[{"pid": pid, "usedGpuMemory": None} for pid in range(count)] for count in counts]}


def in_use(used_bytes):
    """Script the memory in use."""
    return {MEMORY: [{"total": 2**37, "reserved": 2**29, "used": used_bytes}]}


DISTURBED = {
    "idle_h200": None,
    "power_capped_a100": None,
    "published_a100": None,
    "mig_on": None,
    "half_supported": None,
    "throttled_a100": "GPU clocks lowered by software thermal slowdown (0x20); GPU clocks held down for 250 ms by the thermal"
    " limit",
    "foreign_process": "1 other process on the GPU",
    "container": "5.0 GiB of GPU memory were in use before the first worker, by processes that NVML does not list here",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_disturbed_round_is_discarded(gpu, name):
    """Heat, other processes and memory of unlisted processes discard a round with a reason; a power cap and MIG do not."""
    assert one_round(gpu(name)).discarded_reason == DISTURBED[name]


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (0x8, 0, "hardware slowdown (0x8)"),
        (0, 0x8, "hardware slowdown (0x8)"),
        (0, 0x10, "sync boost (0x10)"),
        (0, 0x20, "software thermal slowdown (0x20)"),
        (0x41, 0x84, "hardware thermal slowdown (0x40); GPU clocks lowered by hardware power brake (0x80)"),
        (0, 0x200, "board limit (0x200)"),
        (0, 0x400, "reliability limit (0x400)"),
        (0, 1 << 63, f"an unknown reason ({1 << 63:#x})"),
        (0x1 | 0x2, 0x4 | 0x100, None),  # idle, application clocks, power cap, display clocks
    ],
)
def test_a_throttled_round_is_discarded(gpu, before, after, reasons):
    """A reason for lowered clocks before or after the round discards it, even an unknown one, unless it is harmless."""
    reading = one_round(gpu(changed={REASONS: [before, after]}))

    assert reading.discarded_reason == (reasons and f"GPU clocks lowered by {reasons}")
    assert reading.facts["throttle_reasons"] == before | after


@pytest.mark.parametrize(
    ("policy", "fact", "limit"),
    [
        ("THERMAL", "thermal_ns", "the thermal limit"),
        ("SYNC_BOOST", "sync_boost_ns", "sync boost"),
        ("BOARD_LIMIT", "board_limit_ns", "the board limit"),
        ("RELIABILITY", "reliability_ns", "the reliability limit"),
        ("POWER", "power_cap_ns", None),
    ],
)
def test_a_limit_that_held_the_clocks_down_discards_the_round(gpu, policy, fact, limit):
    """NVML's counter covers the time between the two snapshots of the mask; a power cap of any length is harmless."""
    reading = one_round(gpu(changed=violation(policy, 5_000_000, 17_340_000)))

    assert reading.discarded_reason == (limit and f"GPU clocks held down for 12.3 ms by {limit}")
    assert reading.facts[fact] == 12_340_000
    assert reading.facts["energy_mj"] == 1500


@pytest.mark.parametrize(
    ("times_ns", "begins"),
    [((0, 0, 900, 900), [1, 1]), ((0, 900), [2]), ((900, 0), [1])],
    ids=["between two rounds", "in a round whose worker died", "a counter that a driver restarted"],
)
def test_time_outside_of_a_round_discards_nothing(gpu, times_ns, begins):
    """Each round starts from a new snapshot of the counters, and one that shrinks is no time at a limit."""
    monitor = gpu(changed=violation("THERMAL", *times_ns))
    monitor.facts()

    for count in begins:
        for _ in range(count):
            monitor.begin()
        assert monitor.end().discarded_reason is None


@pytest.mark.parametrize(
    ("expected_workers", "counts", "reason"),
    [
        (1, (0, 1, 1), None),
        (1, (0, 0, 1), None),
        (1, (0, 1, 2), "1 other process on the GPU"),
        (1, (2, 3, 1), "2 other processes on the GPU"),
        (2, (0, 2, 2), None),
        (2, (0, 2, 3), "1 other process on the GPU"),
    ],
)
def test_processes_are_counted(gpu, expected_workers, counts, reason):
    """More processes than our workers, before or after the round, discard it; ids are meaningless in a container."""
    reading = one_round(gpu(changed=listed(*counts), expected_workers=expected_workers))

    assert (reading.discarded_reason, reading.facts["gpu_processes"]) == (reason, max(counts[1:]))


def test_the_number_of_expected_workers_can_change(gpu):
    """A live comparison opens its second worker later; from then on two processes are expected."""
    monitor = gpu(changed=listed(0, 2))
    assert one_round(monitor).discarded_reason == "1 other process on the GPU"

    monitor.expected_workers = 2
    monitor.begin()
    assert monitor.end().discarded_reason is None


@pytest.mark.parametrize(
    ("processes", "used_bytes", "is_discarded"),
    [
        ({PROCESSES: [[]]}, 2**30 + 2**28, True),
        ({PROCESSES: ["NVML_ERROR_NOT_SUPPORTED"]}, 2**30 + 2**28, True),
        ({PROCESSES: [[]]}, 2**30, False),
        (listed(1, 1), 2**33, False),
    ],
)
def test_memory_of_unlisted_processes_discards_every_round(gpu, processes, used_bytes, is_discarded):
    """More than 1 GiB in use before our first worker belongs to somebody, unless a listed process explains it."""
    monitor = gpu(changed={**processes, **in_use(used_bytes)})

    readings = [one_round(monitor)]
    monitor.begin()
    readings.append(monitor.end())

    reason = "1.2 GiB of GPU memory were in use before the first worker, by processes that NVML does not list here"
    assert [reading.discarded_reason for reading in readings] == [reason if is_discarded else None] * 2


@pytest.mark.parametrize(
    ("changed", "is_exclusive"),
    [
        (listed(0), True),
        (listed(0, 1), False),
        ({PROCESSES: ["NVML_ERROR_NOT_SUPPORTED"]}, True),
        ({**listed(0), **in_use(2**31)}, False),
    ],
    ids=["no process", "a process", "no list", "memory of unlisted processes"],
)
def test_the_memory_is_exclusive_while_nobody_else_is_seen(gpu, changed, is_exclusive):
    """While no worker of ours is alive, each process is foreign, and so is memory in use before the first worker."""
    monitor = gpu(changed=changed)
    monitor.facts()

    assert monitor.is_exclusive() is is_exclusive


def test_a_round_needs_the_facts_before_it(gpu):
    """Without facts() the memory before the first worker would be unknown, and a busy container would pass."""
    monitor = gpu("container")

    with pytest.raises(AssertionError, match="before the first worker starts"):
        monitor.begin()


def test_the_state_before_the_first_worker_is_plain_json(gpu):
    """It has modes, limits, clocks and the use by others, with a hash in place of the GPU's id."""
    facts = gpu("foreign_process").facts()

    uuid = hashlib.sha256(b"GPU-2f6c1b0e-6d4a-4f0f-9a63-0c2f8f0f5a11").hexdigest()[:12]
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {
        "driver": "580.65.06", "uuid_sha256": uuid, "temperature_c": 31, "pstate": 0, "persistence_mode": 1,
        "compute_mode": 0, "mig_mode": 0, "ecc_mode": 1, "ecc_uncorrected": 0, "power_limit_w": 700,
        "power_limit_default_w": 700, "pcie_generation": 5, "pcie_width": 16, "sm_clock_max_mhz": 1980,
        "sm_clock_application_mhz": 1980, "memory_clock_application_mhz": 3201, "memory_used_bytes": 9137405952,
        "gpu_processes": 1, "utilisation_percent": 87,
    }  # fmt: skip


def test_a_fact_is_the_one_that_holds_now(gpu):
    """A lowered power limit stands beside the default, and modes and clocks are those of now and of the round's end."""
    capped = gpu("power_capped_a100").facts()
    modes = gpu(changed={"nvmlDeviceGetMigMode": [[1, 0]], "nvmlDeviceGetEccMode": [[0, 1]]}).facts()
    ended = one_round(gpu("throttled_a100")).facts

    assert (capped["power_limit_w"], capped["power_limit_default_w"]) == (275, 400)
    assert (modes["mig_mode"], modes["ecc_mode"]) == (1, 0)
    assert (ended["sm_clock_mhz"], ended["temperature_c"], ended["pstate"]) == (1110, 92, 0)


def test_an_unsupported_query_is_none(gpu):
    """Each query that this GPU does not support is None in the facts, and the round stands."""
    monitor = gpu("half_supported")

    facts, reading = monitor.facts(), one_round(monitor)

    unknown = {name for name, value in facts.items() if value is None}
    assert unknown == {
        *("persistence_mode", "mig_mode", "ecc_mode", "ecc_uncorrected", "power_limit_w", "power_limit_default_w"),
        *("sm_clock_application_mhz", "memory_clock_application_mhz", "temperature_c", "gpu_processes"),
        "utilisation_percent",
    }
    assert {name for name, value in reading.facts.items() if value is not None} == {"sm_clock_mhz", "pstate"}


@pytest.mark.parametrize(
    "error",
    ["NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED", "INVALID_ARGUMENT"],
)  # fmt: skip
def test_six_errors_of_nvml_mean_no_answer(gpu, error):
    """A query that NVML cannot answer does not fail the run."""
    query = "nvmlDeviceGetTotalEnergyConsumption"

    assert one_round(gpu(changed={query: [f"NVML_ERROR_{error}"]})).facts["energy_mj"] is None


def test_an_unknown_error_is_no_answer_until_the_query_was_answered(gpu):
    """In a virtual machine some queries fail with it from the first time on, and that must not stop a session."""
    queries = (
        "nvmlDeviceGetCurrPcieLinkGeneration",
        "nvmlDeviceGetViolationStatus NVML_PERF_POLICY_THERMAL",
        PROCESSES,
    )
    monitor = gpu(changed={query: ["NVML_ERROR_UNKNOWN"] for query in queries})

    assert monitor.facts()["pcie_generation"] is None
    assert one_round(monitor).discarded_reason is None


def test_an_older_client_has_no_answer_to_a_newer_query(gpu, monkeypatch):
    """A function or constant that nvidia-ml-py does not have yet is a fact that is not known."""
    monitor = gpu()
    for name in ("nvmlDeviceGetTotalEnergyConsumption", "NVML_PERF_POLICY_RELIABILITY"):
        monkeypatch.delattr(pynvml, name)

    facts = one_round(monitor).facts

    assert (facts["energy_mj"], facts["reliability_ns"]) == (None, None)


@pytest.mark.parametrize("error", ["GPU_IS_LOST", "UNKNOWN"])
def test_any_other_error_of_nvml_is_raised_in_words(gpu, error):
    """A lost GPU is not taken for a GPU without facts, and is no raw `NVMLError` in the middle of a measurement."""
    monitor = gpu(changed={REASONS: [0, f"NVML_ERROR_{error}"]})

    with pytest.raises(
        GpuError, match=r"^there is a GPU here that cannot be used: NVML says '.*use --device cpu$"
    ) as caught:
        one_round(monitor)
    assert caught.value.__cause__.value == getattr(pynvml, f"NVML_ERROR_{error}")


def test_an_older_driver_gets_the_older_queries(gpu):
    """Memory, temperature and reasons have an older query each, for drivers without the newer one."""
    monitor = gpu(
        changed={
            **{query: ["NVML_ERROR_FUNCTION_NOT_FOUND"] for query in (MEMORY, TEMPERATURE, REASONS)},
            "nvmlDeviceGetMemoryInfo": [{"total": 2**37, "free": 2**36, "used": 2**20}],
            "nvmlDeviceGetTemperature NVML_TEMPERATURE_GPU": [29, 66],
            "nvmlDeviceGetCurrentClocksThrottleReasons": [0, 0x40],
        }
    )

    facts, reading = monitor.facts(), one_round(monitor)

    assert (facts["memory_used_bytes"], facts["temperature_c"]) == (2**20, 29)
    assert (reading.facts["temperature_c"], reading.facts["throttle_reasons"]) == (66, 0x40)
    assert "hardware thermal slowdown" in reading.discarded_reason


def test_nvml_stays_open_until_the_monitor_is_closed(gpu, monkeypatch):
    """There is one init and one shutdown, even if the monitor is closed twice or finds no GPU that it may use."""
    monitor = gpu()
    assert sys.modules["pynvml"].open == 1
    monitor.close()
    monitor.close()
    assert sys.modules["pynvml"].open == 0

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match=r"^--device cuda: .* use --device cpu or --device auto$"):
        gpu()
    assert sys.modules["pynvml"].open == 0
