"""GitHub's REST API, as far as CI posts results: standard library only, because nothing is installed where a token may write.

Every function raises `ValueError` with the request and GitHub's answer where one is refused. What is posted is found again by a
hidden marker, but only in what GitHub's own bot wrote: a stranger can write the marker into an issue of theirs, too.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

_VERSION = "2022-11-28"
_BOT = "github-actions[bot]"  # who a workflow's token acts as
_PAGE = 100
_MAX_PAGES = 20
_MAX_ANSWER_BYTES = 20 * 2**20
_TIMEOUT_S = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """One repository; `api_url` and `token` are what a workflow gets as GITHUB_API_URL and GITHUB_TOKEN."""

    api_url: str
    name: str
    token: str = dataclasses.field(repr=False)

    def get(self, path: str, /, **query: str | int) -> Any:
        """The answer to GET /repos/NAME/path."""
        return json.loads(self._answer("GET", path, query=query))

    def send(self, method: str, path: str, /, **fields: Any) -> Any:
        """The answer to POST or PATCH with these fields."""
        return json.loads(self._answer(method, path, fields=fields))

    def pages(self, path: str, /, **query: str | int) -> Iterator[dict[str, Any]]:
        """The items of a listing, page after page."""
        for page in range(1, _MAX_PAGES + 1):
            items = self.get(path, per_page=_PAGE, page=page, **query)
            yield from items
            if len(items) < _PAGE:
                return
        raise ValueError(f"{path}: more than {_PAGE * _MAX_PAGES} items; close or delete old ones")

    def download(self, path: str, /, *, limit_bytes: int) -> bytes:
        """At most `limit_bytes` from a path that redirects to a storage host, which is not given the token."""
        data = self._answer("GET", path, limit_bytes=limit_bytes)
        if len(data) > limit_bytes:
            raise ValueError(f"{path}: more than {limit_bytes} bytes")
        return data

    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        fields: Mapping[str, Any] | None = None,
        limit_bytes: int = _MAX_ANSWER_BYTES,
    ) -> bytes:
        encoded = f"?{urllib.parse.urlencode(query)}" if query else ""
        url = f"{self.api_url}/repos/{self.name}/{path}{encoded}"
        body = None if fields is None else json.dumps(fields).encode()
        request = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - GITHUB_API_URL is the runner's
        request.add_header("Accept", "application/vnd.github+json")
        request.add_header("X-GitHub-Api-Version", _VERSION)
        request.add_header("User-Agent", "speedgate")
        # Unredirected: an artifact is fetched from another host, by an address that holds its own permission.
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                data: bytes = answer.read(limit_bytes + 1)
        except urllib.error.HTTPError as error:
            said = error.read(500).decode("utf-8", "replace")
            raise ValueError(f"{method} {path}: GitHub answered {error.code}: {said}") from error
        return data


def newest_artifact(repository: Repository, run_id: int, *, prefix: str, limit_bytes: int) -> bytes | None:
    """The zip archive of the run's newest artifact of such a name, or None where it has none.

    Endpoint: https://docs.github.com/rest/actions/artifacts#list-workflow-run-artifacts
    """
    listed = repository.get(f"actions/runs/{run_id}/artifacts", per_page=_PAGE)["artifacts"]
    fitting = [item for item in listed if item["name"].startswith(prefix) and not item["expired"]]
    if not fitting:
        return None
    newest = max(fitting, key=lambda item: int(item["id"]))
    if newest["size_in_bytes"] > limit_bytes:
        raise ValueError(f"the artifact: {newest['size_in_bytes']} bytes, more than {limit_bytes}")
    return repository.download(f"actions/artifacts/{int(newest['id'])}/zip", limit_bytes=limit_bytes)


def put_comment(repository: Repository, number: int, *, marker: str, body: str) -> str:
    """Write the comment of a pull request or issue, over the one that bears the marker if there is one; its address."""
    text = f"{_hidden(marker)}\n{body}"
    for comment in repository.pages(f"issues/{number}/comments"):
        if _ours(comment, marker):
            answer = repository.send("PATCH", f"issues/comments/{int(comment['id'])}", body=text)
            return str(answer["html_url"])
    return str(repository.send("POST", f"issues/{number}/comments", body=text)["html_url"])


def put_issue(repository: Repository, *, marker: str, title: str, body: str) -> str:
    """Write the open issue that bears the marker, or open one; its address."""
    text = f"{_hidden(marker)}\n{body}"
    for issue in repository.pages("issues", state="open", creator=_BOT):
        if "pull_request" not in issue and _ours(issue, marker):
            answer = repository.send("PATCH", f"issues/{int(issue['number'])}", title=title, body=text)
            return str(answer["html_url"])
    return str(repository.send("POST", "issues", title=title, body=text)["html_url"])


def put_pull(
    repository: Repository, *, base: str, branch: str, files: Mapping[str, str], title: str, body: str
) -> str | None:
    """Put the files on `branch`, as one commit on top of `base`, and open its pull request, or bring it up to date.

    Its address; None where the files on `base` are these already. A branch is one bump: whatever else stood on it is replaced.
    """
    parent = repository.get(f"git/ref/heads/{base}")["object"]["sha"]
    old_tree = repository.get(f"git/commits/{parent}")["tree"]["sha"]
    entries = [{"path": path, "mode": "100644", "type": "blob", "content": text} for path, text in files.items()]
    tree = repository.send("POST", "git/trees", base_tree=old_tree, tree=entries)["sha"]
    if tree == old_tree:
        return None
    commit = repository.send("POST", "git/commits", message=title, tree=tree, parents=[parent])["sha"]
    known = [ref["ref"] for ref in repository.get(f"git/matching-refs/heads/{branch}")]
    if f"refs/heads/{branch}" in known:
        repository.send("PATCH", f"git/refs/heads/{branch}", sha=commit, force=True)
    else:
        repository.send("POST", "git/refs", ref=f"refs/heads/{branch}", sha=commit)
    owner = repository.name.split("/")[0]
    opened = repository.get("pulls", state="open", head=f"{owner}:{branch}", base=base)
    if opened:
        answer = repository.send("PATCH", f"pulls/{int(opened[0]['number'])}", title=title, body=body)
    else:
        answer = repository.send("POST", "pulls", title=title, body=body, head=branch, base=base)
    return str(answer["html_url"])


def _hidden(marker: str) -> str:
    return f"<!-- speedgate: {marker} -->"


def _ours(item: Mapping[str, Any], marker: str) -> bool:
    author = item.get("user") or {}
    return author.get("login") == _BOT and str(item.get("body") or "").startswith(_hidden(marker))
