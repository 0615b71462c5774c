"""A worker in a process of its own: what crosses, how it fails, and that nothing of it is left."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from speedgate.measure.worker import InProcessTarget, Worker, WorkerFailure, last_lines

PATHS = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]


def start(folder, **options):
    """A worker that holds a `tests.support.targets.Target`."""
    known = {"arguments": {}, "paths": PATHS, "log": folder / "worker.log", "timeout_s": 20.0}
    return Worker("tests.support.targets:Target", **{**known, **options})


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A worker that several tests ask and none harms."""
    worker = start(tmp_path_factory.mktemp("shared"))
    yield worker
    worker.close()


@pytest.fixture
def doomed(tmp_path):
    """A worker that the test makes fail."""
    worker = start(tmp_path)
    yield worker
    worker.close()


@pytest.fixture(params=["process", "none"])
def target(request):
    """The same target behind either isolation."""
    if request.param == "process":
        return request.getfixturevalue("worker")
    return InProcessTarget("tests.support.targets:Target", arguments={})


def is_alive(pid):
    """Whether the process exists, be it as a zombie."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "value",
    [None, True, -7, 0.1, float("inf"), "prüf \u4e2d", b"\x00\xff" * 2**20, [1, (2, 3)], {"a": {"b": [None]}, 5: b""}],
    ids=lambda value: type(value).__name__,
)
def test_builtin_values_come_back_as_they_went(target, value):
    """Numbers, text, megabytes and nested containers cross both ways, whatever the isolation."""
    assert target.call("echo", value=value) == value


def test_a_worker_is_a_process_of_its_own(worker):
    """What it does happens elsewhere, each time in the same place."""
    pids = {worker.call("pid"), worker.call("pid")}

    assert len(pids) == 1
    assert os.getpid() not in pids


def test_in_process_is_this_process():
    """Without isolation the target lives here, raises its own exceptions and is told when it ends."""
    target = InProcessTarget("tests.support.targets:Target", arguments={})

    with pytest.raises(RuntimeError, match=r"^no luck$"):
        target.call("raises", message="no luck")
    target.close()

    assert target.call("pid") == os.getpid()


def test_what_a_worker_prints_goes_to_its_log(tmp_path):
    """Both streams are kept in the log, and printing does not disturb what crosses."""
    worker = start(tmp_path)
    worker.call("say", out="on stdout", err="on stderr")
    worker.close()

    assert last_lines(tmp_path / "worker.log") == ["on stdout", "on stderr"]


def test_an_exception_is_a_failure_with_its_traceback(doomed):
    """The first line has the operation, the type and the message; the remote traceback follows."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("raises", message="CUDA out of memory")

    first, *rest = str(caught.value).splitlines()
    assert first == "'raises' of the worker raised RuntimeError: CUDA out of memory"
    assert any("targets.py" in line and "in raises" in line for line in rest)


def test_a_long_message_is_one_line_of_the_reason(doomed):
    """The cause of a failed import stands on a later line: it is kept, and a message without end is cut."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("raises", message="look here:\n  " + 400 * "x")

    assert caught.value.reason == f"'raises' of the worker raised RuntimeError: look here: {289 * 'x'}..."


def test_a_target_that_cannot_be_made_fails_the_first_call(tmp_path):
    """An exception in the constructor is told like any other."""
    worker = start(tmp_path, arguments={"refuses": "no such stage"})

    with pytest.raises(WorkerFailure, match=r"^'pid' of the worker raised LookupError: no such stage\n"):
        worker.call("pid")


@pytest.mark.parametrize(
    ("operation", "keywords", "said"),
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
def test_each_way_of_dying_is_told_and_leaves_no_process(doomed, operation, keywords, said):
    """The cause is in the first line, the process is gone at once, and a later call says that it is."""
    pid = doomed.call("pid")

    with pytest.raises(WorkerFailure) as caught:
        doomed.call(operation, **keywords)
    with pytest.raises(WorkerFailure, match=r"^the worker died before 'pid'"):
        doomed.call("pid")

    assert str(caught.value).startswith(said)
    assert not is_alive(pid)


def test_an_abort_is_told_with_the_last_words(doomed):
    """What C++ wrote to stderr, and the Python line that it died in, end the message."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("abort")

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
def test_running_out_of_memory_is_told_from_dying(reason, of_gpu, of_host, guessed):
    """What the worker said itself is a fact, Python's own error one of the host; a killed one may have died of anything."""
    failure = WorkerFailure(f"{reason}\n  out of memory in another line")

    assert (failure.reported_out_of_memory("cuda"), failure.reported_out_of_memory("cpu"), failure.out_of_memory) == (
        of_gpu,
        of_host,
        guessed,
    )


def test_the_reason_alone_promises_no_lines(doomed):
    """What a report says of a dead worker ends with the cause: the last lines stand below it in the failure alone."""
    with pytest.raises(WorkerFailure) as caught:
        doomed.call("abort")

    assert caught.value.reason == "the worker died during 'abort' (SIGABRT)"


def test_a_hung_call_is_killed_in_time(tmp_path):
    """A worker that does not answer is gone within three seconds after the timeout, with its last words told."""
    worker = start(tmp_path, timeout_s=0.5)
    pid = worker.call("pid")
    started_s = time.perf_counter()

    with pytest.raises(WorkerFailure, match=r"did not answer 'hang' within 0\.5 s and was killed.*\n  about to hang"):
        worker.call("hang")

    assert time.perf_counter() - started_s < 3.5
    assert not is_alive(pid)


def test_a_worker_that_closes_its_pipe_and_lives_on_is_killed(doomed):
    """Waiting for the cause of a death that does not come is cut short."""
    pid = doomed.call("pid")

    with pytest.raises(WorkerFailure, match=r"^the worker died during 'closes_its_pipe'; "):
        doomed.call("closes_its_pipe")

    assert not is_alive(pid)


def test_ctrl_c_does_not_end_a_worker(worker):
    """SIGINT reaches the whole foreground group; pytest alone decides when a worker ends."""
    os.kill(worker.call("pid"), signal.SIGINT)

    assert worker.call("echo", value="still here") == "still here"


def test_closing_twice_is_harmless(tmp_path):
    """A worker ends once and leaves no process."""
    worker = start(tmp_path)
    pid = worker.call("pid")

    worker.close()
    worker.close()

    assert not is_alive(pid)


def test_an_interpreter_may_lie_in_a_folder_with_spaces(tmp_path):
    """The interpreter's path is taken as it is, not as a shell command."""
    python = tmp_path / "my projects" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    worker = start(tmp_path, python=str(python))

    assert worker.call("echo", value=1) == 1
    worker.close()


def test_the_harness_adds_at_most_two_percent(worker):
    """Around a tenth of a second, sending and receiving cost at most 2 %: what even the least disturbed call pays."""
    ratios = []
    while len(ratios) < 10 or (min(ratios) > 1.02 and len(ratios) < 60):  # more calls where the machine is busy
        started_s = time.perf_counter()
        measured_s = worker.call("spin", seconds=0.1)
        ratios.append((time.perf_counter() - started_s) / measured_s)

    assert 1.0 <= min(ratios) <= 1.02


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
def test_lines_that_say_nothing_are_left_out(tmp_path, noise):
    """What libraries write on every import does not push out the line that matters."""
    log = tmp_path / "worker.log"
    log.write_text(f"the cause\n{noise}\n" + f"{noise}\n" * 50)

    assert last_lines(log) == ["the cause"]


def test_only_the_last_lines_are_told(tmp_path):
    """A long log is cut from the front, and bytes that are not text do not hide it."""
    log = tmp_path / "worker.log"
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(100)))

    assert last_lines(log, count=2) == ["line 98 \ufffd", "line 99 \ufffd"]
    assert last_lines(tmp_path / "absent.log") == []


def test_this_process_does_nothing_while_a_round_runs(worker):
    """Nothing of ours polls or samples while a worker measures: waiting for it costs less than a fiftieth of its seconds."""
    before_s = time.process_time()

    worker.call("spin", seconds=0.5)

    assert time.process_time() - before_s < 0.01
