"""End a recording when its budget of seconds is over, list what is left to do, and show how long each activity took.

The same command, started again, continues the recording from its checkpoints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import pytest

from speedgate.baselines.checkpoint import FOLDER
from speedgate.measure import budget
from speedgate.measure.budget import Budget, TimingLog
from speedgate.measure.worker import OutOfTime
from speedgate.plugin.items import case_attribute, has_gate
from speedgate.plugin.progress import Progress
from speedgate.plugin.session import Session
from speedgate.results.exit_status import ExitStatus
from speedgate.results.text import command_line, printable


class RecordingPlugin:
    """A pytest plugin, registered with `--gate record`."""

    def __init__(self, config: pytest.Config, *, session: Session, progress: Progress, seconds: float | None) -> None:
        self._config, self._session, self._progress = config, session, progress
        self.budget = Budget(seconds=seconds)
        self._is_interrupted = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Open the log of activities, if anything is measured. The lock of the recording is taken by now."""
        if self._config.option.collectonly or not has_gate(session.items):
            return
        folder = self._session.options.baselines_root / self._session.machine.key / FOLDER
        command = f"{budget.utc_now()} {self._session.options.results.name}"
        self._progress.log = self.budget.log = TimingLog(path=folder / budget.TIMINGS_FILE, command=command)
        self._progress.log.add("", budget.START, seconds=budget.process_age_s(), started_at=budget.utc_now())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Log the time of a test that no activity of its case covers."""
        with self.budget.time(case_attribute(item, "id") or item.name, budget.TESTS):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Skip the test if the budget is over, and list its case as unfinished."""
        return (yield from self._skip_out_of_time(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Skip the test if the budget is over."""
        return (yield from self._skip_out_of_time(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Skip the test if the budget is over: the last test of a case may collect its outputs here."""
        return (yield from self._skip_out_of_time(item))

    def _skip_out_of_time(self, item: pytest.Item) -> Generator[None, Any, Any]:
        try:
            return (yield)
        except OutOfTime as error:
            self._session.outcome.unfinished.setdefault(case_attribute(item, "key") or item.nodeid, str(error))
            pytest.skip(str(error))

    def pytest_keyboard_interrupt(self) -> None:
        """Note the interrupt, by Ctrl-C or `pytest.exit`."""
        self._is_interrupted = True

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Set the exit status of an unfinished recording; move the log to the results of a finished one."""
        log = self._progress.log
        with log.time("", budget.CLOSING) if log else contextlib.nullcontext():
            yield
        if self._session.outcome.unfinished and session.exitstatus == pytest.ExitCode.OK:
            # pytest documents no other way to set the exit status; a session of `tests/plugin/test_inject.py` fails without it.
            session.exitstatus = ExitStatus.UNFINISHED
        # The other files of the folder are checkpoints: a finished recording has none.
        if log is not None and log.path.exists() and [*log.path.parent.iterdir()] == [log.path]:
            self._session.options.results.mkdir(parents=True, exist_ok=True)
            log.path.replace(self._session.options.results / log.path.name)
            log.path.parent.rmdir()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
        """Write how long each activity took; and below all other sections, what is left to do."""
        log = self._progress.log
        if log is not None:
            terminalreporter.section("seconds by activity")
            for line in budget.timing_table(log.entries, command=log.command, wall_s=budget.process_age_s()):
                terminalreporter.write_line(line)
        yield
        for line in self._unfinished_lines() if log is not None else []:
            terminalreporter.write_line(line)

    def _unfinished_lines(self) -> list[str]:
        """Return what is left to do and the command that does it; nothing if the recording is finished."""
        unfinished = self._session.outcome.unfinished
        if not (unfinished or self._is_interrupted):
            return []
        lines = ["interrupted: all finished processes are stored"] if self._is_interrupted else []
        if unfinished:
            status = "" if self._is_interrupted else f" (exit status {ExitStatus.UNFINISHED})"
            lines.append(f"the budget of {self.budget.seconds:g} s is over{status}; left to do:")
        for key, reason in unfinished.items():
            run = self._session.outcome.runs.get(key)
            count = f"{len(run.processes) if run else 0} of {self._session.options.plan.processes} processes"
            lines.append(printable(f"  {key}: {count}; {reason}"))
        arguments = command_line(self._config.invocation_params.args)
        return [*lines, printable(f"the same command continues the recording: pytest {arguments}")]
