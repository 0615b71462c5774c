"""Baseline files: find, number, read and record `baselines/<gpu-key>/NNNN_<name>.json`."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.baselines import benchmark_json, origin
from speedgate.baselines.benchmark_json import OutOfMemory
from speedgate.baselines.origin import RecordedCode
from speedgate.measure.machine import check_gpu_key
from speedgate.results.json_io import as_object, decode, expect, read_json, to_json, write_json
from speedgate.results.run import Baseline, Run

OBTAINED = "obtained.json"
ACCEPTED = "accepted_slower"
LOWEST = "lowest_figures"
_OUR_FIELDS = frozenset(
    {benchmark_json.WITHOUT_FIGURE, ACCEPTED, LOWEST}
)  # in the object of ours beside the benchmarks
_NUMBERED = re.compile(r"([0-9]{4})_.+\.json")


def key_folder(root: Path, gpu_key: str) -> Path:
    """Return the folder of a GPU key; a `ValueError` if the key could lead out of `root`."""
    return root / check_gpu_key(gpu_key)


def gpu_keys(root: Path) -> list[str]:
    """List the GPU keys that have a baseline file under `root`."""
    return gpu_keys_where(root, _numbered)


def require_gpu_keys(root: Path) -> list[str]:
    """List the GPU keys that have a baseline file; a `ValueError` if there are none, so that a mistyped folder is noticed."""
    if not (keys := gpu_keys(root)):
        raise ValueError(f"{root}: no baseline files; name the folder that holds the GPU keys with --root")
    return keys


def gpu_keys_where(root: Path, condition: Callable[[Path], object]) -> list[str]:
    """List the GPU keys under `root` whose folder meets the condition."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder.name for folder in folders if folder.is_dir() and condition(folder)]


def baseline_files(root: Path, gpu_key: str) -> list[Path]:
    """List the baseline files of a GPU key, oldest first; a `ValueError` if two have one number, because no order is left."""
    files = _numbered(key_folder(root, gpu_key))
    for earlier, later in itertools.pairwise(files):
        number = later.name[:4]
        if earlier.name[:4] == number:
            raise ValueError(f"{later}: number {number} is taken by {earlier.name}; rename the newer of the two")
    return files


def latest_file(root: Path, gpu_key: str) -> Path | None:
    """Return the newest baseline file of a GPU key, for `--benchmark-compare`."""
    return next(reversed(_numbered(key_folder(root, gpu_key))), None)


def next_file_path(folder: Path, name: str) -> Path:
    """Return the path of the next numbered file; a `ValueError` if no number is left."""
    last = max((int(path.name[:4]) for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)), default=0)
    target = folder / f"{last + 1:04d}_{name}.json"
    if not _NUMBERED.fullmatch(target.name):
        raise ValueError(f"{folder}: number 9999 is taken; renumber the files")
    return target


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredCases:
    """The stored cases of a GPU key: their baselines, and for each case out of memory the name of the file that says so."""

    baselines: Mapping[str, Baseline]
    out_of_memory: Mapping[str, str]


def newest_cases(root: Path, gpu_key: str) -> StoredCases:
    """Read each case of a GPU key from the file with the highest number that holds it."""
    baselines: dict[str, Baseline] = {}
    out_of_memory: dict[str, str] = {}
    for path in baseline_files(root, gpu_key):
        cases = read_file(path, gpu_key=gpu_key)
        for case_key in (*cases.baselines, *cases.out_of_memory):
            baselines.pop(case_key, None)
            out_of_memory.pop(case_key, None)
        baselines |= cases.baselines
        out_of_memory |= cases.out_of_memory
    return StoredCases(baselines=baselines, out_of_memory=out_of_memory)


def newest_baselines(root: Path, gpu_key: str) -> Mapping[str, Baseline]:
    """Read the newest baseline of each case of a GPU key that has one."""
    return newest_cases(root, gpu_key).baselines


def read_baselines(path: Path, *, gpu_key: str) -> list[Baseline]:
    """Read the baselines of one file; a `ValueError` names the file and the field that is wrong."""
    return list(read_file(path, gpu_key=gpu_key).baselines.values())


def read_file(path: Path, *, gpu_key: str) -> StoredCases:
    """Read the cases of one file; a `ValueError` names the file and the field that is wrong."""
    return parse_document(read_json(path), path=path, gpu_key=gpu_key)


def parse_document(document: Any, *, path: Path, gpu_key: str) -> StoredCases:
    """Parse a document that is, or will become, the file `path`; a `ValueError` names the field that is wrong."""
    parsed = benchmark_json.parse_baselines(document, path=path, gpu_key=gpu_key)
    baselines = {baseline.case_key: baseline for baseline in parsed}
    unknown = set(as_object(document.get(benchmark_json.BLOCK))) - _OUR_FIELDS
    allowed = f"no more than {', '.join(sorted(_OUR_FIELDS))}"
    expect(not unknown, f"{path}: {benchmark_json.BLOCK}", allowed, sorted(unknown))
    out_of_memory: dict[str, str] = {}
    for where, case in benchmark_json.parse_out_of_memory(document, path=path, gpu_key=gpu_key):
        if case.case_key in baselines or case.case_key in out_of_memory:
            raise ValueError(f"{where}.case_key: {case.case_key!r} stands in this file twice")
        out_of_memory[case.case_key] = path.stem
    return StoredCases(baselines=baselines, out_of_memory=out_of_memory)


def write_obtained(
    root: Path,
    gpu_key: str,
    *,
    runs: Sequence[Run],
    failed: Mapping[str, str],
    benchmarks_meta: Mapping[str, Mapping[str, Any]],
    machine_info: Mapping[str, Any],
    commit_info: Mapping[str, Any],
    measured_at: str | None = None,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
    out_of_memory: Mapping[str, str] | None = None,
    rooflines: Mapping[str, Mapping[str, Any]] | None = None,
    code: RecordedCode | None = None,
) -> Path:
    """Replace `obtained.json` by a new recording. All mappings but `machine_info` and `commit_info` are by case key.

    `failed` holds why a case failed and `benchmarks_meta` its test; `earlier` the time and commit of the session that began
    a case, if it was another one; `out_of_memory` the sentence about a case that did not fit. Without `measured_at`: now.
    `code` is the code that measured: its archive is written too, and those of earlier recordings are removed.
    """
    from pytest_benchmark import __version__

    reasons = unusable_runs(runs, benchmarks_meta)
    usable_runs = [run for run in runs if run.case_key not in reasons]
    reasons |= failed
    origins = origin.origins(usable_runs, code)
    benchmarks = [
        benchmark_json.recorded_benchmark(
            run,
            gpu_key=gpu_key,
            meta=benchmarks_meta[run.case_key],
            reason=reasons.get(run.case_key),
            session=(earlier or {}).get(run.case_key),
            roofline=(rooflines or {}).get(run.case_key),
            origin=origins.get(run.case_key),
        )
        for run in usable_runs
    ]
    without_run = sorted(set(reasons) - {run.case_key for run in usable_runs})
    document = benchmark_json.make_document(
        benchmarks,
        failed={case_key: reasons[case_key] for case_key in without_run},
        gpu_key=gpu_key,
        machine_info=machine_info,
        commit_info=commit_info,
        datetime=measured_at or datetime.datetime.now(datetime.UTC).isoformat(),
        version=__version__,
        out_of_memory=[
            OutOfMemory(case_key=case_key, gpu_key=gpu_key, note=note)
            for case_key, note in sorted((out_of_memory or {}).items())
        ],
    )
    path = key_folder(root, gpu_key) / OBTAINED
    if code is not None and origins:
        origin.write_archive(path.parent, code)
    write_json(path, document)
    origin.remove_unused_archives(path.parent)
    return path


def unusable_runs(runs: Sequence[Run], benchmarks: Container[str]) -> dict[str, str]:
    """Return why runs cannot become a baseline, by case key; `benchmarks` holds the keys of those that a test benchmarked."""
    reasons = {run.case_key: "no test benchmarked it" for run in runs if run.case_key not in benchmarks}
    # Without a round there are no statistics, and one such run must not lose the record of the others.
    reasons |= {run.case_key: "no process was measured" for run in runs if not run.processes}
    return reasons | {run.case_key: problem for run in runs if (problem := _storage_problem(run)) is not None}


def _storage_problem(run: Run) -> str | None:
    """Return why a run cannot be stored, or None. One such run must not lose the record of the others."""
    try:
        decode(json.loads(json.dumps(to_json(run), allow_nan=False)), Run, where=run.case_key)
    except (TypeError, ValueError) as error:
        return f"cannot be stored: {error}"
    return None


def set_aside_obtained(root: Path, gpu_key: str) -> None:
    """Rename an earlier `obtained.json`, so that it is not taken for the result of a recording that was interrupted."""
    obtained = key_folder(root, gpu_key) / OBTAINED
    if obtained.is_file():
        obtained.replace(obtained.with_name(f"previous-{OBTAINED}"))
        origin.remove_unused_archives(obtained.parent)


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name) and path.is_file())
