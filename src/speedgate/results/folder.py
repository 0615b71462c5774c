"""Results as somebody else's data: bounded bytes from a folder or an archive, and the cases that they hold.

A result may come from the run of a stranger's commit. So nothing is unpacked to disk, no link is followed, no name is used as a
path, and what does not fit is refused as a whole: half a result would look like a whole one.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from speedgate.results import json_io
from speedgate.results.case_key import RESULT_FILES
from speedgate.results.run import Outcome, Run, Verdict, run_from_json, worst_outcome
from speedgate.results.zip_reader import ZipReader

# Of each pair of processes a live result holds up to 60 kB (100 rounds an arm, and what their loops and components took), and
# there are 12 pairs at most. All suites of all pipelines are 160 cases; tests/results/test_limits.py has the arithmetic.
MAX_FILES = 1000
MAX_FILE_BYTES = 4 * 2**20
MAX_TOTAL_BYTES = 128 * 2**20
MAX_ARCHIVE_BYTES = 64 * 2**20
MAX_VERDICTS = 200
_MAX_LINES, _MAX_LINE = 20, 2000  # of an explanation
_MAX_CASE_KEY = 200
_STAMP = r"\d{8}T\d{6}Z-\d+"
# Of `pytest bench`, of `speedgate bump` and of `speedgate bisect`; environments and caches lie beside them.
_FOLDER = re.compile(rf"{_STAMP}|nightly|bump(?:/{_STAMP})?|bisect(?:/[\w.+-]+)?")
_RESULT = re.compile(rf"(?:(?:{_FOLDER.pattern})/)?[^/]+\.(?:json|md)")
_VERDICT, _MANIFEST = "verdict.json", "manifest.json"
_REQUIRED = {"gpu_key", "machine", "health", "run", "verdicts"}
_KNOWN = _REQUIRED | {"against", "commit", "explanation", "iterations_per_s", "measured_at", "roofline", "unfinished"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultFile:
    """One result file: what it says was measured (None where nothing was) and how it was judged.

    `document` is all of it, `name` that of the file.
    """

    name: str
    session: str
    gpu_key: str
    case_key: str
    run: Run | None
    verdicts: tuple[Verdict, ...]
    document: Mapping[str, Any]
    explanation: tuple[str, ...] = ()

    @property
    def is_structure_only(self) -> bool:
        return is_structure_only(self.run, self.verdicts)

    @property
    def outcome(self) -> Outcome | None:
        """The worst of the verdicts; None where nothing was judged."""
        return worst_outcome(self.verdicts)


def read_folder(folder: Path) -> dict[str, bytes]:
    """The result files below a folder by relative name; a `ValueError` says what is too much or no plain file.

    That is `.json` and `.md` in the folder itself, and in those of runs, bumps and bisections as we name them.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(
            f"{folder}: not a folder; name the one that `pytest bench --results` wrote, such as .speedgate"
        )
    found: dict[str, bytes] = {}
    total = 0
    for name, entry in _entries(folder):
        _refuse_more_than(MAX_FILES, len(found) + 1)
        data = read_plain_file(Path(entry.path), name)
        total += len(data)
        _fits(name, len(data), total)
        found[name] = data
    return found


def unread_folders(folder: Path) -> list[str]:
    """The folders in `folder` that seem to hold results and are not named like ours: `read_folder` leaves them alone."""
    with os.scandir(folder) as listing:
        found = [
            entry for entry in listing if entry.is_dir(follow_symlinks=False) and not _FOLDER.fullmatch(entry.name)
        ]
    return sorted(entry.name for entry in found if any(Path(entry.path).glob(RESULT_FILES)))


def read_archive(data: bytes) -> dict[str, bytes]:
    """The same of a zip archive, in memory: an entry's name is only ever compared, so it can lead nowhere."""
    _at_most(MAX_ARCHIVE_BYTES, len(data), "the archive")
    files: dict[str, bytes] = {}
    total = 0
    with ZipReader(io.BytesIO(data), archive_name="the archive", max_files=MAX_FILES) as archive:
        for name in filter(_RESULT.fullmatch, archive.names):
            files[name] = archive.read(name, max_bytes=MAX_FILE_BYTES)
            total += len(files[name])
            _fits(name, len(files[name]), total)
    return files


def parse_results(files: Mapping[str, bytes], *, built: bool = False) -> list[ResultFile]:
    """The cases of all files that are to hold one, checked field by field; a `ValueError` where there is none.

    With `built` also where no case has a run: one that was only described, on the meta device, says nothing of what was built.
    """
    found = [parse_result(name, json_io.parse_json(files[name], path=Path(name))) for name in result_names(files)]
    if not found:
        raise ValueError("no result of a case; a run that measured nothing is no pass")
    if built and all(one.run is None for one in found):
        raise ValueError(f"no case was built ({len(found)} were only described or lost); that is no pass")
    return found


def is_structure_only(run: Run | None, verdicts: Sequence[Verdict]) -> bool:
    """Whether a case was never built and what is red in it is nothing: its recipe was described, and holds."""
    described = bool(verdicts) and all(one.claim == "recipe" and one.outcome is Outcome.PASS for one in verdicts)
    return run is None and described


def result_names(files: Iterable[str]) -> list[str]:
    """The names of the files that are to hold a case, in order."""
    return [name for name in sorted(files) if is_result_name(name)]


def is_result_name(name: str) -> bool:
    """Whether the file is to hold the result of a case."""
    return not is_page_name(name) and PurePosixPath(name).name not in (_VERDICT, _MANIFEST)


def is_page_name(name: str) -> bool:
    """Whether the file is what a bump or a bisection says of itself, and so neither a case nor a verdict."""
    return name.endswith(".md") or name.startswith("bisect/")


def is_green(files: Mapping[str, bytes]) -> bool:
    """Whether every `verdict.json` says so, and there is one."""
    names = [name for name in files if PurePosixPath(name).name == _VERDICT]
    found = [json_io.parse_json(files[name], path=Path(name)) for name in names]
    return bool(found) and all(isinstance(verdict, dict) and verdict.get("green") is True for verdict in found)


def _entries(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The results below `folder`: its own files and those of each run's folder, and no caches or environments beside them."""
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if not (_RESULT.fullmatch(name) or _FOLDER.fullmatch(name)):
            continue
        if entry.is_symlink():
            raise ValueError(f"{name}: a link; results are plain files")
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{name}/")
        else:
            yield name, entry


def read_plain_file(path: Path, name: str) -> bytes:
    """A plain file's bytes, at most one more than is allowed; neither a link nor a pipe that took its place is opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, which has no Path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name}: not a plain file")
        return stream.read(MAX_FILE_BYTES + 1)


def _fits(name: str, size: int, total: int) -> None:
    _at_most(MAX_FILE_BYTES, size, name)
    _at_most(MAX_TOTAL_BYTES, total, "the files together")


def _at_most(limit: int, size: int, what: str) -> None:
    if size > limit:
        raise ValueError(f"{what}: more than {limit / 2**20:.0f} MiB; results are smaller")


def _refuse_more_than(limit: int, count: int) -> None:
    if count > limit:
        raise ValueError(f"more than {limit} files; results of one run are fewer: name its folder")


def parse_result(name: str, document: Any) -> ResultFile:
    """A result that was read already, checked field by field; a `ValueError` names `name` and the field."""
    if not isinstance(document, dict):
        raise ValueError(f"{name}: expected the result of a case, found {type(document).__name__}")
    for problem, fields in (("missing", _REQUIRED - set(document)), ("unknown", set(document) - _KNOWN)):
        if fields:
            raise ValueError(f"{name}: {problem} field {', '.join(sorted(fields))}")
    verdicts = _verdicts(name, document["verdicts"])
    run = None if document["run"] is None else _run(name, document["run"])
    keys = {verdict.case_key for verdict in verdicts} | ({run.case_key} if run else set())
    if len(keys) != 1:
        raise ValueError(f"{name}: expected the result of one case, found {len(keys)}")
    return ResultFile(
        name=name,
        session=str(PurePosixPath(name).parent),
        gpu_key=_text(document["gpu_key"], where=f"{name}: gpu_key"),
        case_key=_text(keys.pop(), where=f"{name}: case_key"),
        run=run,
        verdicts=verdicts,
        document=document,
        explanation=_lines(document.get("explanation", []), where=f"{name}: explanation"),
    )


def _run(name: str, data: Any) -> Run:
    run = run_from_json(data, where=f"{name}: run")
    _text(run.case_key, where=f"{name}: run.case_key")
    return run


def _lines(value: Any, *, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MAX_LINES:
        raise ValueError(f"{where}: expected a list of at most {_MAX_LINES} lines")
    if not all(isinstance(line, str) and len(line) <= _MAX_LINE for line in value):
        raise ValueError(f"{where}: expected texts of at most {_MAX_LINE} characters")
    return tuple(value)


def _verdicts(name: str, items: Any) -> tuple[Verdict, ...]:
    if not isinstance(items, list) or len(items) > MAX_VERDICTS:
        raise ValueError(f"{name}: verdicts: expected a list of at most {MAX_VERDICTS}")
    return tuple(_verdict(item, where=f"{name}: verdicts[{index}]") for index, item in enumerate(items))


def _verdict(item: Any, *, where: str) -> Verdict:
    texts = {field.name for field in dataclasses.fields(Verdict)} - {"gates"}
    if not isinstance(item, dict) or set(item) - {"gates"} != texts or not isinstance(item.get("gates", True), bool):
        raise ValueError(f"{where}: expected an object of the texts {', '.join(sorted(texts))}, and whether it gates")
    if not all(isinstance(item[name], str) for name in texts):
        raise ValueError(f"{where}: expected texts for {', '.join(sorted(texts))}")
    if item["outcome"] not in list(Outcome):
        raise ValueError(f"{where}: outcome: expected one of {', '.join(Outcome)}")
    return Verdict(**{**item, "outcome": Outcome(item["outcome"])})


def _text(value: Any, *, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_CASE_KEY:
        raise ValueError(f"{where}: expected a text of 1 to {_MAX_CASE_KEY} characters")
    return value
