"""Judge other versions of packages live against the pinned ones."""

from __future__ import annotations

import dataclasses
import datetime
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.report import markdown, verdict_page
from speedgate.results.json_io import write_json
from speedgate.versions import environment, index, pins, suite_run
from speedgate.versions.environment import OverlayEnvironment

FOLDER = Path(".speedgate/bump")
_RESULTS_PURPOSE = "the results of a bump go there: name another folder with --results"


def bump(
    requirements: Mapping[str, str],
    *,
    stable: Mapping[str, str],
    arguments: Sequence[str],
    cache: Path,
    results: Path | None = None,
    index_url: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Run `pytest bench` with `requirements` against this environment; return the verdict and the folder of the results.

    The folder gets each case's JSON, `verdict.json` and `summary.md`. A GitHub job gets the page in its summary too.
    """
    suite_run.check_arguments(arguments)
    stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    folder = (results or FOLDER / stamp).absolute()
    environment.check_writable(cache, purpose=environment.CACHE_PURPOSE)
    environment.check_writable(folder, purpose=_RESULTS_PURPOSE)
    if any(folder.iterdir()):
        raise ValueError(f"--results {folder}: is not empty, and its files would be judged too; name a new folder")
    overlay = OverlayEnvironment(
        requirements=tuple(requirements.values()),
        constraints=pins.without(stable.values(), requirements),
        index_url=index_url,
    )
    python = environment.build(overlay, cache=cache)
    status = suite_run.run_suite(python, against=sys.executable, results=folder, arguments=arguments)
    old, new = environment.package_folders(), environment.package_folders(python)
    changes = [describe_change(package, old, new) for package in requirements]
    verdict = verdict_page.verdict_document(changes, suite_run.read_documents(folder), status=status)
    _write_verdict(verdict, folder)
    return verdict, folder


def describe_change(package: str, old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    """Describe how a package differs between two environments; `old` and `new` list the folders of their packages."""
    after = index.read_origin(package, new)
    try:
        before = index.read_origin(package, old)
    except ValueError:  # a package that only the new environment has
        before = None
    return {
        "package": package,
        "old": dataclasses.asdict(before) if before else None,
        "new": dataclasses.asdict(after),
        "commits": before.compare(after) if before and before != after else None,
    }


def _write_verdict(verdict: Mapping[str, Any], folder: Path) -> None:
    """Write the verdict into the folder; in a GitHub job also to the summary, and `red` to the outputs of the job step.

    The exit status of the job step is not enough: tox also ends with 1 if it cannot install.
    """
    write_json(folder / verdict_page.VERDICT_FILE, verdict)
    page = verdict_page.render(verdict)
    (folder / verdict_page.SUMMARY_FILE).write_text(page, encoding="utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        markdown.append(Path(summary), page)
    if outputs := os.environ.get("GITHUB_OUTPUT"):
        with Path(outputs).open("a", encoding="utf-8") as stream:
            stream.write(f"red={str(verdict_page.is_red(verdict)).lower()}\n")
