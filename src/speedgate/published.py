"""Published figures as a baseline document: a CSV of numbers and, beside it, a TOML of what they were measured on."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from speedgate import benchmark_json
from speedgate.records import SCHEMA, positive

NAME = "0001_published.json"  # the lowest number, so that anything recorded replaces it as the comparison
_LAYOUT_VERSION = "5.3.1"  # fixed, so that the committed file does not change with the installed pytest-benchmark
_COLUMNS = ("pipeline", "stage", "latency_s", "peak_memory_gb", "repeat_latencies_s", "note")
_REQUIRED = ("test", "timer", "memory_unit_bytes", "citation.date", "citation.repository", "gpu.key", "workloads")


def published_document(csv_path: Path, *, gpu_key: str, pipelines: Collection[str]) -> dict[str, Any]:
    """The document of the rows of `pipelines` in `csv_path`, measured on the GPU that the TOML beside it names."""
    origin = _origin(csv_path.with_suffix(".toml"))
    if gpu_key != origin["gpu"]["key"]:
        raise ValueError(f"{csv_path}: measured on {origin['gpu']['key']}, not on {gpu_key}: name that key")
    unknown = sorted(set(pipelines) - set(origin["workloads"]))
    if unknown or not pipelines:
        asked, known = ", ".join(unknown) or "no pipeline", ", ".join(sorted(origin["workloads"]))
        raise ValueError(f"{csv_path}: {asked} asked for; choose from {known}")
    benchmarks = [
        _benchmark(row, origin=origin, where=f"{csv_path}: row {number}")
        for number, row in enumerate(_rows(csv_path), start=2)
        if row["pipeline"] in pipelines
    ]
    date = f"{origin['citation']['date']}T00:00:00+00:00"
    return benchmark_json.document(
        benchmarks,
        gpu_key=gpu_key,
        machine_info={name: origin[name] for name in ("gpu", "software", "citation") if name in origin},
        commit_info={"id": None, "time": date, "project": origin["citation"]["repository"], "dirty": False},
        datetime=date,
        version=_LAYOUT_VERSION,
    )


def _benchmark(row: Mapping[str, str], *, origin: Mapping[str, Any], where: str) -> dict[str, Any]:
    pipeline, stage = row["pipeline"], row["stage"]
    latency_s = _number(row["latency_s"], where=f"{where}: latency_s")
    memory = _number(row["peak_memory_gb"], where=f"{where}: peak_memory_gb")
    repeats = [value for value in row["repeat_latencies_s"].split(";") if value]
    block = {
        "schema": SCHEMA,
        "gpu_key": origin["gpu"]["key"],
        "case_key": f"{pipeline}/{stage}/{origin['workloads'][pipeline]}",
        "source": benchmark_json.PUBLISHED,
        "process_medians_s": [latency_s],
        "peak_bytes": round(memory * origin["memory_unit_bytes"]),
        "fingerprint": None,
        "outcome": benchmark_json.PASSED,
        "repeat_latencies_s": [_number(value, where=f"{where}: repeat_latencies_s") for value in repeats],
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


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not CSV ({error})") from error
    if columns != _COLUMNS:
        raise ValueError(f"{path}: expected the columns {', '.join(_COLUMNS)}")
    for number, row in enumerate(rows, start=2):
        if set(row) != set(_COLUMNS) or None in row.values():
            raise ValueError(f"{path}: row {number}: expected {len(_COLUMNS)} values")
    return rows


def _origin(path: Path) -> dict[str, Any]:
    """What the figures were measured on; the date becomes text, because JSON has none."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it says on which GPU the figures in the CSV beside it were measured")
    try:
        origin = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    for dotted in _REQUIRED:
        value: Any = origin
        for name in dotted.split("."):
            if not isinstance(value, dict) or name not in value:
                raise ValueError(f"{path}: no {dotted}")
            value = value[name]
    origin["citation"]["date"] = str(origin["citation"]["date"])
    return origin


def _number(text: str, *, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: expected a finite number above zero, found {text!r}") from None
    return positive(value, where=where)
