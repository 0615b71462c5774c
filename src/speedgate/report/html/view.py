"""What a report shows: the results of one run as its folder holds them, with what is stored of the same cases."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import platform
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import speedgate
from speedgate.baselines import store
from speedgate.report.html.pictures import Pictures
from speedgate.results import folder as folder_reader
from speedgate.results import json_io, provenance
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import write_json
from speedgate.results.run import Baseline, Outcome, Run, Verdict, run_from_json, worst_outcome

FOLDER, INDEX = "report", "index.json"
_KINDS = ("image", "difference", "similarity")
_MOST = 5  # times and commits of one run: a merged one has one of each shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportCase:
    """One case: what was measured (None where nothing was), how it was judged, and what is stored of it on this machine.

    `figures` are the stored ones by their source, the newest of each and the newest of all last. `other` is the other arm of a
    live comparison; `explanation` says what changed where a verdict says that something did; `roofline` is what
    `speedgate.gate.roofline` counted of it, as the results say.
    """

    case_key: str
    run: Run | None
    verdicts: tuple[Verdict, ...] = ()
    figures: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    other: Run | None = None
    pictures: Pictures | None = None
    explanation: tuple[str, ...] = ()
    roofline: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def outcome(self) -> Outcome | None:
        return worst_outcome(self.verdicts)

    @property
    def is_structure_only(self) -> bool:
        return folder_reader.is_structure_only(self.run, self.verdicts)

    @property
    def stage(self) -> str:
        return CaseKey.parse(self.case_key).stage if CaseKey.is_key(self.case_key) else self.case_key

    @property
    def group(self) -> str:
        """What the case shares with those that it is compared with: pipeline and workload."""
        if not CaseKey.is_key(self.case_key):
            return self.case_key
        key = CaseKey.parse(self.case_key)
        return f"{key.pipeline} {key.workload}"

    @property
    def measured(self) -> Run | None:
        """The run if it has rounds."""
        return self.run if self.run is not None and self.run.processes else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """All that stands in the file. `made_by` says by what command, with which gate, where that is known; `measured` when, and
    of which commit.
    """

    gpu_key: str
    machine: Mapping[str, Any]
    health: Mapping[str, Any]
    entries: tuple[ReportCase, ...]
    made_by: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    measured: str = ""

    @property
    def verdicts(self) -> list[Verdict]:
        """Worst first, as far as the order of outcomes tells; in the order of cases otherwise."""
        return sorted(
            (verdict for entry in self.entries for verdict in entry.verdicts), key=lambda one: one.outcome.severity
        )

    @property
    def groups(self) -> dict[str, list[ReportCase]]:
        """The cases by what they share, in order."""
        found: dict[str, list[ReportCase]] = {}
        for entry in self.entries:
            found.setdefault(entry.group, []).append(entry)
        return found


def of_folder(folder: Path, *, root: Path) -> Report:
    """What the folder of one run holds, by whomever it was written; a `ValueError` where it holds no run, or several.

    Stored figures are read below `root`. Pictures, and by what command it was measured, are there if the run made a report.
    """
    files = folder_reader.read_folder(folder)
    found = folder_reader.parse_results(files)
    for what, names in (("runs", {c.session for c in found}), ("GPU keys", {c.gpu_key for c in found})):
        if len(names) > 1:
            known = ", ".join(sorted(names)[:5])
            raise ValueError(f"{folder}: results of {len(names)} {what}; name the folder of one: {known}")
    session = load_assets(folder / found[0].session, files)
    if session is not None:
        found = [case for case in found if PurePosixPath(case.name).name in session.results]
    against = any("against" in case.document for case in found)
    stored = {} if against else _figures(root, found[0].gpu_key)
    return Report(
        gpu_key=found[0].gpu_key,
        machine=mapping(found[0].document["machine"]),
        health=mapping(found[0].document["health"]),
        entries=tuple(_entry(case, stored, session) for case in sorted(found, key=_place)),
        made_by={**(session.made_by if session else {}), "results": str(folder), **own_versions()},
        remarks=session.remarks if session else (),
        measured="; ".join(
            list(dict.fromkeys(filter(None, (provenance.when(case.document) for case in found))))[:_MOST]
        ),
    )


def _entry(
    case: folder_reader.ResultFile, stored: Mapping[str, Mapping[str, Baseline]], session: ReportAssets | None
) -> ReportCase:
    return ReportCase(
        case_key=case.case_key,
        run=case.run,
        verdicts=case.verdicts,
        figures=stored.get(case.case_key, {}),
        other=_other(case),
        pictures=session.pictures.get(case.case_key) if session else None,
        explanation=tuple(map(str, case.document.get("explanation") or ())),
        roofline=mapping(case.document.get("roofline")),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportAssets:
    """`results` are the digests of the session's result files by name; `pictures` go by case key."""

    results: Mapping[str, str]
    made_by: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    pictures: Mapping[str, Pictures] = dataclasses.field(default_factory=dict)


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file by its name."""
    return {PurePosixPath(name).name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def save_assets(assets: ReportAssets, results: Path) -> None:
    """Write it below the folder of the results; the index last, which makes the rest count."""
    folder = results / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, Any] = {}
    for number, (key, pictures) in enumerate(assets.pictures.items()):
        files = {kind: data for kind in _KINDS if (data := getattr(pictures, kind)) is not None}
        for kind, data in files.items():
            (folder / _name(number, kind)).write_bytes(data)
        shown[key] = {
            "number": number,
            "reference": pictures.reference,
            "width_px": pictures.width_px,
            "kinds": list(files),
        }
    index = {"results": assets.results, "made_by": assets.made_by, "remarks": assets.remarks, "pictures": shown}
    write_json(folder / INDEX, index)


def load_assets(results: Path, files: Mapping[str, bytes]) -> ReportAssets | None:
    """What a session left there with these results, by whomever it was written; None where nothing was left, or other results
    lie there by now. A `ValueError` names what is wrong with it.
    """
    path = results / FOLDER / INDEX
    if not path.exists():
        return None
    if path.parent.is_symlink():
        raise ValueError(f"{path.parent}: a link; what a report left is a folder")
    match json_io.parse_json(_read(path), path=path):
        case {"results": dict(known), "made_by": dict(made_by), "remarks": list(remarks), "pictures": dict(shown)}:
            found = digests(files)
            if not known or any(found.get(name) != digest for name, digest in known.items()):
                return None
            return ReportAssets(
                results=known,
                made_by={name: str(value) for name, value in made_by.items()},
                remarks=tuple(map(str, remarks)),
                pictures={key: _pictures(path, key, entry) for key, entry in shown.items()},
            )
    raise ValueError(f"{path}: expected results, made_by, remarks and pictures")


def _pictures(path: Path, key: str, entry: Any) -> Pictures:
    match entry:
        case {"number": int(number), "reference": str(reference), "width_px": int(width_px), "kinds": ["image", *_]}:
            kinds = {kind: _read(path.with_name(_name(number, kind))) for kind in _KINDS if kind in entry["kinds"]}
            return Pictures(reference=reference, width_px=width_px, **kinds)
    raise ValueError(f"{path}: pictures: {key}: expected a number, a reference, a width and kinds")


def _name(number: int, kind: str) -> str:
    return f"{number:03d}-{kind}.png"


def _read(path: Path) -> bytes:
    data = folder_reader.read_plain_file(path, path.name)
    if len(data) > folder_reader.MAX_FILE_BYTES:  # 512 x 512 pixels are 0.8 MB without any compression
        raise ValueError(f"{path}: more than {folder_reader.MAX_FILE_BYTES / 2**20:.0f} MiB")
    return data


def own_versions() -> dict[str, str]:
    """What wrote the report, and when."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "written": now,
        "speedgate": speedgate.__version__,
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def mapping(value: Any) -> dict[str, Any]:
    """A mapping as it is, anything else as none: what is only shown is not worth refusing a report for."""
    return dict(value) if isinstance(value, Mapping) else {}


def numbers(value: Any) -> dict[str, float]:
    """What a mapping says in numbers that a float holds, zero or above."""
    return {
        str(name): float(one)
        for name, one in mapping(value).items()
        if isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one <= sys.float_info.max
    }


def _figures(root: Path, gpu_key: str) -> dict[str, dict[str, Baseline]]:
    found: dict[str, dict[str, Baseline]] = {}
    for path in store.baseline_files(root, gpu_key):
        stored = store.read_file(path, gpu_key=gpu_key)
        for baseline in stored.baselines.values():
            of_case = found.setdefault(baseline.case_key, {})
            of_case.pop(baseline.source, None)  # the last is the newest, by which the case is judged
            of_case[baseline.source] = baseline
        for case_key in stored.out_of_memory:
            found.pop(case_key, None)
    return found


def _other(case: folder_reader.ResultFile) -> Run | None:
    data = mapping(case.document.get("against")).get("other")
    return None if data is None else run_from_json(data, where=f"{case.case_key}: against.other")


def _place(case: folder_reader.ResultFile) -> tuple[bool, str, int, str]:
    """Cases of a pipeline and workload together, each after those it is built on; what was not built comes last."""
    entry = ReportCase(case_key=case.case_key, run=case.run)
    stages = case.run.recipe.get("stages") if case.run is not None and isinstance(case.run.recipe, Mapping) else None
    return case.run is None, entry.group, len(stages) if isinstance(stages, list) else 0, case.case_key
