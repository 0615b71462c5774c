"""What `speedgate bump` and `speedgate bisect` do: other versions of packages, judged live against the pinned ones."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from speedgate.report import verdict_page
from speedgate.results import exit_status
from speedgate.results.json_io import write_json
from speedgate.versions import environment, index, pins, suite_run
from speedgate.versions.bisect import BisectRequest, BisectState, Trial, date_of
from speedgate.versions.bisect_search import BisectOutcome
from speedgate.versions.environment import InstallFailure, OverlayEnvironment

BISECTS, BUMPS = Path(".speedgate/bisect"), Path(".speedgate/bump")
_CACHE = "environments are kept there: name another folder with --cache"
_RESULTS = "the results of a bump go there: name another folder with --results"
_STEPS = "the steps of a bisect are kept there: run it where that can be written"


def bump(
    requirements: Mapping[str, str],
    *,
    stable: Mapping[str, str],
    arguments: Sequence[str],
    cache: Path,
    results: Path | None = None,
    index_url: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Run `pytest bench` with `requirements` against this environment; the verdict and the folder of the results.

    That holds each case's JSON, `verdict.json` and `summary.md`, which is also added to the summary of a GitHub job.
    """
    suite_run.check(arguments)
    layer = OverlayEnvironment(
        requirements=tuple(requirements.values()),
        constraints=pins.without(stable.values(), requirements),
        index_url=index_url,
    )
    stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    folder = (results or BUMPS / stamp).absolute()
    environment.check_writable(cache, what=_CACHE)
    environment.check_writable(folder, what=_RESULTS)
    if any(folder.iterdir()):
        raise ValueError(f"--results {folder}: is not empty; name a new folder, or what lies there would be judged too")
    python = environment.build(layer, cache=cache)
    status = suite_run.run_suite(python, against=sys.executable, results=folder, arguments=arguments)
    changes = [describe_change(name, environment.places(), environment.places(python)) for name in requirements]
    verdict = verdict_page.verdict_document(changes, suite_run.documents(folder), status=status)
    _report(folder, verdict)
    return verdict, folder


def describe_change(package: str, old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    """Describe how a package differs between two environments; `old` and `new` list where their packages lie."""
    after = index.origin(package, new)
    try:
        before = index.origin(package, old)
    except ValueError:
        return {"package": package, "old": None, "new": dataclasses.asdict(after), "commits": None}
    return {
        "package": package,
        "old": dataclasses.asdict(before),
        "new": dataclasses.asdict(after),
        "commits": before.compare(after) if before != after else None,
    }


def _report(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Write the verdict beside the cases; in a GitHub job also to its summary, and `red` to the outputs of its step.

    The step's exit status cannot tell red: tox ends with 1 too where it cannot install.
    """
    write_json(folder / verdict_page.VERDICT_FILE, verdict)
    page = verdict_page.render(verdict)
    (folder / verdict_page.SUMMARY_FILE).write_text(page, encoding="utf-8")
    if job := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(job).open("a", encoding="utf-8") as stream:
            stream.write(page)
    if outputs := os.environ.get("GITHUB_OUTPUT"):
        with Path(outputs).open("a", encoding="utf-8") as stream:
            stream.write(f"red={str(verdict_page.is_red(verdict)).lower()}\n")


def bisect(question: BisectRequest, *, cache: Path, say: Callable[[str], None]) -> None:
    """Find the first bad version and say which it is; a `ValueError` where an end is not as claimed."""
    suite_run.check(question.arguments)
    environment.check_writable(cache, what=_CACHE)
    folder = BISECTS.absolute() / f"{canonicalize_name(question.package)}-{question.digest}"
    environment.check_writable(folder, what=_STEPS)
    history = BisectState(folder / "state.json", question, versions=lambda: _versions(question, question.package))
    say(f"{history.path}: an interrupted bisect goes on by the same command")
    found = history.bisect(Tester(question=question, cache=cache, folder=folder, good=history.candidates[0]), say=say)
    for line in history.conclusion(found):
        say(line)
    say(f"delete {history.path} to try all of it again")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tester:
    """Tries a candidate: the suite runs in its interpreter, against the good end's.

    A `ValueError` where what fails is not the candidate's fault, so that nothing is remembered of it.
    """

    question: BisectRequest
    cache: Path
    folder: Path
    good: str

    def __call__(self, version: str) -> Trial:
        try:
            python = self._python(version)
        except InstallFailure as failure:
            return Trial(step=BisectOutcome.SKIP, reason=f"cannot be installed: {failure}")
        good = self._python(self.good)
        results, log = self.folder / version, self.folder / f"{version}.log"
        shutil.rmtree(results, ignore_errors=True)  # of a step that was interrupted
        arguments = suite_run.for_metric(self.question.metric, self.question.arguments)
        status = suite_run.run_suite(python, against=str(good), results=results, arguments=arguments, log=log)
        origin = index.origin(self.question.package, environment.places(python))
        if suite_run.blameless(log, status=status):
            raise ValueError(
                f"{version}: {suite_run.broken(log, status=status)}; nothing is remembered of it; {log} has it all"
            )
        if status not in exit_status.JUDGED:
            return Trial(step=BisectOutcome.SKIP, reason=suite_run.broken(log, status=status), origin=origin)
        judged = suite_run.judge(self.question.metric, suite_run.documents(results))
        return Trial(step=judged.step, reason=judged.reason, ratio=judged.ratio, origin=origin)

    def _python(self, version: str) -> Path:
        question = self.question
        moved = {question.package: version} | {name: self._beside(name, version) for name in question.together}
        layer = OverlayEnvironment(
            requirements=tuple(f"{name}=={moved[name]}" for name in moved),
            constraints=pins.without(question.stable, moved),
            index_url=question.index_url,
        )
        return environment.build(layer, cache=self.cache)

    def _beside(self, package: str, version: str) -> str:
        """The nightly of `package` on the date of the candidate; `InstallFailure` where that day has none."""
        date = date_of(version)
        same = [other for other in _versions(self.question, package) if date is not None and date_of(other) == date]
        if not same:
            raise InstallFailure(f"no {package} of the date of {version}")
        return same[0]  # pip lists the highest first


def _versions(question: BisectRequest, package: str) -> list[str]:
    ends = (question.good, question.bad)
    nightly = any(re.fullmatch("[0-9]{8}", end) or Version(end).is_prerelease for end in ends)
    return environment.versions_of(package, index_url=question.index_url, prereleases=nightly)
