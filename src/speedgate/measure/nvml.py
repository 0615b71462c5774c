"""Query NVML for the facts of an NVIDIA GPU and for its state around a round. Never creates a CUDA context.

A query that NVML cannot answer, for this GPU, container or driver, returns None, and None discards no round. NVML has no
query for locked clocks; the application clocks are recorded for GPUs that still have them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import operator
import os
from collections.abc import Iterator, Mapping
from typing import Any

from speedgate.measure.monitor import Fact, Reading, counter_increase

# Reasons for lowered clocks are told apart by their numbers: drivers add some, and nvidia-ml-py's mask of all of them
# leaves out two. What is not listed here voids a round, so a reason that nobody knows yet does.
_HARMLESS = (
    0x1  # idle, as a GPU is between rounds
    | 0x2  # application clocks: a setting, the same in every round
    | 0x4  # software power cap: how a GPU runs at full load; the power limit is part of the GPU key
    | 0x100  # display clocks: a setting as well
)
_REASONS = {
    0x8: "hardware slowdown",  # also told of a mere change of P-state (DCGM): void all the same, and measured again
    # Every GPU of a sync boost group runs at the lowest clock that any of them may have, and the reason for that is found
    # on the other GPU only: it may be its heat, so this one's seconds are no longer the work's.
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x200: "board limit",
    0x400: "reliability limit",
}
# NVML counts for how long a limit held the clocks down, which sees what lies between two looks at the reasons. The limit
# is named where it voids a round.
_COUNTERS = {
    "power_cap_ns": ("NVML_PERF_POLICY_POWER", None),
    "thermal_ns": ("NVML_PERF_POLICY_THERMAL", "the thermal limit"),
    "sync_boost_ns": ("NVML_PERF_POLICY_SYNC_BOOST", "sync boost"),
    "board_limit_ns": ("NVML_PERF_POLICY_BOARD_LIMIT", "the board limit"),
    "reliability_ns": ("NVML_PERF_POLICY_RELIABILITY", "the reliability limit"),
}
_UNLISTED_BYTES = 2**30  # memory in use that no listed process explains; a driver alone holds less

_FACT_QUERIES = {
    "persistence_mode": ("nvmlDeviceGetPersistenceMode",),
    "compute_mode": ("nvmlDeviceGetComputeMode",),
    "ecc_uncorrected": ("nvmlDeviceGetTotalEccErrors", "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_AGGREGATE_ECC"),
    "sm_clock_max_mhz": ("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
    "sm_clock_application_mhz": ("nvmlDeviceGetApplicationsClock", "NVML_CLOCK_SM"),
    "memory_clock_application_mhz": ("nvmlDeviceGetApplicationsClock", "NVML_CLOCK_MEM"),
    "pcie_generation": ("nvmlDeviceGetCurrPcieLinkGeneration",),
    "pcie_width": ("nvmlDeviceGetCurrPcieLinkWidth",),
    "pstate": ("nvmlDeviceGetPerformanceState",),
}


NO_GPU = "--device cuda: the NVIDIA driver reports no GPU here; use --device cpu or --device auto"


@contextlib.contextmanager
def first_gpu() -> Iterator[Gpu | None]:
    """Open NVML and yield the GPU that is torch's device 0; None if there is no driver or no visible GPU."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver on this machine
        yield None
        return
    try:
        handle = _visible_handle(pynvml)
        yield None if handle is None else Gpu(pynvml, handle)
    finally:
        pynvml.nvmlShutdown()


def compute_capability() -> tuple[int, int] | None:
    """Return CUDA's compute capability of torch's device 0, as major and minor; None if there is no GPU or no answer."""
    with first_gpu() as gpu:
        capability = gpu.query("nvmlDeviceGetCudaComputeCapability") if gpu is not None else None
    return None if capability is None else (int(capability[0]), int(capability[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Snapshot:
    """The state of the GPU at one moment. The `counters` count from the loading of the driver."""

    reasons: int | None
    processes: int | None
    counters: Mapping[str, int | None]


class Gpu:
    """Query NVML about one GPU. A newer query falls back to its older form, which older drivers know."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def query(self, question: str, *constants: str) -> Any:
        """NVML's answer about this GPU, None where it has none; constants are given by their names."""
        return _answer(self._nvml, question, self._handle, *(getattr(self._nvml, name) for name in constants))

    @property
    def name(self) -> str:
        return str(self._nvml.nvmlDeviceGetName(self._handle))

    @property
    def memory_bytes(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    @property
    def power_limit_w(self) -> int | None:
        return self.watts("nvmlDeviceGetEnforcedPowerLimit")

    def driver(self) -> Any:
        return _answer(self._nvml, "nvmlSystemGetDriverVersion")

    def snapshot(self) -> _Snapshot:
        counters = {
            name: self._query_field("violationTime", "nvmlDeviceGetViolationStatus", policy)
            for name, (policy, _) in _COUNTERS.items()
        }
        counters["energy_mj"] = self.query("nvmlDeviceGetTotalEnergyConsumption")
        reasons = self.query("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self.query("nvmlDeviceGetCurrentClocksThrottleReasons")
        return _Snapshot(reasons=reasons, processes=self.processes(), counters=counters)

    def processes(self) -> int | None:
        listed = self.query("nvmlDeviceGetComputeRunningProcesses_v3")
        return None if listed is None else len(listed)

    def used_bytes(self) -> int | None:
        """Memory in use without what the driver reserves; with it where the driver does not tell them apart."""
        used_bytes: int | None = self._query_field("used", "nvmlDeviceGetMemoryInfo", "nvmlMemory_v2")
        if used_bytes is None:
            used_bytes = self._query_field("used", "nvmlDeviceGetMemoryInfo")
        return used_bytes

    def temperature_c(self) -> int | None:
        temperature_c: int | None = self.query("nvmlDeviceGetTemperatureV", "NVML_TEMPERATURE_GPU")
        if temperature_c is None:
            temperature_c = self.query("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU")
        return temperature_c

    def utilisation_percent(self) -> Any:
        return self._query_field("gpu", "nvmlDeviceGetUtilizationRates")

    def watts(self, question: str) -> int | None:
        milliwatts = self.query(question)
        return None if milliwatts is None else round(milliwatts / 1000)

    def current(self, question: str) -> Any:
        """The first of a mode's two states; the second holds after the next restart."""
        states = self.query(question)
        return None if states is None else states[0]

    def _query_field(self, name: str, question: str, *constants: str) -> Any:
        answer = self.query(question, *constants)
        return None if answer is None else getattr(answer, name)


class NvmlMonitor:
    """Torch's first GPU, of whose compute processes `expected_workers` are ours; each one more voids the round.

    They are counted and not recognised, because in a container NVML may tell the ids that processes have on the host.
    """

    def __init__(self, *, expected_workers: int = 1) -> None:
        self.expected_workers = expected_workers
        self._reasons_for_all_rounds: list[str] | None = None  # set by `facts`
        self._before: _Snapshot | None = None
        with contextlib.ExitStack() as stack:
            gpu = stack.enter_context(first_gpu())
            if gpu is None:
                raise ValueError(NO_GPU)
            self._gpu = gpu
            self._open = stack.pop_all()

    def facts(self) -> dict[str, Any]:
        """The state before the first worker is opened; modes are NVML's own numbers."""
        gpu = self._gpu
        used_bytes, processes = gpu.used_bytes(), gpu.processes()
        self._reasons_for_all_rounds = list(_unlisted(used_bytes, processes))
        uuid = gpu.query("nvmlDeviceGetUUID")
        return {
            "driver": gpu.driver(),
            "uuid_sha256": hashlib.sha256(uuid.encode()).hexdigest()[:12] if uuid else None,
            "mig_mode": gpu.current("nvmlDeviceGetMigMode"),
            "ecc_mode": gpu.current("nvmlDeviceGetEccMode"),
            "power_limit_w": gpu.power_limit_w,
            "power_limit_default_w": gpu.watts("nvmlDeviceGetPowerManagementDefaultLimit"),
            "temperature_c": gpu.temperature_c(),
            "memory_used_bytes": used_bytes,
            "gpu_processes": processes,
            "utilisation_percent": gpu.utilisation_percent(),
            **{name: gpu.query(*question) for name, question in _FACT_QUERIES.items()},
        }

    def begin(self) -> None:
        assert self._reasons_for_all_rounds is not None, (
            "facts() comes before the first worker, and so before the first round"
        )
        self._before = self._gpu.snapshot()

    def end(self) -> Reading:
        assert self._before is not None, "a round that has not begun"
        # The clock first: the GPU has nothing to do any more and will lower it.
        facts: dict[str, Fact] = {
            "sm_clock_mhz": self._gpu.query("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
            "pstate": self._gpu.query("nvmlDeviceGetPerformanceState"),
            "temperature_c": self._gpu.temperature_c(),
        }
        before, after = self._before, self._gpu.snapshot()
        self._before = None
        reasons, processes = _present(before.reasons, after.reasons), _present(before.processes, after.processes)
        facts["throttle_reasons"] = functools.reduce(operator.or_, reasons) if reasons else None
        facts["gpu_processes"] = max(processes, default=None)
        facts |= {name: counter_increase(before.counters[name], count) for name, count in after.counters.items()}
        return Reading(facts=facts, discarded_reason="; ".join(self._void(facts)) or None)

    def is_exclusive(self) -> bool:
        assert self._reasons_for_all_rounds is not None, "facts() comes before the first worker"
        return not (self._reasons_for_all_rounds or self._gpu.processes())

    def close(self) -> None:
        self._open.close()

    def _void(self, facts: Mapping[str, Fact]) -> Iterator[str]:
        assert self._reasons_for_all_rounds is not None
        yield from self._reasons_for_all_rounds
        reasons = int(facts["throttle_reasons"] or 0) & ~_HARMLESS
        for bit in (1 << shift for shift in range(reasons.bit_length()) if reasons >> shift & 1):
            yield f"GPU clocks lowered by {_REASONS.get(bit, 'a reason that is not known here')} ({bit:#x})"
        for name, (_, limit) in _COUNTERS.items():
            if limit and (lasted_ns := facts[name] or 0) > 0:
                yield f"GPU clocks held down for {lasted_ns / 1e6:.3g} ms by {limit}"
        others = int(facts["gpu_processes"] or 0) - self.expected_workers
        if others > 0:
            yield f"{others} other process{'es' if others > 1 else ''} on the GPU"


def _visible_handle(nvml: Any) -> Any:
    """Return NVML's handle of torch's device 0; None if CUDA_VISIBLE_DEVICES, which NVML ignores, hides every GPU.

    A number counts in NVML's order, which is CUDA's if CUDA_DEVICE_ORDER=PCI_BUS_ID or if the GPUs are alike.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    if not first.isdecimal() or int(first) >= nvml.nvmlDeviceGetCount():
        return None
    return nvml.nvmlDeviceGetHandleByIndex(int(first))


def _answer(nvml: Any, question: str, *arguments: Any) -> Any:
    """What NVML answers, None where it says that it cannot; any other error is a fault and goes on."""
    try:
        return getattr(nvml, question)(*arguments)
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_ArgumentVersionMismatch,
        nvml.NVMLError_Deprecated,
    ):
        return None


def _present(*values: int | None) -> list[int]:
    return [value for value in values if value is not None]


def _unlisted(used_bytes: int | None, processes: int | None) -> Iterator[str]:
    """In a container the list may be empty though others are at work; the memory that they hold is seen."""
    if not processes and (used_bytes or 0) > _UNLISTED_BYTES:
        yield (
            f"{(used_bytes or 0) / 2**30:.1f} GiB of GPU memory were in use before the first worker, "
            "by processes that are not listed here"
        )
