"""Generate the code of several cases in processes of their own, side by side, and keep each record for the next session.

A record depends on the versions, the case, the target and the sources alone, so their digest is the name of its file.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.measure.code_digest import digest
from speedgate.measure.worker import last_lines
from speedgate.results.gpu_code import GpuCode
from speedgate.results.json_io import decode, read_json, to_json, write_json

CACHE = Path(".speedgate/gpu-code")
TIMEOUT_S = 3600.0  # full-size SDXL takes 300 s on a busy core
# Modules of this package on which no record depends: they start processes, judge and print.
_JUDGING = ("__init__.py", "claims.py", "commands.py", "compare.py", "figures.py", "floor.py", "jobs.py")
_RECORD = "results/gpu_code.py"
_PACKAGES = ("torch", "triton", "diffusers", "torchao")  # as in `GpuCode.versions`
_LONGEST_REASON = 500


@dataclasses.dataclass(frozen=True)
class Job:
    """The code of one case for one target; `arguments` name them to the module that generates it."""

    case_key: str
    target: str
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: its interpreter, the folders where it finds the suite, and what its records depend on."""

    python: str
    paths: tuple[str, ...]
    versions: Mapping[str, Any]
    sources: str = ""

    def digest(self, job: Job) -> str:
        """Return sixteen hexadecimal digits of everything that the record of the job depends on."""
        facts = [dataclasses.asdict(job), sorted(self.versions.items()), self.sources]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def digest_sources(suite_files: Iterable[Path], *, package: Path) -> str:
    """Digest the suite's files and those of the package `speedgate` in the folder `package` that generate code."""
    generating = [path for path in (package / "gpu_code").glob("*.py") if path.name not in _JUDGING]
    return digest([*suite_files, *generating, *package.glob(_RECORD)])


class Generator:
    """Runs `python -m MODULE ARGUMENTS --into FILE` for each job, at most `processes` at a time.

    `cache` is the folder of the records. `record` calls `note` with a line for each record that was made, in the caller's
    thread: pytest's capture is not made for others. Use it as a `with` block, whose end stops what still runs.
    """

    def __init__(
        self,
        module: str,
        *,
        cache: Path,
        processes: int,
        note: Callable[[str], None] = lambda _: None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._module, self._cache, self._note, self._timeout_s = module, cache, note, timeout_s
        self._executor = concurrent.futures.ThreadPoolExecutor(max_workers=processes)
        self._records: dict[str, concurrent.futures.Future[GpuCode]] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        # Copied here: pytest changes its variable for each test, and a copy that a thread makes meanwhile fails.
        self._environment = dict(os.environ)
        self._is_closed = False
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.terminate()
        self._executor.shutdown(wait=True)

    def start(self, arm: Arm, jobs: Iterable[Job]) -> None:
        """Begin with these jobs, in order, unless they have begun."""
        for job in jobs:
            digest_of_job = arm.digest(job)
            if digest_of_job not in self._records:
                self._records[digest_of_job] = self._executor.submit(self._record, arm, job)

    def has_record(self, arm: Arm, job: Job) -> bool:
        """True if an earlier session has stored the record of this job."""
        return self._path(arm, job).exists()

    def record(self, arm: Arm, job: Job) -> GpuCode:
        """Return the record of a job as soon as it is there. One that could not be made says why in `unknown`."""
        self.start(arm, [job])
        code = self._records[arm.digest(job)].result()
        while not self._lines.empty():
            self._note(self._lines.get())
        return code

    def _path(self, arm: Arm, job: Job) -> Path:
        return self._cache / f"{arm.digest(job)}.json"

    def _record(self, arm: Arm, job: Job) -> GpuCode:
        path = self._path(arm, job)
        with contextlib.suppress(ValueError):  # a record of another version of speedgate is made again
            if path.exists():
                return decode(read_json(path), GpuCode, where=str(path))
        self._cache.mkdir(parents=True, exist_ok=True)
        started_s = time.monotonic()
        code = self._make(arm, job, path.with_suffix(f".{os.getpid()}.part"))
        if code.unknown is None:
            write_json(path, to_json(code))
        self._lines.put(f"{job.case_key} for {job.target}: code generated in {time.monotonic() - started_s:.0f} s")
        return code

    def _make(self, arm: Arm, job: Job, temporary: Path) -> GpuCode:
        """Run the process of a job, and read and remove the file that it writes."""
        log = temporary.with_suffix(".log")
        # Unbuffered (-u): the traceback is then the last of the log, not what was printed before it.
        command = [arm.python, "-u", "-m", self._module, *job.arguments, "--into", str(temporary.absolute())]
        failure = None
        try:
            failure = self._run(command, environment=_variables(arm, self._environment), log=log)
            if failure is None or temporary.exists():
                code = decode(read_json(temporary), GpuCode, where=f"the record of {job.case_key}")
                if (code.case_key, code.target) != (job.case_key, job.target):
                    failure = failure or f"it wrote the record of {code.case_key} for {code.target}"
                elif failure is None or code.unknown is not None:  # a process that failed says why in its record
                    return code
        except ValueError as error:
            failure = failure or str(error)
        finally:
            temporary.unlink(missing_ok=True)
            tail = last_lines(log, count=1)
            log.unlink(missing_ok=True)
        reason = "; ".join(["no code was generated", failure, *tail])
        versions = {name: str(version) for name, version in arm.versions.items() if name in _PACKAGES and version}
        return GpuCode(case_key=job.case_key, target=job.target, versions=versions, unknown=reason[:_LONGEST_REASON])

    def _run(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> str | None:
        """Run the command and wait; return how it failed, or None."""
        with log.open("wb") as stream:
            process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)  # noqa: S603
            self._running.add(process)
            if self._is_closed:  # since before the process was among those to end
                process.terminate()
            try:
                status = process.wait(self._timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return f"it took longer than {self._timeout_s:g} s"
            finally:
                self._running.discard(process)
        return f"it ended with exit status {status}" if status else None


def _variables(arm: Arm, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of an arm's processes: one thread each, because they run side by side."""
    inherited = environment.get("PYTHONPATH") if arm.python == sys.executable else None  # it holds this arm's packages
    paths = [*arm.paths, *([inherited] if inherited else [])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
