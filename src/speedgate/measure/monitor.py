"""Watch a device around each round: record facts, and name the reason to discard a round.

A round is discarded, and measured again, if something other than the work is known to have determined its seconds. The
monitor of a GPU is in `speedgate.measure.nvml`.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import operator
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from speedgate.measure.host_limits import cpu_quota, usable_cores

Fact = float | int | None

_MISSING_FILE = (errno.ENOENT, errno.EACCES, errno.EOPNOTSUPP)  # the last: a kernel without pressure information
_STEAL = 8  # the field of a `cpu` line in /proc/stat; the name is field 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Hold the facts around one round and, if the round cannot be used, the reason as a short sentence with numbers."""

    facts: Mapping[str, Fact]
    discarded_reason: str | None = None


class Monitor(Protocol):
    """Watch one device. A fact that the device cannot provide is None."""

    expected_workers: int  # how many of our workers may be on the device at once

    def facts(self) -> dict[str, Any]:
        """Return the state before the first worker starts, as plain JSON values."""

    def begin(self) -> None:
        """Read the device's state right before a round."""

    def end(self) -> Reading:
        """Read it again right after the round."""

    def is_exclusive(self) -> bool:
        """Return True if nobody else is seen to use the device's memory; called while no worker of ours is alive."""

    def close(self) -> None:
        """Release the device; may be called twice."""


class HostMonitor:
    """Watch a Linux host. It never discards a round.

    Other work disturbs a round on a CPU by any amount, and no threshold separates a bad round from a good one. So the noise is
    left to the confidence interval, and the steal time is recorded. `stolen_s` and `cpu_pressure_us` of `facts` count from boot.
    """

    def __init__(
        self,
        *,
        expected_workers: int = 1,
        proc: Path = Path("/proc"),
        cpu0: Path = Path("/sys/devices/system/cpu/cpu0"),
    ) -> None:
        self.expected_workers = expected_workers
        self._proc = proc
        self._cpu0 = cpu0
        self._stolen_before: int | None = None

    def facts(self) -> dict[str, Any]:
        load = _read_kernel_file(self._proc / "loadavg")
        return {
            "governor": _read_kernel_file(self._cpu0 / "cpufreq" / "scaling_governor"),
            "load_1min": float(load.split()[0]) if load else None,
            "cores": usable_cores(),
            "cpu_quota": cpu_quota(proc=self._proc),
            "stolen_s": _ticks_to_s(self._stolen_ticks()),
            "cpu_pressure_us": self._pressure_us(),
        }

    def begin(self) -> None:
        self._stolen_before = self._stolen_ticks()

    def end(self) -> Reading:
        return Reading(facts={"stolen_s": _ticks_to_s(counter_increase(self._stolen_before, self._stolen_ticks()))})

    def is_exclusive(self) -> bool:
        return True  # a host always has other processes, and their memory can be swapped out

    def close(self) -> None:
        """Do nothing: no handle is held."""

    def _stolen_ticks(self) -> int | None:
        fields = (_read_kernel_file(self._proc / "stat") or "").partition("\n")[0].split()
        return int(fields[_STEAL]) if len(fields) > _STEAL else None

    def _pressure_us(self) -> int | None:
        pressure = _read_kernel_file(self._proc / "pressure" / "cpu")
        return int(pressure.partition("\n")[0].rpartition("total=")[2]) if pressure else None


def counter_increase(before: Any, after: Any) -> Any:
    """Return how much a counter has grown, None if one of the values is unknown."""
    return None if before is None or after is None else after - before


def summarize(readings: Sequence[Reading]) -> dict[str, Any]:
    """Combine the readings of one process to plain JSON values; a fact that no reading has is None."""
    summary = {}
    for name in {name: None for reading in readings for name in reading.facts}:
        values = [value for reading in readings if (value := reading.facts.get(name)) is not None]
        for summary_name, rule in _RULES[name].items():
            summary[summary_name] = rule(values) if values else None
    return summary


def _ticks_to_s(ticks: int | None) -> float | None:
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def _read_kernel_file(path: Path) -> str | None:
    """Return the text of a kernel file, None if this kernel does not have it or does not let us read it."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        if error.errno in _MISSING_FILE:
            return None
        raise


_TIMES_AT_LIMITS = ("power_cap_ns", "thermal_ns", "sync_boost_ns", "board_limit_ns", "reliability_ns")
_RULES: Mapping[str, Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    # Keep each round's clock beside the median: seconds times clock are cycles, a second opinion on a slow round.
    "sm_clock_mhz": {"sm_clocks_mhz": list, "sm_clock_min_mhz": min, "sm_clock_median_mhz": statistics.median},
    "temperature_c": {"temperature_max_c": max},
    "pstate": {"pstate_max": max},  # P0 is the fastest
    "gpu_processes": {"gpu_processes_max": max},
    "throttle_reasons": {"throttle_reasons": functools.partial(functools.reduce, operator.or_)},
    **{name: {name: sum} for name in (*_TIMES_AT_LIMITS, "energy_mj", "stolen_s")},
}
