"""A worker target for tests, with operations that succeed, fail, hang or end the process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from speedgate.measure.import_server import inherited_import_s


class Target:
    """Has one method for each behaviour of a worker that tests need."""

    def __init__(self, *, refuses: str | None = None) -> None:
        if refuses is not None:
            raise LookupError(refuses)
        self.closed = False

    def collects(self) -> bool:
        """Return True if garbage is collected."""
        return gc.isenabled()

    def echo(self, *, value: Any) -> Any:
        """Return the value."""
        return value

    def pid(self) -> int:
        """Return the process id of the worker."""
        return os.getpid()

    def say(self, *, out: str, err: str = "") -> None:
        """Write to both streams."""
        print(out, flush=True)
        print(err, file=sys.stderr, flush=True)

    def spin(self, *, seconds: float) -> float:
        """Keep the processor busy for so long; return the seconds that it took."""
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            pass
        return time.perf_counter() - started_s

    def inherited_import_s(self) -> dict[str, float]:
        """Return the seconds of the imports that this process inherited."""
        return dict(inherited_import_s())

    def process_state(self) -> dict[str, Any]:
        """Return what a program can see of how its process was started."""
        return {
            "argv": sys.argv,
            "path": sys.path,
            "main": [name for name in ("__file__", "Message", "Popen2IO") if hasattr(sys.modules["__main__"], name)],
            "descriptors": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
            "threads": threading.active_count(),
            "tasks": len(list(Path("/proc/self/task").iterdir())),
            "streams": [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)],
            "variables": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        }

    def setting(self, *, name: str) -> str | None:
        """Return an environment variable of the worker."""
        return os.environ.get(name)

    def raises(self, *, message: str) -> None:
        """Raise an error, like a model that fails."""
        raise RuntimeError(message)

    def hang(self) -> None:
        """Never answer."""
        print("about to hang", file=sys.stderr, flush=True)
        time.sleep(600)

    def closes_its_pipe(self) -> None:
        """Close the pipe to the parent process, but do not end."""
        os.closerange(3, 256)
        time.sleep(600)

    def abort(self) -> None:
        """Abort, like a failed assertion in C++."""
        print("terminate called after throwing an instance", file=sys.stderr, flush=True)
        os.abort()

    def is_killed(self) -> None:
        """Be killed, as by the out-of-memory killer."""
        os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self, *, status: int) -> None:
        """End at once with an exit status, without an exception or an answer."""
        os._exit(status)

    def exits(self) -> None:
        """End as a script does, by SystemExit."""
        sys.exit("nothing left to do")

    def returns_an_object(self) -> object:
        """Return an object that cannot be sent to another process."""
        return self

    def close(self) -> None:
        """Note that the target was closed."""
        self.closed = True
