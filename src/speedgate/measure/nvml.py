"""Query NVML for the facts of an NVIDIA GPU and for its state around a round. Never creates a CUDA context.

A query that NVML cannot answer, for this GPU, container or driver, returns None, and None discards no round. An unknown error
counts as such until the query has been answered once. NVML has no query for locked clocks; the application clocks are recorded
for GPUs that still have them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.measure.monitor import Fact, Reading, counter_increase

# Bits of the mask of reasons for lowered clocks, as numbers: new drivers add bits, and nvidia-ml-py's mask of all reasons
# misses two. A bit that is not listed here discards the round, so an unknown reason does too.
_HARMLESS = (
    0x1  # idle: normal between rounds
    | 0x2  # application clocks: a setting, the same in every round
    | 0x4  # software power cap: normal at full load; the power limit is part of the GPU key
    | 0x100  # display clocks: a setting too
)
_REASONS = {
    0x8: "hardware slowdown",  # also set by a change of P-state (DCGM); discarded in that case too
    # All GPUs of a sync boost group run at the lowest clock of the group. The cause, such as heat, is reported by another
    # GPU only, and the seconds measured here depend on it.
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x200: "board limit",
    0x400: "reliability limit",
}
# NVML counts how long each limit held the clocks down, which covers the time between two snapshots of the reasons. A limit
# with a name here discards the round.
_COUNTERS = {
    "power_cap_ns": ("NVML_PERF_POLICY_POWER", None),
    "thermal_ns": ("NVML_PERF_POLICY_THERMAL", "the thermal limit"),
    "sync_boost_ns": ("NVML_PERF_POLICY_SYNC_BOOST", "sync boost"),
    "board_limit_ns": ("NVML_PERF_POLICY_BOARD_LIMIT", "the board limit"),
    "reliability_ns": ("NVML_PERF_POLICY_RELIABILITY", "the reliability limit"),
}
# More memory in use than this, without a listed process, belongs to somebody; a driver holds less.
_UNLISTED_BYTES = 2**30

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


# What to do about an error of NVML, by the name of nvidia-ml-py's class; `nvidia-smi` often shows the same error.
_REMEDIES = {
    "NVMLError_NoPermission": "this user or container may not read it: give the container the whole GPU (inside a MIG"
    " instance some drivers refuse, NVIDIA/nvidia-container-toolkit#842), or the user access to /dev/nvidia*",
    "NVMLError_LibRmVersionMismatch": "the driver was updated while it was loaded: restart the machine, or load its modules"
    " again",
    "NVMLError_NotSupported": "this driver does not describe this kind of GPU, and without it there is no GPU key: use a"
    " whole GPU or a newer driver",
    "NVMLError_DriverNotLoaded": "its kernel module is not loaded: load it, or install the driver again",
    "NVMLError_LibraryNotFound": "NVML's library is missing: install it, or start the container with"
    " NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    "NVMLError_GpuIsLost": "it has fallen off the bus: restart the machine",
}
_NO_DRIVER = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")
_NVIDIA_PCI_VENDOR, _DISPLAY_PCI_CLASS = "0x10de", "0x03"


class GpuError(ValueError):
    """A GPU that is there and cannot be used: one line with NVML's error and what to do about it."""


@contextlib.contextmanager
def first_gpu() -> Iterator[Gpu | None]:
    """Open NVML and yield the GPU that is torch's device 0; None if there is no GPU or no visible one.

    Raises `GpuError` if there is a GPU and NVML cannot describe it: taking the CPU instead would be silent and wrong.
    """
    import pynvml

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not (visible.isdecimal() or visible.startswith(("GPU-", "MIG-"))):
        yield None
        return
    with _errors_in_words(pynvml):
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            if type(error).__name__ in _NO_DRIVER and not _has_gpu(type(error).__name__):
                yield None
                return
            raise
        try:
            handle = _visible_handle(pynvml, visible)
            yield None if handle is None else Gpu(pynvml, handle)
        finally:
            pynvml.nvmlShutdown()


@contextlib.contextmanager
def _errors_in_words(nvml: Any) -> Iterator[None]:
    """Turn an error of NVML into a `GpuError`."""
    try:
        yield
    except nvml.NVMLError as error:
        remedy = _REMEDIES.get(type(error).__name__, "`nvidia-smi` may say more")
        raise GpuError(
            f"there is a GPU here that cannot be used: NVML says {str(error).rstrip('.')!r}; {remedy}; to measure the CPU"
            " instead, use --device cpu"
        ) from error


def _has_gpu(error_name: str, *, dev: Path = Path("/dev"), sys: Path = Path("/sys")) -> bool:
    """Return True if this machine has an NVIDIA GPU although NVML did not start.

    In a container without GPUs /sys still lists those of the host, so it counts only where NVML's library is installed.
    """
    if any(dev.glob("nvidia[0-9]*")):
        return True
    return error_name == "NVMLError_DriverNotLoaded" and any(
        _kernel_word(device / "vendor") == _NVIDIA_PCI_VENDOR
        and _kernel_word(device / "class").startswith(_DISPLAY_PCI_CLASS)
        for device in (sys / "bus/pci/devices").glob("*")
    )


def _kernel_word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def compute_capability() -> tuple[int, int] | None:
    """Return CUDA's compute capability of torch's device 0, as major and minor; None if there is no GPU or no answer."""
    with first_gpu() as gpu:
        capability = gpu.query("nvmlDeviceGetCudaComputeCapability") if gpu is not None else None
    return None if capability is None else (int(capability[0]), int(capability[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Snapshot:
    """Hold the state of the GPU at one moment. The `counters` count from the loading of the driver."""

    reasons: int | None
    processes: int | None
    counters: Mapping[str, int | None]


class Gpu:
    """Query NVML about one GPU."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._answered: set[tuple[str, ...]] = set()

    def query(self, function: str, *constants: str, field: str | None = None) -> Any:
        """Return NVML's answer about this GPU, or one field of it; None if it has none. `constants` are NVML's, by name.

        An older nvidia-ml-py lacks some of the names, and in a sandbox or a virtual machine an error may be an unknown one.
        """
        names = (function, *constants)
        if not all(hasattr(self._nvml, name) for name in names):
            return None
        arguments = (self._handle, *(getattr(self._nvml, name) for name in constants))
        answer = _answer(self._nvml, function, *arguments, may_be_unknown=names not in self._answered)
        if answer is not None:
            self._answered.add(names)
        return answer if answer is None or field is None else getattr(answer, field)

    def query_first(self, *queries: Sequence[str], field: str | None = None) -> Any:
        """Return the first answer to one of these queries, the newest first: older drivers know only the older ones."""
        answers = (self.query(*query, field=field) for query in queries)
        return next((answer for answer in answers if answer is not None), None)

    @property
    def name(self) -> str:
        with _errors_in_words(self._nvml):
            return str(_text(self._nvml.nvmlDeviceGetName(self._handle)))

    @property
    def memory_bytes(self) -> int:
        with _errors_in_words(self._nvml):
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    @property
    def power_limit_w(self) -> int | None:
        """The power limit in watts; None if the GPU has none. Any other error is raised: it would change the GPU key."""
        with _errors_in_words(self._nvml):
            try:
                return round(int(self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle)) / 1000)
            except self._nvml.NVMLError_NotSupported:
                return None

    def driver(self) -> Any:
        return _answer(self._nvml, "nvmlSystemGetDriverVersion")

    def snapshot(self) -> _Snapshot:
        counters = {
            name: self.query("nvmlDeviceGetViolationStatus", policy, field="violationTime")
            for name, (policy, _) in _COUNTERS.items()
        }
        counters["energy_mj"] = self.query("nvmlDeviceGetTotalEnergyConsumption")
        reasons = self.query_first(
            ("nvmlDeviceGetCurrentClocksEventReasons",), ("nvmlDeviceGetCurrentClocksThrottleReasons",)
        )
        return _Snapshot(reasons=reasons, processes=self.processes(), counters=counters)

    def processes(self) -> int | None:
        listed = self.query("nvmlDeviceGetComputeRunningProcesses_v3")
        return None if listed is None else len(listed)

    def used_bytes(self) -> int | None:
        """Return the memory in use, without the driver's reserve if this driver reports the reserve separately."""
        function = "nvmlDeviceGetMemoryInfo"
        used_bytes: int | None = self.query_first((function, "nvmlMemory_v2"), (function,), field="used")
        return used_bytes

    def temperature_c(self) -> int | None:
        sensor = "NVML_TEMPERATURE_GPU"
        temperature_c: int | None = self.query_first(
            ("nvmlDeviceGetTemperatureV", sensor), ("nvmlDeviceGetTemperature", sensor)
        )
        return temperature_c

    def watts(self, function: str) -> int | None:
        milliwatts = self.query(function)
        return None if milliwatts is None else round(milliwatts / 1000)

    def current(self, function: str) -> Any:
        """Return a mode's current state; NVML also returns the state after the next restart."""
        states = self.query(function)
        return None if states is None else states[0]


class NvmlMonitor:
    """Watch torch's first GPU. Discards a round if more compute processes than `expected_workers` are on it.

    Processes are counted, not identified, because in a container NVML may report the ids that processes have on the host.
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
        """Return the state before the first worker starts; modes are NVML's own numbers."""
        gpu = self._gpu
        used_bytes, processes = gpu.used_bytes(), gpu.processes()
        self._reasons_for_all_rounds = list(_unlisted_memory(used_bytes, processes))
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
            "utilisation_percent": gpu.query("nvmlDeviceGetUtilizationRates", field="gpu"),
            **{name: gpu.query(*function) for name, function in _FACT_QUERIES.items()},
        }

    def begin(self, pid: int | None = None) -> None:  # noqa: ARG002 - the GPU's own counters suffice
        assert self._reasons_for_all_rounds is not None, "facts() must be called before the first worker starts"
        self._before = self._gpu.snapshot()

    def end(self) -> Reading:
        assert self._before is not None, "begin() must be called before end()"
        # Read the clock first: the GPU is idle now and will lower it.
        facts: dict[str, Fact] = {
            "sm_clock_mhz": self._gpu.query("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
            "pstate": self._gpu.query("nvmlDeviceGetPerformanceState"),
            "temperature_c": self._gpu.temperature_c(),
        }
        before, after = self._before, self._gpu.snapshot()
        self._before = None
        reasons = [value for value in (before.reasons, after.reasons) if value is not None]
        processes = [value for value in (before.processes, after.processes) if value is not None]
        facts["throttle_reasons"] = functools.reduce(operator.or_, reasons) if reasons else None
        facts["gpu_processes"] = max(processes, default=None)
        facts |= {name: counter_increase(before.counters[name], count) for name, count in after.counters.items()}
        return Reading(facts=facts, discarded_reason="; ".join(self._discard_reasons(facts)) or None)

    def is_exclusive(self) -> bool:
        assert self._reasons_for_all_rounds is not None, "facts() must be called before the first worker starts"
        return not (self._reasons_for_all_rounds or self._gpu.processes())

    def close(self) -> None:
        self._open.close()

    def _discard_reasons(self, facts: Mapping[str, Fact]) -> Iterator[str]:
        assert self._reasons_for_all_rounds is not None
        yield from self._reasons_for_all_rounds
        reasons = int(facts["throttle_reasons"] or 0) & ~_HARMLESS
        for bit in (1 << shift for shift in range(reasons.bit_length()) if reasons >> shift & 1):
            yield f"GPU clocks lowered by {_REASONS.get(bit, 'an unknown reason')} ({bit:#x})"
        for name, (_, limit) in _COUNTERS.items():
            if limit and (held_ns := facts[name] or 0) > 0:
                yield f"GPU clocks held down for {held_ns / 1e6:.3g} ms by {limit}"
        foreign = int(facts["gpu_processes"] or 0) - self.expected_workers
        if foreign > 0:
            yield f"{foreign} other process{'es' if foreign > 1 else ''} on the GPU"


def _visible_handle(nvml: Any, visible: str) -> Any:
    """Return NVML's handle of torch's device 0, the first of CUDA_VISIBLE_DEVICES; None if there is no such GPU.

    A number is an index in NVML's order, which is CUDA's order if CUDA_DEVICE_ORDER=PCI_BUS_ID or if all GPUs are alike.
    CUDA takes the first instance of a GPU that is divided (MIG), and NVML would describe the whole GPU.
    """
    if not visible.isdecimal():
        return nvml.nvmlDeviceGetHandleByUUID(visible)
    if int(visible) >= nvml.nvmlDeviceGetCount():
        return None
    handle = nvml.nvmlDeviceGetHandleByIndex(int(visible))
    modes = _answer(nvml, "nvmlDeviceGetMigMode", handle)
    if modes is None or modes[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return handle
    for index in range(_answer(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        with contextlib.suppress(nvml.NVMLError_NotFound):
            return nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
    raise GpuError(
        f"GPU {visible} is divided (MIG) and has no instance: create one, or use --device cpu to measure the CPU instead"
    )


def _answer(nvml: Any, function: str, *arguments: Any, may_be_unknown: bool = False) -> Any:
    """Call a function of NVML; None if NVML cannot answer. Any other error, such as a lost GPU, is a `GpuError`."""
    with _errors_in_words(nvml):
        try:
            return _text(getattr(nvml, function)(*arguments))
        except nvml.NVMLError_Unknown:
            if may_be_unknown:
                return None
            raise
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_ArgumentVersionMismatch,
            nvml.NVMLError_Deprecated,
            nvml.NVMLError_InvalidArgument,  # some queries about a MIG instance
        ):
            return None


def _text(answer: Any) -> Any:
    """Decode a text, which older releases of nvidia-ml-py return as bytes; `str` of bytes would begin with a `b`."""
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer


def _unlisted_memory(used_bytes: int | None, processes: int | None) -> Iterator[str]:
    """Yield a reason if memory is in use without a listed process: in a container the list may be empty."""
    if not processes and used_bytes is not None and used_bytes > _UNLISTED_BYTES:
        yield (
            f"{used_bytes / 2**30:.1f} GiB of GPU memory were in use before the first worker, "
            "by processes that NVML does not list here"
        )
