"""Limits of this process on a CPU that change what is measured: its cores, its quota, threads, instruction set, denormals."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ONEDNN_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the older name is read if the newer one is not set
_UNLIMITED_ISA = ("", "ALL", "DEFAULT")


def cpu_conditions(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return those of `CPU_CONDITIONS` that need no library: plain JSON values, None for a limit that is not set."""
    return {
        "cores": usable_cores(),
        "cpu_quota": cpu_quota(),
        "onednn_max_cpu_isa": onednn_max_cpu_isa(environ),
        # Halving the smallest normal number gives a denormal one, or 0 if this thread flushes those.
        "flushes_denormals": sys.float_info.min / 2 == 0.0,
    }


def usable_cores() -> int:
    """Return how many cores this process may run on (taskset, cpusets)."""
    return len(os.sched_getaffinity(0))


def onednn_max_cpu_isa(environ: Mapping[str, str]) -> str | None:
    """Return the newest instruction set that oneDNN may use by its environment variable; None if that is any."""
    value = next((environ[name] for name in _ONEDNN_VARIABLES if name in environ), "").strip().upper()
    return None if value in _UNLIMITED_ISA else value


def cpu_quota(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many CPUs' time the cgroups of this process may use (`docker run --cpus`); None if there is no limit.

    A group's limit holds for those below it, so the lowest on the way up counts. Torch does not see it and starts a thread
    for each core (oneapi-src/oneTBB#190).
    """
    quotas = [quota for folder in _cgroup_folders(proc, cgroups) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _cgroup_folders(proc: Path, cgroups: Path) -> Iterator[Path]:
    """Yield the folder of this process's cgroup and of each group above it, for cgroup v2 and for v1's CPU controller."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            roots = [cgroups, cgroups / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [cgroups / controllers, cgroups / "cpu"]
        else:
            continue
        group = Path(path.lstrip("/"))  # in a container the path may be the host's, and its own group is the root
        for root in roots:
            yield from (root / parent for parent in (group, *group.parents))


def _quota(folder: Path) -> float | None:
    version_2 = _read(folder / "cpu.max").split()
    quota, period = (
        version_2 if len(version_2) == 2 else (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    )
    try:
        return int(quota) / int(period) if int(quota) > 0 else None  # v1 writes -1 for no limit, v2 "max"
    except (ValueError, ZeroDivisionError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
