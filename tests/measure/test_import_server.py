"""Import servers: one import for several workers, processes that share nothing else, and no process that is left behind.

`test_worker.py` repeats the tests of a worker's life with a forked worker.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.worker.preloaded import COMPILER_MODULES, MODULES, inherited_s
from speedgate.measure.import_server import ImportServers
from speedgate.measure.worker import Worker, WorkerFailure

ROOT = Path(__file__).parents[2]
PATHS = [str(ROOT), str(ROOT / "src")]


@pytest.fixture
def modules(tmp_path):
    """Write modules that leave a trace of each import, and that end their process."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "slow_library.py").write_text(
        f"import time\nwith open({str(tmp_path / 'imports')!r}, 'a') as log: log.write('import\\n')\ntime.sleep(0.05)\n"
    )
    (folder / "crashing_library.py").write_text(
        "import os, sys\nprint('no such instruction', file=sys.stderr, flush=True)\nos.abort()\n"
    )
    return [*PATHS, str(folder)]


@pytest.fixture
def servers():
    """Import the slow library."""
    with ImportServers(["slow_library"]) as servers:
        yield servers


def fork(folder, servers, paths, case="a case", **options):
    """Start a worker of a case with a `tests.support.targets.Target`."""
    server = servers.server(case, python=sys.executable, paths=paths)
    defaults = {"arguments": {}, "paths": paths, "log": folder / "worker.log", "timeout_s": 20.0}
    return Worker("tests.support.targets:Target", server=server, **{**defaults, **options})


def imports(folder):
    """Return how often the slow library was imported."""
    return len((folder / "imports").read_text().splitlines())


def parent(pid):
    """Return the process id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until_gone(pids):
    """Wait until none of the processes runs; they may be zombies of a process that nobody waits for here."""
    deadline_s = time.monotonic() + 20.0
    pids = list(pids)
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline_s, "a process was left behind"
        time.sleep(0.01)


def is_running(pid):
    """Return True if the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_of_several_cases_share_one_import(tmp_path, servers, modules):
    """Three cases import once, each in a process of its own, and each reports the seconds that the import took."""
    pids = []
    for case in ("eager", "compiled", "the structure"):
        worker = fork(tmp_path, servers, modules, case)
        pids.append(worker.call("pid"))
        assert worker.pid == pids[-1]
        assert worker.call("inherited_import_s")["slow_library"] > 0.05
        worker.close()

    assert len(set(pids)) == 3
    assert imports(tmp_path) == 1


def test_processes_of_one_case_do_not_share_a_server(tmp_path, servers, modules):
    """The spread between processes of a case includes the layout of memory, so each comes from another server."""
    workers = [fork(tmp_path, servers, modules, case) for case in ("a", "b", "a", "b")]
    parents = [parent(worker.call("pid")) for worker in workers]
    for worker in workers:
        worker.close()

    assert parents[0] == parents[1] != parents[2] == parents[3]
    assert imports(tmp_path) == 2
    wait_until_gone(parents[:2])  # a server that is replaced ends with its last worker
    assert is_running(parents[2])


@pytest.mark.parametrize("changed", ["environment", "paths", "folder"])
def test_a_server_is_not_shared_where_the_imports_could_differ(tmp_path, monkeypatch, changed):
    """Another variable, path or working folder gets a server of its own, and an equal one does not."""
    servers, modules = ImportServers([]), PATHS
    monkeypatch.setattr(servers, "_start", lambda *_: SimpleNamespace(is_alive=True))
    first = servers.server("a", python=sys.executable, paths=modules)
    assert servers.server("c", python=sys.executable, paths=modules) is first
    if changed == "environment":
        monkeypatch.setenv("MKL_NUM_THREADS", "1")
    elif changed == "paths":
        modules = [*modules, str(tmp_path)]
    else:
        monkeypatch.chdir(tmp_path)

    assert servers.server("b", python=sys.executable, paths=modules) is not first


def test_a_worker_starts_as_a_fresh_interpreter_would(tmp_path, servers, modules):
    """Command line, paths, main module, descriptors and threads are those of a fresh worker."""
    forked = fork(tmp_path, servers, modules)
    fresh = Worker(
        "tests.support.targets:Target", arguments={}, paths=modules, log=tmp_path / "fresh.log", timeout_s=20.0
    )
    states = [worker.call("process_state") for worker in (forked, fresh)]
    for worker in (forked, fresh):
        worker.close()

    assert states[0] == states[1]


def test_a_module_that_is_missing_is_left_to_the_worker_that_needs_it(tmp_path):
    """A failed import ends no server: the worker that needs the module raises the import's own error."""
    with ImportServers(["no_such_library", "colorsys"]) as servers:
        worker = fork(tmp_path, servers, PATHS)
        assert worker.call("echo", value=1) == 1
        worker.close()


def test_a_crash_of_an_import_is_one_line_with_the_last_lines_of_its_log(tmp_path, modules):
    """The failure has the signal and the log of the process that crashed, and the next case tries again."""
    with ImportServers(["crashing_library"]) as servers:
        for _ in range(2):
            with pytest.raises(WorkerFailure) as caught:
                fork(tmp_path, servers, modules)

            assert caught.value.reason.endswith("did not start: the process that imports its libraries ended (SIGABRT)")
            assert str(caught.value).endswith("\n  no such instruction")


def test_a_worker_ends_with_its_server(tmp_path, servers, modules):
    """A server that the kernel kills leaves no worker behind, and the call that was running fails."""
    worker = fork(tmp_path, servers, modules)
    pid = worker.call("pid")
    os.kill(parent(pid), signal.SIGKILL)

    with pytest.raises(WorkerFailure, match="died "):
        worker.call("hang")
    wait_until_gone([pid])


def test_ctrl_c_ends_neither_server_nor_client_nor_worker(tmp_path, servers, modules):
    """SIGINT reaches the whole foreground process group, but only pytest decides when a worker ends."""
    worker = fork(tmp_path, servers, modules)
    pid = worker.call("pid")
    for process in (parent(pid), worker._pid, pid):
        os.kill(process, signal.SIGINT)

    assert worker.call("echo", value="still here") == "still here"
    worker.close()


def test_nothing_is_left_when_pytest_is_killed(tmp_path, modules):
    """Server, client, a worker that hangs, and their folder are gone after SIGKILL of the process that started them."""
    code = f"""
        import sys
        from pathlib import Path
        from tests.measure.test_import_server import fork, parent
        from speedgate.measure.import_server import ImportServers
        with ImportServers(["slow_library"]) as servers:
            worker = fork(Path({str(tmp_path)!r}), servers, {modules!r})
            pid = worker.call("pid")
            print(Path(worker._server.command[-1]).parent, parent(pid), worker._pid, pid, flush=True)
            worker.call("hang")
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(PATHS)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        folder, *pids = process.stdout.readline().split()
        process.kill()

    assert len(pids) == 3
    wait_until_gone(map(int, pids))
    assert not Path(folder).exists()


@pytest.mark.slow
def test_the_libraries_start_no_thread_before_the_fork(tmp_path, monkeypatch):
    """Each module that we name exists, and its import leaves one thread and no child: a fork copies one thread only."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    with ImportServers(MODULES) as servers:
        worker = fork(tmp_path, servers, PATHS)
        assert set(worker.call("inherited_import_s")) == set(MODULES)
        pid = worker.call("pid")
        server = parent(pid)
        tasks = list(Path(f"/proc/{server}/task").iterdir())
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        worker.close()

    assert len(tasks) == 1
    assert children == [str(pid)]


def test_only_a_stage_that_compiles_pays_for_the_import_of_the_compiler(monkeypatch):
    """A cold start has the seconds of the imports that a fresh start of the stage would make; a fresh worker has none."""
    assert inherited_s("fp32") == 0

    monkeypatch.setattr(sys.modules["__main__"], "IMPORT_S", {"torch": 2.0, COMPILER_MODULES[0]: 1.0}, raising=False)
    assert [inherited_s(stage) for stage in ("fp32", "sdpa", "compile", "int8")] == [2.0, 2.0, 3.0, 3.0]


def test_the_socket_is_private_and_removed():
    """Nobody else can connect, and the folder is gone at the end of the session."""
    with ImportServers([]) as others:
        server = others.server("a", python=sys.executable, paths=PATHS)
        folder = Path(server.command[-1]).parent
        assert folder.stat().st_mode & 0o777 == 0o700

    assert not folder.exists()
