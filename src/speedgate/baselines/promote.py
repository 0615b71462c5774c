"""Promotion: make a recording the next numbered baseline of its GPU key, unless cases became slower without a reason."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from speedgate.baselines import benchmark_json, origin, store
from speedgate.baselines.benchmark_json import BLOCK, WITHOUT_FIGURE
from speedgate.baselines.store import ACCEPTED, LOWEST, OBTAINED, StoredCases
from speedgate.gate.acknowledgement import check_reason
from speedgate.gate.intervals import MIN_PROCESSES
from speedgate.results.json_io import Positive, as_object, decode, read_json, to_json, write_json
from speedgate.results.run import Baseline

# How much slower than the lowest figure that was ever promoted a case may be promoted without a reason. A gate compares with the
# newest figure, so small steps would add up unseen. A published figure is one run on another machine and gets more room.
DRIFT_FLOORS = {benchmark_json.RECORDED: 0.03, benchmark_json.PUBLISHED: 0.10}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class AcceptedCase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A case that was promoted although it became slower (`ratio`, new by lowest) or runs out of memory (`outcome`).

    `oldest` is the file that it was compared with.
    """

    oldest: str
    ratio: Positive | None = None
    outcome: str | None = None


class LowestFigure(msgspec.Struct, frozen=True, kw_only=True):
    """The lowest latency of a case that was ever promoted, and the file that had it, which may be gone."""

    latency_s: Positive
    file: str


class AcceptedSlower(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of `--accept-slower` in the promoted file: one reason, and the cases by key."""

    reason: str
    cases: dict[str, AcceptedCase]


def promote(root: Path, gpu_key: str, *, name: str = "recorded", accept_slower: str | None = None) -> Path:
    """Make `obtained.json` the next numbered baseline of a GPU key. It never overwrites a file.

    A `ValueError` if a case is slower than its lowest figure, or no longer fits, and `accept_slower` gives no reason. The new
    file carries lower figures of older files, which may be removed one day.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: expected lower-case letters, digits, '-' and '_', as in 'recorded'")
    obtained = store.key_folder(root, gpu_key) / OBTAINED
    document, cases = _read_obtained(root, obtained)
    stored, lowest = _read_stored(root, gpu_key)
    drifts, sentences = _find_drifts(cases, stored, lowest)
    carried = _carried(lowest, cases)
    if carried:
        document[BLOCK] = as_object(document.get(BLOCK)) | {LOWEST: {key: to_json(low) for key, low in carried.items()}}
    if accept_slower is not None:
        accepted = {ACCEPTED: to_json(_accept(drifts, accept_slower, where=obtained))}
        document[BLOCK] = as_object(document.get(BLOCK)) | accepted
    elif drifts:
        raise ValueError(
            f"{obtained}: slower than the lowest figure ever promoted, possibly by small steps that no gate caught:"
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


def origin_notes(promoted: Path, *, root: Path) -> list[str]:
    """List what is missing to make the arm of each case of a promoted file again; `root` is the checkout."""
    cases_by_part: dict[str, list[str]] = {}
    for baseline in store.read_baselines(promoted, gpu_key=promoted.parent.name):
        for part in origin.missing_parts(baseline, root=root):
            cases_by_part.setdefault(part, []).append(baseline.case_key)
    return [
        f"{case_keys[0]}{f' and {len(case_keys) - 1} more' if case_keys[1:] else ''}: no live comparison can confirm a"
        f" suspicion yet: {part}"
        for part, case_keys in cases_by_part.items()
    ]


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


def _read_stored(root: Path, gpu_key: str) -> tuple[list[Baseline], dict[str, LowestFigure]]:
    """Read the published baselines of the numbered files, oldest first, and the lowest recorded figure of each case.

    The figures that a file carries count as those of files that were removed.
    """
    published = []
    lowest: dict[str, LowestFigure] = {}
    for path in store.baseline_files(root, gpu_key):
        document = read_json(path)
        carried = as_object(as_object(document).get(BLOCK)).get(LOWEST, {})
        figures = list(decode(carried, dict[str, LowestFigure], where=f"{path}: {BLOCK}.{LOWEST}").items())
        for baseline in store.parse_document(document, path=path, gpu_key=gpu_key).baselines.values():
            if baseline.source == benchmark_json.PUBLISHED:
                published.append(baseline)
            else:
                figures.append((baseline.case_key, LowestFigure(latency_s=baseline.latency_s, file=path.name)))
        for case_key, figure in figures:
            if case_key not in lowest or figure.latency_s < lowest[case_key].latency_s:
                lowest[case_key] = figure
    return published, lowest


def _carried(lowest: Mapping[str, LowestFigure], cases: StoredCases) -> dict[str, LowestFigure]:
    """Return the figures that the new file must carry: those that are lower than its own, or of cases that it lacks."""
    return {
        case_key: figure
        for case_key, figure in lowest.items()
        if (new := cases.baselines.get(case_key)) is None or figure.latency_s < new.latency_s
    }


def _find_drifts(
    cases: StoredCases, published: Sequence[Baseline], lowest: Mapping[str, LowestFigure]
) -> tuple[dict[str, AcceptedCase], list[str]]:
    """Find the cases that drifted or no longer fit, by key, and a sentence about each.

    The oldest published figure and the lowest recorded one count, each by itself: a slow one must not hide the other.
    """
    drifts: dict[str, AcceptedCase] = {}
    sentences = []
    for case_key in (*cases.baselines, *cases.out_of_memory):
        references = [
            (DRIFT_FLOORS[benchmark_json.PUBLISHED], baseline.latency_s, Path(baseline.path).name)
            for baseline in published
            if baseline.case_key == case_key
        ][:1]
        if case_key in lowest:
            figure = lowest[case_key]
            references.append((DRIFT_FLOORS[benchmark_json.RECORDED], figure.latency_s, figure.file))
        new = cases.baselines.get(case_key)
        for floor, latency_s, file_name in references:
            before = f"{latency_s:.4g} s in {file_name}"
            ratio = new.latency_s / latency_s if new else math.inf
            if ratio <= 1 + floor:
                continue
            if new is None:
                drifts[case_key] = AcceptedCase(oldest=file_name, outcome="oom")
                sentences.append(f"{case_key} is out of memory and took {before}")
            else:
                drifts[case_key] = AcceptedCase(oldest=file_name, ratio=ratio)
                change = f"({ratio - 1:+.1%}, floor {floor:.0%})"
                sentences.append(f"{case_key} takes {new.latency_s:.4g} s against {before} {change}")
            break  # one is enough
    return drifts, sentences


def _accept(drifts: dict[str, AcceptedCase], reason: str, *, where: Path) -> AcceptedSlower:
    check_reason(reason, option="--accept-slower")
    if not drifts:
        raise ValueError(f"{where}: no case is slower than its lowest figure; promote it without --accept-slower")
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
        raise ValueError(f"{obtained}: {BLOCK}: only promotion writes {ACCEPTED} and {LOWEST}; record it again")
    return document, cases


def _write_new(target: Path, document: Mapping[str, Any]) -> None:
    """Write a file that must not exist yet, whole when it appears: a link fails where a rename would overwrite."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        write_json(temporary, document)
        os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
