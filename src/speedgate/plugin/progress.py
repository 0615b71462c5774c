"""Progress while tests run: one line that rewrites itself on a terminal, and a line for each activity in a log."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from speedgate.measure.budget import TimingLog
from speedgate.measure.worker import OutOfTime

_SHORT_S = 5.0  # an activity that is expected to take less has no expected seconds in its line


class Screen(Protocol):
    """The place where progress is written."""

    def write(self, text: str, *, own_line: bool = False) -> None:
        """Write text that stays; with `own_line`, not behind other text of its line."""

    def show_status(self, text: str) -> None:
        """Show one line below pytest's own until the next status; empty text removes it."""

    @property
    def is_terminal(self) -> bool:
        """True if a status can be shown; otherwise every line stays."""


class Progress:
    """Shows each activity with the seconds so far and the seconds that are expected.

    `log`, if set, gets the seconds of each activity, and knows those of earlier sessions. `expected_s` is the estimate for the
    whole session; it is not shown any more once the session has taken longer.
    """

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen, self._clock = screen, clock
        self._started_s = clock()
        self._lines = 0
        self._heading = ("", "")
        self.log: TimingLog | None = None
        self.expected_s: float | None = None

    @contextlib.contextmanager
    def activity(self, text: str) -> Iterator[None]:
        """Show an activity, and in a log also its seconds when it is over. `text` is `CASE: ACTIVITY`."""
        started_s = self._clock()
        case, _, name = text.partition(": ")
        expected_s = self.log.expected_s(case, name) if self.log else 0.0
        about = f" (about {format_seconds(expected_s)})" if expected_s >= _SHORT_S else ""
        self._begin(text, about)
        line = self._lines
        try:
            with self.log.time(case, name, ended_by=OutOfTime) if self.log else contextlib.nullcontext():
                yield
        except BaseException:
            self._end("failed")
            raise
        if self._lines != line:  # lines of other activities follow ours
            self._begin(text)
        self._end(f"{self._clock() - started_s:.1f} s")

    def heading(self, text: str) -> None:
        """Show what the next activities of a case belong to, such as a pair. `text` is `CASE: PART`."""
        case, _, part = text.partition(": ")
        self._heading = (case, part)
        if not self._screen.is_terminal:
            self.note(text)

    def note(self, text: str) -> None:
        """Write one line that stays."""
        self._screen.write(f"  {text}\n", own_line=True)

    def _begin(self, text: str, about: str = "") -> None:
        self._lines += 1
        if not self._screen.is_terminal:
            self._screen.write(f"  {self._elapsed()} {text}{about} ... ", own_line=True)
            return
        heading_case, part = self._heading
        case, _, name = text.partition(": ")
        in_part = part and case.partition(" of ")[0] == heading_case
        self._screen.show_status(f"{self._elapsed()} {case}: {f'{part}: ' if in_part else ''}{name}{about}")

    def _end(self, text: str) -> None:
        if self._screen.is_terminal:
            self._screen.show_status("")
        else:
            self._screen.write(f"{text}\n")

    def _elapsed(self) -> str:
        elapsed_s = self._clock() - self._started_s
        if self.expected_s is None or elapsed_s > self.expected_s:
            return f"[{format_seconds(elapsed_s)}]"
        return f"[{format_seconds(elapsed_s)} of about {format_seconds(self.expected_s)}]"


def format_seconds(seconds: float) -> str:
    """Format seconds as minutes and seconds, with hours if there are any: `0:07`, `12:30`, `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class PytestScreen:
    """Writes through pytest's terminal reporter although pytest captures output; `-q` writes nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._has_status = False

    @property
    def is_terminal(self) -> bool:
        reporter = self._reporter()
        has_cursor = os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")
        return reporter is not None and bool(reporter.isatty) and has_cursor

    def write(self, text: str, *, own_line: bool = False) -> None:
        reporter = self._reporter()
        if reporter is not None:
            begun = own_line and self._config.get_terminal_writer().width_of_current_line > 0
            with self._uncaptured():
                reporter.write(f"\n{text}" if begun else text, flush=True)

    def show_status(self, text: str) -> None:
        if self._reporter() is None or not (text or self._has_status):
            return
        self._has_status = bool(text)
        writer = self._config.get_terminal_writer()
        with self._uncaptured():
            # Not through the reporter: it must not count our line when it aligns its own.
            sys.stdout.write(status_sequence(text, column=writer.width_of_current_line, width=writer.fullwidth))
            sys.stdout.flush()

    def _reporter(self) -> pytest.TerminalReporter | None:
        if self._config.get_verbosity() < 0:
            return None
        reporter: pytest.TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        return reporter

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        # pytest documents no way to write past its capture from outside a test's own fixtures; the capture manager is
        # what its own live logging uses. `tests/plugin/test_end_to_end.py` fails when the line does not arrive.
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        context: contextlib.AbstractContextManager[None] = (
            capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
        )
        return context


def status_sequence(text: str, *, column: int, width: int) -> str:
    """Return what a terminal is sent to replace the line below the cursor by `text`; the cursor returns to `column`.

    The text is cut to `width`: a line that wraps could not be replaced. Sequences: ECMA-48, EL, CUU and CUF.
    """
    right = f"\x1b[{column}C" if column else ""
    return f"\n\r\x1b[K{text[: width - 1]}\x1b[A\r{right}"
