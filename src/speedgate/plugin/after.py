"""`--history URL`: each case of a session into a history, after the last measurement and never during one.

The case's result file is what is uploaded. It stays where it is, so whatever becomes of the upload, one command repeats it.
"""

from __future__ import annotations

import argparse

import pytest

from speedgate.history import database
from speedgate.plugin.session import Session
from speedgate.results.exit_status import ExitStatus

NAME = "speedgate-history"


def add_option(parser: pytest.Parser) -> None:
    """Register it."""
    parser.getgroup("speedgate").addoption(
        "--history",
        nargs="?",
        const=True,
        type=_url,
        metavar="URL",
        help=f"add each case to this history when the session ends: {database.URL_FORMS} (without URL: {database.DEFAULT_FILE})",
    )


def register(config: pytest.Config, session: Session) -> None:
    """Watch the session, where `--history` was given."""
    url = config.getoption("history")
    if url is not None:
        file = database.sqlite_url(config.rootpath / database.DEFAULT_FILE)
        config.pluginmanager.register(Recorder(url=file if url is True else url, session=session), NAME)


class Recorder:
    """Checks the history before anything is measured, and uploads to it after everything was."""

    def __init__(self, *, url: str, session: Session) -> None:
        self.url = url
        self.session = session
        self.says: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Reach it and see its schema, if something will be measured; make it if there is none."""
        if session.config.option.collectonly or not any(
            "gate" in getattr(i, "fixturenames", ()) for i in session.items
        ):
            return
        from speedgate.history import database

        try:
            database.prepare_history(self.url)
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--history: {error}") from error

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Upload what this session wrote, and let the exit status say so if that failed."""
        if not self.session.result_files:
            return
        try:
            self.says = [self._upload()]
        except (OSError, ValueError) as error:
            self.says = [
                f"history: NOT UPLOADED: {error}",
                f"upload it later: {database.history_command('import', str(self.session.options.results), url=self.url)}",
            ]
            statuses: dict[int, int] = {
                ExitStatus.OK: ExitStatus.UPLOAD,
                ExitStatus.RED: ExitStatus.UPLOAD_AND_TESTS,
            }
            session.exitstatus = statuses.get(session.exitstatus, session.exitstatus)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Below the report: what was added, or the command that adds it later."""
        for line in self.says:
            terminalreporter.write_line(line, red=len(self.says) > 1)

    def _upload(self) -> str:
        from speedgate.history import entries, queries

        files = {path.name: path.read_bytes() for path in self.session.result_files.values()}
        done = queries.add_entries(self.url, entries.entries_from_files(files))
        known = f", {done.present} there already" if done.present else ""
        return f"history: {done.added} runs added to {database.url_without_password(self.url)}{known}"


def _url(text: str) -> str:
    try:
        return database.check_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
