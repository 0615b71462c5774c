"""A `gh` on this machine: it answers `gh api` from a JSON file and logs its arguments, stdin and token.

`FakeGh` is the test's side; this file is itself the program, started by a two-line script on the PATH. Only tests of how gh is
started need that process: `FakeGh.process` stands in for `subprocess.Popen` and answers in the process of the test.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import IO, Any

REPOSITORY = "owner/name"
TOKEN = "t0ken"


class FakeGh:
    """Set answers by method and path, and read the calls; what is not set is "Not Found", as gh reports it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._answers: dict[str, Any] = {}
        self._write()
        program = self.bin / "gh"
        program.write_text(f"#!/bin/sh\nFAKE_GH='{folder}' exec '{sys.executable}' -S -E '{__file__}' \"$@\"\n")
        program.chmod(0o755)

    def set(self, method: str, path: str, answer: Any) -> None:
        """Answer with this JSON; a list is cut into pages as GitHub does."""
        self._set(method, path, json=answer)

    def set_bytes(self, method: str, path: str, answer: bytes) -> None:
        """Answer with these bytes, whatever they are."""
        file = self.folder / f"answer-{len(list(self.folder.glob('answer-*')))}"
        file.write_bytes(answer)
        self._set(method, path, file=str(file))

    def fail(self, method: str, path: str, *, status: int, message: str) -> None:
        """Write the message to stderr and end with the status."""
        self._set(method, path, status=status, message=message)

    def artifact(self, run_id: int, data: bytes | None, *, name: str = "speedgate-1") -> None:
        """Let a run have one artifact of these bytes; None for no artifact."""
        items = [] if data is None else [{"id": 5, "name": name, "expired": False, "size_in_bytes": len(data)}]
        self.set("GET", f"actions/runs/{run_id}/artifacts", {"artifacts": items})
        self.set_bytes("GET", "actions/artifacts/5/zip", data or b"")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """List the calls in order: arguments, method, path, query, fields (None without a body) and the token."""
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def sent(self, method: str, path: str) -> list[Any]:
        """List the bodies of the calls of this kind."""
        return [call["fields"] for call in self.calls if (call["method"], call["path"]) == (method, path)]

    @property
    def written(self) -> list[tuple[str, str]]:
        """List the calls that changed something, in order."""
        return [(call["method"], call["path"]) for call in self.calls if call["method"] != "GET"]

    def process(
        self, command: list[str], *, stdin: IO[bytes], stdout: int, stderr: IO[bytes], env: dict[str, str]
    ) -> FinishedProcess:
        """Answer a command as `subprocess.Popen` would, without a process."""
        status, answer, message = respond(self.folder, command[1:], body=stdin.read(), token=env.get("GH_TOKEN"))
        stderr.write(message.encode())
        return FinishedProcess(status, answer)

    def _set(self, method: str, path: str, **answer: Any) -> None:
        self._answers[f"{method} {path}"] = answer
        self._write()

    def _write(self) -> None:
        (self.folder / "answers.json").write_text(json.dumps(self._answers))


class FinishedProcess:
    """The part of `subprocess.Popen` that speedgate uses, of a process that has ended."""

    def __init__(self, returncode: int, output: bytes) -> None:
        self.returncode, self.stdout = returncode, io.BytesIO(output)

    def __enter__(self) -> FinishedProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def kill(self) -> None:
        """Do nothing: it has ended."""


def respond(folder: Path, arguments: list[str], *, body: bytes, token: str | None) -> tuple[int, bytes, str]:
    """Answer one call as `gh api` would, with exit status, stdout and stderr; other commands and options are refused."""
    parser = argparse.ArgumentParser(prog="gh", allow_abbrev=False)
    parser.add_argument("command", choices=["api"])
    parser.add_argument("path")
    parser.add_argument("--method", required=True)
    parser.add_argument("--raw-field", action="append", default=[])
    parser.add_argument("--input", choices=["-"])
    options = parser.parse_args(arguments)
    path = options.path.removeprefix(f"repos/{REPOSITORY}/")
    query = dict(field.split("=", 1) for field in options.raw_field)
    call = {
        "arguments": arguments,
        "method": options.method,
        "path": path,
        "query": query,
        "fields": json.loads(body) if options.input else None,
        "token": token,
    }
    with (folder / "calls.jsonl").open("a") as log:
        log.write(json.dumps(call) + "\n")
    not_found = {"status": 1, "message": "gh: Not Found (HTTP 404)"}
    answer = json.loads((folder / "answers.json").read_text()).get(f"{options.method} {path}", not_found)
    if "status" in answer:
        return int(answer["status"]), b'{"message": "refused"}\n', f"{answer['message']}\n"
    if "file" in answer:
        return 0, Path(answer["file"]).read_bytes(), ""
    content = answer["json"]
    if isinstance(content, list):
        size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
        content = content[(page - 1) * size : page * size]
    return 0, json.dumps(content).encode(), ""


def main() -> int:
    """Answer the call that this process was started for."""
    body = sys.stdin.buffer.read()
    status, answer, message = respond(
        Path(os.environ["FAKE_GH"]), sys.argv[1:], body=body, token=os.environ.get("GH_TOKEN")
    )
    sys.stdout.buffer.write(answer)
    sys.stderr.write(message)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
