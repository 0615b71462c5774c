"""What each second of a recording went to: a line of JSON a phase, on disk as soon as it is over, and a table at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

NAME = "times.jsonl"
DONE, FAILED, ENDED = "done", "failed", "ended"  # ENDED: cut short when the budget was over
CLAIMS, START, CLOSING = "claims, outside of the phases above", "start of this command", "end of this command"
_COUNTED = re.compile(r" \d+ of \d+$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a case, without the seconds of those inside it. `command` tells the commands of a recording apart."""

    command: str
    case: str
    phase: str
    started_at: str
    seconds: float
    outcome: str


@dataclasses.dataclass(kw_only=True, repr=False)
class PhaseLog:
    """The phases of this command, behind those that `path` holds of earlier ones. Phases may contain others."""

    path: Path
    command: str
    clock: Callable[[], float] = time.monotonic
    entries: list[Phase] = dataclasses.field(default_factory=list)
    _inside_s: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries = [*read(self.path), *self.entries]

    @contextlib.contextmanager
    def phase(self, case: str, phase: str, *, ended: type[BaseException] | tuple[()] = ()) -> Iterator[None]:
        """Time what is done inside; an exception of the kind `ended` says that it was cut short."""
        started_s, started_at = self.clock(), now()
        self._inside_s.append(0.0)
        outcome = FAILED
        try:
            yield
            outcome = DONE
        except ended:
            outcome = ENDED
            raise
        finally:
            seconds = self.clock() - started_s
            own_s = max(seconds - self._inside_s.pop(), 0.0)
            self.add(case, phase, seconds=own_s, started_at=started_at, outcome=outcome)
            if self._inside_s:
                self._inside_s[-1] += seconds

    def add(self, case: str, phase: str, *, seconds: float, started_at: str, outcome: str = DONE) -> None:
        """Write a phase that is over."""
        entry = Phase(
            command=self.command,
            case=case,
            phase=_COUNTED.sub("", phase),
            started_at=started_at,
            seconds=seconds,
            outcome=outcome,
        )
        self.entries.append(entry)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(dataclasses.asdict(entry)) + "\n"
        with self.path.open("ab") as stream:
            stream.write(line.encode())  # at once, so that a kill leaves all of it or nothing

    def expected_s(self, case: str, phase: str) -> float:
        """The seconds that a phase is expected to take; 0 where nothing like it has been seen.

        What it took in this command, or the longest in earlier ones, which may have compiled what a cache has by now; of a
        case that never came so far, the longest of any. At least as long as an attempt that was ended.
        """
        name = _COUNTED.sub("", phase)
        like = [entry for entry in self.entries if entry.phase == name]
        own = [entry for entry in like if entry.case == case]
        done = [entry for entry in own if entry.outcome == DONE]
        ended = [entry.seconds for entry in own if entry.outcome == ENDED]
        here = [entry.seconds for entry in done if entry.command == self.command]
        if here:
            return here[-1]
        known = [entry.seconds for entry in done or like if entry.outcome == DONE]
        return max([*known, *ended], default=0.0)


def read(path: Path) -> list[Phase]:
    """The phases of a file; a line that was cut short, or is none of ours, is passed over: the rest is as true."""
    if not path.is_file():
        return []
    return [
        found for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if (found := _parsed(line))
    ]


def table(entries: Sequence[Phase], *, command: str, wall_s: float) -> list[str]:
    """Seconds by phase of one command, longest first; the last line is what no phase covers."""
    own = [entry for entry in entries if entry.command == command]
    names = {entry.phase: [one.seconds for one in own if one.phase == entry.phase] for entry in own}
    rows = [(name, len(seconds), sum(seconds)) for name, seconds in names.items()]
    rows.sort(key=lambda row: -row[2])
    covered_s = sum(row[2] for row in rows)
    shown = [(name, str(count), f"{seconds:.1f} s", _share(seconds, wall_s)) for name, count, seconds in rows]
    rest_s = max(wall_s - covered_s, 0.0)
    shown.append(("in no phase", "", f"{rest_s:.1f} s", _share(rest_s, wall_s)))
    shown.append(("this command", "", f"{wall_s:.1f} s", ""))
    widths = [max(len(row[column]) for row in shown) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def now() -> str:
    """UTC in ISO 8601, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def running_s() -> float:
    """Seconds since this process was started, interpreter and imports included."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # the 22nd of proc(5), after pid and name
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def _parsed(line: str) -> Phase | None:
    try:
        data = json.loads(line)
        entry = Phase(**data)
        return dataclasses.replace(entry, seconds=float(entry.seconds)) if 0 <= entry.seconds < 1e9 else None
    except (TypeError, ValueError, RecursionError):
        return None


def _share(seconds: float, wall_s: float) -> str:
    return f"{seconds / wall_s:.1%}" if wall_s > 0 else ""
