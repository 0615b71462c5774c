"""Everything after the last measurement: the section of the terminal, the report file (`--report`) and the upload (`--history`).

The options are checked before the first case is built. Nothing here changes a result: the result files are on disk by then,
so one command can write the report or upload the files again.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import speedgate
from speedgate.history import database
from speedgate.plugin.github import error_annotations, is_on_github, safe_line
from speedgate.plugin.items import has_gate
from speedgate.plugin.session import Session
from speedgate.report import terminal
from speedgate.report.verdict_order import worst_first
from speedgate.results import folder, optional, provenance
from speedgate.results.exit_status import ExitStatus
from speedgate.results.text import command_line, printable

SECTION_WRITTEN = pytest.StashKey[bool]()
REPORT_TIMEOUT_S = 300.0  # the report of a ladder takes 5 s


def terminal_view(session: Session) -> terminal.TerminalView:
    """Gather what the terminal section shows of a session."""
    inputs, outcome = session.inputs, session.outcome
    return terminal.TerminalView(
        gpu_key=session.machine.key,
        policy=session.options.policy,
        tests=session.options.tests,
        recording=outcome.recording,
        is_recording=session.options.is_recording,
        is_live=inputs.other_arm is not None,
        runs=outcome.runs,
        verdicts=outcome.verdicts,
        lost_cases=outcome.broken,
        explanations=outcome.explanations,
        baselines=inputs.baselines,
        comparisons=outcome.comparisons,
        confirmations=outcome.confirmations,
        family_figures=inputs.family_figures,
        rooflines=outcome.rooflines,
        health=inputs.machine_facts,
        other_versions=inputs.other_versions,
        not_judged=outcome.not_judged,
        not_built=list(outcome.not_built.values()),
        injection=session.injection,
        gpu_codes=outcome.gpu_codes,
        references=[key for key in outcome.runs if session.is_reference(key)],
        ignored=inputs.acknowledged.remarks,
    )


def write_section(reporter: pytest.TerminalReporter, config: pytest.Config, session: Session) -> None:
    """Write our section of the terminal and the report file; in a job of GitHub Actions also annotations."""
    config.stash[SECTION_WRITTEN] = True
    view, root, results = terminal_view(session), session.options.root, session.options.results
    reporter.section(f"speedgate on {view.gpu_key}, --gate {view.policy.mode.value}")
    for line in [*terminal.section(view), *terminal.remarks(view)]:
        write_coloured(reporter, safe_line(line))
    if view.runs or view.gpu_codes:
        reporter.write_line(f"result files: {results.relative_to(root) if results.is_relative_to(root) else results}")
    if problem := provenance.commit_problem(session.inputs.commit):
        reporter.write_line(printable(f"no commit is recorded: {problem}"), yellow=True)
    for line in unwritten_lines(session.outcome.unwritten):
        reporter.write_line(line, red=True)
    if report_line := write_report(config, session):
        reporter.write_line(report_line)
    if is_on_github() and view.injection is None:  # the fire drill has an annotation of its own
        cases = [(verdicts, view.explanations.get(key, ())) for key, verdicts in view.verdicts.items()]
        red = [(verdict, lines) for verdict, lines in worst_first(cases) if not view.policy.accepts(verdict)]
        for command in error_annotations(red):
            reporter.write_line(command)


def unwritten_lines(unwritten: Mapping[str, str]) -> list[str]:
    """Return a line for each reason why files were not written, with their number and one of them."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in unwritten.items():
        by_reason.setdefault(reason, []).append(path)
    return [
        printable(f"NOT WRITTEN: {paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {reason}")
        for reason, paths in by_reason.items()
    ]


def write_rest(reporter: pytest.TerminalReporter, session: pytest.Session, state: Session) -> None:
    """Write the section, the report and the upload after another plugin raised an exception, if they are not written yet."""
    config = session.config
    reporter.ensure_newline()
    if has_section(config, state) and not config.stash.get(SECTION_WRITTEN, False):
        write_section(reporter, config, state)
    upload = config.pluginmanager.get_plugin("speedgate-history")
    if upload is not None and not upload.lines:
        upload.pytest_sessionfinish(session)
        upload.pytest_terminal_summary(reporter)


def has_section(config: pytest.Config, session: Session) -> bool:
    """Return True if there is anything to say of this session."""
    outcome = session.outcome
    has_results = outcome.runs or outcome.verdicts or outcome.not_judged or outcome.not_built or outcome.unwritten
    return bool(has_results) and not config.option.collectonly


def write_coloured(reporter: pytest.TerminalReporter, line: str) -> None:
    """Write a line with its outcome in colour, if pytest uses colours here."""
    before, outcome, rest = terminal.split_outcome(line)
    reporter.write(before)
    if outcome is not None:
        reporter.write(outcome, **{terminal.COLOURS.get(outcome, "red"): True})
    reporter.line(rest)


def check_report(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` if the file of `--report` cannot be written, so that no measurement is wasted on it."""
    path: Path | None = config.getoption("report")
    if path is None:
        return
    try:
        optional.require_extra("report", what="a report")
    except ValueError as error:
        raise pytest.UsageError(f"--report: {error}") from error
    if path.is_dir() or path.suffix not in (".html", ".htm"):
        raise pytest.UsageError(f"--report {path}: expected the name of an HTML file, such as report.html")


def write_report(config: pytest.Config, session: Session) -> str | None:
    """Write the file of `--report`; return a line for the terminal, or None without that option.

    An error becomes that line and changes no exit status. The charts are drawn in a process of their own, because a crash
    of a native library ends its whole process.
    """
    path: Path | None = config.getoption("report")
    if path is None:
        return None
    results, root = session.options.results, session.options.baselines_root
    command = ["--root", str(root), "report", str(results), "--output", str(path)]
    try:
        _save_report_assets(config, session)
        _run_speedgate(command)
    except Exception as error:
        retry = shlex.join(["speedgate", *command])
        older = f"{path} is an older report, not one of this run; " if path.exists() else ""
        reason = f"{type(error).__name__}: {error}"
        return printable(f"no report: {reason}; {older}the results are kept, write the report with: {retry}")
    return f"report: {path}"


def _save_report_assets(config: pytest.Config, session: Session) -> None:
    """Save beside the results what the report shows and no result file holds: images, remarks, and the command."""
    from speedgate.report.html import pictures, view

    commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
    made_by = {
        "command": command_line(["pytest", *config.invocation_params.args]),
        "run in": str(config.invocation_params.dir),
        "commit": f"{commit.get('id', 'none')}{' and uncommitted changes' if commit.get('dirty') else ''}",
        "gate": session.options.policy.mode.value,
    }
    names = {session.result_file(key).name for key in (*session.outcome.runs, *session.outcome.verdicts)}
    files = {name: data for name, data in folder.read_folder(session.options.results).items() if name in names}
    assets = view.ReportAssets(
        results=view.file_digests(files),
        made_by=made_by,
        remarks=tuple(terminal.remarks(terminal_view(session))),
        pictures=pictures.make_pictures(session.outcome.images),
    )
    view.save_assets(assets, session.options.results)


def _run_speedgate(arguments: Sequence[str]) -> None:
    """Run a command of speedgate in a fresh interpreter. Raises `RuntimeError` if it fails."""
    paths = [str(Path(speedgate.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.run(  # noqa: S603 - our own command, no shell
        [sys.executable, "-m", "speedgate.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=REPORT_TIMEOUT_S,
        check=False,
    )
    if process.returncode:
        last_line = process.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"exit status {process.returncode}: {last_line[0]}")


def register_upload(config: pytest.Config, session: Session) -> None:
    """Register the upload if `--history` is given. Without a URL it goes to the default file of this checkout."""
    url = config.getoption("history")
    if url is not None:
        default_url = database.sqlite_url(config.rootpath / database.DEFAULT_FILE)
        upload = HistoryUpload(url=default_url if url is True else url, session=session)
        config.pluginmanager.register(upload, "speedgate-history")


class HistoryUpload:
    """A pytest plugin that opens the history before anything is measured, and uploads the result files at the end."""

    def __init__(self, *, url: str, session: Session) -> None:
        self.url = url
        self.session = session
        self.lines: list[str] = []
        self.has_failed = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Create the history, or check that this version can write to it; skipped if nothing will be measured."""
        if session.config.option.collectonly or not has_gate(session.items):
            return
        try:
            database.prepare_history(self.url)
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--history: {error}") from error

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Upload the result files of this session. A failed upload changes the exit status."""
        if not self.session.result_files:
            return
        try:
            self.lines = [self._upload()]
        except (OSError, ValueError) as error:
            self.has_failed = True
            command = database.history_command("import", str(self.session.options.results), url=self.url)
            self.lines = [f"history: NOT UPLOADED: {error}", f"upload it later: {command}"]
            statuses: dict[int, int] = {
                ExitStatus.OK: ExitStatus.UPLOAD,
                ExitStatus.RED: ExitStatus.UPLOAD_AND_TESTS,
            }
            # pytest documents no other way to set the exit status; a session of `tests/plugin/test_inject.py` fails without it.
            session.exitstatus = statuses.get(session.exitstatus, session.exitstatus)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write how many runs were added, or the command that adds them later."""
        for line in self.lines:
            terminalreporter.write_line(line, red=self.has_failed)

    def _upload(self) -> str:
        from speedgate.history import entries, queries

        files = {path.name: path.read_bytes() for path in self.session.result_files.values()}
        result = queries.add_entries(self.url, entries.entries_from_files(files))
        present = f", {result.present} already stored" if result.present else ""
        return f"history: {result.added} runs added to {database.url_without_password(self.url)}{present}"
