"""Export a history to one pytest-benchmark file, which `pytest-benchmark compare` can read, and import such files.

`read_file` accepts three kinds of file: our exports, files of `pytest bench --benchmark-json`, and baseline files. A benchmark of
an export carries the whole entry in `extra_info["speedgate"]`. An entry without rounds has no statistics, so it is stored beside
the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from speedgate.baselines import benchmark_json
from speedgate.baselines.benchmark_json import BLOCK, PUBLISHED
from speedgate.history.entries import HistoryEntry, entry_from_json, entry_from_result
from speedgate.results.json_io import as_object, decode, read_json, write_json

FORMAT = "history"
_LAYOUT_VERSION = "5.3.1"  # fixed, so that an export does not change with the installed pytest-benchmark
_PUBLISHED_FIELDS = ("process_medians_s", "peak_bytes", "note", "repeat_latencies_s")


class _ExportBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Our object beside the benchmarks of an export."""

    without_rounds: list[dict[str, Any]]


def write_file(path: Path, entries: Iterable[HistoryEntry]) -> int:
    """Write entries to one file atomically and return their number. Raises `ValueError` if there are none."""
    exported = list(entries)
    if not exported:
        raise ValueError(f"{path}: the history holds no such run; nothing was written")
    document = {
        "machine_info": {BLOCK: {"gpu_keys": sorted({entry.gpu_key for entry in exported})}},
        "commit_info": {"id": None, "time": None, "dirty": False, "project": "speedgate history"},
        "benchmarks": [_benchmark(entry) for entry in exported if entry.seconds],
        "datetime": max(entry.measured_at for entry in exported),
        "version": _LAYOUT_VERSION,
        BLOCK: {
            "format": FORMAT,
            "without_rounds": [entry.document for entry in exported if not entry.seconds],
        },
    }
    write_json(path, document)
    return len(exported)


def read_file(path: Path) -> list[HistoryEntry]:
    """Read the entries of a file. A `ValueError` names the file and the wrong field; then none of them may be stored."""
    document = read_json(path)
    export = as_object(as_object(document).get(BLOCK))
    if export.get("format") == FORMAT:
        return list(_exported_entries(document, export, path=path))
    blocks = list(benchmark_json.speedgate_blocks(document, where=str(path)))
    if all("verdicts" in block for _, block in blocks):
        entries = [entry_from_result(block, where=where) for where, block in blocks]
        return [entry for entry in entries if entry.is_complete_run]
    return list(_baseline_entries(document, blocks, path=path))


def _benchmark(entry: HistoryEntry) -> dict[str, Any]:
    """Make the benchmark of one run; its name tells the runs of a case apart in a comparison."""
    commit = (entry.commit_id or "no commit")[:12]
    name = f"{entry.case_key}[{entry.measured_at[:19]} {commit} {entry.run_id[:8]}]"
    return benchmark_json.make_benchmark(
        entry.document,
        name=name,
        fullname=f"{entry.gpu_key}: {name}",
        group=f"{entry.case_key} on {entry.gpu_key}",
        seconds=entry.seconds,
        options={"timer": "speedgate"},
    )


def _exported_entries(document: Mapping[str, Any], export: Any, *, path: Path) -> Iterator[HistoryEntry]:
    if document.get("benchmarks"):
        for where, block in benchmark_json.speedgate_blocks(document, where=str(path)):
            yield entry_from_json(block, where=where)
    for index, block in enumerate(decode(export, _ExportBlock, where=f"{path}: {BLOCK}").without_rounds):
        yield entry_from_json(block, where=f"{path}: {BLOCK}.without_rounds[{index}]")


def _baseline_entries(document: Any, blocks: list[tuple[str, dict[str, Any]]], *, path: Path) -> Iterator[HistoryEntry]:
    """Make an entry of each case of a baseline file: the same as from its session's result file, without verdicts."""
    machine = as_object(document.get("machine_info"))
    gpu_key = as_object(machine.get(BLOCK)).get("gpu_key")
    if not isinstance(gpu_key, str):
        raise ValueError(f"{path}: machine_info.{BLOCK}.gpu_key: missing; every run in a history has a GPU key")
    baselines = benchmark_json.parse_baselines(document, path=path, gpu_key=gpu_key)
    for (where, block), baseline in zip(blocks, baselines, strict=True):
        # Of the session that measured the case, if another one wrote the file.
        session = as_object(block.get("session"))
        result = {
            "gpu_key": gpu_key,
            "case_key": baseline.case_key,
            "source": baseline.source,
            "measured_at": session.get("measured_at", document.get("datetime")),
            "commit": session.get("commit", document.get("commit_info")),
            "machine": machine.get("gpu") or machine.get("host") or {},
            "health": {},
            "verdicts": [],
            "run": block.get("run"),
        }
        if baseline.source == PUBLISHED:
            result["published"] = {name: block[name] for name in _PUBLISHED_FIELDS if name in block}
        yield entry_from_json(result, where=where)
