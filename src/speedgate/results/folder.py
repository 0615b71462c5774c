"""Read results from a folder or an archive as untrusted data: bounded, and checked field by field.

A result may come from the run of a stranger's commit. So nothing is unpacked to disk, no link is followed, no name is used as a
path, and data beyond the limits is refused as a whole: half a result would look like a whole one.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from speedgate.results.case_key import RESULT_FILES
from speedgate.results.gpu_code import GeneratedCode
from speedgate.results.json_io import decode, parse_json
from speedgate.results.run import Confirmation, Outcome, Run, ShortText, Verdict, worst_outcome
from speedgate.results.run_marks import Injection, warning
from speedgate.results.zip_reader import ZipReader

# A live result holds up to 60 kB a pair of processes (100 rounds an arm, with their loops and components), and there are 12
# pairs at most. All suites of all fifteen pipelines are some 350 cases; tests/results/test_limits.py has the arithmetic.
MAX_FILES = 1000
MAX_FILE_BYTES = 4 * 2**20
MAX_TOTAL_BYTES = 512 * 2**20
MAX_ARCHIVE_BYTES = 256 * 2**20
_STAMP = r"\d{8}T\d{6}Z-\d+"
# Folders of `pytest bench`, `speedgate bump` and `speedgate bisect`; environments and caches lie beside them.
_FOLDER = re.compile(rf"{_STAMP}|nightly|bump(?:/{_STAMP})?|bisect(?:/[\w.+-]+)?")
_RESULT = re.compile(rf"(?:(?:{_FOLDER.pattern})/)?[^/]+\.(?:json|md)")
_VERDICT, _MANIFEST = "verdict.json", "manifest.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultFile:
    """The result of one case: its run (None if nothing was measured) and its verdicts.

    `document` is the whole file, and `name` the file's name. `session` is the folder of the session that wrote it.
    `gpu_code` has the generated code by target, and `confirmation` the live pairs of a case that its stored figure suspected.
    `not_judged` says why claims are not judged, by claim. `is_reference`: the case was built only for others to be compared
    with.
    """

    name: str
    session: str
    gpu_key: str
    case_key: str
    run: Run | None
    verdicts: tuple[Verdict, ...]
    document: Mapping[str, Any]
    explanation: tuple[str, ...] = ()
    injection: Injection | None = None
    is_quick: bool = False
    is_reference: bool = False
    gpu_code: Mapping[str, GeneratedCode] = dataclasses.field(default_factory=dict)
    confirmation: Confirmation | None = None
    not_judged: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def warning(self) -> tuple[str, str] | None:
        """The name of a marked run and the sentence beside its results; None for any other run."""
        return warning(self.injection, is_quick=self.is_quick)

    @property
    def is_structure_only(self) -> bool:
        return is_structure_only(self.run, self.verdicts)

    @property
    def outcome(self) -> Outcome | None:
        """The worst outcome of the verdicts; None if nothing was judged."""
        return worst_outcome(self.verdicts)


class _ResultDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of a result file. Fields of type `Any` are read elsewhere, by readers that check them."""

    gpu_key: ShortText
    machine: Any
    health: Any
    run: Run | None
    verdicts: Annotated[tuple[Verdict, ...], Meta(max_length=200)]
    explanation: Annotated[tuple[Annotated[str, Meta(max_length=2000)], ...], Meta(max_length=20)] = ()
    against: Any = None
    confirmation: Confirmation | None = None
    commit: Any = None
    gpu_code: Annotated[Mapping[ShortText, GeneratedCode], Meta(max_length=20)] = msgspec.field(default_factory=dict)
    injected: Injection | None = None
    iterations_per_s: Any = None
    measured_at: Any = None
    not_judged: Annotated[Mapping[ShortText, ShortText], Meta(max_length=200)] = msgspec.field(default_factory=dict)
    quick: bool = False
    roofline: Any = None
    unfinished: Any = None
    reference: bool = False


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read the result files below a folder, by relative name; a `ValueError` names a file that is too large or not plain.

    Read are `.json` and `.md` in the folder itself, and in folders named as those of runs, bumps and bisections.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(
            f"{folder}: not a folder; name the one that `pytest bench --results` wrote, such as .speedgate"
        )
    return _bounded((name, read_plain_file(Path(entry.path), name)) for name, entry in _entries(folder))


def unread_folders(folder: Path) -> list[str]:
    """Name the folders in `folder` that seem to hold results and that `read_folder` skips because of their names."""
    with os.scandir(folder) as listing:
        others = [entry for entry in listing if not _FOLDER.fullmatch(entry.name)]
    folders = [Path(entry.path) for entry in others if entry.is_dir(follow_symlinks=False)]
    return sorted(path.name for path in folders if any(path.glob(RESULT_FILES)))


def read_archive(data: bytes) -> dict[str, bytes]:
    """Read the result files of a zip archive, in memory. Names of entries are only compared, and never used as paths."""
    _at_most(MAX_ARCHIVE_BYTES, len(data), "the archive")
    with ZipReader(io.BytesIO(data), archive_name="the archive", max_files=MAX_FILES) as archive:
        names = filter(_RESULT.fullmatch, archive.names)
        return _bounded((name, archive.read(name, max_bytes=MAX_FILE_BYTES)) for name in names)


def parse_results(files: Mapping[str, bytes], *, built: bool = False) -> list[ResultFile]:
    """Check the results of all cases in `files` field by field; a `ValueError` if there is none.

    With `built`, also if no case has a run: a case that was only described, on the meta device, was not built.
    """
    results = [parse_result(name, parse_json(files[name], path=Path(name))) for name in result_names(files)]
    if not results:
        raise ValueError("no result of a case; a run that measured nothing is no pass")
    if built and all(result.run is None for result in results):
        raise ValueError(f"no case was built ({len(results)} were only described or lost); that is no pass")
    return results


def is_structure_only(run: Run | None, verdicts: Sequence[Verdict]) -> bool:
    """True if a case was never built, and its recipe was described on the meta device and holds."""
    described = all(verdict.claim == "recipe" and verdict.outcome is Outcome.PASS for verdict in verdicts)
    return run is None and bool(verdicts) and described


def result_names(files: Iterable[str]) -> list[str]:
    """The names of the files that should hold the result of a case, sorted."""
    return [name for name in sorted(files) if is_result_name(name)]


def is_result_name(name: str) -> bool:
    """True if a file of this name should hold the result of a case."""
    return not is_page_name(name) and PurePosixPath(name).name not in (_VERDICT, _MANIFEST)


def is_page_name(name: str) -> bool:
    """True if the file is a page or the state of a bump or a bisection, and so neither a case nor a verdict."""
    return name.endswith(".md") or name.startswith("bisect/")


def is_green(files: Mapping[str, bytes]) -> bool:
    """True if there is a `verdict.json`, and every one is green."""
    names = [name for name in files if PurePosixPath(name).name == _VERDICT]
    verdicts = [parse_json(files[name], path=Path(name)) for name in names]
    return bool(verdicts) and all(isinstance(verdict, dict) and verdict.get("green") is True for verdict in verdicts)


def _entries(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Walk the results below `folder`: its files and those of each run's folder, without caches and environments."""
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
    """Read a plain file, at most one byte more than is allowed; a link or a pipe that took its place is not opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, which has no Path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name}: not a plain file")
        return stream.read(MAX_FILE_BYTES + 1)


def _bounded(contents: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Collect files by name, and stop at the first that is beyond a limit, so that no more are read."""
    files: dict[str, bytes] = {}
    total = 0
    for name, data in contents:
        if len(files) == MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files; results of one run are fewer: name its folder")
        total += len(data)
        _at_most(MAX_FILE_BYTES, len(data), name)
        _at_most(MAX_TOTAL_BYTES, total, "the files together")
        files[name] = data
    return files


def _at_most(limit: int, size: int, what: str) -> None:
    if size > limit:
        raise ValueError(f"{what}: more than {limit / 2**20:.0f} MiB; results are smaller")


def parse_result(name: str, document: Any) -> ResultFile:
    """Check a parsed result field by field; a `ValueError` names `name` and the field."""
    checked = decode(document, _ResultDocument, where=name)
    keys = {verdict.case_key for verdict in checked.verdicts}
    keys |= {record.case_key for record in (checked.run, checked.confirmation) if record is not None}
    if len(keys) != 1:
        raise ValueError(f"{name}: expected the result of one case, found {len(keys)}")
    return ResultFile(
        name=name,
        session=str(PurePosixPath(name).parent),
        gpu_key=checked.gpu_key,
        case_key=keys.pop(),
        run=checked.run,
        verdicts=checked.verdicts,
        document=document,
        explanation=checked.explanation,
        injection=checked.injected,
        is_quick=checked.quick,
        is_reference=checked.reference
        and not checked.verdicts
        and checked.run is not None
        and not checked.run.processes,
        gpu_code=checked.gpu_code,
        confirmation=checked.confirmation,
        not_judged=checked.not_judged,
    )
