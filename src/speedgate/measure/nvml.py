"""The health of an NVIDIA GPU around a round, asked of NVML. Never creates a CUDA context.

What NVML does not answer, on this GPU, in this container or with this driver, is None, and None voids nothing. It has
no question for locked clocks; the application clocks are recorded where a GPU still has them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from speedgate.measure.machine import visible_handle
from speedgate.measure.monitor import Fact, Reading, increase

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

_PLAIN = {
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


class NvmlMonitor:
    """Torch's first GPU, of whose compute processes `own_processes` are ours; each one more voids the round.

    They are counted and not recognised, because in a container NVML may tell the ids that processes have on the host.
    """

    def __init__(self, *, own_processes: int = 1) -> None:
        import pynvml

        self.own_processes = own_processes
        self._lasting: list[str] | None = None  # what voids every round; known once `facts` was asked
        self._before: _Look | None = None
        with contextlib.ExitStack() as stack:
            pynvml.nvmlInit()
            stack.callback(pynvml.nvmlShutdown)
            handle = visible_handle(pynvml)
            if handle is None:
                raise ValueError(
                    "--device cuda: the NVIDIA driver reports no GPU here; use --device cpu or --device auto"
                )
            self._gpu = _Gpu(pynvml, handle)
            self._open = stack.pop_all()

    def facts(self) -> dict[str, Any]:
        """The state before the first worker is opened; modes are NVML's own numbers."""
        gpu = self._gpu
        used_bytes, processes = gpu.used_bytes(), gpu.processes()
        self._lasting = list(_unlisted(used_bytes, processes))
        uuid = gpu.ask("nvmlDeviceGetUUID")
        return {
            "driver": gpu.driver(),
            "uuid_sha256": hashlib.sha256(uuid.encode()).hexdigest()[:12] if uuid else None,
            "mig_mode": gpu.current("nvmlDeviceGetMigMode"),
            "ecc_mode": gpu.current("nvmlDeviceGetEccMode"),
            "power_limit_w": gpu.watts("nvmlDeviceGetEnforcedPowerLimit"),
            "power_limit_default_w": gpu.watts("nvmlDeviceGetPowerManagementDefaultLimit"),
            "temperature_c": gpu.temperature_c(),
            "memory_used_bytes": used_bytes,
            "gpu_processes": processes,
            "utilisation_percent": gpu.utilisation_percent(),
            **{name: gpu.ask(*question) for name, question in _PLAIN.items()},
        }

    def begin(self) -> None:
        assert self._lasting is not None, "facts() comes before the first worker, and so before the first round"
        self._before = self._gpu.look()

    def end(self) -> Reading:
        assert self._before is not None, "a round that has not begun"
        # The clock first: the GPU has nothing to do any more and will lower it.
        facts: dict[str, Fact] = {
            "sm_clock_mhz": self._gpu.ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
            "pstate": self._gpu.ask("nvmlDeviceGetPerformanceState"),
            "temperature_c": self._gpu.temperature_c(),
        }
        before, after = self._before, self._gpu.look()
        self._before = None
        reasons, processes = _known(before.reasons, after.reasons), _known(before.processes, after.processes)
        facts["throttle_reasons"] = functools.reduce(operator.or_, reasons) if reasons else None
        facts["gpu_processes"] = max(processes, default=None)
        facts |= {name: increase(before.counters[name], count) for name, count in after.counters.items()}
        return Reading(facts=facts, void="; ".join(self._void(facts)) or None)

    def alone(self) -> bool:
        assert self._lasting is not None, "facts() comes before the first worker"
        return not (self._lasting or self._gpu.processes())

    def close(self) -> None:
        self._open.close()

    def _void(self, facts: Mapping[str, Fact]) -> Iterator[str]:
        assert self._lasting is not None
        yield from self._lasting
        reasons = int(facts["throttle_reasons"] or 0) & ~_HARMLESS
        for bit in (1 << shift for shift in range(reasons.bit_length()) if reasons >> shift & 1):
            yield f"GPU clocks lowered by {_REASONS.get(bit, 'a reason that is not known here')} ({bit:#x})"
        for name, (_, limit) in _COUNTERS.items():
            if limit and (lasted_ns := facts[name] or 0) > 0:
                yield f"GPU clocks held down for {lasted_ns / 1e6:.3g} ms by {limit}"
        others = int(facts["gpu_processes"] or 0) - self.own_processes
        if others > 0:
            yield f"{others} other process{'es' if others > 1 else ''} on the GPU"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    """The GPU at one moment; `counters` run from the loading of the driver."""

    reasons: int | None
    processes: int | None
    counters: Mapping[str, int | None]


class _Gpu:
    """The questions to NVML about one GPU. Where there are two of a kind, older drivers know the second only."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def ask(self, question: str, *constants: str) -> Any:
        """NVML's answer about this GPU, None where it has none; constants are given by their names."""
        return _answer(self._nvml, question, self._handle, *(getattr(self._nvml, name) for name in constants))

    def driver(self) -> Any:
        return _answer(self._nvml, "nvmlSystemGetDriverVersion")

    def look(self) -> _Look:
        counters = {
            name: self._part("violationTime", "nvmlDeviceGetViolationStatus", policy)
            for name, (policy, _) in _COUNTERS.items()
        }
        counters["energy_mj"] = self.ask("nvmlDeviceGetTotalEnergyConsumption")
        reasons = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return _Look(reasons=reasons, processes=self.processes(), counters=counters)

    def processes(self) -> int | None:
        listed = self.ask("nvmlDeviceGetComputeRunningProcesses_v3")
        return None if listed is None else len(listed)

    def used_bytes(self) -> int | None:
        """Memory in use without what the driver reserves; with it where the driver does not tell them apart."""
        used_bytes: int | None = self._part("used", "nvmlDeviceGetMemoryInfo", "nvmlMemory_v2")
        if used_bytes is None:
            used_bytes = self._part("used", "nvmlDeviceGetMemoryInfo")
        return used_bytes

    def temperature_c(self) -> int | None:
        temperature_c: int | None = self.ask("nvmlDeviceGetTemperatureV", "NVML_TEMPERATURE_GPU")
        if temperature_c is None:
            temperature_c = self.ask("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU")
        return temperature_c

    def utilisation_percent(self) -> Any:
        return self._part("gpu", "nvmlDeviceGetUtilizationRates")

    def watts(self, question: str) -> int | None:
        milliwatts = self.ask(question)
        return None if milliwatts is None else round(milliwatts / 1000)

    def current(self, question: str) -> Any:
        """The first of a mode's two states; the second holds after the next restart."""
        states = self.ask(question)
        return None if states is None else states[0]

    def _part(self, name: str, question: str, *constants: str) -> Any:
        answer = self.ask(question, *constants)
        return None if answer is None else getattr(answer, name)


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


def _known(*values: int | None) -> list[int]:
    return [value for value in values if value is not None]


def _unlisted(used_bytes: int | None, processes: int | None) -> Iterator[str]:
    """In a container the list may be empty though others are at work; the memory that they hold is seen."""
    if not processes and (used_bytes or 0) > _UNLISTED_BYTES:
        yield (
            f"{(used_bytes or 0) / 2**30:.1f} GiB of GPU memory were in use before the first worker, "
            "by processes that are not listed here"
        )
