"""A worker in its own process: values that cross, ways to fail, the end of the process, and the budget."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from speedgate.measure.import_server import ImportServers
from speedgate.measure.worker import InProcessTarget, OutOfTime, Worker, WorkerFailure, last_lines

PATHS = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]


def start(folder, **options):
    """Start a worker with a `tests.support.targets.Target`."""
    defaults = {"arguments": {}, "paths": PATHS, "log": folder / "worker.log", "timeout_s": 20.0}
    return Worker("tests.support.targets:Target", **{**defaults, **options})


@pytest.fixture(scope="module")
def servers():
    """Fork workers from a process that has imported a small module."""
    with ImportServers(["colorsys"]) as servers:
        yield servers


@pytest.fixture(scope="module", params=["fresh", "forked"])
def server(request):
    """Give no server, for workers that are fresh interpreters, and a server that forks them: both behave alike."""
    if request.param == "fresh":
        return None
    # Each test is a case of its own, so one server forks all of them.
    return request.getfixturevalue("servers").server("shared", python=sys.executable, paths=PATHS)


@pytest.fixture(scope="module")
def worker(tmp_path_factory, server):
    """Share one worker among the tests that do not end it."""
    worker = start(tmp_path_factory.mktemp("shared"), server=server)
    yield worker
    worker.close()


@pytest.fixture
def doomed(tmp_path, server):
    """Start a worker that the test makes fail."""
    worker = start(tmp_path, server=server)
    yield worker
    worker.close()


@pytest.fixture(params=["process", "none"])
def target(request, worker):
    """Give the same target in a worker process and in this process."""
    return worker if request.param == "process" else InProcessTarget("tests.support.targets:Target", arguments={})


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Give a worker longer than two seconds to end by itself: this machine may be busy, and then it is not killed for that."""
    monkeypatch.setattr("speedgate.measure.worker._EXIT_TIMEOUT_S", 30.0)


@pytest.fixture
def short_exit_timeout(monkeypatch):
    """Kill a worker that does not end by itself after 0.1 s, in place of two seconds."""
    monkeypatch.setattr("speedgate.measure.worker._EXIT_TIMEOUT_S", 0.1)


def is_alive(pid):
    """Return True if the process does not end, also as a zombie; a busy machine needs some time to end it."""
    deadline_s = time.monotonic() + 30.0
    while (exists := Path(f"/proc/{pid}").exists()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return exists


def test_garbage_is_collected_after_the_first_operation(doomed):
    """Only the first operation, which imports thousands of modules, runs without collections; rounds run as in any process."""
    assert [doomed.call("collects") for _ in range(2)] == [False, True]


def test_builtin_values_return_unchanged(target):
    """Numbers, text, megabytes and nested containers cross both ways, with and without isolation."""
    value = [
        None,
        True,
        -7,
        0.1,
        float("inf"),
        "pr\xfcf \u4e2d",
        b"\x00\xff" * 2**20,
        (2, 3),
        {"a": {"b": [None]}, 5: b""},
    ]

    assert target.call("echo", value=value) == value


def test_isolation_decides_which_process_a_target_runs_in(worker):
    """All calls of a worker run in one other process; without isolation the target runs here and raises its own exceptions."""
    target = InProcessTarget("tests.support.targets:Target", arguments={})
    pids = {worker.call("pid"), worker.call("pid")}

    assert pids == {worker.pid}
    assert os.getpid() not in pids
    assert target.call("pid") == target.pid == os.getpid()
    with pytest.raises(RuntimeError, match=r"^no luck$"):
        target.call("raises", message="no luck")
    target.close()


def test_output_goes_to_the_log_and_closing_ends_the_process(tmp_path, server):
    """Both streams are in the log, printing does not disturb the protocol, and closing twice is harmless."""
    worker = start(tmp_path, server=server)
    pid = worker.call("pid")
    worker.call("say", out="on stdout", err="on stderr")
    worker.close()
    worker.close()

    assert last_lines(tmp_path / "worker.log") == ["on stdout", "on stderr"]
    assert not is_alive(pid)


def test_an_exception_is_a_failure_with_its_traceback(doomed):
    """The first line has the operation, the type and the message, whose lines are joined and cut; the traceback follows."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("raises", message="look here:\n  " + 400 * "x")

    first, *rest = str(caught.value).splitlines()
    assert first == caught.value.reason == f"'raises' of the worker raised RuntimeError: look here: {289 * 'x'}..."
    assert any("targets.py" in line and "in raises" in line for line in rest)


def test_a_target_that_cannot_be_made_fails_the_first_call(tmp_path):
    """An exception in the constructor is reported like any other."""
    worker = start(tmp_path, arguments={"refuses": "no such stage"})

    with pytest.raises(WorkerFailure, match=r"^'pid' of the worker raised LookupError: no such stage\n"):
        worker.call("pid")


@pytest.mark.parametrize(
    ("operation", "keywords", "start_of_message"),
    [
        ("is_killed", {}, "the worker died during 'is_killed' (SIGKILL, often the out-of-memory killer); its last"),
        ("leaves", {"status": 0}, "the worker died during 'leaves' (exit status 0); its last lines:\n  (it wrote"),
        ("exits", {}, "the worker ended at 'exits': SystemExit: nothing left to do\n"),
        ("returns_an_object", {}, "the worker ended at 'returns_an_object': DumpError: can't serialize <class "),
        ("no_such_thing", {}, "'no_such_thing' of the worker raised AttributeError: "),
    ],
)
def test_each_way_of_dying_is_reported_and_leaves_no_process(doomed, operation, keywords, start_of_message):
    """The first line has the cause, the process is gone at once, and a later call reports that."""
    pid = doomed.call("pid")

    with pytest.raises(WorkerFailure) as caught:
        doomed.call(operation, **keywords)
    with pytest.raises(WorkerFailure, match=r"^the worker died before 'pid'"):
        doomed.call("pid")

    assert str(caught.value).startswith(start_of_message)
    assert not is_alive(pid)


def test_an_abort_is_reported_with_the_last_lines(doomed):
    """The message ends with the log's last lines and the Python line of the crash, which are no part of the reason."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("abort")

    assert caught.value.reason == "the worker died during 'abort' (SIGABRT)"
    assert "\n  terminate called after throwing an instance" in str(caught.value)
    assert "targets.py" in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "of_gpu", "of_host", "guessed"),
    [
        ("'load' of the worker raised OutOfMemoryError: CUDA out of memory. Tried to allocate", True, True, True),
        ("'load' of the worker raised MemoryError: Unable to allocate 9.9 GiB for an array", False, True, True),
        ("'load' of the worker raised RuntimeError: CUBLAS_STATUS_ALLOC_FAILED", True, True, True),
        ("the worker died during 'load' (SIGKILL, often the out-of-memory killer);", False, False, True),
        ("the worker died during 'load' (SIGABRT); its last lines:", False, False, False),
    ],
)
def test_running_out_of_memory_differs_from_dying(reason, of_gpu, of_host, guessed):
    """The worker's own report is certain, Python's own error is about the host, and a kill is only a guess."""
    failure = WorkerFailure(f"{reason}\n  out of memory in another line")

    assert [failure.reported_out_of_memory(device) for device in ("cuda", "cpu")] == [of_gpu, of_host]
    assert failure.out_of_memory is guessed


@pytest.mark.usefixtures("short_exit_timeout")
def test_a_hung_call_is_killed_after_its_timeout(tmp_path, server):
    """A worker that does not answer is ended instead of waited for, and its last lines are reported."""
    worker = start(tmp_path, server=server)
    pid = worker.call("pid")
    worker._timeout_s = 0.5

    with pytest.raises(WorkerFailure, match=r"did not answer 'hang' within 0\.5 s and was killed.*\n  about to hang"):
        worker.call("hang")

    assert not is_alive(pid)


@pytest.mark.usefixtures("short_exit_timeout")
def test_a_worker_that_closes_its_pipe_and_stays_alive_is_killed(doomed):
    """The wait for the cause of a death ends after a limit, and the process is killed."""
    pid = doomed.call("pid")

    with pytest.raises(WorkerFailure, match=r"^the worker died during 'closes_its_pipe'; "):
        doomed.call("closes_its_pipe")

    assert not is_alive(pid)


def test_ctrl_c_does_not_end_a_worker(worker):
    """SIGINT reaches the whole foreground process group, but only pytest decides when a worker ends."""
    os.kill(worker.call("pid"), signal.SIGINT)

    assert worker.call("echo", value="still here") == "still here"


def test_an_interpreter_may_lie_in_a_folder_with_spaces(tmp_path):
    """The interpreter's path is not split like a shell command."""
    python = tmp_path / "my projects" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    worker = start(tmp_path, python=str(python))

    assert worker.call("echo", value=1) == 1
    worker.close()


def test_waiting_for_a_worker_leaves_the_cores_to_it(worker):
    """This process uses less than a tenth of a core while it waits: polling would slow the round that it waits for."""
    cpu_started_s = time.process_time()
    measured_s = worker.call("spin", seconds=0.2)

    assert time.process_time() - cpu_started_s < 0.1 * measured_s


def test_only_the_last_useful_lines_are_returned(tmp_path):
    """A long log is cut at the front, bytes that are not text are replaced, and lines of every import are left out."""
    log = tmp_path / "worker.log"
    noise = ["", "   ", "Failed to load image Python extension", "Unable to import `torchao` Tensor objects"]
    noise = "\n".join([*noise, "[transformers] `torch_dtype` is deprecated"] * 50)
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(100)) + noise.encode())

    assert last_lines(log, count=2) == ["line 98 \ufffd", "line 99 \ufffd"]
    assert last_lines(tmp_path / "absent.log") == []


@pytest.mark.usefixtures("short_exit_timeout")
def test_nothing_begins_after_the_budget_is_over(tmp_path, server):
    """No call and no worker begins, and a live worker stays; once the budget ended a call, it is over for every case."""
    left = [20.0]
    worker = start(tmp_path, left_s=lambda: left[0], server=server)
    pid = worker.call("pid")
    left[0] = -1.0
    with pytest.raises(OutOfTime, match="the budget was over before 'hang'"):
        worker.call("hang")
    with pytest.raises(OutOfTime, match="the budget was over before 'start'"):
        start(tmp_path, left_s=lambda: left[0])
    assert is_alive(pid)

    left[0] = 0.2
    with pytest.raises(OutOfTime, match="the budget was over during 'hang'"):
        worker.call("hang")
    with pytest.raises(OutOfTime, match="the budget was over before 'pid'"):
        worker.call("pid")


def test_the_shell_does_not_set_how_threads_wait(tmp_path, monkeypatch):
    """A worker drops OMP_WAIT_POLICY and lets LLVM's threads sleep soon: an idle arm would take a core from the other one."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    worker = start(tmp_path)
    settings = [worker.call("setting", name=name) for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")]
    worker.close()

    assert settings == [None, "1"]
