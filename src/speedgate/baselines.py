"""Baselines on disk: `baselines/<gpu-key>/NNNN_<name>.json`, loaded, recorded and promoted."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate import benchmark_json
from speedgate.records import Baseline, Run, write_json

OBTAINED = "obtained.json"
_NUMBERED = re.compile(r"([0-9]{4})_.+\.json")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # one folder name: a key must not lead out of the baselines
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def known_keys(root: Path) -> list[str]:
    """The GPU keys that have a baseline file under `root`."""
    return _keys(root, _numbered)


def files(root: Path, gpu_key: str) -> list[Path]:
    """The baseline files of `gpu_key`, oldest first; a number that is given twice leaves no order and is refused."""
    found = _numbered(_folder(root, gpu_key))
    for earlier, later in itertools.pairwise(found):
        number = later.name[:4]
        if earlier.name[:4] == number:
            raise ValueError(f"{later}: number {number} is taken by {earlier.name}; rename the newer of the two")
    return found


def latest(root: Path, gpu_key: str) -> Path | None:
    """The newest baseline file of `gpu_key`, for `--benchmark-compare`."""
    return next(reversed(_numbered(_folder(root, gpu_key))), None)


def load(root: Path, gpu_key: str) -> dict[str, Baseline]:
    """The baseline of each case on `gpu_key`: the one in the file with the highest number."""
    return {baseline.case_key: baseline for path in files(root, gpu_key) for baseline in read(path, gpu_key=gpu_key)}


def read(path: Path, *, gpu_key: str) -> list[Baseline]:
    """The baselines of one file; a `ValueError` names the file and the field that is wrong."""
    return benchmark_json.baselines(benchmark_json.read(path), path=path, gpu_key=gpu_key)


def write_obtained(
    root: Path,
    gpu_key: str,
    *,
    runs: Sequence[Run],
    failed: Mapping[str, str],
    benchmarks_meta: Mapping[str, Mapping[str, Any]],
    machine_info: Mapping[str, Any],
    commit_info: Mapping[str, Any],
) -> Path:
    """Replace `obtained.json` by `runs`; `failed` says why a case failed, `benchmarks_meta` which test owns it."""
    from pytest_benchmark import __version__

    reasons = {run.case_key: "no test benchmarked it" for run in runs if run.case_key not in benchmarks_meta}
    reasons |= {run.case_key: reason for run in runs if (reason := benchmark_json.unusable(run)) is not None}
    usable = [run for run in runs if run.case_key not in reasons]
    reasons = {**reasons, **failed}
    entries = [
        benchmark_json.recorded(
            run, gpu_key=gpu_key, meta=benchmarks_meta[run.case_key], reason=reasons.get(run.case_key)
        )
        for run in usable
    ]
    without_run = sorted(set(reasons) - {run.case_key for run in usable})
    document = benchmark_json.document(
        entries,
        failed={case_key: reasons[case_key] for case_key in without_run},
        gpu_key=gpu_key,
        machine_info=machine_info,
        commit_info=commit_info,
        datetime=datetime.datetime.now(datetime.UTC).isoformat(),
        version=__version__,
    )
    path = _folder(root, gpu_key) / OBTAINED
    write_json(path, document)
    return path


def promote(root: Path, gpu_key: str, *, name: str = "recorded") -> Path:
    """Make `obtained.json` the next numbered baseline of `gpu_key`; nothing is ever overwritten."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: expected lower-case letters, digits, '-' and '_', as in 'recorded'")
    obtained = _folder(root, gpu_key) / OBTAINED
    if not obtained.is_file():
        keys = ", ".join(_keys(root, lambda folder: (folder / OBTAINED).is_file())) or "none"
        raise ValueError(f"no {obtained}; keys that hold one: {keys}; record it with --gate record")
    for baseline in read(obtained, gpu_key=gpu_key):
        if len(baseline.process_medians_s) < 2:
            raise ValueError(
                f"{obtained}: {baseline.case_key} holds one process, and the process is the unit of replication:"
                " record it anew with --processes 2 or more"
            )
    taken = [int(path.name[:4]) for path in obtained.parent.iterdir() if _NUMBERED.fullmatch(path.name)]
    target = obtained.with_name(f"{max(taken, default=0) + 1:04d}_{name}.json")
    if not _NUMBERED.fullmatch(target.name):
        raise ValueError(f"{obtained.parent}: number 9999 is taken; renumber the files")
    _move(obtained, target)
    return target


def set_aside(root: Path, gpu_key: str) -> None:
    """Rename an earlier `obtained.json`, so that what a cut-short recording leaves is not taken for it."""
    obtained = _folder(root, gpu_key) / OBTAINED
    if obtained.is_file():
        obtained.replace(obtained.with_name(f"previous-{OBTAINED}"))


def _move(source: Path, target: Path) -> None:
    with target.open("xb") as stream:  # fails where a rename would overwrite, on every file system
        try:
            stream.write(source.read_bytes())
        except BaseException:
            target.unlink()
            raise
    source.unlink()


def _folder(root: Path, gpu_key: str) -> Path:
    if not _KEY.fullmatch(gpu_key):
        raise ValueError(f"GPU key {gpu_key!r}: expected letters, digits, '.', '_', '+' and '-'")
    return root / gpu_key


def _keys(root: Path, holds: Callable[[Path], object]) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir() and holds(folder))


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name) and path.is_file())
