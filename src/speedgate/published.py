"""A published ladder as a baseline document: figures of a GPU whose SKU and power limit are stated, so they gate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from speedgate import benchmark_json, publication
from speedgate.records import SCHEMA

NAME = "0001_published.json"  # the lowest number, so that anything recorded replaces it as the comparison
_COLUMNS = ("pipeline", "stage", "latency_s", "peak_memory_gb", "repeat_latencies_s", "note")
_REQUIRED = {"memory_unit_bytes": int, "gpu.key": str, "workloads": dict}


def published_document(
    csv_path: Path, *, gpu_key: str | None = None, pipelines: Collection[str] | None = None
) -> dict[str, Any]:
    """The document of the rows of `pipelines`, or of all of them, measured on the GPU that the TOML beside the CSV names.

    A `gpu_key` is what the caller takes that GPU to be: another one is refused.
    """
    origin = publication.origin(csv_path, required=_REQUIRED)
    measured_on: str = origin["gpu"]["key"]
    if gpu_key not in (None, measured_on):
        raise ValueError(f"{csv_path}: measured on {measured_on}, not on {gpu_key}: name that key")
    wanted = set(origin["workloads"]) if pipelines is None else set(pipelines)
    unknown = sorted(wanted - set(origin["workloads"]))
    if unknown or not wanted:
        asked, known = ", ".join(unknown) or "no pipeline", ", ".join(sorted(origin["workloads"]))
        raise ValueError(f"{csv_path}: {asked} asked for; choose from {known}")
    benchmarks = [
        _benchmark(row, origin=origin, where=where)
        for where, row in publication.rows(csv_path, _COLUMNS)
        if pipelines is None or row["pipeline"] in wanted
    ]
    return benchmark_json.document(
        benchmarks,
        gpu_key=measured_on,
        machine_info={name: origin[name] for name in ("gpu", "software", "citation") if name in origin},
        **publication.imprint(origin),
    )


def _benchmark(row: Mapping[str, str], *, origin: Mapping[str, Any], where: str) -> dict[str, Any]:
    pipeline, stage = row["pipeline"], row["stage"]
    workload = publication.listed(origin["workloads"], pipeline, where=f"{where}: pipeline")
    latency_s = publication.number(row["latency_s"], where=f"{where}: latency_s")
    memory = publication.number(row["peak_memory_gb"], where=f"{where}: peak_memory_gb")
    repeats = [value for value in row["repeat_latencies_s"].split(";") if value]
    block = {
        "schema": SCHEMA,
        "gpu_key": origin["gpu"]["key"],
        "case_key": f"{pipeline}/{stage}/{workload}",
        "source": benchmark_json.PUBLISHED,
        "process_medians_s": [latency_s],
        "peak_bytes": round(memory * origin["memory_unit_bytes"]),
        "fingerprint": None,
        "outcome": benchmark_json.PASSED,
        "repeat_latencies_s": [publication.number(v, where=f"{where}: repeat_latencies_s") for v in repeats],
        "note": row["note"],
    }
    _, _, test = origin["test"].rpartition("::")
    return benchmark_json.benchmark(
        block,
        name=f"{test}[{pipeline}-{stage}]",
        fullname=f"{origin['test']}[{pipeline}-{stage}]",
        group=pipeline,
        seconds=[latency_s],
        options={"timer": origin["timer"]},
    )
