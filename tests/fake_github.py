"""GitHub's REST API as far as we call it, on this machine: what it holds, and every request that was made."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speedgate import posting

BOT = {"login": "github-actions[bot]"}
REPOSITORY = "owner/name"
COMMENTS = "issues/7/comments"


class FakeGitHub:
    """Answers by method and path; what is not set is a 404. A listing answers its second page with nothing."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def set(self, method: str, path: str, answer: Any) -> None:
        """Answer this request with JSON, with bytes, with a redirect ("-> URL") or with a status (an int)."""
        self.answers[method, path] = answer

    def sent(self, method: str, path: str) -> list[Any]:
        """The bodies of the requests of this kind."""
        return [body for verb, where, _, body in self.requests if (verb, where) == (method, path)]

    @property
    def written(self) -> list[tuple[str, str]]:
        """The requests that changed something, in order."""
        return [(method, path) for method, path, _, _ in self.requests if method != "GET"]

    def artifact(self, run_id: int, data: bytes | None, *, name: str = "speedgate-1") -> None:
        """Let a run have one artifact of these bytes, served through a redirect as GitHub does; None for no artifact."""
        items = [] if data is None else [{"id": 5, "name": name, "expired": False, "size_in_bytes": len(data)}]
        self.set("GET", f"actions/runs/{run_id}/artifacts", {"artifacts": items})
        self.set("GET", "actions/artifacts/5/zip", f"-> {self.url}/repos/{REPOSITORY}/storage")
        self.set("GET", "storage", data)


def _handler(fake: FakeGitHub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            address = urllib.parse.urlsplit(self.path)
            path = address.path.removeprefix(f"/repos/{REPOSITORY}/")
            query = dict(urllib.parse.parse_qsl(address.query))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.requests.append((self.command, path, query, json.loads(body) if body else None))
            fake.headers.append(dict(self.headers))
            answer = fake.answers.get((self.command, path), 404)
            if isinstance(answer, list) and query.get("page", "1") != "1":
                answer = []
            self._write(answer)

        def _write(self, answer: Any) -> None:
            moved = isinstance(answer, str)
            self.send_response(302 if moved else answer if isinstance(answer, int) else 200)
            if moved:
                self.send_header("Location", answer.removeprefix("-> "))
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
            pass

    return Handler


@contextmanager
def serving() -> Iterator[FakeGitHub]:
    """A fake that answers at its `url` meanwhile."""
    fake = FakeGitHub()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    run: Callable[[], None] = server.serve_forever
    thread = threading.Thread(target=run, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def post(verb: str, fake: FakeGitHub, folder: Path, *, run: dict[str, Any] | None = None, **more: str) -> int:
    """Run a verb as a job would; its exit status."""
    (folder / "event.json").write_text(json.dumps({"workflow_run": run}))
    environment = {
        "GITHUB_API_URL": fake.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_TOKEN": "t0ken",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_RUN_ID": "9",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    return posting.main([verb], {**environment, **more})


def posted(fake: FakeGitHub, path: str = COMMENTS) -> str:
    """The text that was posted."""
    (fields,) = fake.sent("POST", path)
    return str(fields["body"])
