"""`python3 -m speedgate.posting VERB`: what hosted jobs say on GitHub about a run, from its artifact.

The artifact is untrusted: the run may be of a stranger's commit, or of a machine that a stranger got hold of. Whose run it was
and how it ended is GitHub's word, from the event; which pull request it belongs to is asked of GitHub.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate import github, handover, rendering, untrusted
from speedgate.markdown import escaped, log_line, preformatted

ARTIFACT = "speedgate-"  # how the names of the workflows' artifacts begin
BRANCH = "automated/nightly-pin"
# Characters and files. The results, four files and our own lines stay below the 65,536 that GitHub takes.
_RESULTS_LIMIT, _FILE_LIMIT, _NIGHTLY_FILES = 30_000, 7_000, 4
Files = Mapping[str, bytes] | str | None  # of an artifact, or why it was refused, or None where there is none
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The running job: its repository, its event and where its summary goes."""

    repository: github.Repository
    event: Mapping[str, Any]
    run_id: int
    run_url: str
    summary: Path
    environment: Mapping[str, str]


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run one verb; 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python3 -m speedgate.posting")
    parser.add_argument("verb", choices=sorted(_VERBS))
    options = parser.parse_args(argv)
    try:
        said = _VERBS[options.verb](job_of(environment))
    except (ValueError, OSError) as error:
        print("speedgate:", log_line(str(error)), file=sys.stderr)
        return 2
    print(log_line(said))
    return 0


def job_of(environment: Mapping[str, str]) -> Job:
    """The job that GitHub's variables describe; a `ValueError` names the one that is missing."""
    names = ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN", "GITHUB_EVENT_PATH", "GITHUB_RUN_ID")
    if missing := [name for name in (*names, "GITHUB_SERVER_URL", "GITHUB_STEP_SUMMARY") if not environment.get(name)]:
        raise ValueError(f"{missing[0]} is not set: this runs in a job of GitHub Actions, with the token in `env`")
    api_url, repository, token, event_path, run_id = (environment[name] for name in names)
    return Job(
        repository=github.Repository(api_url=api_url, name=repository, token=token),
        event=json.loads(Path(event_path).read_text(encoding="utf-8")),
        run_id=int(run_id),
        run_url=f"{environment['GITHUB_SERVER_URL']}/{repository}/actions/runs/{int(run_id)}",
        summary=Path(environment["GITHUB_STEP_SUMMARY"]),
        environment=environment,
    )


def show(job: Job) -> str:
    """Write the results of this run, which another job of it has uploaded, to the job summary."""
    rendering.append(job.summary, results(_files(job, job.run_id)))
    return "the results stand in the job summary"


def comment(job: Job) -> str:
    """Write the results of the run that has ended to its pull request: one comment, which the next commit's replaces."""
    run = job.event["workflow_run"]
    sha, conclusion = run["head_sha"], run["conclusion"]
    if not _COMMIT.fullmatch(sha):
        raise ValueError(f"workflow_run.head_sha: expected a commit hash, found {sha!r}")
    head = f"`{sha[:12]}`: {escaped(str(run['name']))} ended with **{escaped(str(conclusion))}** ({run['html_url']}).\n"
    note = "The figures were written by that commit's own run: they are worth what the commit is worth.\n"
    body = f"{head}{note}\n{results(_files(job, int(run['id'])))}"
    rendering.append(job.summary, body)
    numbers = pull_numbers(job.repository, run)
    said = [github.put_comment(job.repository, number, marker=f"results {_kind(run)}", body=body) for number in numbers]
    return ", ".join(said) or f"no pull request has {sha} as its head; the results stand in the job summary alone"


def issue(job: Job) -> str:
    """Write a red comparison to the one open issue about the nightly."""
    head = f"The comparison of the new nightly with the pinned one ended red: {job.run_url}\n"
    body = f"{head}\n{nightly(_files(job, job.run_id))}"
    rendering.append(job.summary, body)
    return github.put_issue(job.repository, marker="nightly", title="PyTorch nightly: the comparison is red", body=body)


def pull(job: Job) -> str:
    """Open the pull request that moves the nightly pin, or bring it up to date. The pin is a hosted job's, not the artifact's."""
    path = job.environment.get("PIN_PATH", "")
    pin = handover.unpacked(job.environment.get(handover.VARIABLE, "")).decode("utf-8")
    if not re.fullmatch(r"\.github/pins/[\w.-]+", path):
        raise ValueError(f"PIN_PATH: expected a file in .github/pins, found {path!r}")
    files = _files(job, job.run_id)
    if not isinstance(files, Mapping) or not untrusted.cases(files, built=True) or not untrusted.is_green(files):
        raise ValueError("the artifact holds no green verdict of measured cases: no pull request")
    head = f"No case was slower, bigger or different with the new nightly: {job.run_url}\n"
    body = f"{head}\n{nightly(files)}"
    rendering.append(job.summary, body)
    title = "Move the pin of the PyTorch nightly"
    url = github.put_pull(job.repository, base="main", branch=BRANCH, files={path: pin}, title=title, body=body)
    return url or "main has this pin already"


def results(files: Files) -> str:
    """The results as Markdown, or why there are none to show: what was refused is said, not shown."""
    if files is None:
        return "The run left no results.\n"
    if isinstance(files, str):
        return f"The results are not shown: {escaped(files)}\n"
    try:
        return rendering.render(files, limit=_RESULTS_LIMIT)
    except ValueError as error:
        return f"The results are not shown: {escaped(str(error))}\n"


def nightly(files: Files) -> str:
    """What `tox -e nightly` and the bisection said of themselves, letter by letter, and the results of the cases."""
    if not isinstance(files, Mapping):
        return results(files)
    own = sorted(filter(untrusted.is_word, files), key=lambda name: (not name.endswith(".md"), name))[:_NIGHTLY_FILES]
    said = [preformatted(files[name].decode("utf-8", "replace"), limit=_FILE_LIMIT) for name in own]
    parts = [f"{escaped(name)}\n\n{text}\n\n" for name, text in zip(own, said, strict=True)]
    return "".join(parts) + results(files)


def pull_numbers(repository: github.Repository, run: Mapping[str, Any]) -> list[int]:
    """The pull requests that the run was of.

    `workflow_run.pull_requests` is empty for a fork, so GitHub is asked for the open ones of that branch, of which only those
    that are still at that commit count. Source, and the same way round it:
    https://ismaelmartinez.github.io/teams-for-linux/development/adr/017-workflow-run-pr-comments
    A commit of main is asked for directly.
    """
    sha = run["head_sha"]
    if _kind(run) == "pull_request":
        head = f"{run['head_repository']['owner']['login']}:{run['head_branch']}"
        listed = repository.get("pulls", state="open", head=head)
        return [int(item["number"]) for item in listed if item["head"]["sha"] == sha]
    merged = repository.get(f"commits/{sha}/pulls")
    return [int(item["number"]) for item in merged if item["merged_at"] and item["base"]["ref"] == "main"]


def _kind(run: Mapping[str, Any]) -> str:
    """Whose run it was. By hand, the measured commit may be another than the event's: nothing is said of that one."""
    if run["event"] == "pull_request":
        return "pull_request"
    owner = run["head_repository"]["full_name"]
    if run["event"] == "push" and owner == run["repository"]["full_name"]:
        return "main"
    raise ValueError(f"workflow_run.event: {run['event']!r} of {owner!r}: nothing is posted")


def _files(job: Job, run_id: int) -> Files:
    """The files of the run's artifact, None where it has none, or why it was refused."""
    limit = untrusted.MAX_ARCHIVE_BYTES
    try:
        data = github.newest_artifact(job.repository, run_id, prefix=ARTIFACT, limit_bytes=limit)
        return None if data is None else untrusted.read_archive(data)
    except ValueError as error:
        return str(error)


_VERBS: dict[str, Callable[[Job], str]] = {"show": show, "comment": comment, "issue": issue, "pull": pull}

if __name__ == "__main__":
    raise SystemExit(main())
