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


def test_a_second_recording_is_refused_until_the_first_has_ended(tmp_path):
    """The message names the process, start and folder of the running recording; a killed one blocks no other."""
    with holder(tmp_path) as process:
        message = refusal(tmp_path)
        process.kill()

    assert message.startswith(f"another recording on {KEY} is running: process {process.pid}, started 2")
    assert message.endswith(f", in '{tmp_path}'; wait for it or end it")
    with recording_lock(KEY, folder=tmp_path):
        assert f"process {os.getpid()}, started" in refusal(tmp_path)


def test_the_lock_and_its_holder_lie_among_the_temporary_files(tmp_path, monkeypatch):
    """Every checkout looks there, also for who records, since when, where and by which command; no file is left behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with pytest.raises(ZeroDivisionError), recording_lock(KEY):
        assert set(tmp_path.iterdir()) == {lock_file(tmp_path), holder_file(tmp_path)}
        facts = json.loads(holder_file(tmp_path).read_text())
        raise ZeroDivisionError

    assert (facts["pid"], facts["directory"]) == (os.getpid(), str(Path.cwd()))
    assert datetime.datetime.fromisoformat(facts["started"]).tzinfo is datetime.UTC
    assert Path(sys.orig_argv[0]).name in facts["command"]
    assert list(tmp_path.iterdir()) == []


def test_another_key_is_another_lock(tmp_path):
    """Two kinds of GPU in one machine may be recorded at once, and a key cannot lead out of the folder."""
    with recording_lock(KEY, folder=tmp_path), recording_lock("nvidia-t4", folder=tmp_path):
        assert len(list(tmp_path.glob("*.lock"))) == 2
    with pytest.raises(ValueError, match="GPU key"), recording_lock("../elsewhere", folder=tmp_path):
        pytest.fail("a lock outside of its folder")


UNREADABLE = f"lslocks names the process that holds {{folder}}/speedgate-{KEY}.lock; wait for it or end it"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", UNREADABLE),
        ('{"pid": 1, "started": "\\u001b[2J", "directory": "/"}', UNREADABLE),
        ('{"pid": 1, "started": "2026-01-01T00:00:00+00:00", "directory": "/\\u001b[2J\\n"}', r"in '/\x1b[2J\n'"),
    ],
)
def test_a_holder_that_cannot_be_read_is_still_a_holder(tmp_path, text, shown):
    """If the file cannot be read, the message says how to find the process; nothing in it steers the terminal."""
    with recording_lock(KEY, folder=tmp_path):
        holder_file(tmp_path).write_text(text)
        message = refusal(tmp_path)

    assert message.startswith(f"another recording on {KEY} is running: ")
    assert shown.replace("{folder}", str(tmp_path)) in message


def test_files_of_somebody_else_are_refused(tmp_path):
    """A link or a folder in place of a file gets a message with the next step; a link is not followed, the lock released."""
    target = tmp_path / "precious"
    target.write_text("precious")
    lock_file(tmp_path).symlink_to(target)
    message = refusal(tmp_path)
    assert message.startswith(f"{lock_file(tmp_path)} or {holder_file(tmp_path).name} cannot be used (")
    assert message.endswith("have them removed by their owner")
    assert target.read_text() == "precious"

    lock_file(tmp_path).unlink()
    holder_file(tmp_path).mkdir()
    assert "cannot be used (Is a directory)" in refusal(tmp_path)
    holder_file(tmp_path).rmdir()
    with recording_lock(KEY, folder=tmp_path):
        pass
