"""What a history keeps of one case of one session: its result file, and what its key is made of.

Every entry comes through `entry_from_json`, whether from a results folder, a pytest-benchmark file or an export: what a run says is
checked field by field and kept as it is, names with HTML in them included.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate.baselines.benchmark_json import PUBLISHED, RECORDED
from speedgate.history import schema
from speedgate.results import folder
from speedgate.results.folder import ResultFile
from speedgate.results.json_io import parse_json, positive
from speedgate.results.provenance import NO_COMMIT
from speedgate.results.run import Run

# Beside what a result file holds; `published` are the figures of a publication, which has no run.
_ADDED = {"case_key", "source", "published"}
_LONGEST = 200
_LARGEST_INTEGER = 2**63 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """One run of a case; `document_` is all of it, as JSON. `source` is `recorded`, for what we measured, or `published`."""

    case: ResultFile
    source: str
    measured_at: str
    commit: Mapping[str, Any]
    document_: Mapping[str, Any]

    @functools.cached_property
    def run_id(self) -> str:
        """A digest of what was measured, where, of which commit and when; not of how it was judged.

        So a results folder and the baseline that was recorded with it are the same run. Where nothing was measured, the
        verdicts are all there is.
        """
        document = self.document_
        what = document.get("published") or document["run"] or document["verdicts"]
        key = [self.case.gpu_key, self.case.case_key, self.commit_id, self.measured_at, what]
        return schema.json_digest(key)

    @property
    def commit_id(self) -> str | None:
        """The full hash, None where the code was in no repository."""
        found = self.commit.get("id")
        return None if found in NO_COMMIT else found

    @property
    def versions(self) -> dict[str, str]:
        """What the run's environment says, as texts; without what was not installed."""
        environment = self.case.run.environment if self.case.run else {}
        return {name: str(value) for name, value in environment.items() if value is not None}

    @property
    def seconds(self) -> list[float]:
        """Those of all rounds of all processes, in order; of a publication its figure."""
        processes = self.case.run.processes if self.case.run else ()
        return [value for process in processes for value in process.seconds] or self._medians_s()

    def document(self) -> dict[str, Any]:
        """Everything, for `entry_from_json`."""
        return dict(self.document_)

    def columns(self) -> dict[str, Any]:
        """The row of `runs`, but for the environment's key."""
        run, cold = self.case.run, self.case.run.cold_start if self.case.run else None
        published: Mapping[str, Any] = self.document_.get("published") or {}
        return {
            "run_id": self.run_id,
            "gpu_key": self.case.gpu_key,
            "case_key": self.case.case_key,
            "commit_id": self.commit_id,
            "dirty": bool(self.commit.get("dirty")),
            "measured_at": self.measured_at,
            "source": self.source,
            "process_medians_s": self._medians_s(),
            "peak_bytes": run.peak_bytes if run and run.processes else published.get("peak_bytes"),
            "ssim": run.parity.get("ssim") if run and run.parity else None,
            "first_image_s": cold.first_image_s if cold else None,
            "cache": cold.cache if cold else None,
            "fingerprint": run.fingerprint if run else None,
            "outcome": self.case.outcome.value if self.case.outcome else None,
        }

    def _medians_s(self) -> list[float]:
        if self.case.run is not None:
            return list(self.case.run.process_medians_s)
        return [float(value) for value in self.document_.get("published", {}).get("process_medians_s", ())]


def entry_from_result(document: Any, *, where: str) -> HistoryEntry:
    """The entry of a result file, as a session wrote it; a `ValueError` names `where` and the field that is wrong."""
    case = folder.parse_result(where, document)
    return entry_from_json({**document, "case_key": case.case_key, "source": RECORDED}, where=where)


def entries_from_files(files: Mapping[str, bytes]) -> list[HistoryEntry]:
    """The entries of a results folder, as `read_folder` reads it; all of them are sound or none is taken.

    What is no run of this machine is left out (`is_complete_run`).
    """
    names = folder.result_names(files)
    if not names:
        raise ValueError("no result of a case: name a folder that `pytest bench --results` wrote, such as .speedgate")
    found = [entry_from_result(parse_json(files[name], path=Path(name)), where=name) for name in names]
    return [entry for entry in found if is_complete_run(entry)]


def is_complete_run(entry: HistoryEntry) -> bool:
    """Whether a result is of a case that this machine measured or lost, and is all that there will be of it.

    It is not where a case was only built for others to be compared with, or only described, or where a recording goes on.
    """
    case = entry.case
    measured = case.run is not None and bool(case.run.processes)
    told = measured or (bool(case.verdicts) and not case.is_structure_only)
    return told and not case.document.get("unfinished")


def entry_from_json(data: Any, *, where: str) -> HistoryEntry:
    """The entry of what `HistoryEntry.document` gave; a `ValueError` names `where` and the field that is wrong."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected an object, found {type(data).__name__}")
    for name in ("case_key", "gpu_key"):
        _plain(data.get(name), where=f"{where}: {name}")
    measured_at = utc_text(data.get("measured_at"), where=f"{where}: measured_at")
    return HistoryEntry(
        case=_case(data, where=where),
        source=data["source"],
        measured_at=measured_at,
        commit=_commit(data.get("commit"), where=f"{where}: commit"),
        document_={**data, "measured_at": measured_at},
    )


def _case(data: Mapping[str, Any], *, where: str) -> ResultFile:
    source = data.get("source")
    if source == PUBLISHED:
        _check_published(data.get("published"), where=f"{where}: published")
        return ResultFile(
            name=where,
            session="",
            gpu_key=data["gpu_key"],
            case_key=data["case_key"],
            run=None,
            verdicts=(),
            document=data,
        )
    if source != RECORDED or "published" in data:
        raise ValueError(f"{where}: source: expected {RECORDED!r} or {PUBLISHED!r}, found {source!r}")
    case = folder.parse_result(where, {name: value for name, value in data.items() if name not in _ADDED})
    if case.case_key != data["case_key"]:
        raise ValueError(f"{where}: case_key: the run in it is of another case")
    _check_run(case.run, where=f"{where}: run")
    return case


def utc_text(value: Any, *, where: str) -> str:
    """A time in ISO 8601 as UTC to the microsecond, so that texts have the order of time; without a zone it is UTC."""
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: expected a time in ISO 8601, found {value!r}; results of earlier versions do not tell when they"
            " were measured"
        )
    try:
        time = datetime.datetime.fromisoformat(value)
        time = time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: expected a time in ISO 8601, found {value[:_LONGEST]!r}") from error
    return time.isoformat(timespec="microseconds")


def _commit(value: Any, *, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected what pytest-benchmark says of a commit, found {type(value).__name__}")
    if value.get("id") is not None:
        _plain(value["id"], where=f"{where}.id")
    return value


def _check_run(run: Run | None, *, where: str) -> None:
    if run is None:
        return
    _plain(run.fingerprint, where=f"{where}.fingerprint")
    if run.processes and run.peak_bytes > _LARGEST_INTEGER:
        raise ValueError(f"{where}.peak_bytes: expected at most 2**63 - 1")


def _check_published(value: Any, *, where: str) -> None:
    medians_s = value.get("process_medians_s") if isinstance(value, Mapping) else None
    if not isinstance(medians_s, list) or not medians_s:
        raise ValueError(f"{where}: expected the figures of a publication")
    for item in medians_s:
        positive(item, where=f"{where}.process_medians_s")
    peak = value.get("peak_bytes")
    if peak is not None and (type(peak) is not int or not 0 < peak <= _LARGEST_INTEGER):
        raise ValueError(f"{where}.peak_bytes: expected a whole number of bytes, found {peak!r}")


def _plain(value: Any, *, where: str) -> None:
    """Refuse what no database takes as a text: nothing, too much, NUL, half of a surrogate pair."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise ValueError(f"{where}: expected a text of 1 to {_LONGEST} characters")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{where}: holds characters that are no text")
