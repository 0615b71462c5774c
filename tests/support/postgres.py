"""A PostgreSQL server for tests, from Debian's packages; it listens on a Unix socket in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_INSTALLED = Path("/usr/lib/postgresql")  # Debian's, which is on nobody's path
_START_S = 60


def binaries() -> Path | None:
    """Return the folder of the newest installed server."""
    found = [path.parent for path in _INSTALLED.glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    return max(found, key=lambda path: int(path.parent.name), default=Path(on_path).parent if on_path else None)


class Server:
    """A server that can be killed and started again."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        # A server refuses to run as root; Debian's package makes the user.
        self.user = "postgres" if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None
        if self.user:
            shutil.chown(folder, self.user)
        self._run("initdb", "--auth=trust", "--username=speedgate", "--no-sync", "-D", str(folder / "data"))
        self.start()

    def url(self, database: str) -> str:
        return f"postgresql://speedgate@/{database}?host={self.folder}"

    def start(self) -> None:
        command = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, "-h", ""]
        with (self.folder / "log").open("ab") as log:
            # A session of its own: one signal ends the server and all that it forked, as a power cut would.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, user=self.user, cwd="/", start_new_session=True
            )
        self._wait()

    def kill(self) -> None:
        """Kill the server, like a power failure: open transactions are lost, and the next start recovers the others."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def create(self, database: str) -> str:
        """Create a database and return its URL."""
        self._run("createdb", "-h", str(self.folder), "-U", "speedgate", database)
        return self.url(database)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + _START_S
        ready = [self.programs / "pg_isready", "-q", "-h", self.folder, "-U", "speedgate"]
        while subprocess.run(ready, check=False).returncode:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline_s, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        command = [self.programs / program, *arguments]
        done = subprocess.run(command, user=self.user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Yield a server that runs meanwhile. If none is installed: skip, but fail in CI."""
    programs = binaries()
    if programs is None:
        said = "no PostgreSQL server is installed: apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    folder = Path(tempfile.mkdtemp(prefix="speedgate-postgres-"))  # short: a socket's path has at most 107 bytes
    try:
        server = Server(folder, programs)
        yield server
        server.kill()
    finally:
        shutil.rmtree(folder)
