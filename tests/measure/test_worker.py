"""A worker in its own process: values that cross, ways to fail, the end of the process, and the budget."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from speedgate.measure.worker import InProcessTarget, OutOfTime, Worker, WorkerFailure, last_lines

PATHS = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]


def start(folder, **options):
    """Start a worker with a `tests.support.targets.Target`."""
    defaults = {"arguments": {}, "paths": PATHS, "log": folder / "worker.log", "timeout_s": 20.0}
    return Worker("tests.support.targets:Target", **{**defaults, **options})


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """Share one worker among the tests that do not end it."""
    worker = start(tmp_path_factory.mktemp("shared"))
    yield worker
    worker.close()


@pytest.fixture
def doomed(tmp_path):
    """Start a worker that the test makes fail."""
    worker = start(tmp_path)
    yield worker
    worker.close()


@pytest.fixture(params=["process", "none"])
def target(request):
    """Give the same target in a worker process and in this process."""
    if request.param == "process":
        return request.getfixturevalue("worker")
    return InProcessTarget("tests.support.targets:Target", arguments={})


@pytest.fixture
def short_exit_timeout(monkeypatch):
    """Kill a worker that does not end by itself after 0.1 s, in place of two seconds."""
    monkeypatch.setattr("speedgate.measure.worker._EXIT_TIMEOUT_S", 0.1)


def is_alive(pid):
    """Return True if the process exists, also as a zombie."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "value",
    [None, True, -7, 0.1, float("inf"), "prüf \u4e2d", b"\x00\xff" * 2**20, [1, (2, 3)], {"a": {"b": [None]}, 5: b""}],
    ids=lambda value: type(value).__name__,
)
def test_builtin_values_return_unchanged(target, value):
    """Numbers, text, megabytes and nested containers cross both ways, with and without isolation."""
    assert target.call("echo", value=value) == value


def test_a_worker_is_one_other_process(worker):
    """All calls run in the same process, and it is not this one."""
    pids = {worker.call("pid"), worker.call("pid")}

    assert len(pids) == 1
    assert os.getpid() not in pids


def test_an_in_process_target_runs_in_this_process():
    """Without isolation the target runs here, raises its own exceptions and is closed."""
    target = InProcessTarget("tests.support.targets:Target", arguments={})

    with pytest.raises(RuntimeError, match=r"^no luck$"):
        target.call("raises", message="no luck")
    target.close()

    assert target.call("pid") == os.getpid()


def test_output_goes_to_the_log_and_closing_ends_the_process(tmp_path):
    """Both streams are in the log, printing does not disturb the protocol, and closing twice is harmless."""
    worker = start(tmp_path)
    pid = worker.call("pid")
    worker.call("say", out="on stdout", err="on stderr")
    worker.close()
    worker.close()

    assert last_lines(tmp_path / "worker.log") == ["on stdout", "on stderr"]
    assert not is_alive(pid)


def test_an_exception_is_a_failure_with_its_traceback(doomed):
    """The first line has the operation, the type and the message; the remote traceback follows."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("raises", message="CUDA out of memory")

    first, *rest = str(caught.value).splitlines()
    assert first == "'raises' of the worker raised RuntimeError: CUDA out of memory"
    assert any("targets.py" in line and "in raises" in line for line in rest)


def test_the_reason_is_one_line_of_limited_length(doomed):
    """The lines of a message are joined, because the cause of a failed import is on a later line, and a long one is cut."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("raises", message="look here:\n  " + 400 * "x")

    assert caught.value.reason == f"'raises' of the worker raised RuntimeError: look here: {289 * 'x'}..."


def test_a_target_that_cannot_be_made_fails_the_first_call(tmp_path):
    """An exception in the constructor is reported like any other."""
    worker = start(tmp_path, arguments={"refuses": "no such stage"})

    with pytest.raises(WorkerFailure, match=r"^'pid' of the worker raised LookupError: no such stage\n"):
        worker.call("pid")


@pytest.mark.parametrize(
    ("operation", "keywords", "start_of_message"),
    [
        ("abort", {}, "the worker died during 'abort' (SIGABRT); its last lines:\n"),
        ("is_killed", {}, "the worker died during 'is_killed' (SIGKILL, often the out-of-memory killer); its last"),
        (
            "leaves",
            {"status": 0},
            "the worker died during 'leaves' (exit status 0); its last lines:\n  (it wrote nothing)",
        ),
        (
            "leaves",
            {"status": 3},
            "the worker died during 'leaves' (exit status 3); its last lines:\n  (it wrote nothing)",
        ),
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
    """The message ends with the log's last lines and the Python line of the crash; the reason alone does not mention them."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("abort")

    assert caught.value.reason == "the worker died during 'abort' (SIGABRT)"
    assert "\n  terminate called after throwing an instance" in str(caught.value)
    assert "targets.py" in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "of_gpu", "of_host", "guessed"),
    [
        (
            "'load' of the worker raised OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB",
            True,
            True,
            True,
        ),
        ("'load' of the worker raised MemoryError: Unable to allocate 9.9 GiB for an array", False, True, True),
        ("'load' of the worker raised RuntimeError: CUBLAS_STATUS_ALLOC_FAILED", True, True, True),
        (
            "the worker died during 'load' (SIGKILL, often the out-of-memory killer); its last lines:",
            False,
            False,
            True,
        ),
        ("the worker died during 'load' (SIGABRT); its last lines:", False, False, False),
    ],
)
def test_running_out_of_memory_differs_from_dying(reason, of_gpu, of_host, guessed):
    """The worker's own report is certain, Python's own error is about the host, and a kill is only a guess."""
    failure = WorkerFailure(f"{reason}\n  out of memory in another line")

    assert (failure.reported_out_of_memory("cuda"), failure.reported_out_of_memory("cpu"), failure.out_of_memory) == (
        of_gpu,
        of_host,
        guessed,
    )


@pytest.mark.usefixtures("short_exit_timeout")
def test_a_hung_call_is_killed_after_its_timeout(tmp_path):
    """A worker that does not answer is ended instead of waited for, and its last lines are reported."""
    worker = start(tmp_path, timeout_s=0.5)
    pid = worker.call("pid")

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


def test_the_protocol_adds_at_most_two_percent(worker):
    """Sending and receiving add at most 2 % to a call of 0.1 s, and waiting for it takes at most 2 % of a core here.

    The least disturbed of several calls counts, because other processes may disturb any of them.
    """
    overheads, waiting_shares = [], []
    while len(overheads) < 5 or (max(min(overheads), min(waiting_shares)) > 0.02 and len(overheads) < 60):
        started_s, cpu_started_s = time.perf_counter(), time.process_time()
        measured_s = worker.call("spin", seconds=0.1)
        overheads.append((time.perf_counter() - started_s) / measured_s - 1)
        waiting_shares.append((time.process_time() - cpu_started_s) / measured_s)

    assert 0.0 <= min(overheads) <= 0.02
    assert min(waiting_shares) <= 0.02


@pytest.mark.parametrize(
    "noise",
    [
        "",
        "   ",
        "Failed to load image Python extension",
        "Unable to import `torchao` Tensor objects",
        "[transformers] `torch_dtype` is deprecated",
    ],
)
def test_noise_is_left_out_of_the_last_lines(tmp_path, noise):
    """Lines that libraries print on every import do not push out the useful line."""
    log = tmp_path / "worker.log"
    log.write_text(f"the cause\n{noise}\n" + f"{noise}\n" * 50)

    assert last_lines(log) == ["the cause"]


def test_only_the_last_lines_are_returned(tmp_path):
    """A long log is cut at the front, and bytes that are not text are replaced."""
    log = tmp_path / "worker.log"
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(100)))

    assert last_lines(log, count=2) == ["line 98 \ufffd", "line 99 \ufffd"]
    assert last_lines(tmp_path / "absent.log") == []


@pytest.mark.usefixtures("short_exit_timeout")
def test_a_worker_that_the_budget_ended_is_out_of_time_for_every_call(tmp_path):
    """A worker that several cases share is out of time for each of them, which is no failure of any of them."""
    left = [20.0]
    worker = start(tmp_path, left_s=lambda: left[0])
    left[0] = 0.2
    with pytest.raises(OutOfTime, match="'hang' was ended when the budget was over"):
        worker.call("hang")

    for left_s in (0.2, 0.0):
        left[0] = left_s
        with pytest.raises(OutOfTime, match="the budget was over before 'pid'"):
            worker.call("pid")


def test_nothing_begins_after_the_budget_is_over(tmp_path):
    """Neither a call nor a worker is started, and a worker that is alive is not ended."""
    left = [20.0]
    worker = start(tmp_path, left_s=lambda: left[0])
    pid = worker.call("pid")
    left[0] = -1.0

    with pytest.raises(OutOfTime, match="the budget was over before 'hang'"):
        worker.call("hang")
    with pytest.raises(OutOfTime, match="the budget was over before 'start'"):
        start(tmp_path, left_s=lambda: left[0])
    assert is_alive(pid)
    worker.close()


def test_the_shell_does_not_set_how_threads_wait(tmp_path, monkeypatch):
    """A worker drops OMP_WAIT_POLICY and lets LLVM's threads sleep soon: an idle arm would take a core from the other one."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    worker = start(tmp_path)
    settings = [worker.call("setting", name=name) for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")]
    worker.close()

    assert settings == [None, "1"]
