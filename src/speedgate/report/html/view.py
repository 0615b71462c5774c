"""The values that the HTML report shows, read from the folder of a run and from the stored baselines of its machine."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import speedgate
from speedgate.baselines import store
from speedgate.gate.policy import Policy
from speedgate.report import confirmed
from speedgate.report.html.pictures import Pictures
from speedgate.results import folder as results_folder
from speedgate.results import json_io, provenance
from speedgate.results.case_key import CaseKey
from speedgate.results.folder import ResultFile
from speedgate.results.gpu_code import GeneratedCode
from speedgate.results.json_io import decode
from speedgate.results.run import Baseline, Outcome, Run, Verdict, worst_outcome

ASSETS_FOLDER, ASSETS_INDEX = "report", "index.json"
_PICTURE_KINDS = ("image", "difference", "similarity")
_MAX_TIMES = 5  # times and commits of one run: a merged run has those of each shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportCase:
    """One case: its run (None if nothing was measured), its verdicts, and the baselines of this machine.

    `baselines` go by source, the newest of each source, and the newest of all comes last. `other_run` is the other arm's in a
    live comparison. `explanation` says what changed if a verdict says that something moved. `roofline` is the result of
    `speedgate.gate.roofline`, as stored, and `gpu_code` the generated code by target. `is_reference`: the case was built only
    for others to be compared with. `not_judged` says why claims are not judged, by claim.
    """

    case_key: str
    run: Run | None
    verdicts: tuple[Verdict, ...] = ()
    baselines: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    other_run: Run | None = None
    pictures: Pictures | None = None
    explanation: tuple[str, ...] = ()
    roofline: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    gpu_code: Mapping[str, GeneratedCode] = dataclasses.field(default_factory=dict)
    is_reference: bool = False
    not_judged: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def outcome(self) -> Outcome | None:
        """The worst outcome; None if nothing was judged."""
        return worst_outcome(self.verdicts)

    @property
    def is_structure_only(self) -> bool:
        """True if the case was checked on the meta device and never built."""
        return results_folder.is_structure_only(self.run, self.verdicts)

    @property
    def stage(self) -> str:
        return CaseKey.parse(self.case_key).stage if CaseKey.is_key(self.case_key) else self.case_key

    @property
    def group(self) -> str:
        """The pipeline and the workload: the cases that share both are compared with one another."""
        if not CaseKey.is_key(self.case_key):
            return self.case_key
        key = CaseKey.parse(self.case_key)
        return f"{key.pipeline} {key.workload}"

    @property
    def measured_run(self) -> Run | None:
        """The run if it has rounds."""
        return self.run if self.run is not None and self.run.processes else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the file shows. `made_by` names the command and its versions, `measured` the times and commits.

    `warning` stands above everything in the report of a fire drill or a quick run. A quick run (`is_quick`) timed
    nothing.
    """

    gpu_key: str
    machine: Mapping[str, Any]
    health: Mapping[str, Any]
    cases: tuple[ReportCase, ...]
    made_by: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    measured: str = ""
    warning: str = ""
    is_quick: bool = False

    @property
    def groups(self) -> dict[str, list[ReportCase]]:
        """The cases by pipeline and workload, in order."""
        groups: dict[str, list[ReportCase]] = {}
        for case in self.cases:
            groups.setdefault(case.group, []).append(case)
        return groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportAssets:
    """Files that a session leaves for its report beside its results, in `report/`: pictures, its command and remarks.

    Results are written during a session and the assets at its end. So `results` holds the SHA-256 of each result file by name,
    and assets are ignored if the folder has other results by then. `pictures` go by case key.
    """

    results: Mapping[str, str]
    made_by: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    pictures: Mapping[str, Pictures] = dataclasses.field(default_factory=dict)


def load_report(folder: Path, *, root: Path) -> Report:
    """Read the folder of one run, and the baselines of its GPU key below `root`; anybody may have written the folder.

    A `ValueError` if the folder holds no run, or several.
    """
    files = results_folder.read_folder(folder)
    results = results_folder.parse_results(files)
    for plural, names in (("runs", {r.session for r in results}), ("GPU keys", {r.gpu_key for r in results})):
        if len(names) > 1:
            choices = ", ".join(sorted(names)[:5])
            raise ValueError(f"{folder}: results of {len(names)} {plural}; name the folder of one: {choices}")
    first = results[0]
    assets = load_assets(folder / first.session, files)
    if assets is not None:
        results = [result for result in results if PurePosixPath(result.name).name in assets.results]
    is_live = any("against" in result.document for result in results)
    baselines = {} if is_live else _baselines_by_case(root, first.gpu_key)
    suspected = [(result.confirmation, result.verdicts) for result in results if result.confirmation is not None]
    return Report(
        gpu_key=first.gpu_key,
        machine=as_mapping(first.document["machine"]),
        health=as_mapping(first.document["health"]),
        cases=tuple(_report_case(result, baselines, assets) for result in sorted(results, key=_position)),
        made_by={**(assets.made_by if assets else {}), "results": str(folder), **_writer_facts()},
        remarks=assets.remarks if assets else tuple(confirmed.remarks(suspected, tolerance=Policy.latency_tolerance)),
        measured=_measured(results),
        warning=next((": ".join(result.warning) for result in results if result.warning), ""),
        is_quick=any(result.is_quick for result in results),
    )


def file_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Compute the SHA-256 of each file by its name."""
    return {PurePosixPath(name).name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def save_assets(assets: ReportAssets, results: Path) -> None:
    """Write the assets below the folder of the results. The index comes last: without it they do not count."""
    folder = results / ASSETS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {}
    for number, (case_key, pictures) in enumerate(assets.pictures.items()):
        files = {kind: data for kind in _PICTURE_KINDS if (data := getattr(pictures, kind)) is not None}
        for kind, data in files.items():
            (folder / _picture_name(number, kind)).write_bytes(data)
        entries[case_key] = {
            "number": number,
            "reference": pictures.reference,
            "width_px": pictures.width_px,
            "kinds": list(files),
        }
    index = {"results": assets.results, "made_by": assets.made_by, "remarks": assets.remarks, "pictures": entries}
    json_io.write_json(folder / ASSETS_INDEX, index)


def load_assets(results: Path, files: Mapping[str, bytes]) -> ReportAssets | None:
    """Read the assets of these result files; None if there are none, or if they belong to other results.

    Anybody may have written them: a `ValueError` names the part that is wrong.
    """
    path = results / ASSETS_FOLDER / ASSETS_INDEX
    if not path.exists():
        return None
    if path.parent.is_symlink():
        raise ValueError(f"{path.parent}: a link; expected a folder")
    match json_io.parse_json(_read_bounded(path), path=path):
        case {"results": dict(digests), "made_by": dict(made_by), "remarks": list(remarks), "pictures": dict(entries)}:
            present = file_digests(files)
            if not digests or any(present.get(name) != digest for name, digest in digests.items()):
                return None
            return ReportAssets(
                results=digests,
                made_by={name: str(value) for name, value in made_by.items()},
                remarks=tuple(map(str, remarks)),
                pictures={key: _load_pictures(path, key, entry) for key, entry in entries.items()},
            )
    raise ValueError(f"{path}: expected results, made_by, remarks and pictures")


def as_mapping(value: Any) -> dict[str, Any]:
    """Take a mapping as it is, and anything else as an empty one: a fact that is only shown must not fail the report."""
    return dict(value) if isinstance(value, Mapping) else {}


def numbers_of(value: Any) -> dict[str, float]:
    """Take the entries of a mapping whose values are finite numbers from zero up."""
    return {
        str(name): float(number)
        for name, number in as_mapping(value).items()
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= sys.float_info.max
    }


def _load_pictures(index: Path, case_key: str, entry: Any) -> Pictures:
    """Read the pictures of a case. Their file names are made from a number, so the index cannot name another file."""
    match entry:
        case {"number": int(number), "reference": str(reference), "width_px": int(width_px), "kinds": ["image", *_]}:
            kinds = [kind for kind in _PICTURE_KINDS if kind in entry["kinds"]]
            data = {kind: _read_bounded(index.with_name(_picture_name(number, kind))) for kind in kinds}
            return Pictures(reference=reference, width_px=width_px, **data)
    raise ValueError(f"{index}: pictures: {case_key}: expected a number, a reference, a width and kinds")


def _picture_name(number: int, kind: str) -> str:
    return f"{number:03d}-{kind}.png"


def _read_bounded(path: Path) -> bytes:
    data = results_folder.read_plain_file(path, path.name)
    if len(data) > results_folder.MAX_FILE_BYTES:  # 512 x 512 pixels are 0.8 MB without any compression
        raise ValueError(f"{path}: more than {results_folder.MAX_FILE_BYTES / 2**20:.0f} MiB")
    return data


def _report_case(
    result: ResultFile, baselines: Mapping[str, Mapping[str, Baseline]], assets: ReportAssets | None
) -> ReportCase:
    return ReportCase(
        case_key=result.case_key,
        run=result.run,
        verdicts=result.verdicts,
        baselines=baselines.get(result.case_key, {}),
        other_run=_other_run(result),
        pictures=assets.pictures.get(result.case_key) if assets else None,
        explanation=result.explanation,
        roofline=as_mapping(result.document.get("roofline")),
        gpu_code=result.gpu_code,
        is_reference=result.is_reference,
        not_judged=result.not_judged,
    )


def _other_run(result: ResultFile) -> Run | None:
    data = as_mapping(result.document.get("against")).get("other")
    return None if data is None else decode(data, Run, where=f"{result.case_key}: against.other")


def _baselines_by_case(root: Path, gpu_key: str) -> dict[str, dict[str, Baseline]]:
    """Read the newest baseline of each case and source. The newest of all is last: the case is judged by it."""
    by_case: dict[str, dict[str, Baseline]] = {}
    for path in store.baseline_files(root, gpu_key):
        stored = store.read_file(path, gpu_key=gpu_key)
        for baseline in stored.baselines.values():
            by_source = by_case.setdefault(baseline.case_key, {})
            by_source.pop(baseline.source, None)
            by_source[baseline.source] = baseline
        for case_key in stored.out_of_memory:
            by_case.pop(case_key, None)
    return by_case


def _measured(results: Sequence[ResultFile]) -> str:
    times = dict.fromkeys(provenance.describe_time(result.document) for result in results)
    return "; ".join([time for time in times if time][:_MAX_TIMES])


def _writer_facts() -> dict[str, str]:
    """Describe the program that writes the report, and the time."""
    return {
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "speedgate": speedgate.__version__,
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def _position(result: ResultFile) -> tuple[bool, str, int, str]:
    """Sort cases of a pipeline and workload together, each after those it is built on, and cases without a run last."""
    case = ReportCase(case_key=result.case_key, run=result.run)
    stages = as_mapping(result.run.recipe).get("stages") if result.run is not None else None
    return result.run is None, case.group, len(stages) if isinstance(stages, list) else 0, result.case_key
