"""Run one case in an interpreter of its own, driven over execnet: both ends of the protocol.

Only builtin types cross, and nothing is pickled. The worker's end runs in an environment that may lack execnet, so this
module imports it late.
"""

from __future__ import annotations

import contextlib
import importlib
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

TAIL_LINES = 25
_LONGEST_REASON = 300
_LAST_LINES = "; its last lines:"
_DYING_S = 2.0  # a worker that has closed its pipe and lives on is killed after this
# What libraries say on every import, and faulthandler's frames in execnet: they would hide the lines that matter.
_NOISE = (
    "Failed to load ",
    "Unable to import `torchao`",
    "[transformers] `",
    '  File "<string>"',
    "Extension modules:",
)


class WorkerFailure(Exception):
    """A worker that raised, died or did not answer in time. The message is one case's failure, with its last words.

    `reason` is one line. `out_of_memory` says that the memory of the device or the host ran out, as far as can be told;
    `reported_out_of_memory` that the worker said so itself, where a killed one leaves it to be guessed.
    """

    @property
    def reason(self) -> str:
        return str(self).splitlines()[0].removesuffix(_LAST_LINES)

    @property
    def out_of_memory(self) -> bool:
        return self.reported_out_of_memory("cpu") or "out-of-memory" in self.reason

    def reported_out_of_memory(self, device: str) -> bool:
        """Whether the worker said that the memory of "cuda" or "cpu" ran out: Python's own `MemoryError` is the host's."""
        signs = ("out of memory", "OutOfMemoryError", "ALLOC_FAILED", *(("MemoryError",) if device == "cpu" else ()))
        return any(sign in self.reason for sign in signs)


class OutOfTime(Exception):
    """The time that was given is over; the message says what of it. What was being done is ended and does not count."""


class Target(Protocol):
    """What a test can ask of a case, in a process of its own or in this one."""

    def call(self, operation: str, **keywords: Any) -> Any:
        """Do `operation` with builtin `keywords` and return builtin types; `WorkerFailure` if it could not."""

    def close(self) -> None:
        """End it; harmless when it has ended."""


class Worker:
    """A target in a fresh interpreter; its stdout and stderr go to `log`. Failures call it by its `name`."""

    def __init__(
        self,
        factory: str,
        *,
        arguments: Mapping[str, Any],
        paths: Sequence[str],
        log: Path,
        timeout_s: float,
        python: str = sys.executable,
        name: str = "the worker",
        left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._name = name
        self._left_s = left_s
        self._is_out_of_time = False
        self._timeout_s = timeout_s
        self._log = log
        self._begin("start")
        import execnet

        self._group = execnet.Group()
        # CUDA graphs keep thread-local state, so everything runs in the worker's main thread.
        # execnet splits the interpreter like a shell command.
        try:
            gateway = self._group.makegateway(f"popen//python={shlex.quote(python)}//execmodel=main_thread_only")
            self._channel = gateway.remote_exec(
                _bootstrap,
                log=str(log),
                paths=list(paths),
                factory=factory,
                arguments=dict(arguments),
                foreign=python != sys.executable,
            )
        except (AssertionError, EOFError, OSError, execnet.HostNotFound) as error:  # execnet asserts its first byte
            raise WorkerFailure(
                f"{python} did not start as a Python interpreter ({type(error).__name__}: {error})"
            ) from error
        self._pid: int = self._receive("start", timeout_s)

    def call(self, operation: str, **keywords: Any) -> Any:
        """Do `operation` in the worker; after a failure the worker is ended and cannot be used again.

        `OutOfTime` where no time is left to begin it: a worker that the budget has ended answers everything so.
        """
        self._begin(operation)
        try:
            self._channel.send((operation, keywords))
        except OSError as error:
            raise self._failed(f"died before {operation!r}") from error
        answer = self._receive(operation, self._timeout_s)
        if answer[0] == "value":
            return answer[1]
        _, kind, message, trace = answer
        self.close()
        raise WorkerFailure(f"{operation!r} of {self._name} raised {kind}: {_one_line(message)}\n{trace}")

    def close(self) -> None:
        """End the process: asked first, killed after two seconds."""
        self._group.terminate(timeout=2.0)

    def _begin(self, operation: str) -> None:
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
                raise OutOfTime(f"{operation!r} was ended when the budget was over") from error
            raise self._failed(f"did not answer {operation!r} within {timeout_s:g} s and was killed") from error
        except EOFError as error:
            raise self._failed(f"died during {operation!r}{self._cause_of_death()}") from error
        except self._channel.RemoteError as error:  # SystemExit, or an answer that is not made of builtin types
            self.close()
            last = str(error).strip().splitlines()[-1]
            raise WorkerFailure(f"{self._name} ended at {operation!r}: {last}\n{error}") from error

    def _failed(self, reason: str) -> WorkerFailure:
        self.close()
        tail = "\n".join(f"  {line}" for line in last_lines(self._log))
        return WorkerFailure(f"{self._name} {reason}{_LAST_LINES}\n{tail or '  (it wrote nothing)'}")

    def _cause_of_death(self) -> str:
        # WNOWAIT leaves the process to be reaped by execnet, whose Popen object owns it.
        with contextlib.suppress(AttributeError, ChildProcessError):
            deadline_s = time.monotonic() + _DYING_S
            while (state := os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
                if time.monotonic() > deadline_s:
                    break
                time.sleep(0.01)
            if state is not None and state.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
                name = signal.Signals(state.si_status).name
                return f" ({name}{', often the out-of-memory killer' if name == 'SIGKILL' else ''})"
            if state is not None:
                return f" (exit status {state.si_status})"
        return ""


class InProcessTarget:
    """The same target in this process (`--isolation none`): for a debugger; a crash takes pytest with it."""

    def __init__(self, factory: str, *, arguments: Mapping[str, Any]) -> None:
        self._target = make_target(factory, arguments)

    def call(self, operation: str, **keywords: Any) -> Any:
        return getattr(self._target, operation)(**keywords)

    def close(self) -> None:
        self._target.close()


def _one_line(message: str) -> str:
    """An exception's message without its line breaks: of a failed import the cause stands on a later line."""
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


def last_lines(log: Path, *, count: int = TAIL_LINES) -> list[str]:
    """The last `count` lines of a worker's log that say something."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip() and not line.startswith(_NOISE)][-count:]


def _bootstrap(channel, log, paths, factory, arguments, foreign):  # type: ignore[no-untyped-def]
    """Runs in the worker: execnet sends this function's source, so it imports what it uses."""
    import faulthandler
    import os
    import signal
    import sys

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.enable()
    # Ctrl-C reaches the whole foreground group; pytest alone decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if foreign:  # PYTHONPATH would bring this environment's packages into the other one
        for place in os.environ.pop("PYTHONPATH", "").split(os.pathsep):
            if place in sys.path:
                sys.path.remove(place)
    sys.path[:0] = paths
    # How threads wait is part of what is measured and no part of a shell. With OMP_WAIT_POLICY=active a worker that idles
    # between its turns takes a core from the one that is measured; with passive the tiny pipeline took twice as long, and
    # its processes spread by more. LLVM's and Intel's OpenMP go on spinning for 200 ms after a round, GNU's for about 1 ms.
    os.environ.pop("OMP_WAIT_POLICY", None)
    os.environ["KMP_BLOCKTIME"] = "1"
    channel.send(os.getpid())

    from speedgate.measure.worker import serve

    serve(channel, factory, arguments)


def make_target(factory: str, arguments: Mapping[str, Any]) -> Any:
    """Call `module:name` with `arguments`."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)


def serve(channel: Any, factory: str, arguments: Mapping[str, Any]) -> None:
    """Answer `(operation, keywords)` with `("value", v)` or, where it raised, `("error", type, message, traceback)`."""
    target: Any = None
    for operation, keywords in channel:
        try:
            if target is None:
                target = make_target(factory, arguments)
            answer: tuple[Any, ...] = ("value", getattr(target, operation)(**keywords))
        except Exception as error:  # the boundary: whatever it is, the other side raises it and owns it
            answer = ("error", type(error).__name__, str(error), traceback.format_exc())
        channel.send(answer)
