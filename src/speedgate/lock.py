"""One recording at a time on the GPUs of a key, whatever checkout it is started from: two would slow one another."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from speedgate import commandline
from speedgate.baselines import check_key

_LONGEST_FACTS = 10_000  # characters of a lock file that are looked at: it lies where anyone may write
_TRIES = 10  # at a lock file that ending recordings remove before it is ours


@contextlib.contextmanager
def recording_lock(gpu_key: str, *, folder: Path | None = None) -> Iterator[None]:
    """Be the only recording on `gpu_key` of this machine; a `ValueError` names the one that is running.

    The kernel lets go of the lock when its process ends, however it ends: what a killed one leaves does not block.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"speedgate-{check_key(gpu_key)}.lock"
    with _locked(path, gpu_key) as stream:
        stream.seek(0)
        stream.truncate()
        stream.write(_own_facts())
        stream.flush()
        try:
            yield
        finally:
            # While it is still held, so that only ours goes. Left lying, it would keep out the machine's other users.
            if _is_named(stream, path):
                path.unlink()


def _locked(path: Path, gpu_key: str) -> TextIO:
    for _ in range(_TRIES):
        stream = _open(path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with stream:
                holder = _holder(stream) or f"lslocks names the process that holds {path}"
            raise ValueError(f"another recording on {gpu_key} is running: {holder}; wait for it or end it") from None
        if _is_named(stream, path):
            return stream
        stream.close()  # the holder ended and removed it after we had opened it: what we locked keeps nobody out
    raise _unusable(path, f"was replaced {_TRIES} times while it was being locked")


def _open(path: Path) -> TextIO:
    """The lock file, never one that a link leads to: anyone may have put one under this name."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, f"cannot be opened ({error.strerror})") from error
    found = os.fstat(descriptor)
    problem = None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        problem = "is no file of its own"
    elif found.st_uid != os.geteuid():
        problem = f"belongs to the user with id {found.st_uid}"
    if problem is not None:
        os.close(descriptor)
        raise _unusable(path, problem)
    return os.fdopen(descriptor, "r+", encoding="utf-8")


def _unusable(path: Path, problem: str) -> ValueError:
    return ValueError(
        f"{path}: {problem}, and it is what keeps two recordings apart: once no other recording is running here, have"
        " it removed by its owner"
    )


def _is_named(stream: TextIO, path: Path) -> bool:
    """Whether `path` still names the file that is open."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _own_facts() -> str:
    facts = {
        "pid": os.getpid(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "directory": str(Path.cwd()),
        "command": commandline.shown(sys.orig_argv)[:1000],
    }
    return json.dumps(facts) + "\n"


def _holder(stream: TextIO) -> str | None:
    """What the file says of its holder, in characters that cannot steer a terminal; None where it says nothing."""
    try:
        facts = json.loads(stream.read(_LONGEST_FACTS))
        pid, started = int(facts["pid"]), datetime.datetime.fromisoformat(facts["started"])
        return f"process {pid}, started {started.isoformat()}, in {str(facts['directory'])!a}"
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError):
        return None
