"""One run of a case as a history stores it: its result file, and the columns and the key made from it.

Every entry comes from `entry_from_json`, whether it was read from a results folder, a pytest-benchmark file or an export. The
JSON is checked field by field and stored unchanged; it may contain hostile text, such as HTML in a name.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from speedgate.baselines.benchmark_json import PUBLISHED, RECORDED
from speedgate.history import schema
from speedgate.results import folder
from speedgate.results.folder import ResultFile
from speedgate.results.json_io import Positive, decode, parse_json
from speedgate.results.provenance import NO_COMMIT
from speedgate.results.run import Confirmation, Run, Verdict, worst_outcome
from speedgate.results.run_marks import refuse_marked

_ADDED = {"case_key", "source", "published"}  # the fields of an entry that a result file does not have
_LARGEST_INTEGER = 2**63 - 1  # of a database
_LONGEST = 200

Text = Annotated[str, Meta(min_length=1, max_length=_LONGEST)]


class _Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit as pytest-benchmark describes it; other fields are stored and not checked."""

    id: Text | None = None
    dirty: bool | None = None


class PublishedRun(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a publication, which has no run: seconds of each process and, if it gives one, the peak in bytes."""

    process_medians_s: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    peak_bytes: Annotated[int, Meta(ge=1, le=_LARGEST_INTEGER)] | None = None


class _Fields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of an entry beside those that `results.folder` checks."""

    gpu_key: Text
    case_key: Text
    source: Literal["recorded", "published"]
    commit: _Commit
    measured_at: str | None = None
    published: PublishedRun | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """One run of a case. `document` is all of it as JSON; `source` is `recorded` for our own runs, or `published`.

    `measured_at` is UTC in ISO 8601. `commit_id` is the full hash, or None if the code was in no repository.
    """

    gpu_key: str
    case_key: str
    source: str
    measured_at: str
    commit_id: str | None
    dirty: bool
    run: Run | None
    verdicts: tuple[Verdict, ...]
    published: PublishedRun | None
    confirmation: Confirmation | None
    document: Mapping[str, Any]

    @functools.cached_property
    def run_id(self) -> str:
        """Digest of what was measured, where, when and at which commit, but not of how it was judged.

        So a results folder and the baseline recorded with it are the same run. The verdicts count only if nothing was measured.
        """
        measured = self.document.get("published") or self.document["run"] or self.document["verdicts"]
        return schema.json_digest([self.gpu_key, self.case_key, self.commit_id, self.measured_at, measured])

    @property
    def is_complete_run(self) -> bool:
        """True if this machine measured or lost the case, and its recording is finished.

        False for a case that was only built as a reference, or only described.
        """
        measured = self.run is not None and bool(self.run.processes)
        lost = bool(self.verdicts) and not folder.is_structure_only(self.run, self.verdicts)
        return (measured or lost) and not self.document.get("unfinished")

    @property
    def versions(self) -> dict[str, str]:
        """Return the versions of the run's environment as texts, without packages that were not installed."""
        environment = self.run.environment if self.run else {}
        return {name: str(value) for name, value in environment.items() if value is not None}

    @property
    def seconds(self) -> list[float]:
        """List the seconds of all rounds of all processes in order; for a publication, its process medians."""
        processes = self.run.processes if self.run else ()
        return [value for process in processes for value in process.seconds] or list(self.process_medians_s)

    @property
    def process_medians_s(self) -> tuple[float, ...]:
        """Return the median seconds of each process; empty if nothing was measured."""
        if self.run is not None:
            return self.run.process_medians_s
        return self.published.process_medians_s if self.published else ()

    @property
    def peak_bytes(self) -> int | None:
        """Return the peak memory, or None if nothing was measured or the publication gives none."""
        if self.run is not None:
            return self.run.peak_bytes if self.run.processes else None
        return self.published.peak_bytes if self.published else None

    def columns(self) -> dict[str, Any]:
        """Make the row of the table `runs`, without the environment's key."""
        run, cold_start = self.run, self.run.cold_start if self.run else None
        outcome = worst_outcome(self.verdicts)
        drift = self.confirmation.drift if self.confirmation and self.confirmation.decides else None
        return {
            "run_id": self.run_id,
            "gpu_key": self.gpu_key,
            "case_key": self.case_key,
            "commit_id": self.commit_id,
            "dirty": self.dirty,
            "measured_at": self.measured_at,
            "source": self.source,
            "process_medians_s": list(self.process_medians_s),
            "peak_bytes": self.peak_bytes,
            "ssim": run.parity.get("ssim") if run and run.parity else None,
            "first_image_s": cold_start.first_image_s if cold_start else None,
            "compile_s": cold_start.compile_s if cold_start else None,
            "cache": cold_start.cache if cold_start else None,
            "fingerprint": run.fingerprint if run else None,
            "outcome": str(outcome) if outcome else None,
            "drift": drift,
            "drift_baseline": self.confirmation.baseline if self.confirmation and drift is not None else None,
        }


def entries_from_files(files: Mapping[str, bytes]) -> list[HistoryEntry]:
    """Make the entries of a results folder that `results.folder.read_folder` has read, without incomplete runs.

    A `ValueError` names the first file that is wrong; then none of them may be stored.
    """
    names = folder.result_names(files)
    if not names:
        raise ValueError("no result of a case: name a folder that `pytest bench --results` wrote, such as .speedgate")
    entries = [entry_from_result(parse_json(files[name], path=Path(name)), where=name) for name in names]
    return [entry for entry in entries if entry.is_complete_run]


def entry_from_result(document: Any, *, where: str) -> HistoryEntry:
    """Make the entry of a result file of a session. A `ValueError` names `where` and the wrong field."""
    result = folder.parse_result(where, document)
    return entry_from_json({**document, "case_key": result.case_key, "source": RECORDED}, where=where)


def entry_from_json(data: Any, *, where: str) -> HistoryEntry:
    """Make an entry from `HistoryEntry.document`. A `ValueError` names `where` and the wrong field."""
    fields = decode(data, _Fields, where=where)
    refuse_marked(data, where=where)
    for name, text in (("case_key", fields.case_key), ("gpu_key", fields.gpu_key), ("commit.id", fields.commit.id)):
        if text is not None:
            _check_storable(text, where=f"{where}: {name}")
    measured_at = utc_text(fields.measured_at, where=f"{where}: measured_at")
    if (fields.source == PUBLISHED) != (fields.published is not None):
        raise ValueError(f"{where}: published: expected figures if the source is {PUBLISHED!r}, and only then")
    result = None if fields.published else _result(data, fields.case_key, where=where)
    return HistoryEntry(
        gpu_key=fields.gpu_key,
        case_key=fields.case_key,
        source=fields.source,
        measured_at=measured_at,
        commit_id=None if fields.commit.id in NO_COMMIT else fields.commit.id,
        dirty=bool(fields.commit.dirty),
        run=result.run if result else None,
        verdicts=result.verdicts if result else (),
        published=fields.published,
        confirmation=result.confirmation if result else None,
        document={**data, "measured_at": measured_at},
    )


def _result(data: Mapping[str, Any], case_key: str, *, where: str) -> ResultFile:
    result = folder.parse_result(where, {name: value for name, value in data.items() if name not in _ADDED})
    if result.case_key != case_key:
        raise ValueError(f"{where}: case_key: the run in it is of another case")
    if run := result.run:
        _check_storable(run.fingerprint, where=f"{where}: run.fingerprint")
        if run.processes and run.peak_bytes > _LARGEST_INTEGER:
            raise ValueError(f"{where}: run.peak_bytes: expected at most 2**63 - 1")
    if result.confirmation is not None and result.confirmation.baseline:
        _check_storable(result.confirmation.baseline, where=f"{where}: confirmation.baseline")
    return result


def utc_text(value: str | None, *, where: str) -> str:
    """Convert a time in ISO 8601 to UTC with microseconds, so that texts sort by time. A time without a zone is UTC."""
    if value is None:
        raise ValueError(f"{where}: missing; results of earlier versions do not contain the time of the measurement")
    try:
        time = datetime.datetime.fromisoformat(value)
        time = time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: expected a time in ISO 8601, found {value[:_LONGEST]!r}") from error
    return time.isoformat(timespec="microseconds")


def _check_storable(text: str, *, where: str) -> None:
    """Raise `ValueError` for a text that a database cannot store: empty, too long, with NUL or half a surrogate pair."""
    if not 0 < len(text) <= _LONGEST:
        raise ValueError(f"{where}: expected a text of 1 to {_LONGEST} characters")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{where}: contains characters that a database cannot store")
