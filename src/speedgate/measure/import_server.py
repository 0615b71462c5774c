"""Import libraries once, in a process that does nothing else, and fork the workers of a session from it.

Each worker spends about seven seconds on the same imports. The server has one thread and starts no kernel, so that a fork
is as safe as a fresh interpreter. execnet starts a small client in place of an interpreter: the client hands its stdin,
stdout and stderr to the server, the forked worker takes them over, and the client ends as the worker ends. For execnet the
client is the worker.

This file is also the program of client and server, in an interpreter that may lack speedgate: it needs the standard library only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

_CHUNK_BYTES = 2**16
_CLIENT_TIMEOUT_S = 10.0  # for a client that has connected to send its request
_FORK_FAILED = 1  # exit status of a client whose server is gone


def prepare_interpreter(paths, foreign):  # type: ignore[no-untyped-def]
    """Set the paths and variables of a worker. Its source also runs where this module cannot be imported yet."""
    import os
    import sys

    if foreign:  # PYTHONPATH would bring packages of pytest's environment into this one
        for path in os.environ.pop("PYTHONPATH", "").split(os.pathsep):
            if path in sys.path:
                sys.path.remove(path)
    sys.path[:0] = paths
    # How threads wait affects the measurement, so the user's shell must not set it. With OMP_WAIT_POLICY=active, a worker that
    # is idle between its turns takes a core from the worker that is measured; with passive, the tiny pipeline took twice as long
    # and varied more. LLVM's and Intel's OpenMP spin for 200 ms after a round, GNU's for about 1 ms.
    os.environ.pop("OMP_WAIT_POLICY", None)
    os.environ["KMP_BLOCKTIME"] = "1"


def inherited_import_s() -> Mapping[str, float]:
    """Return the seconds of each module that this worker's server imported; empty in a fresh interpreter."""
    seconds: Mapping[str, float] = getattr(sys.modules["__main__"], "IMPORT_S", {})
    return seconds


class ImportServer:
    """A server process. It forks workers until `retire`, and ends with its workers at `close`.

    `modules` are imported in this order. One that cannot be imported is left out: the worker that needs it reports why.
    """

    def __init__(
        self, *, modules: Sequence[str], paths: Sequence[str], python: str, foreign: bool, folder: Path, name: str
    ) -> None:
        import subprocess

        self.log = folder / f"{name}.log"
        self._socket = folder / name
        code = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
        with socket.socket(socket.AF_UNIX) as listening, self.log.open("wb") as log:
            listening.bind(str(self._socket))
            listening.listen()
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter of a worker
                [python, "-u", "-c", code, "serve", str(listening.fileno())],
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._write(json.dumps({"modules": list(modules), "paths": list(paths), "foreign": foreign}) + "\n")

    @property
    def command(self) -> list[str]:
        """Return the command that execnet runs in place of an interpreter."""
        return [sys.executable, "-I", "-S", __file__, "client", str(self._socket)]

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def cause_of_death(self, timeout_s: float) -> str | None:
        """Return how the process ended, or None if it still lives after the timeout."""
        import subprocess

        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name

    def retire(self) -> None:
        """Fork no further worker; the process ends with the last of its workers."""
        self._write("retire\n")

    def close(self) -> None:
        """Kill the workers that are left, and wait for the end of the process."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        self._process.wait()
        self._socket.unlink(missing_ok=True)

    @property
    def _stdin(self):  # type: ignore[no-untyped-def]
        assert self._process.stdin is not None
        return self._process.stdin

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it has ended: `cause_of_death` says how
            self._stdin.write(line.encode())
            self._stdin.flush()


class ImportServers:
    """Choose the server that forks a worker, and start it if needed. A context manager that ends all servers.

    A server forks at most one worker of each case, which has another name in each arm. Processes of one case that share a
    server would share the layout of their memory, and their spread, which verdicts are based on, would be too small.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(modules)
        self._current: dict[object, tuple[ImportServer, set[str]]] = {}
        self._servers: list[ImportServer] = []
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> ImportServers:
        import tempfile

        # mode 0700: nobody else can connect
        self._folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="speedgate-import-")))
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        self._resources.close()

    def server(self, case: str, *, python: str, paths: Sequence[str]) -> ImportServer:
        """Return a server of this interpreter, these paths and the present environment that has forked no worker of this case."""
        # pytest changes PYTEST_CURRENT_TEST with each test
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        key = (python, tuple(paths), Path.cwd(), frozenset(environment.items()))
        server, cases = self._current.get(key, (None, set()))
        if server is not None and (case in cases or not server.is_alive):
            server.retire()
            server = None
        if server is None:
            server, cases = self._start(python, paths), set()
            self._current[key] = server, cases
        cases.add(case)
        return server

    def _start(self, python: str, paths: Sequence[str]) -> ImportServer:
        server = ImportServer(
            modules=self._modules,
            paths=paths,
            python=python,
            foreign=python != sys.executable,
            folder=self._folder,
            name=str(len(self._servers)),
        )
        self._servers.append(server)
        return server


def _connect(path: str, code: str) -> None:
    """Be the client: hand over the descriptors, and end as the worker ends. A worker whose client ends is killed."""
    # Ctrl-C reaches the whole foreground process group, but only pytest decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = ending = ""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.connect(path)
        socket.send_fds(connection, [json.dumps({"code": code, "client": os.getpid()}).encode()], [0, 1])
        for descriptor in (0, 1):  # the pipes must close when the worker closes them
            os.close(descriptor)
        answers = connection.makefile("r")
        worker = answers.readline()
        ending = answers.readline()
    if not ending:  # the server is gone
        if worker:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
        os._exit(_FORK_FAILED)
    status = os.waitstatus_to_exitcode(int(ending))
    if status < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker has left a core file already
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


class _Server:
    """Be the server: import, then fork a worker for each client until pytest closes the control pipe."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._control = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._workers: dict[int, tuple[int, socket.socket]] = {}  # pid -> pidfd, connection to its client
        self._retired = False
        self.import_s: dict[str, float] = {}

    def read_line(self) -> str:
        """Return a line of the control pipe, or "" at its end."""
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._control, 1)):
            line += byte
        return line.decode()

    def import_modules(self, names: Sequence[str]) -> None:
        """Import the modules and note the seconds of each."""
        gc.disable()  # collections would take 13 % of the time and find nothing: modules stay
        for name in names:
            started_s = time.perf_counter()
            # An import may raise anything. The worker that needs the module raises it again and reports it.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
                self.import_s[name] = time.perf_counter() - started_s
        # The modules stay, so no collection has to visit them: neither now nor in a worker, where it would copy their pages.
        gc.freeze()
        gc.enable()

    def next_request(self) -> tuple[str, int] | None:
        """Wait for clients and the ends of workers. Return None at the server's end and, in a worker, its code and client."""
        poll = select.poll()  # no descriptor of its own that a worker would inherit
        poll.register(self._control, select.POLLIN)
        poll.register(self._listening, select.POLLIN)
        while not (self._retired and not self._workers):
            descriptor, _ = poll.poll()[0]  # one at a time: handling it may close the others and reuse their numbers
            if descriptor == self._control:
                if not self.read_line():
                    self._kill_all()
                    self._remove_folder()
                    return None
                self._retired = True
            elif descriptor == self._listening.fileno():
                request = self._fork(poll)
                if request is not None:
                    return request
            else:
                self._attend(descriptor, poll)
        return None

    def _fork(self, poll: select.poll) -> tuple[str, int] | None:
        connection, _ = self._listening.accept()
        connection.settimeout(_CLIENT_TIMEOUT_S)
        try:
            message, descriptors, _, _ = socket.recv_fds(connection, _CHUNK_BYTES, 2)
            request = json.loads(message)
        except (OSError, ValueError):  # the client was killed before it sent its request
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            self._leave(connection)
            return request["code"], request["client"]
        for descriptor in descriptors:
            os.close(descriptor)
        pidfd = os.pidfd_open(pid)
        self._workers[pid] = pidfd, connection
        poll.register(pidfd, select.POLLIN)
        poll.register(connection, select.POLLIN)  # the client sends no more: it can only end
        with contextlib.suppress(OSError):
            connection.sendall(f"{pid}\n".encode())
        return None

    def _leave(self, connection: socket.socket) -> None:
        """Close, in the worker, everything that belongs to the server."""
        connection.close()
        self._listening.close()
        os.close(self._control)
        for pidfd, other in self._workers.values():
            os.close(pidfd)
            other.close()

    def _attend(self, descriptor: int, poll: select.poll) -> None:
        """Tell a client how its worker ended, or kill the worker of a client that ended."""
        for pid, (pidfd, connection) in list(self._workers.items()):
            if descriptor == connection.fileno():
                poll.unregister(connection)
                os.kill(pid, signal.SIGKILL)  # it is not reaped yet, so the number is its own
            elif descriptor == pidfd:
                _, status = os.waitpid(pid, 0)
                del self._workers[pid]
                poll.unregister(pidfd)
                with contextlib.suppress(KeyError):
                    poll.unregister(connection)
                with contextlib.suppress(OSError):
                    connection.sendall(f"{status}\n".encode())
                os.close(pidfd)
                connection.close()

    def _remove_folder(self) -> None:
        """Remove what pytest leaves behind if it is killed."""
        import shutil

        shutil.rmtree(Path(self._listening.getsockname()).parent, ignore_errors=True)

    def _kill_all(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._workers:
            os.waitpid(pid, 0)


def _serve(descriptor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pytest decides when workers end
    server = _Server(socket.socket(fileno=descriptor))
    line = server.read_line()
    if not line:
        return
    options = json.loads(line)
    prepare_interpreter(options["paths"], options["foreign"])  # type: ignore[no-untyped-call]
    server.import_modules(options["modules"])
    request = server.next_request()
    if request is None:
        return
    code, client = request
    main = types.ModuleType("__main__")
    main.__dict__.update(IMPORT_S=server.import_s, CLIENT_PID=client)
    sys.modules["__main__"] = main
    sys.argv = ["-c"]
    exec(code, main.__dict__)  # noqa: S102 - the program that execnet put on the command line


if __name__ == "__main__":
    if sys.argv[1] == "client":
        _connect(sys.argv[2], sys.argv[-1])
    else:
        _serve(int(sys.argv[2]))
