"""What the machine says of its health around a round: facts that are recorded, and the reason that voids a round.

A round is void where something other than the work is known to have set its seconds; it is measured again. The GPU's
side is `speedgate.measure.nvml`.
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

Fact = float | int | None

_ABSENT = (errno.ENOENT, errno.EACCES, errno.EOPNOTSUPP)  # the last where the kernel keeps no pressure
_STEAL = 8  # the field of a `cpu` line in /proc/stat, its name counted in


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What was seen around one round; `discarded_reason` is a short sentence, in numbers, where the round cannot be used."""

    facts: Mapping[str, Fact]
    discarded_reason: str | None = None


class Monitor(Protocol):
    """What is asked of a device around its rounds. A fact that the device does not tell is None."""

    expected_workers: int  # how many of our workers may be on the device at once

    def facts(self) -> dict[str, Any]:
        """The state before the first worker is opened, as plain JSON values."""

    def begin(self) -> None:
        """Look at the device right before a round."""

    def end(self) -> Reading:
        """Look again right after it."""

    def is_exclusive(self) -> bool:
        """Whether the device's memory is ours, asked while no worker of ours lives, as far as can be told."""

    def close(self) -> None:
        """Let go of the device; harmless when that has been done."""


class HostMonitor:
    """A Linux host. It never voids a round.

    On a CPU, what disturbs a round is other work, in any amount from none to much: no threshold tells a bad round from a
    good one, so that noise is left to the interval, and the steal time stands beside it for whoever reads the result.
    `stolen_s` and `cpu_pressure_us` of `facts` count from the start of the machine.
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
        load = _text(self._proc / "loadavg")
        return {
            "governor": _text(self._cpu0 / "cpufreq" / "scaling_governor"),
            "load_1min": float(load.split()[0]) if load else None,
            "cores": len(os.sched_getaffinity(0)),
            "stolen_s": _seconds(self._stolen_ticks()),
            "cpu_pressure_us": self._pressure_us(),
        }

    def begin(self) -> None:
        self._stolen_before = self._stolen_ticks()

    def end(self) -> Reading:
        return Reading(facts={"stolen_s": _seconds(counter_increase(self._stolen_before, self._stolen_ticks()))})

    def is_exclusive(self) -> bool:
        return True  # a host always has other processes, and what they hold can be swapped out

    def close(self) -> None:
        """Nothing is held."""

    def _stolen_ticks(self) -> int | None:
        fields = (_text(self._proc / "stat") or "").partition("\n")[0].split()
        return int(fields[_STEAL]) if len(fields) > _STEAL else None

    def _pressure_us(self) -> int | None:
        pressure = _text(self._proc / "pressure" / "cpu")
        return int(pressure.partition("\n")[0].rpartition("total=")[2]) if pressure else None


def _seconds(ticks: int | None) -> float | None:
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def counter_increase(before: Any, after: Any) -> Any:
    """How much a counter has grown; None where one side is not known."""
    return None if before is None or after is None else after - before


def summarize(readings: Sequence[Reading]) -> dict[str, Any]:
    """The readings of one process as plain JSON values; a fact that no reading knows is None."""
    found = {}
    for name in {name: None for reading in readings for name in reading.facts}:
        known = [value for reading in readings if (value := reading.facts.get(name)) is not None]
        for summed_up, rule in _RULES[name].items():
            found[summed_up] = rule(known) if known else None
    return found


def _text(path: Path) -> str | None:
    """What a file of the kernel says, None where this kernel has none: a fact, not a fault."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


_SUMMED = (
    "power_cap_ns",
    "thermal_ns",
    "sync_boost_ns",
    "board_limit_ns",
    "reliability_ns",
    "energy_mj",
    "stolen_s",
)
_RULES: Mapping[str, Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    # Each round's beside their median: seconds times clock are cycles, a second opinion on a round that was slow.
    "sm_clock_mhz": {"sm_clocks_mhz": list, "sm_clock_min_mhz": min, "sm_clock_median_mhz": statistics.median},
    "temperature_c": {"temperature_max_c": max},
    "pstate": {"pstate_max": max},  # P0 is the fastest
    "gpu_processes": {"gpu_processes_max": max},
    "throttle_reasons": {"throttle_reasons": functools.partial(functools.reduce, operator.or_)},
    **{name: {name: sum} for name in _SUMMED},
}
