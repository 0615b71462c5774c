"""What NVML tells of a GPU, what it does not, and which GPU is asked, on scripted answers: see `tests/support/fake_nvml.py`."""

import functools
import hashlib
import json
import sys

import pynvml
import pytest

from tests.support.fake_nvml import one_round, open_gpu

REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
MEMORY = "nvmlDeviceGetMemoryInfo nvmlMemory_v2"
TEMPERATURE = "nvmlDeviceGetTemperatureV NVML_TEMPERATURE_GPU"


@pytest.fixture
def gpu(monkeypatch):
    """Open a monitor of a scripted GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return functools.partial(open_gpu, monkeypatch)


def test_the_state_before_the_first_worker_is_plain_json(gpu):
    """Modes, limits, clocks and what others were doing, without the GPU's own id."""
    found = gpu("foreign_process").facts()

    uuid = hashlib.sha256(b"GPU-2f6c1b0e-6d4a-4f0f-9a63-0c2f8f0f5a11").hexdigest()[:12]
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "driver": "580.65.06",
        "uuid_sha256": uuid,
        "temperature_c": 31,
        "pstate": 0,
        "persistence_mode": 1,
        "compute_mode": 0,
        "mig_mode": 0,
        "ecc_mode": 1,
        "ecc_uncorrected": 0,
        "power_limit_w": 700,
        "power_limit_default_w": 700,
        "pcie_generation": 5,
        "pcie_width": 16,
        "sm_clock_max_mhz": 1980,
        "sm_clock_application_mhz": 1980,
        "memory_clock_application_mhz": 3201,
        "memory_used_bytes": 9137405952,
        "gpu_processes": 1,
        "utilisation_percent": 87,
    }


def test_a_lowered_power_limit_is_told_from_the_default(gpu):
    """The limit that is enforced stands beside the one that the GPU comes with, in watts."""
    found = gpu("power_capped_a100").facts()

    assert (found["power_limit_w"], found["power_limit_default_w"]) == (275, 400)


def test_a_mode_is_the_one_that_holds_now(gpu):
    """What a restart will bring is no fact about this run."""
    found = gpu(changed={"nvmlDeviceGetMigMode": [[1, 0]], "nvmlDeviceGetEccMode": [[0, 1]]}).facts()

    assert (found["mig_mode"], found["ecc_mode"]) == (1, 0)


def test_a_round_records_clock_temperature_and_state(gpu):
    """They are those at the end of the round."""
    facts = one_round(gpu("throttled_a100")).facts

    assert (facts["sm_clock_mhz"], facts["temperature_c"], facts["pstate"]) == (1110, 92, 0)


def test_what_is_not_answered_is_none(gpu):
    """Each question that this GPU refuses is None in the facts, and the round stands."""
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
    "error", ["NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED"]
)
def test_five_answers_of_nvml_mean_that_there_is_none(gpu, error):
    """A question that cannot be answered is no fault."""
    question = "nvmlDeviceGetTotalEnergyConsumption"

    assert one_round(gpu(changed={question: [f"NVML_ERROR_{error}"]})).facts["energy_mj"] is None


@pytest.mark.parametrize("error", ["GPU_IS_LOST", "UNKNOWN", "INVALID_ARGUMENT"])
def test_any_other_error_of_nvml_goes_on(gpu, error):
    """A lost GPU is not a GPU without facts."""
    monitor = gpu(changed={REASONS: [0, f"NVML_ERROR_{error}"]})

    with pytest.raises(pynvml.NVMLError) as caught:
        one_round(monitor)
    assert caught.value.value == getattr(pynvml, f"NVML_ERROR_{error}")


def test_an_older_driver_is_asked_in_its_own_words(gpu):
    """Memory, temperature and reasons have an older question each, which a driver without the newer one answers."""
    monitor = gpu(
        changed={
            **{question: ["NVML_ERROR_FUNCTION_NOT_FOUND"] for question in (MEMORY, TEMPERATURE, REASONS)},
            "nvmlDeviceGetMemoryInfo": [{"total": 2**37, "free": 2**36, "used": 2**20}],
            "nvmlDeviceGetTemperature NVML_TEMPERATURE_GPU": [29, 66],
            "nvmlDeviceGetCurrentClocksThrottleReasons": [0, 0x40],
        }
    )

    facts, reading = monitor.facts(), one_round(monitor)

    assert (facts["memory_used_bytes"], facts["temperature_c"]) == (2**20, 29)
    assert (reading.facts["temperature_c"], reading.facts["throttle_reasons"]) == (66, 0x40)
    assert "hardware thermal slowdown" in reading.discarded_reason


@pytest.mark.parametrize(("visible", "handle"), [("0", "gpu0"), ("1,0", "gpu1")])
def test_the_gpu_asked_is_the_one_that_torch_takes(gpu, monkeypatch, visible, handle):
    """CUDA_VISIBLE_DEVICES counts, though NVML does not read it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    one_round(gpu())

    assert sys.modules["pynvml"].handles == {handle}


def test_a_hidden_gpu_is_said_and_nvml_let_go(gpu, monkeypatch):
    """Where torch has no GPU there is none to watch."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    with pytest.raises(ValueError, match=r"^--device cuda: .* use --device cpu or --device auto$"):
        gpu()

    assert sys.modules["pynvml"].open == 0


def test_nvml_is_held_until_the_monitor_is_closed(gpu):
    """One init and one shutdown, however often it is closed."""
    monitor = gpu()
    assert sys.modules["pynvml"].open == 1

    monitor.close()
    monitor.close()

    assert sys.modules["pynvml"].open == 0
