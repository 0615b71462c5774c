"""Run one case in an interpreter of its own, driven over execnet: both ends of the protocol.

Only builtin types cross, and nothing is pickled. The worker's end runs in an environment that may lack execnet, so this
module imports it late.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import math
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from speedgate.measure.import_server import ImportServer, prepare_interpreter

TAIL_LINES = 25
_MAX_REASON_CHARS = 300
_LAST_LINES = "; its last lines:"
_EXIT_TIMEOUT_S = 2.0  # for a worker to end by itself before it is killed
# Lines that libraries print on every import, and faulthandler's frames in execnet: they would hide the useful lines.
_NOISE_PREFIXES = (
    "Failed to load ",
    "Unable to import `torchao`",
    "[transformers] `",
    '  File "<string>"',
    "Extension modules:",
)


class WorkerFailure(Exception):
    """Report a worker that raised, died or did not answer in time. The message ends with the worker's last log lines."""

    @property
    def reason(self) -> str:
        """Return the first line of the message."""
        return str(self).splitlines()[0].removesuffix(_LAST_LINES)

    @property
    def out_of_memory(self) -> bool:
        """Return True if the device or the host probably ran out of memory; a killed worker counts."""
        return self.reported_out_of_memory("cpu") or "out-of-memory" in self.reason

    def reported_out_of_memory(self, device: str) -> bool:
        """Return True if the worker itself reported that the memory of "cuda" or "cpu" ran out.

        Python's own `MemoryError` is about the host's memory only.
        """
        signs = ("out of memory", "OutOfMemoryError", "ALLOC_FAILED", *(("MemoryError",) if device == "cpu" else ()))
        return any(sign in self.reason for sign in signs)


class OutOfTime(Exception):
    """Report that the budget of seconds is over. The activity that was running is ended and does not count."""


class Target(Protocol):
    """Run operations on a case, in a worker process or in this one."""

    @property
    def pid(self) -> int | None:
        """The id of the process that runs the operations; None if it is unknown."""

    def call(self, operation: str, **keywords: Any) -> Any:
        """Run `operation` with builtin types and return builtin types; raise `WorkerFailure` if it failed."""

    def close(self) -> None:
        """End the target; may be called twice."""


class Worker:
    """Run a target in an own process: a fresh interpreter, or a fork of `server`, which must be of the same interpreter.

    Its stdout and stderr go to `log`; error messages call it `name`.
    """

    def __init__(
        self,
        factory: str,
        *,
        arguments: Mapping[str, Any],
        paths: Sequence[str],
        log: Path,
        timeout_s: float,
        python: str = sys.executable,
        server: ImportServer | None = None,
        name: str = "the worker",
        left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._pid = self._worker_pid = 0
        self._name = name
        self._left_s = left_s
        self._is_out_of_time = False
        self._timeout_s = timeout_s
        self._log = log
        self._server = server
        self._check_time("start")
        import execnet

        self._group = execnet.Group()
        # CUDA graphs keep thread-local state, so everything runs in the worker's main thread.
        # execnet splits the interpreter's path like a shell command.
        command = shlex.join(server.command if server else [python])
        try:
            gateway = self._group.makegateway(f"popen//python={command}//execmodel=main_thread_only")
            self._channel = gateway.remote_exec(
                _bootstrap,
                setup=inspect.getsource(prepare_interpreter),
                log=str(log),
                paths=[] if server else list(paths),  # the server has them already
                factory=factory,
                arguments=dict(arguments),
                foreign=python != sys.executable and server is None,
            )
        # execnet asserts that the first byte which it reads is that of its own bootstrap.
        except (AssertionError, EOFError, OSError, execnet.HostNotFound) as error:
            self._check_server(error)
            raise WorkerFailure(
                f"{python} did not start as a Python interpreter ({type(error).__name__}: {error})"
            ) from error
        # execnet's process is the worker itself or, with a server, the client that ends as the worker ends.
        self._pid, self._worker_pid = self._receive("start", timeout_s)

    @property
    def pid(self) -> int:
        return self._worker_pid

    def call(self, operation: str, **keywords: Any) -> Any:
        """Run `operation` in the worker; after a failure the worker is ended and cannot be used again.

        Raises `OutOfTime` if no time is left to begin, and always after the budget has ended this worker.
        """
        self._check_time(operation)
        try:
            self._channel.send((operation, keywords))
        except OSError as error:
            raise self._failure(f"died before {operation!r}") from error
        answer = self._receive(operation, self._timeout_s)
        if answer[0] == "value":
            return answer[1]
        _, kind, message, trace = answer
        self.close()
        raise WorkerFailure(f"{operation!r} of {self._name} raised {kind}: {_one_line(message)}\n{trace}")

    def close(self) -> None:
        """Ask the process to end, and kill it after two seconds."""
        self._group.terminate(timeout=_EXIT_TIMEOUT_S)
        if self._worker_pid != self._pid:  # the server kills and reaps it when the client is gone
            _wait_until_gone(self._worker_pid)

    def _check_server(self, error: Exception) -> None:
        """Raise a failure with the end of the server's log if the server has ended."""
        cause = self._server.cause_of_death(_EXIT_TIMEOUT_S) if self._server else None
        if self._server and cause:
            self._log = self._server.log
            raise self._failure(f"did not start: the process that imports its libraries ended ({cause})") from error

    def _check_time(self, operation: str) -> None:
        if self._left_s() <= 0 or self._is_out_of_time:
            raise OutOfTime(f"the budget was over before {operation!r}")

    def _receive(self, operation: str, timeout_s: float) -> Any:
        left_s = max(self._left_s(), 0.0)
        try:
            return self._channel.receive(timeout=min(timeout_s, left_s))
        except self._channel.TimeoutError as error:
            if left_s < timeout_s:
                self._is_out_of_time = True
                self.close()
                raise OutOfTime(f"the budget was over during {operation!r}") from error
            raise self._failure(f"did not answer {operation!r} within {timeout_s:g} s and was killed") from error
        except EOFError as error:
            if operation == "start":
                self._check_server(error)
            raise self._failure(f"died during {operation!r}{self._cause_of_death()}") from error
        except self._channel.RemoteError as error:  # SystemExit, or an answer with other than builtin types
            self.close()
            last_line = str(error).strip().splitlines()[-1]
            raise WorkerFailure(f"{self._name} ended at {operation!r}: {last_line}\n{error}") from error

    def _failure(self, reason: str) -> WorkerFailure:
        self.close()
        tail = "\n".join(f"  {line}" for line in last_lines(self._log))
        return WorkerFailure(f"{self._name} {reason}{_LAST_LINES}\n{tail or '  (it wrote nothing)'}")

    def _cause_of_death(self) -> str:
        # WNOWAIT: execnet's Popen object owns the process and has to reap it.
        with contextlib.suppress(AttributeError, ChildProcessError):
            deadline_s = time.monotonic() + _EXIT_TIMEOUT_S
            while (state := os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
                if time.monotonic() > deadline_s:
                    break
                time.sleep(0.01)
            if state is not None and state.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
                signal_name = signal.Signals(state.si_status).name
                return f" ({signal_name}{', often the out-of-memory killer' if signal_name == 'SIGKILL' else ''})"
            if state is not None:
                return f" (exit status {state.si_status})"
        return ""


class InProcessTarget:
    """Run a target in this process (`--isolation none`), for a debugger. A crash ends pytest too."""

    def __init__(self, factory: str, *, arguments: Mapping[str, Any]) -> None:
        self._target = make_target(factory, arguments)
        self.pid = os.getpid()

    def call(self, operation: str, **keywords: Any) -> Any:
        return getattr(self._target, operation)(**keywords)

    def close(self) -> None:
        self._target.close()


def _wait_until_gone(pid: int) -> None:
    """Wait until a process of this user does not exist any more, at most for the time that a worker has to end."""
    deadline_s = time.monotonic() + _EXIT_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline_s:
            os.kill(pid, 0)
            time.sleep(0.002)


def _one_line(message: str) -> str:
    """Join the lines of an exception's message: the cause of a failed import is on a later line."""
    line = " ".join(message.split())
    return line if len(line) <= _MAX_REASON_CHARS else f"{line[:_MAX_REASON_CHARS]}..."


def last_lines(log: Path, *, count: int = TAIL_LINES) -> list[str]:
    """Return the last `count` lines of a worker's log, without blank lines and noise."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip() and not line.startswith(_NOISE_PREFIXES)][-count:]


def _bootstrap(channel, setup, log, paths, factory, arguments, foreign):  # type: ignore[no-untyped-def]
    """Set up the worker's process. execnet sends this function's source, so it imports what it uses."""
    import faulthandler
    import os
    import signal
    import sys

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.enable()
    # Ctrl-C reaches the whole foreground process group, but only pytest decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    names: dict = {}  # type: ignore[type-arg]
    exec(setup, names)  # noqa: S102 - a function of ours, from a module that this interpreter cannot import yet
    names["prepare_interpreter"](paths, foreign)
    pid = os.getpid()
    channel.send((getattr(sys.modules["__main__"], "CLIENT_PID", pid), pid))

    from speedgate.measure.worker import serve

    serve(channel, factory, arguments)


def make_target(factory: str, arguments: Mapping[str, Any]) -> Any:
    """Import `module:name` and call it with `arguments`."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)


def serve(channel: Any, factory: str, arguments: Mapping[str, Any]) -> None:
    """Run the operations that arrive on the channel, in the worker, until the channel closes.

    Receives `(operation, keywords)`; sends `("value", value)` or `("error", type, message, traceback)`.
    """
    target: Any = None
    # The first operation imports thousands of modules. Collections took 13 % of that time (9.4 s of diffusers and torch) and
    # found nothing: modules stay.
    gc.disable()
    for operation, keywords in channel:
        try:
            if target is None:
                target = make_target(factory, arguments)
            answer: tuple[Any, ...] = ("value", getattr(target, operation)(**keywords))
        except Exception as error:  # the process boundary: the other end raises it again
            answer = ("error", type(error).__name__, str(error), traceback.format_exc())
        finally:
            gc.enable()
        channel.send(answer)
