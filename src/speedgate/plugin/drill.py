"""The fire drill (`--inject`): list the faults, mark the session, and let the exit status say whether the right gate fired."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from speedgate.gate.drill import Drill, expectation, judge_drill, listing
from speedgate.plugin import github, hookspecs, injection
from speedgate.plugin.github import is_on_github, safe_line
from speedgate.plugin.hooks import GATE, SESSION
from speedgate.results.exit_status import ExitStatus
from speedgate.results.text import printable

ERRORS = pytest.StashKey[list[str]]()  # ids of the tests that ended with an exception
DRILL = pytest.StashKey[Drill]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hook by which a suite names its faults."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """With `--inject list`, list the faults instead of running a session."""
    if config.getoption("inject") != [injection.LIST]:
        return None
    for line in listing(injection.catalogue(config)):
        print(line)
    return ExitStatus.OK


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Mark the session before anything runs."""
    injected = config.stash[SESSION].injection
    if injected is None:
        return []
    return [printable(f"speedgate: {injected.sentence}"), printable(f"speedgate: {expectation(injected)}")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Note a test that fails without a verdict: by an exception, by `pytest.fail`, or because its worker was lost."""
    report = yield
    if report.failed and not (call.excinfo and _is_red_verdict(call.excinfo.value, item.config)):
        item.config.stash.setdefault(ERRORS, []).append(item.nodeid)
    return report


def _is_red_verdict(error: BaseException, config: pytest.Config) -> bool:
    """True if a test failed by a verdict that the session has: the text of the failure begins with it."""
    state = config.stash.get(SESSION, None)
    if state is None or not isinstance(error, pytest.fail.Exception):
        return False
    verdicts = [verdict for of_case in state.outcome.verdicts.values() for verdict in of_case]
    return str(error).startswith(tuple(safe_line(f"{v.outcome} {v.case_key} {v.claim}: ") for v in verdicts))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Note a file that cannot be collected: with `--continue-on-collection-errors` the session goes on without its tests."""
    report = yield
    if report.failed:
        collector.config.stash.setdefault(ERRORS, []).append(collector.nodeid)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Set the exit status by the result of the drill, if every test had its turn. The manifest takes it from here."""
    config = session.config
    if config.option.collectonly:
        return
    state = config.stash.get(SESSION, None)
    if state is None or state.injection is None or session.exitstatus not in (ExitStatus.OK, ExitStatus.RED):
        return
    errors: list[str] = config.stash.get(ERRORS, [])
    drill = judge_drill(
        state.injection,
        state.outcome.verdicts,
        accepts=config.stash[GATE].accepts,
        errors=errors,
    )
    config.stash[DRILL] = drill
    # pytest documents no other way to set the exit status; `tests/plugin/test_inject.py` fails without it.
    session.exitstatus = ExitStatus.OK if drill.has_passed else ExitStatus.RED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the result of the drill below our section."""
    drill, state = config.stash.get(DRILL, None), config.stash.get(SESSION, None)
    if drill is None or state is None or state.injection is None:
        return
    terminalreporter.write_line(safe_line(drill.sentence), green=drill.has_passed, red=not drill.has_passed)
    if is_on_github():
        annotate = github.notice if drill.has_passed else github.error
        terminalreporter.write_line(annotate(f"fire drill: injected fault {state.injection.fault}", drill.sentence))
