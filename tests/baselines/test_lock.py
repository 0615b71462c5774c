"""The recording lock: one recording at a time, seen from real processes, and the message that names the holder."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import speedgate
from speedgate.baselines.lock import recording_lock
from tests.support.baseline_samples import KEY

HOLDER = """
import sys
from pathlib import Path
from speedgate.baselines.lock import recording_lock

with recording_lock(sys.argv[1], folder=Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def lock_file(folder: Path) -> Path:
    return folder / f"speedgate-{KEY}.lock"


def holder_file(folder: Path) -> Path:
    return folder / f"speedgate-{KEY}.holder.json"


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input is closed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(speedgate.__file__).parents[1])}
    command = [sys.executable, "-c", HOLDER, KEY, str(folder)]
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def refusal(folder: Path) -> str:
    """The message with which a recording is refused; it is one line that cannot steer a terminal."""
    with pytest.raises(ValueError) as caught, recording_lock(KEY, folder=folder):
        pytest.fail("two recordings at once")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_second_recording_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    """The message names the process, start and folder of the running recording, so that one can wait for it or end it."""
    with holder(tmp_path) as process:
        message = refusal(tmp_path)

    assert message.startswith(f"another recording on {KEY} is running: process {process.pid}, started 2")
    assert message.endswith(f", in '{tmp_path}'; wait for it or end it")


def test_the_next_recording_starts_when_the_first_has_ended(tmp_path: Path) -> None:
    """Nothing is left behind that would keep another user of the machine out."""
    with holder(tmp_path):
        pass

    assert list(tmp_path.iterdir()) == []
    with recording_lock(KEY, folder=tmp_path):
        assert lock_file(tmp_path).exists()


def test_a_killed_recording_blocks_nobody(tmp_path: Path) -> None:
    """The kernel releases the lock, and the next holder's facts replace those of the killed one."""
    with holder(tmp_path) as process:
        process.kill()
    left = json.loads(holder_file(tmp_path).read_text())

    with recording_lock(KEY, folder=tmp_path):
        assert f"process {os.getpid()}, started" in refusal(tmp_path)

    assert left["pid"] == process.pid


def test_the_holder_writes_who_it_is(tmp_path: Path) -> None:
    """The file says which process records, since when, where and by which command."""
    with recording_lock(KEY, folder=tmp_path):
        facts = json.loads(holder_file(tmp_path).read_text())

    assert (facts["pid"], facts["directory"]) == (os.getpid(), str(Path.cwd()))
    assert datetime.datetime.fromisoformat(facts["started"]).tzinfo is datetime.UTC
    assert Path(sys.orig_argv[0]).name in facts["command"]


def test_the_lock_is_given_back_when_a_recording_fails(tmp_path: Path) -> None:
    """An error inside is not held against the next recording."""
    with pytest.raises(ZeroDivisionError), recording_lock(KEY, folder=tmp_path):
        raise ZeroDivisionError

    with recording_lock(KEY, folder=tmp_path):
        pass


def test_another_key_is_another_lock(tmp_path: Path) -> None:
    """Two kinds of GPU in one machine may be recorded at once."""
    with recording_lock(KEY, folder=tmp_path), recording_lock("nvidia-t4", folder=tmp_path):
        assert len(list(tmp_path.glob("*.lock"))) == 2


def test_the_lock_is_the_machines_not_the_checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder it lies among the temporary files, where every checkout looks."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with recording_lock(KEY):
        assert set(tmp_path.iterdir()) == {lock_file(tmp_path), holder_file(tmp_path)}


@pytest.mark.parametrize("gpu_key", ["", "../elsewhere", "a/b", "a\n"])
def test_the_key_cannot_lead_elsewhere(tmp_path: Path, gpu_key: str) -> None:
    """A key becomes part of a file name."""
    with pytest.raises(ValueError, match="GPU key"), recording_lock(gpu_key, folder=tmp_path):
        pytest.fail("a lock outside of its folder")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "[" * 9000,
        '{"pid": 1}',
        '{"pid": Infinity, "started": "2026-01-01", "directory": "/"}',
        '{"pid": 1, "started": "\\u001b[2J", "directory": "/"}',
        b"\xff\xfe",
    ],
)
def test_a_holder_that_cannot_be_read_is_still_a_holder(tmp_path: Path, text: str | bytes) -> None:
    """If the file cannot be read, the message says how to find the process."""
    with recording_lock(KEY, folder=tmp_path):
        holder_file(tmp_path).write_bytes(text if isinstance(text, bytes) else text.encode())
        message = refusal(tmp_path)

    path = lock_file(tmp_path)
    assert (
        message
        == f"another recording on {KEY} is running: lslocks names the process that holds {path}; wait for it or end it"
    )


def test_a_hostile_folder_is_shown_safely(tmp_path: Path) -> None:
    """Escape sequences and line breaks in the file do not reach the terminal."""
    facts = {"pid": 1, "started": "2026-01-01T00:00:00+00:00", "directory": "/\x1b[2J\n\u202e"}
    with recording_lock(KEY, folder=tmp_path):
        holder_file(tmp_path).write_text(json.dumps(facts))
        message = refusal(tmp_path)

    assert r"in '/\x1b[2J\n\u202e'" in message


def test_a_link_is_refused_and_not_followed(tmp_path: Path) -> None:
    """Anyone may put a link among the temporary files; its target stays as it is."""
    target = tmp_path / "precious"
    target.write_text("precious")
    lock_file(tmp_path).symlink_to(target)

    message = refusal(tmp_path)

    assert message.startswith(f"{lock_file(tmp_path)} or {holder_file(tmp_path).name} cannot be used (")
    assert message.endswith("have them removed by their owner")
    assert target.read_text() == "precious"


def test_facts_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    """Another user's leftover gets a message with the next step, and the lock is released again."""
    holder_file(tmp_path).mkdir()
    assert "cannot be used (Is a directory)" in refusal(tmp_path)

    holder_file(tmp_path).rmdir()
    with recording_lock(KEY, folder=tmp_path):
        pass
