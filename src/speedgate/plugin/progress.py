"""Progress lines on the terminal while tests run: one line for each activity of a case, with the seconds that it took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from speedgate.measure.budget import TimingLog
from speedgate.measure.worker import OutOfTime


class Progress:
    """Writes through pytest's terminal reporter although pytest captures output; `-q` writes nothing.

    `log`, if set, gets the seconds of each activity too.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lines = 0
        self.log: TimingLog | None = None

    @contextlib.contextmanager
    def activity(self, text: str) -> Iterator[None]:
        """Write that an activity begins, and complete the line with its seconds. `text` is `CASE: ACTIVITY`."""
        started_s = time.perf_counter()
        self._begin(text)
        line = self._lines
        case, _, name = text.partition(": ")
        try:
            with self.log.time(case, name, ended_by=OutOfTime) if self.log else contextlib.nullcontext():
                yield
        except BaseException:
            self._write("failed ")
            raise
        if self._lines != line:  # lines of other activities follow ours
            self._begin(text)
        self._write(f"{time.perf_counter() - started_s:.1f} s ")

    def note(self, text: str) -> None:
        """Write one line that is no activity."""
        self._write(f"\n  {text} ")

    def _begin(self, text: str) -> None:
        self._lines += 1
        self._write(f"\n  {text} ... ")

    def _write(self, text: str) -> None:
        # pytest documents no way to write past its capture from outside a test's own fixtures; the capture manager is
        # what its own live logging uses. `tests/plugin/test_end_to_end.py` fails when the line does not arrive.
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if reporter is None or self._config.get_verbosity() < 0:
            return
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            reporter.write(text, flush=True)
