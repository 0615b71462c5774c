"""Promotion: what a recording obtained becomes the next numbered baseline of its GPU key, and never slowly worse."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.baselines import benchmark_json, store
from speedgate.baselines.store import ACCEPTED, OBTAINED, StoredCases
from speedgate.gate.intervals import MIN_PROCESSES
from speedgate.results import json_io
from speedgate.results.json_io import as_object, write_json
from speedgate.results.run import Baseline

# How much slower than its oldest kept figure a case may be promoted without a word. A gate compares with the newest one,
# so that steps within its tolerance would add up unseen. A published figure is one run of another machine: more room.
DRIFT_FLOORS = {benchmark_json.RECORDED: 0.03, benchmark_json.PUBLISHED: 0.10}
_LONGEST_REASON = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def promote(root: Path, gpu_key: str, *, name: str = "recorded", accept_slower: str | None = None) -> Path:
    """Make `obtained.json` the next numbered baseline of `gpu_key`; nothing is ever overwritten.

    A case that is slower than its oldest kept figure, or no longer fits, is refused unless `accept_slower` says why; the
    file then tells.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: expected lower-case letters, digits, '-' and '_', as in 'recorded'")
    obtained = store.key_folder(root, gpu_key) / OBTAINED
    document, found = _recorded(root, obtained)
    kept = [one for path in store.baseline_files(root, gpu_key) for one in store.read_baselines(path, gpu_key=gpu_key)]
    slower = _slower(found, kept)
    if accept_slower is not None:
        accepted = {ACCEPTED: _accepted(slower, accept_slower, where=obtained)}
        document[benchmark_json.BLOCK] = as_object(document.get(benchmark_json.BLOCK)) | accepted
    elif slower:
        raise ValueError(
            f"{obtained}: slower than the oldest baseline, which steps too small for a gate add up to:"
            f' {"; ".join(map(str, slower))}; find the cause, or say it with --accept-slower "why"'
        )
    target = store.next_file_path(obtained.parent, name)
    _add(target, document)
    obtained.unlink()
    return target


def review_notes(promoted: Path) -> list[str]:
    """What a reviewer has to know of a promoted file: `accepted_notes`, and a line for each case that is out of memory from now on."""
    document = json_io.read_json(promoted)
    full = store.parse_document(document, path=promoted, gpu_key=promoted.parent.name).out_of_memory
    return [*accepted_notes(document, path=promoted), *(f"{key}: out of memory from now on" for key in full)]


def accepted_notes(document: Any, *, path: Path) -> list[str]:
    """A line for each case of which the document of a file says that it was accepted as worse, with why."""
    accepted = as_object(as_object(as_object(document).get(benchmark_json.BLOCK)).get(ACCEPTED))
    why = f"accepted in {path.name} ({accepted.get('reason')})"
    cases = {key: as_object(one) for key, one in as_object(accepted.get("cases")).items()}
    moved = {key: one["ratio"] for key, one in cases.items() if isinstance(one.get("ratio"), float)}
    said = {key: f"{moved[key] - 1:+.1%} to" if key in moved else "out of memory, which it was not in" for key in cases}
    return [f"{key}: {said[key]} {one.get('oldest')}, {why}" for key, one in cases.items()]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class _Drift:
    """A case's new figure beside an old one; None where it ran out of memory. `floor` is what may be slower without a word."""

    case_key: str
    found: Baseline | None
    oldest: Baseline

    @property
    def ratio(self) -> float | None:
        return self.found.latency_s / self.oldest.latency_s if self.found else None

    @property
    def floor(self) -> float:
        return DRIFT_FLOORS[self.oldest.source]

    @property
    def is_too_much(self) -> bool:
        return self.ratio is None or self.ratio > 1 + self.floor

    @property
    def entry(self) -> dict[str, Any]:
        """What the promoted file says of it."""
        return {"oldest": self.file} | ({"outcome": "oom"} if self.ratio is None else {"ratio": self.ratio})

    @property
    def file(self) -> str:
        return Path(self.oldest.path).name

    def __str__(self) -> str:
        before = f"{self.oldest.latency_s:.4g} s in {self.file}"
        if self.found is None or self.ratio is None:
            return f"{self.case_key} is out of memory and took {before}"
        took = f"{self.case_key} takes {self.found.latency_s:.4g} s against {before}"
        return f"{took} ({self.ratio - 1:+.1%}, floor {self.floor:.0%})"


def _slower(found: StoredCases, kept: Sequence[Baseline]) -> list[_Drift]:
    """The cases of `found` that drifted or no longer fit; `kept` is all that the numbered files hold, oldest first.

    The oldest figure of each source counts: beside a published one, a recorded one would otherwise never be looked at.
    """
    slower = []
    for case_key in (*found.baselines, *found.out_of_memory):
        oldest: dict[str, Baseline] = {}
        for old in kept:
            if old.case_key == case_key:
                oldest.setdefault(old.source, old)
        new = found.baselines.get(case_key)
        drifts = [_Drift(case_key=case_key, found=new, oldest=old) for old in oldest.values()]
        slower += [drift for drift in drifts if drift.is_too_much][:1]  # one is enough, the oldest
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
    return {"reason": reason, "cases": {drift.case_key: drift.entry for drift in slower}}


def _recorded(root: Path, obtained: Path) -> tuple[dict[str, Any], StoredCases]:
    """What a recording wrote, and the baselines that it would make."""
    if not obtained.is_file():
        keys = ", ".join(store.gpu_keys_where(root, lambda folder: (folder / OBTAINED).is_file())) or "none"
        raise ValueError(f"no {obtained}; keys that hold one: {keys}; record it with --gate record")
    document = json_io.read_json(obtained)
    if as_object(document).get("benchmarks") == [] and as_object(document.get(benchmark_json.BLOCK)).get(
        benchmark_json.WITHOUT_FIGURE
    ):
        raise ValueError(
            f"{obtained}: no case of it fitted: record it anew with one that does, for a file holds a figure at least"
        )
    found = store.parse_document(document, path=obtained, gpu_key=obtained.parent.name)
    for baseline in found.baselines.values():
        count = len(baseline.process_medians_s)
        if count < MIN_PROCESSES:
            raise ValueError(
                f"{obtained}: {baseline.case_key}: process_medians_s: holds {count} of at least {MIN_PROCESSES} processes,"
                f" and the process is the unit of replication: record it anew with --processes {MIN_PROCESSES} or more"
            )
    if set(as_object(document.get(benchmark_json.BLOCK))) - {benchmark_json.WITHOUT_FIGURE}:
        raise ValueError(f"{obtained}: {benchmark_json.BLOCK}: nothing but promotion writes this; record it anew")
    return document, found


def _add(target: Path, document: Mapping[str, Any]) -> None:
    """Write a file that must not exist yet: a link fails where a rename would overwrite, and is whole when it appears."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        write_json(temporary, document)
        os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
