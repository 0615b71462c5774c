"""Estimate the seconds of a session before it starts, from the logs of earlier sessions on the same machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from speedgate.measure.budget import TIMINGS_FILE, TimingEntry, read_timings
from speedgate.plugin.builder import FIRST_IMAGE, FIRST_IMAGE_COMPILING, LOAD, OTHER_ARM
from speedgate.plugin.pairs import ROUNDS_IN_TURN
from speedgate.plugin.runner import PROCESS

_MAX_SESSIONS = 10  # the newest whose logs are read
_OF_A_PROCESS = {
    LOAD,
    FIRST_IMAGE,
    FIRST_IMAGE_COMPILING,
    PROCESS,
    ROUNDS_IN_TURN,
}  # each process or pair repeats these


def earlier_timings(results: Path) -> list[TimingEntry]:
    """Read the logs beside the results of this session, newest session last."""
    logs = sorted(results.parent.glob(f"*/{TIMINGS_FILE}"))[-_MAX_SESSIONS:]
    return [entry for log in logs for entry in read_timings(log)]


def expected_session_s(entries: Sequence[TimingEntry], processes: Mapping[str, int], *, is_live: bool) -> float | None:
    """Estimate the seconds of a session that measures so many processes, or pairs, of each case.

    Each case counts with the seconds of the last session that measured it. None if a case was never measured.
    """
    seconds = [
        _expected_case_s(_last_session(entries, case), count, is_live=is_live) for case, count in processes.items()
    ]
    return None if None in seconds or not seconds else sum(filter(None, seconds))


def _last_session(entries: Iterable[TimingEntry], case: str) -> list[TimingEntry]:
    """Return the entries of a case, in both arms, by the last command that measured its rounds."""
    of_case = [entry for entry in entries if entry.case in (case, f"{case}{OTHER_ARM}")]
    commands = [entry.command for entry in of_case if entry.activity in (PROCESS, ROUNDS_IN_TURN)]
    return _without_confirmation([entry for entry in of_case if commands and entry.command == commands[-1]])


def _without_confirmation(entries: Sequence[TimingEntry]) -> list[TimingEntry]:
    """Drop the live pairs that followed the processes of a case: another session may not suspect it."""
    last = max((number for number, entry in enumerate(entries) if entry.activity == PROCESS), default=None)
    if last is None or all(entry.activity != ROUNDS_IN_TURN for entry in entries[last:]):
        return list(entries)
    return [*entries[: last + 1], *(entry for entry in entries[last + 1 :] if entry.activity not in _OF_A_PROCESS)]


def _expected_case_s(entries: Sequence[TimingEntry], processes: int, *, is_live: bool) -> float | None:
    if not entries:
        return None
    was_live = any(entry.activity == ROUNDS_IN_TURN for entry in entries)
    measured = sum(entry.activity == (ROUNDS_IN_TURN if was_live else PROCESS) for entry in entries)
    repeated_s = sum(entry.seconds for entry in entries if entry.activity in _OF_A_PROCESS)
    arms = (2 if is_live else 1) / (2 if was_live else 1)
    once_s = sum(entry.seconds for entry in entries if entry.activity not in _OF_A_PROCESS)
    return once_s * arms + repeated_s * arms * processes / measured
