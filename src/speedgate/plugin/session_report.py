"""`--report FILE.html` of a session: checked before anything is measured, written after everything else is done."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import speedgate
from speedgate.plugin.session import Session
from speedgate.report import terminal
from speedgate.results import optional
from speedgate.results.text import command_line, printable

OPTION = "--report"
TIMEOUT_S = 300.0  # a ladder takes 5 s


def terminal_view(session: Session) -> terminal.TerminalView:
    """Gather what the terminal section shows of a session."""
    inputs, outcome = session.inputs, session.outcome
    return terminal.TerminalView(
        gpu_key=session.machine.key,
        is_recording=session.options.is_recording,
        is_live=inputs.other_arm is not None,
        runs=outcome.runs,
        verdicts=outcome.verdicts,
        lost_cases=outcome.broken,
        explanations=outcome.explanations,
        baselines=inputs.baselines,
        comparisons=outcome.comparisons,
        family_figures=inputs.family_figures,
        rooflines=outcome.rooflines,
        health=inputs.machine_facts,
        other_versions=inputs.other_versions,
    )


def check(config: pytest.Config) -> None:
    """A report that could not be written is a usage error now, and no surprise after an hour of measuring."""
    path: Path | None = config.getoption("report")
    if path is None:
        return
    try:
        optional.need("report", what="a report")
    except ValueError as error:
        raise pytest.UsageError(f"{OPTION}: {error}") from error
    if path.is_dir() or path.suffix not in (".html", ".htm"):
        raise pytest.UsageError(f"{OPTION} {path}: expected the name of an HTML file, such as report.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(f"{OPTION} {path}: {error.strerror}; name a file that can be written") from error


def write(config: pytest.Config, session: Session) -> str | None:
    """Write it where it was asked for; the line that says so, or why there is none.

    Whatever goes wrong here is said and goes no further: every result is on disk by now, and the exit status is that of
    the tests. The charts are drawn by a process of their own, because a fault in a native library ends the whole of it.
    """
    path: Path | None = config.getoption("report")
    if path is None:
        return None
    command = [
        "--root",
        str(session.options.baselines_root),
        "report",
        str(session.options.results),
        "--output",
        str(path),
    ]
    try:
        _keep(config, session)
        _call(command)
    except Exception as error:
        again = shlex.join(["speedgate", *command])
        old = f"; {path} is an older report and not of this run" if path.exists() else ""
        return printable(f"no report: {type(error).__name__}: {error}{old}; the results are kept: {again}")
    return f"report: {path}"


def _keep(config: pytest.Config, session: Session) -> None:
    from speedgate.report.html import pictures, view
    from speedgate.results import folder

    commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
    made_by = {
        "command": command_line(["pytest", *config.invocation_params.args]),
        "run in": str(config.invocation_params.dir),
        "commit": f"{commit.get('id', 'none')}{' and uncommitted changes' if commit.get('dirty') else ''}",
        "gate": session.options.policy.mode.value,
    }
    own = {session.result_file(key).name for key in (*session.outcome.runs, *session.outcome.verdicts)}
    files = {name: data for name, data in folder.read_folder(session.options.results).items() if name in own}
    left = view.ReportAssets(
        results=view.file_digests(files),
        made_by=made_by,
        remarks=tuple(terminal.remarks(terminal_view(session))),
        pictures=pictures.make_pictures(session.outcome.images),
    )
    view.save_assets(left, session.options.results)


def _call(command: Sequence[str]) -> None:
    """Run a command of speedgate in a fresh interpreter; a `RuntimeError` says how it ended where that was not well."""
    paths = [str(Path(speedgate.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(  # noqa: S603 - our own command, no shell
        [sys.executable, "-m", "speedgate.cli", *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["without a word"]
        raise RuntimeError(f"exit status {done.returncode}: {said[0]}")
