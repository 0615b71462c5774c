"""See whether other programs disturbed a round on a Linux host, from the kernel's counters of processor time.

How each share was chosen: `docs/busy.md`.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# Threads that spin at a barrier wait for each other's processor on an idle machine too, at no cost.
MAX_WAIT_SHARE = 0.08
MAX_STEAL_SHARE = 0.02
# Others on idle processors cost no wait, but they share caches, memory and, with hyper-threads, the cores.
MAX_OTHERS_SHARE = 0.05
# A thread that is woken waits a little on an idle machine too; behind a busy neighbour it waits for milliseconds.
WAKE_S = 50e-6
# `/proc/stat` counts in ticks of 10 ms, too coarse for one short round, and the kernel takes some milliseconds for itself now and
# then. So every share is judged over this time, or over one round if that is longer.
WINDOW_S = 1.0
# Threads that waited longer than others ran, by this factor, waited for each other: there are more of them than processors.
OWN_WAIT_FACTOR = 1.5

_MISSING = (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP)
_IDLE, _IOWAIT, _STEAL = 4, 5, 8  # fields of a `cpu` line in /proc/stat; the name is field 0
# Fields of /proc/PID/stat after the name; the times are those of user and system, then of ended children.
_STATE, _PARENT, _FIRST_TIME, _LAST_TIME = 0, 1, 11, 14


def tick_s() -> float:
    """Return the unit of processor time in /proc."""
    return 1 / os.sysconf("SC_CLK_TCK")


def read_kernel_file(path: Path) -> str | None:
    """Return the text of a kernel file, None if this kernel does not have it or does not let us read it."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counters:
    """Hold what the kernel has counted up to one moment, in seconds; None for what it does not tell.

    `idle_s` and `stolen_s` are of the `processors` that the worker may use. `waits` has for each thread of the worker the time
    in which it could have run and got no processor, and how often it got one. `ours_s` is the time for which the worker ran, with
    threads and children that have ended, and this process, which reads these counters and talks to the worker.
    """

    time_s: float
    processors: int
    idle_s: float | None
    stolen_s: float | None
    ours_s: float | None
    waits: Mapping[str, tuple[float, int]] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundLoad:
    """Hold the load of one round, in seconds: all its threads' waits, what others ran (steal included), and steal.

    `dispatches` counts how often one of the threads got a processor.
    """

    wall_s: float
    processors: int
    waited_s: float | None
    dispatches: int
    others_s: float | None
    stolen_s: float | None

    @property
    def excess_wait_s(self) -> float:
        """The waits, less what a thread that is woken waits on an idle machine too."""
        return max((self.waited_s or 0.0) - WAKE_S * self.dispatches, 0.0)


def read_counters(
    pids: Sequence[int], *, time_s: float, session_s: float = 0.0, proc: Path = Path("/proc")
) -> Counters:
    """Read the counters of the worker's processes and of the processors that it may use; without a worker, of all of ours.

    `session_s` is the processor time of this process, unless it is the worker.
    """
    usable = _usable_processors(pids)
    lines = [line.split() for line in (read_kernel_file(proc / "stat") or "").splitlines() if line.startswith("cpu")]
    rows = [row for row in lines if row[0].removeprefix("cpu") in usable and len(row) > _STEAL]
    process_s = [seconds for pid in pids if (seconds := _process_s(proc / str(pid))) is not None]
    waits = [_thread_waits(proc / str(pid)) for pid in pids]
    return Counters(
        time_s=time_s,
        processors=len(rows),
        idle_s=tick_s() * sum(int(row[_IDLE]) + int(row[_IOWAIT]) for row in rows) if rows else None,
        stolen_s=tick_s() * sum(int(row[_STEAL]) for row in rows) if rows else None,
        ours_s=sum(process_s) + session_s if process_s else None,
        waits={name: wait for process_waits in waits for name, wait in process_waits.items()} or None,
    )


def round_load(before: Counters, after: Counters) -> RoundLoad:
    """Return the load between two readings. A thread that began between them counts, one that ended does not."""
    wall_s = after.time_s - before.time_s
    idle_s, stolen_s, ours_s = (
        None if old is None or new is None else new - old
        for old, new in (
            (before.idle_s, after.idle_s),
            (before.stolen_s, after.stolen_s),
            (before.ours_s, after.ours_s),
        )
    )
    waited_s = others_s = None
    dispatches = 0
    if before.waits is not None and after.waits is not None:
        old = [before.waits.get(name, (0.0, 0)) for name in after.waits]
        waited_s = sum(wait_s for wait_s, _ in after.waits.values()) - sum(wait_s for wait_s, _ in old)
        dispatches = sum(count for _, count in after.waits.values()) - sum(count for _, count in old)
    if idle_s is not None and ours_s is not None and before.processors == after.processors:
        others_s = after.processors * wall_s - idle_s - ours_s
    return RoundLoad(
        wall_s=wall_s,
        processors=after.processors,
        waited_s=waited_s,
        dispatches=dispatches,
        others_s=others_s,
        stolen_s=stolen_s,
    )


class BusyDetector:
    """Decide, round by round of one worker, whether the machine was busy with something else."""

    def __init__(self, *, max_wait_share: float = MAX_WAIT_SHARE, max_others_share: float = MAX_OTHERS_SHARE) -> None:
        self._max_wait_share, self._max_others_share = max_wait_share, max_others_share
        self._window: collections.deque[RoundLoad] = collections.deque()
        self._waited_s = self._others_s = 0.0  # of all rounds

    def reason(self, load: RoundLoad) -> str | None:
        """Return why the round cannot be used, as a short sentence with a number; None if nothing disturbed it."""
        resolution_s = load.processors * tick_s()
        self._window.append(load)
        while sum(entry.wall_s for entry in self._window) - self._window[0].wall_s >= WINDOW_S:
            self._window.popleft()
        self._waited_s += load.excess_wait_s
        self._others_s += load.others_s or 0.0
        reason = self._wait(resolution_s) or self._steal(resolution_s) or self._others(resolution_s)
        if reason is not None:
            self._window.clear()  # the next round is measured after a pause: it has nothing to do with these
        return None if reason is None else f"the machine was busy: {reason}"

    def _wait(self, resolution_s: float) -> str | None:
        wall_s = sum(load.wall_s for load in self._window)
        excess_s = sum(load.excess_wait_s for load in self._window)
        if self._window[-1].others_s is None or excess_s - resolution_s <= self._max_wait_share * wall_s:
            return None
        if self._waited_s > OWN_WAIT_FACTOR * (max(self._others_s, 0.0) + resolution_s):
            return None
        return f"the worker's threads waited for a processor {excess_s / wall_s:.0%} of the time, all added up"

    def _steal(self, resolution_s: float) -> str | None:
        wall_s = sum(load.wall_s for load in self._window)
        stolen_s = sum(load.stolen_s or 0.0 for load in self._window)
        if stolen_s - resolution_s <= MAX_STEAL_SHARE * wall_s:
            return None
        return f"the host of this virtual machine took a processor away for {stolen_s / wall_s:.0%} of the time"

    def _others(self, resolution_s: float) -> str | None:
        capacity_s = sum(load.processors * load.wall_s for load in self._window)
        others_s = sum(load.others_s or 0.0 for load in self._window)
        if others_s - resolution_s <= self._max_others_share * capacity_s:
            return None
        return f"other programs used {others_s / capacity_s:.0%} of the processors"


def process_family(pid: int, *, proc: Path = Path("/proc")) -> tuple[int, ...]:
    """Return a process and the processes that it has started, also indirectly: their time is not that of others."""
    parents = {
        int(folder.name): int(_fields_after_name(text)[_PARENT])
        for folder in proc.iterdir()
        if folder.name.isdigit() and (text := read_kernel_file(folder / "stat"))
    }
    family = [pid]
    for parent in family:  # grows meanwhile
        family += sorted(child for child, of in parents.items() if of == parent)
    return tuple(family)


def wants_to_run(pids: Sequence[int], *, proc: Path = Path("/proc")) -> bool:
    """Return True if a thread of these processes runs or waits for a processor. A process that has ended has none."""
    stats = (read_kernel_file(thread / "stat") for pid in pids for thread in _threads(proc / str(pid)))
    return any(text is not None and _fields_after_name(text)[_STATE] == "R" for text in stats)


def _usable_processors(pids: Sequence[int]) -> set[str]:
    try:
        return {str(number) for number in os.sched_getaffinity(pids[0] if pids else 0)}
    except OSError:  # the worker has ended
        return set()


def _thread_waits(process: Path) -> dict[str, tuple[float, int]]:
    """Return each thread's run delay and dispatches; nothing if the kernel does not count them, and its files hold zeros."""
    texts = {thread.name: read_kernel_file(thread / "schedstat") for thread in _threads(process)}
    times = {name: text.split() for name, text in texts.items() if text}
    if all(ran_ns == "0" for ran_ns, *_ in times.values()):
        return {}
    return {name: (int(waited_ns) / 1e9, int(dispatches)) for name, (_, waited_ns, dispatches) in times.items()}


def _threads(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _process_s(process: Path) -> float | None:
    text = read_kernel_file(process / "stat")
    return tick_s() * sum(map(int, _fields_after_name(text)[_FIRST_TIME : _LAST_TIME + 1])) if text else None


def _fields_after_name(text: str) -> list[str]:
    return text.rpartition(")")[2].split()  # a name may have spaces and brackets
