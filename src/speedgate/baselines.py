"""Baselines on disk: `baselines/<gpu-key>/NNNN_<name>.json`, loaded, recorded and promoted."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate import benchmark_json, families
from speedgate.families import FamilyFigure
from speedgate.records import Baseline, Run, write_json

OBTAINED = "obtained.json"
MIN_PROCESSES = 3  # the interval of two has one degree of freedom: it is so wide that it decides nothing
# How much slower than its oldest kept figure a case may be promoted without a word. A gate compares with the newest one,
# so that steps within its tolerance would add up unseen. A published figure is one run of another machine: more room.
DRIFT_FLOORS = {benchmark_json.RECORDED: 0.03, benchmark_json.PUBLISHED: 0.10}
_LONGEST_REASON = 500
_NUMBERED = re.compile(r"([0-9]{4})_.+\.json")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # one folder name: a key must not lead out of the baselines
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def check_key(gpu_key: str) -> str:
    """`gpu_key`, which becomes part of a path; a `ValueError` unless it is a plain name."""
    if not _KEY.fullmatch(gpu_key):
        raise ValueError(f"GPU key {gpu_key!r}: expected letters, digits, '.', '_', '+' and '-'")
    if _of_a_family(gpu_key):
        raise ValueError(f"GPU key {gpu_key!r}: a family's published figures are shown and never gate; name a GPU key")
    return gpu_key


def key_folder(root: Path, gpu_key: str) -> Path:
    """The folder of `gpu_key` below `root`, which it cannot lead out of."""
    return root / check_key(gpu_key)


def known_keys(root: Path) -> list[str]:
    """The GPU keys that have a baseline file under `root`."""
    return _keys(root, _numbered)


def files(root: Path, gpu_key: str) -> list[Path]:
    """The baseline files of `gpu_key`, oldest first; a number that is given twice leaves no order and is refused."""
    return _in_order(key_folder(root, gpu_key))


def known_families(root: Path) -> list[str]:
    """The GPU families of which something is published under `root`."""
    folders = [folder for folder in _folders(root) if _numbered(folder)]
    return [family for folder in folders if (family := families.family_of(folder.name)) is not None]


def family_files(root: Path, name: str) -> list[Path]:
    """The files of a GPU family's published figures, oldest first."""
    return _in_order(root / f"{families.PREFIX}{name}")


def family(root: Path, machine_name: str) -> dict[str, tuple[FamilyFigure, ...]]:
    """What was published for the family of a GPU, each case with its builds of torch side by side. No gate reads it."""
    name = families.of(machine_name)
    if name is None:
        return {}
    found: dict[str, dict[str, FamilyFigure]] = {}
    for path in family_files(root, name):
        for figure in families.read(path, family=name):
            found.setdefault(figure.case_key, {})[figure.build] = figure
    return {case_key: tuple(builds.values()) for case_key, builds in found.items()}


def _in_order(folder: Path) -> list[Path]:
    found = _numbered(folder)
    for earlier, later in itertools.pairwise(found):
        number = later.name[:4]
        if earlier.name[:4] == number:
            raise ValueError(f"{later}: number {number} is taken by {earlier.name}; rename the newer of the two")
    return found


def latest(root: Path, gpu_key: str) -> Path | None:
    """The newest baseline file of `gpu_key`, for `--benchmark-compare`."""
    return next(reversed(_numbered(key_folder(root, gpu_key))), None)


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
    measured_at: str | None = None,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Replace `obtained.json` by `runs`; `failed` says why a case failed, `benchmarks_meta` which test owns it.

    `measured_at` is the session's time, which its result files carry too; None for now. `earlier` is what another
    session said of itself that began with a case.
    """
    from pytest_benchmark import __version__

    reasons = {run.case_key: "no test benchmarked it" for run in runs if run.case_key not in benchmarks_meta}
    reasons |= {run.case_key: reason for run in runs if (reason := benchmark_json.unusable(run)) is not None}
    usable = [run for run in runs if run.case_key not in reasons]
    reasons = {**reasons, **failed}
    entries = [
        benchmark_json.recorded(
            run,
            gpu_key=gpu_key,
            meta=benchmarks_meta[run.case_key],
            reason=reasons.get(run.case_key),
            session=(earlier or {}).get(run.case_key),
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
        datetime=measured_at or datetime.datetime.now(datetime.UTC).isoformat(),
        version=__version__,
    )
    path = key_folder(root, gpu_key) / OBTAINED
    write_json(path, document)
    return path


def promote(root: Path, gpu_key: str, *, name: str = "recorded", accept_slower: str | None = None) -> Path:
    """Make `obtained.json` the next numbered baseline of `gpu_key`; nothing is ever overwritten.

    A case that is slower than its oldest kept figure is refused unless `accept_slower` says why; the file then tells.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: expected lower-case letters, digits, '-' and '_', as in 'recorded'")
    obtained = key_folder(root, gpu_key) / OBTAINED
    document, found = _recorded(root, obtained)
    slower = _slower(found, [kept for path in files(root, gpu_key) for kept in read(path, gpu_key=gpu_key)])
    if accept_slower is not None:
        document[benchmark_json.BLOCK] = {"accepted_slower": _accepted(slower, accept_slower, where=obtained)}
    elif slower:
        raise ValueError(
            f"{obtained}: slower than the oldest baseline, which steps too small for a gate add up to:"
            f' {"; ".join(map(str, slower))}; find the cause, or say it with --accept-slower "why"'
        )
    target = _next(obtained, name)
    _add(target, document)
    obtained.unlink()
    return target


def set_aside(root: Path, gpu_key: str) -> None:
    """Rename an earlier `obtained.json`, so that what a cut-short recording leaves is not taken for it."""
    obtained = key_folder(root, gpu_key) / OBTAINED
    if obtained.is_file():
        obtained.replace(obtained.with_name(f"previous-{OBTAINED}"))


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class _Drift:
    """A case's new figure beside an old one; `floor` is how much slower it may be without a word."""

    found: Baseline
    oldest: Baseline

    @property
    def ratio(self) -> float:
        return self.found.latency_s / self.oldest.latency_s

    @property
    def floor(self) -> float:
        return DRIFT_FLOORS[self.oldest.source]

    @property
    def file(self) -> str:
        return Path(self.oldest.path).name

    def __str__(self) -> str:
        return (
            f"{self.found.case_key} takes {self.found.latency_s:.4g} s against {self.oldest.latency_s:.4g} s in {self.file}"
            f" ({self.ratio - 1:+.1%}, floor {self.floor:.0%})"
        )


def _slower(found: Sequence[Baseline], kept: Sequence[Baseline]) -> list[_Drift]:
    """The cases of `found` that drifted; `kept` is all that the numbered files hold, oldest first.

    The oldest figure of each source counts: beside a published one, a recorded one would otherwise never be looked at.
    """
    slower = []
    for new in found:
        oldest: dict[str, Baseline] = {}
        for old in kept:
            if old.case_key == new.case_key:
                oldest.setdefault(old.source, old)
        drifts = [_Drift(found=new, oldest=old) for old in oldest.values()]
        slower += [drift for drift in drifts if drift.ratio > 1 + drift.floor][:1]  # one is enough, the oldest
    return slower


def _accepted(slower: Sequence[_Drift], reason: str, *, where: Path) -> dict[str, Any]:
    """What the promoted file says of the cases that became slower."""
    if not reason.strip() or not reason.isprintable() or len(reason) > _LONGEST_REASON:
        raise ValueError(
            f"--accept-slower {reason[:_LONGEST_REASON]!r}: expected a sentence that says why, in at most"
            f" {_LONGEST_REASON} printable characters on one line"
        )
    if not slower:
        raise ValueError(f"{where}: no case is slower than its oldest baseline; promote it without --accept-slower")
    cases = {drift.found.case_key: {"oldest": drift.file, "ratio": drift.ratio} for drift in slower}
    return {"reason": reason, "cases": cases}


def _recorded(root: Path, obtained: Path) -> tuple[dict[str, Any], list[Baseline]]:
    """What a recording wrote, and the baselines that it would make."""
    if not obtained.is_file():
        keys = ", ".join(_keys(root, lambda folder: (folder / OBTAINED).is_file())) or "none"
        raise ValueError(f"no {obtained}; keys that hold one: {keys}; record it with --gate record")
    document = benchmark_json.read(obtained)
    found = benchmark_json.baselines(document, path=obtained, gpu_key=obtained.parent.name)
    for baseline in found:
        count = len(baseline.process_medians_s)
        if count < MIN_PROCESSES:
            raise ValueError(
                f"{obtained}: {baseline.case_key}: process_medians_s: holds {count} of at least {MIN_PROCESSES} processes,"
                f" and the process is the unit of replication: record it anew with --processes {MIN_PROCESSES} or more"
            )
    if benchmark_json.BLOCK in document:
        raise ValueError(f"{obtained}: {benchmark_json.BLOCK}: nothing but promotion writes this; record it anew")
    return document, found


def _next(obtained: Path, name: str) -> Path:
    taken = [int(path.name[:4]) for path in obtained.parent.iterdir() if _NUMBERED.fullmatch(path.name)]
    target = obtained.with_name(f"{max(taken, default=0) + 1:04d}_{name}.json")
    if not _NUMBERED.fullmatch(target.name):
        raise ValueError(f"{obtained.parent}: number 9999 is taken; renumber the files")
    return target


def _add(target: Path, document: Mapping[str, Any]) -> None:
    """Write a file that must not exist yet: a link fails where a rename would overwrite, and is whole when it appears."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        write_json(temporary, document)
        os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _keys(root: Path, holds: Callable[[Path], object]) -> list[str]:
    return [folder.name for folder in _folders(root) if holds(folder) and not _of_a_family(folder.name)]


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []


def _of_a_family(folder: str) -> bool:
    return folder.casefold().startswith(families.PREFIX)  # whatever the case, as some file systems make no difference


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name) and path.is_file())
