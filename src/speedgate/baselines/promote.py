"""Promotion: make a recording the next numbered baseline of its GPU key, unless cases became slower without a reason."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from speedgate.baselines import benchmark_json, store
from speedgate.baselines.benchmark_json import BLOCK, WITHOUT_FIGURE
from speedgate.baselines.store import ACCEPTED, OBTAINED, StoredCases
from speedgate.gate.intervals import MIN_PROCESSES
from speedgate.results.json_io import Positive, as_object, decode, read_json, to_json, write_json
from speedgate.results.run import Baseline

# How much slower than its oldest figure a case may be promoted without a reason. A gate compares with the newest figure, so
# small steps would add up unseen. A published figure is one run on another machine and gets more room.
DRIFT_FLOORS = {benchmark_json.RECORDED: 0.03, benchmark_json.PUBLISHED: 0.10}
_LONGEST_REASON = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class AcceptedCase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A case that was promoted although it became slower (`ratio`, new by old) or runs out of memory (`outcome`)."""

    oldest: str
    ratio: Positive | None = None
    outcome: str | None = None


class AcceptedSlower(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of `--accept-slower` in the promoted file: one reason, and the cases by key."""

    reason: str
    cases: dict[str, AcceptedCase]


def promote(root: Path, gpu_key: str, *, name: str = "recorded", accept_slower: str | None = None) -> Path:
    """Make `obtained.json` the next numbered baseline of a GPU key. It never overwrites a file.

    A `ValueError` if a case is slower than its oldest figure, or no longer fits, and `accept_slower` gives no reason.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: expected lower-case letters, digits, '-' and '_', as in 'recorded'")
    obtained = store.key_folder(root, gpu_key) / OBTAINED
    document, cases = _read_obtained(root, obtained)
    stored = [
        baseline
        for path in store.baseline_files(root, gpu_key)
        for baseline in store.read_baselines(path, gpu_key=gpu_key)
    ]
    drifts, sentences = _find_drifts(cases, stored)
    if accept_slower is not None:
        accepted = {ACCEPTED: to_json(_accept(drifts, accept_slower, where=obtained))}
        document[BLOCK] = as_object(document.get(BLOCK)) | accepted
    elif drifts:
        raise ValueError(
            f"{obtained}: slower than the oldest baseline, possibly by small steps that no gate caught:"
            f' {"; ".join(sentences)}; find the cause, or give a reason with --accept-slower "why"'
        )
    target = store.next_file_path(obtained.parent, name)
    _write_new(target, document)
    obtained.unlink()
    return target


def review_notes(promoted: Path) -> list[str]:
    """List what a reviewer of a promoted file must know: cases accepted as slower, and cases that are out of memory."""
    document = read_json(promoted)
    cases = store.parse_document(document, path=promoted, gpu_key=promoted.parent.name)
    full = [f"{case_key}: out of memory from now on" for case_key in cases.out_of_memory]
    return [*accepted_notes(document, path=promoted), *full]


def accepted_notes(document: Any, *, path: Path) -> list[str]:
    """Describe each case of a baseline file that was accepted as slower, with the reason; `path` is the file."""
    value = as_object(as_object(document).get(BLOCK)).get(ACCEPTED)
    if value is None:
        return []
    accepted = decode(value, AcceptedSlower, where=f"{path}: {BLOCK}.{ACCEPTED}")
    notes = []
    for case_key, case in accepted.cases.items():
        change = "out of memory, but not" if case.ratio is None else f"{case.ratio - 1:+.1%} compared to what it was"
        notes.append(f"{case_key}: {change} in {case.oldest}; accepted in {path.name} ({accepted.reason})")
    return notes


def _find_drifts(cases: StoredCases, stored: Sequence[Baseline]) -> tuple[dict[str, AcceptedCase], list[str]]:
    """Find the cases that drifted or no longer fit, by key, and a sentence about each.

    `stored` holds all baselines of the numbered files, oldest first. The oldest figure of each source counts: a slow published
    one must not hide a recorded one.
    """
    drifts: dict[str, AcceptedCase] = {}
    sentences = []
    for case_key in (*cases.baselines, *cases.out_of_memory):
        oldest_by_source: dict[str, Baseline] = {}
        for baseline in stored:
            if baseline.case_key == case_key:
                oldest_by_source.setdefault(baseline.source, baseline)
        new = cases.baselines.get(case_key)
        for oldest in oldest_by_source.values():
            file_name, floor = Path(oldest.path).name, DRIFT_FLOORS[oldest.source]
            before = f"{oldest.latency_s:.4g} s in {file_name}"
            ratio = new.latency_s / oldest.latency_s if new else math.inf
            if ratio <= 1 + floor:
                continue
            if new is None:
                drifts[case_key] = AcceptedCase(oldest=file_name, outcome="oom")
                sentences.append(f"{case_key} is out of memory and took {before}")
            else:
                drifts[case_key] = AcceptedCase(oldest=file_name, ratio=ratio)
                change = f"({ratio - 1:+.1%}, floor {floor:.0%})"
                sentences.append(f"{case_key} takes {new.latency_s:.4g} s against {before} {change}")
            break  # the oldest is enough
    return drifts, sentences


def _accept(drifts: dict[str, AcceptedCase], reason: str, *, where: Path) -> AcceptedSlower:
    if not reason.strip() or not reason.isprintable() or len(reason) > _LONGEST_REASON:
        raise ValueError(
            f"--accept-slower {reason[:_LONGEST_REASON]!r}: expected a sentence that says why, in at most"
            f" {_LONGEST_REASON} printable characters on one line"
        )
    if not drifts:
        raise ValueError(f"{where}: no case is slower than its oldest baseline; promote it without --accept-slower")
    return AcceptedSlower(reason=reason, cases=drifts)


def _read_obtained(root: Path, obtained: Path) -> tuple[dict[str, Any], StoredCases]:
    """Read a recording and the cases in it; a `ValueError` says why it cannot become a baseline."""
    if not obtained.is_file():
        keys = ", ".join(store.gpu_keys_where(root, lambda folder: (folder / OBTAINED).is_file())) or "none"
        raise ValueError(f"no {obtained}; GPU keys that have one: {keys}; record one with --gate record")
    document = read_json(obtained)
    ours = as_object(as_object(document).get(BLOCK))
    if as_object(document).get("benchmarks") == [] and ours.get(WITHOUT_FIGURE) and not ours.get("failed"):
        raise ValueError(
            f"{obtained}: every case ran out of memory; a baseline file needs a case that fits: record one too"
        )
    cases = store.parse_document(document, path=obtained, gpu_key=obtained.parent.name)
    for baseline in cases.baselines.values():
        count = len(baseline.process_medians_s)
        if count < MIN_PROCESSES:
            raise ValueError(
                f"{obtained}: {baseline.case_key}: has {count} of at least {MIN_PROCESSES} processes, which the noise is"
                f" estimated from; record it again with --processes {MIN_PROCESSES} or more"
            )
    if set(ours) - {WITHOUT_FIGURE}:
        raise ValueError(f"{obtained}: {BLOCK}: only promotion writes {ACCEPTED}; record it again")
    return document, cases


def _write_new(target: Path, document: Mapping[str, Any]) -> None:
    """Write a file that must not exist yet, whole when it appears: a link fails where a rename would overwrite."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        write_json(temporary, document)
        os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
