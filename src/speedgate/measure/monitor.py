"""Watch a device around each round: record facts, and name the reason to discard a round.

A round is discarded, and measured again, if something other than the work is known to have determined its seconds. The
monitor of a GPU is in `speedgate.measure.nvml`.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from speedgate.measure.host_limits import cpu_quota, usable_cores
from speedgate.measure.host_load import (
    BusyDetector,
    Counters,
    RoundLoad,
    process_family,
    read_counters,
    read_kernel_file,
    round_load,
    tick_s,
    wants_to_run,
)

Fact = float | int | None

_STEAL = 8  # the field of a `cpu` line in /proc/stat; the name is field 0
_REMEDY = "end the other programs, or let such rounds count with --allow-busy"
_PAUSE_S = 0.5  # before a round of a busy host is measured for the third time; doubled each time
_POLL_S, _MOST_POLLS = 0.001, 50  # while the other arm's threads come to rest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Hold the facts around one round and, if the round cannot be used, the reason as a short sentence with numbers.

    The round is repeated at once and then, if it is discarded again, after `pause_s`, which is doubled with each repetition.
    `remedy` is what a user can do about it, if that is simple.
    """

    facts: Mapping[str, Fact]
    discarded_reason: str | None = None
    pause_s: float = 0.0
    remedy: str | None = None


class Monitor(Protocol):
    """Watch one device. A fact that the device cannot provide is None."""

    expected_workers: int  # how many of our workers may be on the device at once

    def facts(self) -> dict[str, Any]:
        """Return the state before the first worker starts, as plain JSON values."""

    def begin(self, pid: int | None = None) -> None:
        """Read the device's state right before a round of the worker with this process id."""

    def end(self) -> Reading:
        """Read it again right after the round."""

    def is_exclusive(self) -> bool:
        """Return True if nobody else is seen to use the device's memory; called while no worker of ours is alive."""

    def close(self) -> None:
        """Release the device; may be called twice."""


class HostMonitor:
    """Watch a Linux host. It discards a round that other programs have disturbed, unless `allows_busy`.

    `stolen_s` and `cpu_pressure_us` of `facts` count from boot.
    """

    def __init__(
        self,
        *,
        expected_workers: int = 1,
        allows_busy: bool = False,
        proc: Path = Path("/proc"),
        cpu0: Path = Path("/sys/devices/system/cpu/cpu0"),
        clock: Callable[[], float] = time.perf_counter,
        session_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.expected_workers = expected_workers
        self._allows_busy = allows_busy
        self._proc = proc
        self._cpu0 = cpu0
        self._clock, self._session_clock = clock, session_clock
        self._pid: int | None = None
        self._families: dict[int, tuple[int, ...]] = {}
        self._detectors: dict[int, BusyDetector] = {}
        self._before: Counters | None = None

    def facts(self) -> dict[str, Any]:
        load = read_kernel_file(self._proc / "loadavg")
        return {
            "governor": read_kernel_file(self._cpu0 / "cpufreq" / "scaling_governor"),
            "load_1min": float(load.split()[0]) if load else None,
            "cores": usable_cores(),
            "cpu_quota": cpu_quota(proc=self._proc),
            "stolen_s": self._stolen_s(),
            "cpu_pressure_us": self._pressure_us(),
            "allows_busy": self._allows_busy,
        }

    def begin(self, pid: int | None = None) -> None:
        self._pid = pid
        if pid is not None and pid not in self._families:
            self._families[pid], self._detectors[pid] = process_family(pid, proc=self._proc), BusyDetector()
        # Threads of OpenMP stay awake for some milliseconds after a round. Those of the other arm would disturb this one.
        others = [other for family in self._families.values() if pid not in family for other in family]
        for _ in range(_MOST_POLLS):
            if not wants_to_run(others, proc=self._proc):
                break
            time.sleep(_POLL_S)
        self._before = self._read()

    def end(self) -> Reading:
        assert self._before is not None, "begin() must be called before end()"
        load = round_load(self._before, self._read())
        facts = {"waited_s": load.waited_s, "others_s": load.others_s, "stolen_s": load.stolen_s}
        reason = self._discarded_reason(load)
        return Reading(facts=facts, discarded_reason=reason, pause_s=_PAUSE_S, remedy=_REMEDY)

    def _read(self) -> Counters:
        family = () if self._pid is None else self._families[self._pid]
        session_s = 0.0 if self._pid == os.getpid() else self._session_clock()
        return read_counters(family, time_s=self._clock(), session_s=session_s, proc=self._proc)

    def _discarded_reason(self, load: RoundLoad) -> str | None:
        if self._pid is None or self._allows_busy:
            return None
        reason = self._detectors[self._pid].reason(load)
        if reason is not None:
            family = process_family(self._pid, proc=self._proc)
            if family != self._families[self._pid]:  # a new child process used the processors: begin again with it
                self._families[self._pid], self._detectors[self._pid] = family, BusyDetector()
                return None
        return reason

    def is_exclusive(self) -> bool:
        return True  # a host always has other processes, and their memory can be swapped out

    def close(self) -> None:
        """Do nothing: no handle is held."""

    def _stolen_s(self) -> float | None:
        fields = (read_kernel_file(self._proc / "stat") or "").partition("\n")[0].split()
        return int(fields[_STEAL]) * tick_s() if len(fields) > _STEAL else None

    def _pressure_us(self) -> int | None:
        pressure = read_kernel_file(self._proc / "pressure" / "cpu")
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


_TIMES_AT_LIMITS = ("power_cap_ns", "thermal_ns", "sync_boost_ns", "board_limit_ns", "reliability_ns")
_RULES: Mapping[str, Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    # Keep each round's clock beside the median: seconds times clock are cycles, a second opinion on a slow round.
    "sm_clock_mhz": {"sm_clocks_mhz": list, "sm_clock_min_mhz": min, "sm_clock_median_mhz": statistics.median},
    "temperature_c": {"temperature_max_c": max},
    "pstate": {"pstate_max": max},  # P0 is the fastest
    "gpu_processes": {"gpu_processes_max": max},
    "throttle_reasons": {"throttle_reasons": functools.partial(functools.reduce, operator.or_)},
    **{name: {name: sum} for name in (*_TIMES_AT_LIMITS, "energy_mj", "waited_s", "others_s", "stolen_s")},
}
