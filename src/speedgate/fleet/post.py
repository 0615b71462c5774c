"""`python -m speedgate.fleet.post VERB`: post the results of a run on GitHub, from the run's artifact, with `gh`.

The artifact is untrusted: the run may be of a stranger's commit, or of a machine that a stranger controls. The event names the
run and its result, and GitHub's API names the pull request. The token stays in the environment of this process.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.report import markdown
from speedgate.results import folder
from speedgate.results.text import log_line, markdown_block, markdown_code

ARTIFACT_PREFIX = "speedgate-"  # of the artifacts that the workflows upload
BOT = "github-actions[bot]"  # the author of what a workflow's token writes
BRANCH = "automated/nightly-pin"
PIN_PATH = ".github/pins/nightly.txt"
NIGHTLY = "nightly"  # the marker of the issue about the nightly
_GREEN = "No case was slower, bigger or different with the new nightly: "
# In characters, and a number of files. The results, four files and the other lines stay below GitHub's limit of 65,536.
_RESULTS_LIMIT, _FILE_LIMIT, _NIGHTLY_FILES = 30_000, 7_000, 4
_PAGE, _MAX_PAGES = 100, 20
_MAX_ANSWER_BYTES = 20 * 2**20
_MAX_MESSAGE_BYTES = 500  # of what gh writes to stderr
_COMMIT = re.compile(r"[0-9a-f]{40}")
Files = Mapping[str, bytes] | str | None  # of an artifact; the reason why it was refused; None if there is none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The running job: its repository, its event and where its summary goes."""

    repository: str
    event: Mapping[str, Any]
    run_id: int
    run_url: str
    summary_path: Path
    environment: Mapping[str, str] = dataclasses.field(repr=False)


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run one verb; return 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m speedgate.fleet.post")
    parser.add_argument("verb", choices=sorted(VERBS))
    options = parser.parse_args(argv)
    try:
        message = VERBS[options.verb](read_job(environment))
    except (ValueError, OSError) as error:
        print("speedgate:", log_line(str(error)), file=sys.stderr)
        return 2
    print(log_line(message))
    return 0


def read_job(environment: Mapping[str, str]) -> Job:
    """Read the job from GitHub's variables; a `ValueError` names a variable that is missing."""
    names = ("GITHUB_REPOSITORY", "GITHUB_EVENT_PATH", "GITHUB_RUN_ID", "GITHUB_SERVER_URL", "GITHUB_STEP_SUMMARY")
    if missing := [name for name in (*names, "GH_TOKEN") if not environment.get(name)]:
        raise ValueError(f"{missing[0]} is not set: this runs in a job of GitHub Actions, with GH_TOKEN in `env`")
    repository, event_path, run_id, server_url, summary_path = (environment[name] for name in names)
    return Job(
        repository=repository,
        event=json.loads(Path(event_path).read_text(encoding="utf-8")),
        run_id=int(run_id),
        run_url=f"{server_url}/{repository}/actions/runs/{int(run_id)}",
        summary_path=Path(summary_path),
        environment=environment,
    )


# The verbs, one for each posting step of the workflows


def show(job: Job) -> str:
    """Write the results that another job of this run uploaded to the job summary."""
    _append_to_summary(job, render_results(_download_files(job, job.run_id)))
    return "the results are in the job summary"


def _append_to_summary(job: Job, text: str) -> None:
    markdown.append(job.summary_path, text, limit_bytes=markdown.MAX_SUMMARY_BYTES)


def comment(job: Job) -> str:
    """Post the results of the finished run on its pull request; this replaces the comment of an earlier run."""
    run = _field(job.event, "workflow_run")
    kind, sha = run_kind(run), _field(run, "head_sha")
    if not _COMMIT.fullmatch(str(sha)):
        raise ValueError(f"workflow_run.head_sha: expected a commit hash, found {sha!r}")
    body = render_comment(run, _download_files(job, int(_field(run, "id"))))
    _append_to_summary(job, body)
    urls = [_put_comment(job, number, marker=f"results {kind}", body=body) for number in _pull_numbers(job, run)]
    return ", ".join(urls) or f"no pull request has {sha} as its head; the results are only in the job summary"


def open_issue(job: Job) -> str:
    """Write a red comparison into the open issue about the nightly, or open one."""
    head = f"The comparison of the new nightly with the pinned one is red: {job.run_url}\n"
    body = f"{head}\n{render_nightly(_download_files(job, job.run_id))}"
    _append_to_summary(job, body)
    fields = {"title": "PyTorch nightly: the comparison is red", "body": f"{_marker(NIGHTLY)}\n{body}"}
    number = _nightly_issue(job)
    return _write(job, "POST", "issues", fields) if number is None else _write(job, "PATCH", f"issues/{number}", fields)


def close_issue(job: Job) -> str:
    """Close the issue about the nightly after a green comparison, with a comment that names the run."""
    _green_files(job)
    number = _nightly_issue(job)
    if number is None:
        return "no issue about the nightly is open"
    _write(job, "POST", f"issues/{number}/comments", {"body": f"{_GREEN}{job.run_url}\n"})
    return _write(job, "PATCH", f"issues/{number}", {"state": "closed"})


def open_pull(job: Job) -> str:
    """Open or update the pull request that changes the nightly pin, with the pin from the output of a hosted job.

    Raises `ValueError` unless the artifact holds a green verdict of measured cases.
    """
    pin = base64.b64decode(job.environment.get("PIN", ""), validate=True).decode("utf-8")
    if not pin:
        raise ValueError("PIN is empty: the job `pin` has no output with a pin")
    body = f"{_GREEN}{job.run_url}\n\n{render_nightly(_green_files(job))}"
    _append_to_summary(job, body)
    title = "Move the pin of the PyTorch nightly"
    commit = _commit_on_main(job, path=PIN_PATH, text=pin, message=title)
    if commit is None:
        return "main has this pin already"
    _point_branch(job, commit)
    pulls = _items(_get(job, "pulls", state="open", head=f"{job.repository.split('/')[0]}:{BRANCH}", base="main"))
    fields = {"title": title, "body": body}
    if pulls:
        return _write(job, "PATCH", f"pulls/{int(_field(pulls[0], 'number'))}", fields)
    return _write(job, "POST", "pulls", {**fields, "head": BRANCH, "base": "main"})


VERBS: dict[str, Callable[[Job], str]] = {
    "show": show,
    "comment": comment,
    "open-issue": open_issue,
    "close-issue": close_issue,
    "open-pull": open_pull,
}


# Decisions: nothing below calls GitHub, until the next heading


def run_kind(run: Mapping[str, Any]) -> str:
    """Return "pull_request" or "main"; raise `ValueError` for another run, which may have measured another commit."""
    event, owner = _field(run, "event"), _field(run, "head_repository", "full_name")
    if event == "pull_request":
        return "pull_request"
    if event == "push" and owner == _field(run, "repository", "full_name"):
        return "main"
    raise ValueError(f"workflow_run.event: {event!r} of {owner!r}: nothing is posted")


def is_ours(item: Mapping[str, Any], marker: str) -> bool:
    """True for our own comment or issue, by author and marker, because a stranger can write the marker too."""
    author = item.get("user") or {}
    return author.get("login") == BOT and str(item.get("body") or "").startswith(_marker(marker))


def render_comment(run: Mapping[str, Any], files: Files) -> str:
    """Render the conclusion of a run and its results."""
    sha, name, conclusion = (str(_field(run, field)) for field in ("head_sha", "name", "conclusion"))
    head = (
        f"`{sha[:12]}`: {markdown_code(name)} ended with **{markdown_code(conclusion)}** ({_field(run, 'html_url')}).\n"
    )
    note = "The run of that commit wrote these figures: trust them only as far as you trust the commit.\n"
    return f"{head}{note}\n{render_results(files)}"


def render_results(files: Files) -> str:
    """Render the results as Markdown, or the reason why there are none."""
    if files is None:
        return "The run left no results.\n"
    try:
        if isinstance(files, str):
            raise ValueError(files)
        return markdown.render(files, limit=_RESULTS_LIMIT)
    except ValueError as error:
        return f"The results are not shown: {markdown_code(str(error))}\n"


def render_nightly(files: Files) -> str:
    """Render the texts of the bump and the bisect as plain text, then the results of the cases."""
    if not isinstance(files, Mapping):
        return render_results(files)
    names = sorted(filter(folder.is_page_name, files), key=lambda name: (not name.endswith(".md"), name))
    texts = [
        f"{markdown_code(name)}\n\n{markdown_block(files[name].decode('utf-8', 'replace'), limit=_FILE_LIMIT)}\n\n"
        for name in names[:_NIGHTLY_FILES]
    ]
    return "".join(texts) + render_results(files)


def _marker(name: str) -> str:
    """Return the hidden line before a text of ours, by which a later run finds it."""
    return f"<!-- speedgate: {name} -->"


# Calls of GitHub: https://docs.github.com/rest


def _download_files(job: Job, run_id: int) -> Files:
    """Download the run's newest artifact and unpack it in memory; return the reason if it is refused.

    Endpoint: https://docs.github.com/rest/actions/artifacts#list-workflow-run-artifacts
    """
    limit = folder.MAX_ARCHIVE_BYTES
    try:
        listed = _items(_field(_get(job, f"actions/runs/{run_id}/artifacts", per_page=str(_PAGE)), "artifacts"))
        usable = [
            item for item in listed if _field(item, "name").startswith(ARTIFACT_PREFIX) and not _field(item, "expired")
        ]
        if not usable:
            return None
        newest = max(usable, key=lambda item: int(_field(item, "id")))
        size = int(_field(newest, "size_in_bytes"))
        if size > limit:
            return f"the artifact: {size} bytes, more than {limit}"
        data = _call(job, "GET", f"actions/artifacts/{int(newest['id'])}/zip", limit_bytes=limit)
        return folder.read_archive(data)
    except ValueError as error:
        return str(error)


def _green_files(job: Job) -> Mapping[str, bytes]:
    """Download the files of this run; raise `ValueError` unless they hold a green verdict of measured cases."""
    files = _download_files(job, job.run_id)
    if not isinstance(files, Mapping) or not folder.parse_results(files, built=True) or not folder.is_green(files):
        raise ValueError("the artifact holds no green verdict of measured cases: nothing is posted")
    return files


def _pull_numbers(job: Job, run: Mapping[str, Any]) -> list[int]:
    """List the pull requests that the run belongs to.

    `workflow_run.pull_requests` is empty for a fork, so GitHub is asked for the open ones of its branch. Source, and the same
    workaround: https://ismaelmartinez.github.io/teams-for-linux/development/adr/017-workflow-run-pr-comments
    """
    sha = _field(run, "head_sha")
    if run_kind(run) == "main":
        pulls = _items(_get(job, f"commits/{sha}/pulls"))
        pulls = [pull for pull in pulls if pull.get("merged_at") and _field(pull, "base", "ref") == "main"]
    else:
        head = f"{_field(run, 'head_repository', 'owner', 'login')}:{_field(run, 'head_branch')}"
        pulls = _items(_get(job, "pulls", state="open", head=head))
        pulls = [pull for pull in pulls if _field(pull, "head", "sha") == sha]  # a later head has other results
    return [int(_field(pull, "number")) for pull in pulls]


def _put_comment(job: Job, number: int, *, marker: str, body: str) -> str:
    """Replace our comment of a pull request, or add it; return its address."""
    fields = {"body": f"{_marker(marker)}\n{body}"}
    for item in _pages(job, f"issues/{number}/comments"):
        if is_ours(item, marker):
            return _write(job, "PATCH", f"issues/comments/{int(_field(item, 'id'))}", fields)
    return _write(job, "POST", f"issues/{number}/comments", fields)


def _nightly_issue(job: Job) -> int | None:
    """Return the number of our open issue about the nightly; GitHub lists pull requests among the issues."""
    for item in _pages(job, "issues", state="open", creator=BOT):
        if "pull_request" not in item and is_ours(item, NIGHTLY):
            return int(_field(item, "number"))
    return None


def _commit_on_main(job: Job, *, path: str, text: str, message: str) -> str | None:
    """Make a commit of one file on top of main; return its hash, or None if main has this file already."""
    parent = _field(_get(job, "git/ref/heads/main"), "object", "sha")
    old_tree = _field(_get(job, f"git/commits/{parent}"), "tree", "sha")
    entry = {"path": path, "mode": "100644", "type": "blob", "content": text}
    tree = _field(_send(job, "POST", "git/trees", {"base_tree": old_tree, "tree": [entry]}), "sha")
    if tree == old_tree:
        return None
    commit = _send(job, "POST", "git/commits", {"message": message, "tree": tree, "parents": [parent]})
    return str(_field(commit, "sha"))


def _point_branch(job: Job, commit: str) -> None:
    """Point the bump's branch to the commit; an older bump on it is replaced."""
    refs = [_field(ref, "ref") for ref in _items(_get(job, f"git/matching-refs/heads/{BRANCH}"))]
    if f"refs/heads/{BRANCH}" in refs:
        _send(job, "PATCH", f"git/refs/heads/{BRANCH}", {"sha": commit, "force": True})
    else:
        _send(job, "POST", "git/refs", {"ref": f"refs/heads/{BRANCH}", "sha": commit})


def _write(job: Job, method: str, path: str, fields: Mapping[str, Any]) -> str:
    """Write a comment, an issue or a pull request; return its address."""
    return str(_field(_send(job, method, path, fields), "html_url"))


# gh: https://cli.github.com/manual/gh_api


def _pages(job: Job, path: str, **query: str) -> Iterator[Mapping[str, Any]]:
    """Yield the items of a listing, page after page; raise `ValueError` if it does not end."""
    for page in range(1, _MAX_PAGES + 1):
        items = _items(_get(job, path, per_page=str(_PAGE), page=str(page), **query))
        yield from items
        if len(items) < _PAGE:
            return
    raise ValueError(f"{path}: more than {_PAGE * _MAX_PAGES} items; close or delete old ones")


def _get(job: Job, path: str, **query: str) -> Any:
    return _decode(_call(job, "GET", path, query=query), where=f"GET {path}")


def _send(job: Job, method: str, path: str, fields: Mapping[str, Any]) -> Any:
    return _decode(_call(job, method, path, fields=fields), where=f"{method} {path}")


def _call(
    job: Job,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    fields: Mapping[str, Any] | None = None,
    limit_bytes: int | None = None,
) -> bytes:
    """Call `gh api` and return the answer; a `ValueError` holds the request and gh's own message.

    The fields go through stdin. gh encodes the query, and does not give the token to the host that an artifact lies on.
    """
    command = ["gh", "api", "--method", method, f"repos/{job.repository}/{path}"]
    for name, value in (query or {}).items():
        command += ["--raw-field", f"{name}={value}"]
    if fields is not None:
        command += ["--input", "-"]
    limit = _MAX_ANSWER_BYTES if limit_bytes is None else limit_bytes
    environment = {**job.environment, "GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"}
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(b"" if fields is None else json.dumps(fields).encode())
        stdin.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603 - a list, never a shell
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=environment
            )
        except FileNotFoundError as error:
            raise ValueError("gh is not on the PATH; GitHub's hosted runners have it") from error
        with process:
            assert process.stdout is not None, "it is a pipe"
            data = process.stdout.read(limit + 1)
            if len(data) > limit:
                process.kill()
        stderr.seek(0)
        message = stderr.read(_MAX_MESSAGE_BYTES).decode("utf-8", "replace").strip()
    if len(data) > limit:
        raise ValueError(f"{path}: more than {limit} bytes")
    if process.returncode:
        raise ValueError(f"{method} {path}: gh ended with exit status {process.returncode}: {message}")
    return data


def _decode(data: bytes, *, where: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"{where}: the answer is not JSON ({error})") from error


def _items(answer: Any) -> list[Mapping[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise ValueError("GitHub's answer: expected a list of objects")
    return answer


def _field(answer: Any, *names: str) -> Any:
    """Return a nested field of GitHub's answer; a `ValueError` names the field that is missing."""
    for name in names:
        if not isinstance(answer, Mapping) or answer.get(name) is None:
            raise ValueError(f"GitHub's answer: expected a field {'.'.join(names)}")
        answer = answer[name]
    return answer


if __name__ == "__main__":
    raise SystemExit(main())
