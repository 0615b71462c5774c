"""What `speedgate merge` says and leaves: the terminal's table, `verdict.json` and `summary.md`, by what a session uses."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from speedgate.baselines import store
from speedgate.fleet.merge import Merged
from speedgate.report import markdown, terminal, verdict_page
from speedgate.results import folder as untrusted
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import write_json
from speedgate.results.run import Outcome, Run


def lines(merged: Merged, *, baselines_root: Path) -> list[str]:
    """The table, a sentence for each verdict that is no plain PASS, and what a reader has to know of the commit."""
    own = merged.manifest
    view = terminal.TerminalView(
        gpu_key=own.gpu_key,
        is_live=own.against is not None,
        baselines=store.newest_baselines(baselines_root, own.gpu_key) if own.against is None else {},
        runs={key: _shown(case.run) for key, case in merged.cases.items() if case.run is not None},
        verdicts={key: case.verdicts for key, case in merged.cases.items()},
        lost_cases=[key for key, case in merged.cases.items() if case.outcome is Outcome.INVALID],
    )
    said = [f"speedgate on {own.gpu_key}, --gate {own.judging.mode.value}, {len(own.selection)} cases"]
    said += [*terminal.table(view), "", *terminal.sentences(view)]
    if own.commit.get("dirty"):
        said.append("the checkouts had uncommitted changes: whether they were the same is not known")
    return said


def write(merged: Merged, folder: Path) -> None:
    """A folder of results as one session leaves it, and the verdict as a document and as a page; whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        _fill(temporary, merged)
        temporary.replace(folder)  # over an empty folder, or where there is none
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(folder: Path, merged: Merged) -> None:
    folder.mkdir(parents=True)
    for key, document in merged.documents.items():
        write_json(folder / CaseKey.parse(key).file_name, document)
    merged.manifest.write(folder)
    status = merged.manifest.exit_status
    assert status is not None, "what is merged has ended"
    try:
        verdict = verdict_page.verdict_document([], list(merged.documents.values()), status=status)
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:  # the other arm's figures were not checked
        raise ValueError(f"the results of the other arm are not what a session writes ({error!r})") from error
    write_json(folder / verdict_page.VERDICT_FILE, verdict)
    page = markdown.render(untrusted.read_folder(folder))
    (folder / verdict_page.SUMMARY_FILE).write_text(page, encoding="utf-8")


def _shown(run: Run) -> Run:
    """The run with no more in it than the table may ask of it."""
    parity: dict[str, Any] | None = None if run.parity is None else {"ssim": run.parity.get("ssim")}
    return dataclasses.replace(run, recipe={"stages": run.stages}, parity=parity)
