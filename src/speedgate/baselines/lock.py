"""Allow one recording at a time on the GPUs of a key, from whatever checkout it starts: two would slow each other."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from speedgate.measure.machine import check_gpu_key
from speedgate.results.json_io import decode, read_json, to_json, write_json
from speedgate.results.text import command_line


class _Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that holds a lock; it writes this beside the lock for whoever has to wait."""

    pid: int
    started: datetime.datetime
    directory: str
    command: str = ""


@contextlib.contextmanager
def recording_lock(gpu_key: str, *, folder: Path | None = None) -> Iterator[None]:
    """Hold the lock for recordings on a GPU key of this machine; a `ValueError` names the recording that holds it already.

    The kernel releases the lock when its process ends, so a killed recording blocks no other.
    """
    lock_path = (folder or Path(tempfile.gettempdir())) / f"speedgate-{check_gpu_key(gpu_key)}.lock"
    holder_path = lock_path.with_suffix(".holder.json")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(lock_path, timeout=0, mode=0o600))
            # Both files are removed before the lock is released: they would keep out the machine's other users.
            stack.callback(lock_path.unlink, missing_ok=True)
            holder = _Holder(
                pid=os.getpid(),
                started=datetime.datetime.now(datetime.UTC).replace(microsecond=0),
                directory=str(Path.cwd()),
                command=command_line(sys.orig_argv)[:1000],
            )
            write_json(holder_path, to_json(holder))
            stack.callback(holder_path.unlink, missing_ok=True)
        except Timeout:
            running = _describe_holder(holder_path) or f"lslocks names the process that holds {lock_path}"
            raise ValueError(f"another recording on {gpu_key} is running: {running}; wait for it or end it") from None
        except OSError as error:
            raise ValueError(
                f"{lock_path} or {holder_path.name} cannot be used ({error.strerror or error}): they keep two recordings"
                " apart. When no other recording is running here, have them removed by their owner"
            ) from error
        yield


def _describe_holder(path: Path) -> str | None:
    """Describe the holder in characters that cannot control a terminal; None if the file is missing or unreadable."""
    try:
        holder = decode(read_json(path), _Holder, where=str(path))
    except ValueError:
        return None
    return f"process {holder.pid}, started {holder.started.isoformat()}, in {holder.directory!a}"
