"""Published figures: read the CSVs in `baselines/published/`, each with a TOML beside it that says what was measured.

A "ladder" states the GPU's SKU and power limit and becomes a baseline file of that GPU key. A "throughput" table names only a
family of GPUs, such as "A100": its figures are shown beside a run and never decide a verdict.
"""

from __future__ import annotations

import csv
import datetime
import functools
import io
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.baselines import benchmark_json
from speedgate.measure.machine import slug
from speedgate.results.family_figure import OK, OUTCOMES, FamilyFigure
from speedgate.results.json_io import positive
from speedgate.results.run import SCHEMA

NAME = "0001_published.json"  # the lowest number, so that anything recorded replaces it as the comparison
FOLDER = "published"
LADDER, THROUGHPUT = "ladder", "throughput"

# Maker, brand, bus and memory size do not change the family. Any other word (Ti, D, Laptop, MIG, a vGPU profile) means
# another GPU.
_NEUTRAL = re.compile(r"nvidia|tesla|geforce|rtx|sxm[0-9]?|pcie|[0-9]+gb")
_LAYOUT_VERSION = "5.3.1"  # fixed, so that the committed file does not change with the installed pytest-benchmark
_PER_SECOND, _PER_ITERATION = "it/s", "s/it"

_COLUMNS = {
    LADDER: ("pipeline", "stage", "latency_s", "peak_memory_gb", "repeat_latencies_s", "note"),
    THROUGHPUT: ("gpu", "batch", "pipeline", "torch_build", "mode", "value", "unit", "outcome", "note"),
}
# The fields that the TOML of each format must have, dotted, with their types.
_COMMON = {"timer": str, "citation.date": datetime.date, "citation.repository": str, "workloads": dict}
_REQUIRED: dict[str, dict[str, type]] = {
    LADDER: {**_COMMON, "test": str, "memory_unit_bytes": int, "gpu.key": str},
    THROUGHPUT: {**_COMMON, "software": dict, "builds": dict, "stages": dict, "pipelines": dict},
}
_TYPE_NAMES = {str: "a text", int: "a whole number", dict: "a table", datetime.date: "a date, such as 2024-01-03"}


def family_of_gpu(machine_name: str) -> str | None:
    """Return the family of a GPU's name ("NVIDIA A100-SXM4-80GB": a100); None if the name has a word of another GPU."""
    words = [word for word in slug(machine_name).split("-") if not _NEUTRAL.fullmatch(word)]
    return words[0] if len(words) == 1 else None


def family_figures(root: Path, machine_name: str) -> dict[str, tuple[FamilyFigure, ...]]:
    """Return the figures published for the family of a GPU by case key, one for each build of torch.

    `root` is the folder `baselines`. Files are read in the order of their names; a later one replaces a case and build.
    """
    family = family_of_gpu(machine_name)
    if family is None:
        return {}
    figures_by_case: dict[str, dict[str, FamilyFigure]] = {}
    for csv_path in source_files(root):
        if _origin(csv_path)["format"] != THROUGHPUT:
            continue
        for figure in throughput_figures(csv_path):
            if figure.family == family:
                figures_by_case.setdefault(figure.case_key, {})[figure.build] = figure
    return {case_key: tuple(builds.values()) for case_key, builds in figures_by_case.items()}


def source_files(root: Path) -> list[Path]:
    """List the CSVs of published figures below `root`, the folder `baselines`."""
    return sorted((root / FOLDER).glob("*.csv"))


@functools.cache
def throughput_figures(csv_path: Path) -> tuple[FamilyFigure, ...]:
    """Read all cells of a throughput table; a `ValueError` names the file, the row and the column that is wrong."""
    origin = _origin(csv_path, expected=THROUGHPUT)
    figures: dict[tuple[str, str, str], FamilyFigure] = {}
    for where, row in _rows(csv_path, _COLUMNS[THROUGHPUT]):
        figure = _family_figure(row, origin=origin, where=where)
        cell = (figure.family, figure.case_key, figure.build)
        if cell in figures:
            raise ValueError(
                f"{where}: {figure.case_key!r} on {figure.family} with torch {figure.build!r} stands in this file twice"
            )
        figures[cell] = figure
    return tuple(figures.values())


def summary(csv_path: Path) -> str:
    """Check a CSV and its TOML, and say how many figures they hold and of which GPU."""
    if _origin(csv_path)["format"] == THROUGHPUT:
        return f"{len(throughput_figures(csv_path))} figures of GPU families, not gated"
    document = published_document(csv_path)
    return f"{len(document['benchmarks'])} figures of {document['machine_info'][benchmark_json.BLOCK]['gpu_key']}"


def published_document(
    csv_path: Path, *, gpu_key: str | None = None, pipelines: Collection[str] | None = None
) -> dict[str, Any]:
    """Make the baseline document of a ladder, from the rows of `pipelines` or from all rows.

    The TOML beside the CSV names the GPU key. A `ValueError` if `gpu_key` is another one, or a pipeline is unknown.
    """
    origin = _origin(csv_path, expected=LADDER)
    measured_on: str = origin["gpu"]["key"]
    if gpu_key not in (None, measured_on):
        raise ValueError(f"{csv_path}: measured on {measured_on}, not on {gpu_key}: name that key")
    wanted = set(origin["workloads"]) if pipelines is None else set(pipelines)
    unknown = sorted(wanted - set(origin["workloads"]))
    if unknown or not wanted:
        wrong, choices = ", ".join(unknown) or "no pipeline", ", ".join(sorted(origin["workloads"]))
        raise ValueError(f"{csv_path}: {wrong} asked for; choose from {choices}")
    benchmarks = [
        _ladder_benchmark(row, origin=origin, where=where)
        for where, row in _rows(csv_path, _COLUMNS[LADDER])
        if pipelines is None or row["pipeline"] in wanted
    ]
    citation = origin["citation"]
    published_at = f"{citation['date']}T00:00:00+00:00"
    return benchmark_json.make_document(
        benchmarks,
        gpu_key=measured_on,
        machine_info={name: _plain(origin[name]) for name in ("gpu", "software", "citation") if name in origin},
        commit_info={"id": None, "time": published_at, "project": citation["repository"], "dirty": False},
        datetime=published_at,
        version=_LAYOUT_VERSION,
    )


def _ladder_benchmark(row: Mapping[str, str], *, origin: Mapping[str, Any], where: str) -> dict[str, Any]:
    pipeline, stage = row["pipeline"], row["stage"]
    workload = _listed(origin["workloads"], pipeline, where=f"{where}: pipeline")
    latency_s = _number(row["latency_s"], where=f"{where}: latency_s")
    memory = _number(row["peak_memory_gb"], where=f"{where}: peak_memory_gb")
    repeats = [text for text in row["repeat_latencies_s"].split(";") if text]
    block = {
        "schema": SCHEMA,
        "gpu_key": origin["gpu"]["key"],
        "case_key": f"{pipeline}/{stage}/{workload}",
        "source": benchmark_json.PUBLISHED,
        "process_medians_s": [latency_s],
        "peak_bytes": round(memory * origin["memory_unit_bytes"]),
        "fingerprint": None,
        "outcome": benchmark_json.PASSED,
        "repeat_latencies_s": [_number(text, where=f"{where}: repeat_latencies_s") for text in repeats],
        "note": row["note"],
    }
    _, _, test = origin["test"].rpartition("::")
    return benchmark_json.make_benchmark(
        block,
        name=f"{test}[{pipeline}-{stage}]",
        fullname=f"{origin['test']}[{pipeline}-{stage}]",
        group=pipeline,
        seconds=[latency_s],
        options={"timer": origin["timer"]},
    )


def _family_figure(row: Mapping[str, str], *, origin: Mapping[str, Any], where: str) -> FamilyFigure:
    def listed(table: str, column: str) -> str:
        return _listed(origin[table], row[column], where=f"{where}: {column}")

    family = family_of_gpu(row["gpu"])
    if family is None:
        raise ValueError(f"{where}: gpu: expected the name of a GPU family, such as A100, found {row['gpu']!r}")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", row["batch"]):
        raise ValueError(f"{where}: batch: expected a whole number above zero, found {row['batch']!r}")
    if row["outcome"] not in OUTCOMES:
        raise ValueError(f"{where}: outcome: expected {', '.join(OUTCOMES)}, found {row['outcome']!r}")
    pipeline, stage = listed("pipelines", "pipeline"), listed("stages", "mode")
    workload = f"{listed('workloads', 'pipeline')}-b{row['batch']}"
    conversion = f"printed as {row['value']} {_PER_ITERATION}" if row["unit"] == _PER_ITERATION else ""
    return FamilyFigure(
        family=family,
        case_key=f"{pipeline}/{stage}/{workload}",
        build=listed("builds", "torch_build"),
        mode=row["mode"],
        outcome=row["outcome"],
        iterations_per_s=_iterations_per_s(row, where=where),
        note="; ".join(text for text in (conversion, row["note"]) if text),
    )


def _iterations_per_s(row: Mapping[str, str], *, where: str) -> float | None:
    """Convert the value to one unit: the same table prints a long iteration in seconds and a short one as a rate."""
    if row["outcome"] != OK:
        if row["value"] or row["unit"]:
            raise ValueError(f"{where}: value: expected none with outcome {row['outcome']}, found {row['value']!r}")
        return None
    value = _number(row["value"], where=f"{where}: value")
    if row["unit"] not in (_PER_SECOND, _PER_ITERATION):
        raise ValueError(f"{where}: unit: expected {_PER_SECOND} or {_PER_ITERATION}, found {row['unit']!r}")
    return value if row["unit"] == _PER_SECOND else 1 / value


def _origin(csv_path: Path, *, expected: str | None = None) -> dict[str, Any]:
    """Read the TOML beside a CSV and check its fields; `expected` is the format that the caller needs."""
    path = csv_path.with_suffix(".toml")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it says on which GPU the figures in the CSV beside it were measured")
    try:
        origin = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    stated = origin.get("format")
    if stated not in (LADDER, THROUGHPUT):
        raise ValueError(f"{path}: format: expected {LADDER!r} or {THROUGHPUT!r}, found {stated!r}")
    if expected not in (None, stated):
        raise ValueError(f"{path}: format: expected {expected!r}, found {stated!r}")
    for dotted, kind in _REQUIRED[stated].items():
        value: Any = origin
        for name in dotted.split("."):
            if not isinstance(value, dict) or name not in value:
                raise ValueError(f"{path}: no {dotted}")
            value = value[name]
        if type(value) is not kind:
            raise ValueError(f"{path}: {dotted}: expected {_TYPE_NAMES[kind]}, found {value!r}")
    return origin


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row by its columns, with the place where it stands for error messages."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{path}: not CSV ({error})") from error
    if header != list(columns):
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}")
    for number, row in enumerate(rows, start=2):
        where = f"{path}: row {number}"
        if set(row) != set(columns) or None in row.values():
            raise ValueError(f"{where}: expected {len(columns)} values")
        yield where, row


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from error


def _number(text: str, *, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: expected a finite number above zero, found {text!r}") from None
    return positive(value, where=where)


def _listed(table: Mapping[str, Any], name: str, *, where: str) -> str:
    """Look up a name of the CSV in a table of the TOML."""
    value = table.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name!r} is not listed in the TOML; listed are {', '.join(sorted(table))}")
    return value


def _plain(value: Any) -> Any:
    """Replace each date by its text, because JSON has no dates."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, datetime.date | datetime.time) else value
