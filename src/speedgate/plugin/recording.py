"""A recording as a campaign: given again it goes on where it stopped, within a budget of seconds, and tells what they went to."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import pytest

from speedgate.baselines.checkpoint import FOLDER
from speedgate.measure import budget
from speedgate.measure.budget import Budget, TimingLog
from speedgate.measure.worker import OutOfTime
from speedgate.plugin.progress import Progress
from speedgate.plugin.session import Session
from speedgate.results.exit_status import ExitStatus
from speedgate.results.text import command_line, printable


class RecordingPlugin:
    """A plugin of pytest, registered where a recording was asked for."""

    def __init__(self, config: pytest.Config, *, session: Session, progress: Progress, seconds: float | None) -> None:
        self._config, self._session, self._progress = config, session, progress
        self.budget = Budget(seconds=seconds)
        self._is_interrupted = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        """The recording is ours alone by now: open its log."""
        if self._config.option.collectonly:
            return
        folder = self._session.options.baselines_root / self._session.machine.key / FOLDER
        command = f"{budget.utc_now()} {self._session.options.results.name}"
        self._progress.log = self.budget.log = TimingLog(path=folder / budget.TIMINGS_FILE, command=command)
        self._progress.log.add("", budget.START, seconds=budget.process_age_s(), started_at=budget.utc_now())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """What a test takes outside of the activities of its case."""
        with self.budget.time(_case(item, "id") or item.name, budget.TESTS):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test for whose case no time is left is skipped, and the case is unfinished."""
        return (yield from self._in_time(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """As for its setup."""
        return (yield from self._in_time(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """As for its setup: a case may be looked at when its last test is over."""
        return (yield from self._in_time(item))

    def _in_time(self, item: pytest.Item) -> Generator[None, Any, Any]:
        try:
            return (yield)
        except OutOfTime as over:
            self._session.outcome.unfinished.setdefault(_case(item, "key") or item.nodeid, str(over))
            pytest.skip(str(over))

    def pytest_keyboard_interrupt(self) -> None:
        """Ctrl-C, or a `pytest.exit`: what was measured is kept."""
        self._is_interrupted = True

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Neither red nor finished has a status of its own; once all is recorded the log lies with the results."""
        log = self._progress.log
        with log.time("", budget.CLOSING) if log else contextlib.nullcontext():
            yield
        if self._session.outcome.unfinished and session.exitstatus == pytest.ExitCode.OK:
            # pytest documents no other way to end with a status of one's own; `tests/plugin/test_recording.py` fails without it.
            session.exitstatus = ExitStatus.UNFINISHED
        if log is not None and log.path.exists() and [*log.path.parent.iterdir()] == [log.path]:
            self._session.options.results.mkdir(parents=True, exist_ok=True)
            log.path.replace(self._session.options.results / log.path.name)
            log.path.parent.rmdir()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
        """Where the seconds went, and last of all what is left to do."""
        yield
        log = self._progress.log
        if log is None:
            return
        terminalreporter.section("where the seconds went")
        for line in [
            *budget.timing_table(log.entries, command=log.command, wall_s=budget.process_age_s()),
            *self._left(),
        ]:
            terminalreporter.write_line(line)

    def _left(self) -> list[str]:
        unfinished = self._session.outcome.unfinished
        if not (unfinished or self._is_interrupted):
            return []
        lines = ["interrupted: the processes that were finished are kept"] if self._is_interrupted else []
        if unfinished:
            status = "" if self._is_interrupted else f" (exit status {ExitStatus.UNFINISHED})"
            lines.append(f"left to do, because the budget of {self.budget.seconds:g} s was over{status}:")
        for key, reason in unfinished.items():
            run = self._session.outcome.runs.get(key)
            count = f"{len(run.processes) if run else 0} of {self._session.options.plan.processes} processes"
            lines.append(printable(f"  {key}: {count}; {reason}"))
        arguments = command_line(self._config.invocation_params.args)
        return [*lines, printable(f"the same command goes on from here: pytest {arguments}")]


def _case(item: pytest.Item, attribute: str) -> str | None:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((str(found) for value in parameters.values() if (found := getattr(value, attribute, None))), None)
