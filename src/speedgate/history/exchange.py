"""A history as one pytest-benchmark file, which `pytest-benchmark compare` reads, and such files as entries.

Three kinds of file are read: our exports, what `pytest bench --benchmark-json` writes, and baselines. A benchmark of an export
carries the whole entry in `extra_info["speedgate"]`; entries without a round have no statistics and stand beside the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from speedgate.baselines import benchmark_json
from speedgate.baselines.benchmark_json import BLOCK, PUBLISHED
from speedgate.history.entries import HistoryEntry, entry_from_json, entry_from_result, is_complete_run
from speedgate.results import json_io
from speedgate.results.json_io import write_json

FORMAT = "history"
_LAYOUT_VERSION = "5.3.1"  # fixed, so that an export does not change with the installed pytest-benchmark
# What a baseline says of a publication, beside what every benchmark says.
_FIGURES = ("process_medians_s", "peak_bytes", "note", "repeat_latencies_s")


def write_file(path: Path, entries: Iterable[HistoryEntry]) -> int:
    """Write entries as one file, replaced at once; how many there were. A `ValueError` where there are none."""
    found = list(entries)
    if not found:
        raise ValueError(f"{path}: the history holds no such run; nothing was written")
    timed = [entry for entry in found if entry.seconds]
    gpu_keys = sorted({entry.case.gpu_key for entry in found})
    document = {
        "machine_info": {BLOCK: {"gpu_keys": gpu_keys}},
        "commit_info": {"id": None, "time": None, "dirty": False, "project": "speedgate history"},
        "benchmarks": [_benchmark(entry) for entry in timed],
        "datetime": max(entry.measured_at for entry in found),
        "version": _LAYOUT_VERSION,
        BLOCK: {
            "format": FORMAT,
            "without_rounds": [entry.document() for entry in found if not entry.seconds],
        },
    }
    write_json(path, document)
    return len(found)


def read_file(path: Path) -> list[HistoryEntry]:
    """The entries of a file; a `ValueError` names the file and the place, and then none of it is to be taken."""
    document = json_io.read_json(path)
    ours = document.get(BLOCK) if isinstance(document, dict) else None
    if isinstance(ours, dict) and ours.get("format") == FORMAT:
        return list(_exported(document, ours, path=path))
    blocks = list(benchmark_json.speedgate_blocks(document, where=str(path)))
    if all("verdicts" in block for _, block in blocks):
        return [entry for where, block in blocks if is_complete_run(entry := entry_from_result(block, where=where))]
    return list(_baselines(document, blocks, path=path))


def _benchmark(entry: HistoryEntry) -> dict[str, Any]:
    """One row of a comparison: the case, and which run of it."""
    commit = (entry.commit_id or "no commit")[:12]
    name = f"{entry.case.case_key}[{entry.measured_at[:19]} {commit} {entry.run_id[:8]}]"
    return benchmark_json.make_benchmark(
        entry.document(),
        name=name,
        fullname=f"{entry.case.gpu_key}: {name}",
        group=f"{entry.case.case_key} on {entry.case.gpu_key}",
        seconds=entry.seconds,
        options={"timer": "speedgate"},
    )


def _exported(document: Mapping[str, Any], ours: Mapping[str, Any], *, path: Path) -> Iterator[HistoryEntry]:
    if document.get("benchmarks"):
        for where, block in benchmark_json.speedgate_blocks(document, where=str(path)):
            yield entry_from_json(block, where=where)
    others = ours.get("without_rounds")
    if not isinstance(others, list):
        raise ValueError(f"{path}: {BLOCK}.without_rounds: expected a list")
    for index, other in enumerate(others):
        yield entry_from_json(other, where=f"{path}: {BLOCK}.without_rounds[{index}]")


def _baselines(document: Any, blocks: list[tuple[str, dict[str, Any]]], *, path: Path) -> Iterator[HistoryEntry]:
    """The runs of a baseline file: each as its session's result file has it, but for the verdicts."""
    machine = document.get("machine_info")
    machine = machine if isinstance(machine, dict) else {}
    ours = machine.get(BLOCK)
    gpu_key = ours.get("gpu_key") if isinstance(ours, dict) else None
    if not isinstance(gpu_key, str):
        raise ValueError(f"{path}: machine_info.{BLOCK}.gpu_key: missing; every run in a history has a GPU key")
    baselines = benchmark_json.parse_baselines(document, path=path, gpu_key=gpu_key)
    for (where, block), baseline in zip(blocks, baselines, strict=True):
        own = block.get("session", {})
        session = {
            "gpu_key": gpu_key,
            "case_key": baseline.case_key,
            "source": baseline.source,
            "measured_at": document.get("datetime"),
            "commit": document.get("commit_info"),
            **{name: own[name] for name in ("measured_at", "commit") if isinstance(own, dict) and name in own},
            "machine": machine.get("gpu") or machine.get("host") or {},
            "health": {},
            "verdicts": [],
            "run": block.get("run"),
        }
        if baseline.source == PUBLISHED:
            session["published"] = {name: block[name] for name in _FIGURES if name in block}
        yield entry_from_json(session, where=where)
