"""Baselines on disk: `baselines/<gpu-key>/NNNN_<name>.json`, found, numbered, loaded and recorded."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.baselines import benchmark_json
from speedgate.measure.machine import check_gpu_key
from speedgate.results import json_io
from speedgate.results.json_io import as_object, expect, expect_equal, write_json
from speedgate.results.run import SCHEMA, Baseline, Run

OBTAINED = "obtained.json"
ACCEPTED = "accepted_slower"
_BESIDE = frozenset({benchmark_json.WITHOUT_FIGURE, ACCEPTED})  # of what stands beside the benchmarks
_NUMBERED = re.compile(r"([0-9]{4})_.+\.json")


def key_folder(root: Path, gpu_key: str) -> Path:
    """The folder of `gpu_key` below `root`, which it cannot lead out of."""
    return root / check_gpu_key(gpu_key)


def gpu_keys(root: Path) -> list[str]:
    """The GPU keys that have a baseline file under `root`."""
    return gpu_keys_where(root, _numbered)


def require_gpu_keys(root: Path) -> list[str]:
    """The same; a `ValueError` where there are none, as below a mistyped folder."""
    if not (keys := gpu_keys(root)):
        raise ValueError(f"{root}: no baseline files; name the folder that holds the GPU keys with --root")
    return keys


def gpu_keys_where(root: Path, holds: Callable[[Path], object]) -> list[str]:
    """The GPU keys under `root` whose folder `holds` something."""
    return [folder.name for folder in _folders(root) if holds(folder)]


def baseline_files(root: Path, gpu_key: str) -> list[Path]:
    """The baseline files of `gpu_key`, oldest first; a number that is given twice leaves no order and is refused."""
    found = _numbered(key_folder(root, gpu_key))
    for earlier, later in itertools.pairwise(found):
        number = later.name[:4]
        if earlier.name[:4] == number:
            raise ValueError(f"{later}: number {number} is taken by {earlier.name}; rename the newer of the two")
    return found


def latest_file(root: Path, gpu_key: str) -> Path | None:
    """The newest baseline file of `gpu_key`, for `--benchmark-compare`."""
    return next(reversed(_numbered(key_folder(root, gpu_key))), None)


def next_file_path(folder: Path, name: str) -> Path:
    """What the next numbered file of a folder is called; a `ValueError` once the numbers are used up."""
    taken = [int(path.name[:4]) for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)]
    target = folder / f"{max(taken, default=0) + 1:04d}_{name}.json"
    if not _NUMBERED.fullmatch(target.name):
        raise ValueError(f"{folder}: number 9999 is taken; renumber the files")
    return target


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredCases:
    """What is stored of the cases of a GPU key: of each its baseline, or in `out_of_memory` the name of what says that it is."""

    baselines: Mapping[str, Baseline]
    out_of_memory: Mapping[str, str]


def newest_cases(root: Path, gpu_key: str) -> StoredCases:
    """What is stored of each case on `gpu_key`, in the file with the highest number that holds it."""
    baselines: dict[str, Baseline] = {}
    out_of_memory: dict[str, str] = {}
    for path in baseline_files(root, gpu_key):
        found = read_file(path, gpu_key=gpu_key)
        for case_key in (*found.baselines, *found.out_of_memory):
            baselines.pop(case_key, None)
            out_of_memory.pop(case_key, None)
        baselines |= found.baselines
        out_of_memory |= found.out_of_memory
    return StoredCases(baselines=baselines, out_of_memory=out_of_memory)


def newest_baselines(root: Path, gpu_key: str) -> Mapping[str, Baseline]:
    """The baseline of each case on `gpu_key` that has one."""
    return newest_cases(root, gpu_key).baselines


def read_baselines(path: Path, *, gpu_key: str) -> list[Baseline]:
    """The baselines of one file; a `ValueError` names the file and the field that is wrong."""
    return list(read_file(path, gpu_key=gpu_key).baselines.values())


def read_file(path: Path, *, gpu_key: str) -> StoredCases:
    """What one file says, errors as of `read_baselines`."""
    return parse_document(json_io.read_json(path), path=path, gpu_key=gpu_key)


def parse_document(document: Any, *, path: Path, gpu_key: str) -> StoredCases:
    """What a document says that is, or is to become, the file `path`."""
    baselines = {one.case_key: one for one in benchmark_json.parse_baselines(document, path=path, gpu_key=gpu_key)}
    unknown = set(as_object(document.get(benchmark_json.BLOCK))) - _BESIDE
    expect(
        not unknown, f"{path}: {benchmark_json.BLOCK}", f"no more than {', '.join(sorted(_BESIDE))}", sorted(unknown)
    )
    out_of_memory: dict[str, str] = {}
    for where, case_key in _out_of_memory(document, path=path, gpu_key=gpu_key):
        if case_key in baselines or case_key in out_of_memory:
            raise ValueError(f"{where}.case_key: {case_key!r} stands in this file twice")
        out_of_memory[case_key] = path.stem
    return StoredCases(baselines=baselines, out_of_memory=out_of_memory)


def _out_of_memory(document: Any, *, path: Path, gpu_key: str) -> Iterator[tuple[str, str]]:
    """The case keys of what a recording could not fit into this GPU's memory, each with its place."""
    for where, block in benchmark_json.blocks_without_figure(document, where=str(path)):
        for name, value in _oom(gpu_key).items():
            expect_equal(block.get(name), value, f"{where}.{name}")
        benchmark_json.check_case_key(block.get("case_key"), where=f"{where}.case_key")
        expect(isinstance(block.get("note"), str) and block["note"], f"{where}.note", "a text", block.get("note"))
        yield where, block["case_key"]


def _oom(gpu_key: str) -> dict[str, Any]:
    """What is the same of every case that a recording on `gpu_key` found to be out of memory."""
    return {"schema": SCHEMA, "gpu_key": gpu_key, "source": benchmark_json.RECORDED, "outcome": "oom"}


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
) -> Path:
    """Replace `obtained.json` by `runs`; `failed` says why a case failed, `benchmarks_meta` which test owns it.

    `measured_at` is the session's time, which its result files carry too; None for now. `earlier` is what another
    session said of itself that began with a case. `out_of_memory` has a sentence for each case that did not fit, `rooflines`
    what `speedgate.gate.roofline` found of a case.
    """
    from pytest_benchmark import __version__

    reasons = {run.case_key: "no test benchmarked it" for run in runs if run.case_key not in benchmarks_meta}
    reasons |= {run.case_key: reason for run in runs if (reason := benchmark_json.unusable(run)) is not None}
    usable = [run for run in runs if run.case_key not in reasons]
    reasons = {**reasons, **failed}
    entries = [
        benchmark_json.recorded_benchmark(
            run,
            gpu_key=gpu_key,
            meta=benchmarks_meta[run.case_key],
            reason=reasons.get(run.case_key),
            session=(earlier or {}).get(run.case_key),
            roofline=(rooflines or {}).get(run.case_key),
        )
        for run in usable
    ]
    without_run = sorted(set(reasons) - {run.case_key for run in usable})
    document = benchmark_json.make_document(
        entries,
        failed={case_key: reasons[case_key] for case_key in without_run},
        gpu_key=gpu_key,
        machine_info=machine_info,
        commit_info=commit_info,
        datetime=measured_at or datetime.datetime.now(datetime.UTC).isoformat(),
        version=__version__,
        without_figure=[
            {**_oom(gpu_key), "case_key": case_key, "note": note}
            for case_key, note in sorted((out_of_memory or {}).items())
        ],
    )
    path = key_folder(root, gpu_key) / OBTAINED
    write_json(path, document)
    return path


def set_aside_obtained(root: Path, gpu_key: str) -> None:
    """Rename an earlier `obtained.json`, so that what a cut-short recording leaves is not taken for it."""
    obtained = key_folder(root, gpu_key) / OBTAINED
    if obtained.is_file():
        obtained.replace(obtained.with_name(f"previous-{OBTAINED}"))


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name) and path.is_file())
