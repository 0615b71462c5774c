"""Keep a recording within its budget of seconds, and log where those seconds went.

The log is a file with one line of JSON per activity, written when the activity is over.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from speedgate.measure.worker import OutOfTime
from speedgate.results.text import aligned

TIMINGS_FILE = "times.jsonl"
DONE, FAILED, ENDED = "done", "failed", "ended"  # ENDED: cut short because the budget was over
TESTS, START, CLOSING = "rest of the tests", "start of this command", "end of this command"

# Reserved for the end: a worker is killed after two seconds, then the recording is written and reported.
_CLOSING_S, _CLOSING_SHARE = 10.0, 0.1
_LONGEST_S = 1e9  # a longer activity in a log is a corrupt line
_COUNT_SUFFIX = re.compile(r" \d+ of (at most )?\d+$")


def utc_now() -> str:
    """Return the time in UTC, in ISO 8601 to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def process_age_s() -> float:
    """Return the seconds since this process was started, interpreter and imports included."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # the 22nd field of proc(5); pid and name are cut off
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


class TimingEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one activity of a case; `seconds` excludes the activities inside it.

    `command` separates the commands that contributed to one recording.
    """

    command: str
    case: str
    activity: str
    started_at: str
    seconds: Annotated[float, Meta(ge=0, lt=_LONGEST_S)]
    outcome: str


@dataclasses.dataclass(kw_only=True, repr=False)
class TimingLog:
    """Log the activities of this command after those of earlier commands in `path`. Activities may be nested.

    `earlier` are entries of other logs, by which the seconds of an activity are expected too.
    """

    path: Path
    command: str
    clock: Callable[[], float] = time.monotonic
    earlier: Sequence[TimingEntry] = ()
    entries: list[TimingEntry] = dataclasses.field(init=False)
    _nested_s: list[float] = dataclasses.field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.entries = [*self.earlier, *read_timings(self.path)]

    @contextlib.contextmanager
    def time(self, case: str, activity: str, *, ended_by: type[BaseException] | tuple[()] = ()) -> Iterator[None]:
        """Time the body and log it; an exception of type `ended_by` means that the body was cut short."""
        started_s, started_at = self.clock(), utc_now()
        self._nested_s.append(0.0)
        outcome = FAILED
        try:
            yield
            outcome = DONE
        except ended_by:
            outcome = ENDED
            raise
        finally:
            elapsed_s = self.clock() - started_s
            seconds = max(elapsed_s - self._nested_s.pop(), 0.0)
            self.add(case, activity, seconds=seconds, started_at=started_at, outcome=outcome)
            if self._nested_s:
                self._nested_s[-1] += elapsed_s

    def add(self, case: str, activity: str, *, seconds: float, started_at: str, outcome: str = DONE) -> None:
        """Append a finished activity to the entries and to the file."""
        entry = TimingEntry(
            command=self.command,
            case=case,
            activity=_COUNT_SUFFIX.sub("", activity),
            started_at=started_at,
            seconds=seconds,
            outcome=outcome,
        )
        self.entries.append(entry)
        # The file is a convenience: a full disk must not end a measurement.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(
                    msgspec.json.encode(entry) + b"\n"
                )  # in one write, so that a kill leaves the whole line or nothing

    def expected_s(self, case: str, activity: str) -> float:
        """Estimate the seconds of an activity from the entries of the same case; 0 if there is none.

        Prefer the last time in this command; then the longest in earlier commands, which may have run without a warm compile
        cache. An attempt that was cut short is a lower bound.
        """
        entries = [entry for entry in self._of_activity(activity) if entry.case == case]
        done = [entry for entry in entries if entry.outcome == DONE]
        this_command_s = [entry.seconds for entry in done if entry.command == self.command]
        if this_command_s:
            return this_command_s[-1]
        return max((entry.seconds for entry in entries if entry.outcome in (DONE, ENDED)), default=0.0)

    def most_s(self, activity: str) -> float:
        """Return the longest seconds of an activity in any case, 0 if nothing like it was seen."""
        return max((entry.seconds for entry in self._of_activity(activity) if entry.outcome == DONE), default=0.0)

    def _of_activity(self, activity: str) -> list[TimingEntry]:
        name = _COUNT_SUFFIX.sub("", activity)
        return [entry for entry in self.entries if entry.activity == name]


@dataclasses.dataclass(kw_only=True, repr=False)
class Budget:
    """Limit a command to `seconds` from the start of its process; None is no limit. `clock` returns the process's age."""

    seconds: float | None = None
    clock: Callable[[], float] = process_age_s
    log: TimingLog | None = None

    @property
    def left_s(self) -> float:
        """Return the seconds that may still be spent, without the reserve for the end."""
        if self.seconds is None:
            return math.inf
        return self.seconds - min(_CLOSING_S, _CLOSING_SHARE * self.seconds) - self.clock()

    def time(self, case: str, activity: str) -> contextlib.AbstractContextManager[None]:
        """Log an activity that shows no progress line."""
        return self.log.time(case, activity) if self.log else contextlib.nullcontext()

    def afford(self, case: str, *activities: str) -> None:
        """Raise `OutOfTime` if these activities, one after the other, are not expected to fit into the seconds left.

        An activity that the case never had counts with its longest seconds in any other case.
        """
        left_s, log = self.left_s, self.log
        needed_s = sum(log.expected_s(case, name) or log.most_s(name) for name in activities) if log else 0.0
        if left_s <= 0:
            raise OutOfTime("the budget is over")
        if needed_s > left_s:
            raise OutOfTime(
                f"{' + '.join(activities)}: expected to take {needed_s:.0f} s,"
                f" but only {left_s:.0f} s of the budget are left"
            )


def read_timings(path: Path) -> list[TimingEntry]:
    """Read the entries of a log. Skip a line that is incomplete or of another form: the other lines are still valid."""
    entries = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            entries.append(msgspec.json.decode(line, type=TimingEntry))
    return entries


def timing_table(entries: Sequence[TimingEntry], *, command: str, wall_s: float) -> list[str]:
    """Format the seconds by activity of one command, longest first, then the seconds that no activity covers."""
    seconds_by_activity: collections.defaultdict[str, list[float]] = collections.defaultdict(list)
    for entry in entries:
        if entry.command == command:
            seconds_by_activity[entry.activity].append(entry.seconds)
    longest_first = sorted(seconds_by_activity.items(), key=lambda item: -sum(item[1]))
    rows = [(name, str(len(each)), f"{sum(each):.1f} s", _share(sum(each), wall_s)) for name, each in longest_first]
    uncovered_s = max(wall_s - sum(map(sum, seconds_by_activity.values())), 0.0)
    rows.append(("in no activity", "", f"{uncovered_s:.1f} s", _share(uncovered_s, wall_s)))
    rows.append(("this command", "", f"{wall_s:.1f} s", ""))
    return aligned(rows)


def _share(seconds: float, wall_s: float) -> str:
    return f"{seconds / wall_s:.1%}" if wall_s > 0 else ""
