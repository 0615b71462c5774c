"""Published figures: read the CSVs in `baselines/published/`, each with a TOML beside it that says what was measured.

A "ladder" states the GPU's SKU and power limit and becomes a baseline file of that GPU key. A "throughput" table, or one of
"latency", names only a family of GPUs, such as "A100": its figures are shown beside a run and never decide a verdict.
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
from typing import Any, TypeVar

import msgspec

from speedgate.baselines import benchmark_json
from speedgate.measure.machine import slug
from speedgate.results.family_figure import OK, OUTCOMES, FamilyFigure
from speedgate.results.json_io import Count, decode, expect, expect_equal, positive, to_json
from speedgate.results.run import SCHEMA

NAME = "0001_published.json"  # the lowest number, so that anything recorded replaces it as the comparison
FOLDER = "published"
LADDER, THROUGHPUT, LATENCY = "ladder", "throughput", "latency"
FORMATS = (LADDER, THROUGHPUT, LATENCY)

# Maker, brand, bus, size and kind of memory do not change the family. Any other word (Ti, D, Laptop, MIG, a vGPU profile) means
# another GPU.
_NEUTRAL = re.compile(r"nvidia|tesla|geforce|rtx|sxm[0-9]?|pcie|[0-9]+gb|hbm[0-9]e?")
_LAYOUT_VERSION = "5.3.1"  # fixed, so that the committed file does not change with the installed pytest-benchmark
_PER_SECOND, _PER_ITERATION = "it/s", "s/it"

_COLUMNS = {
    LADDER: ("pipeline", "stage", "latency_s", "peak_memory_gb", "repeat_latencies_s", "note"),
    THROUGHPUT: ("gpu", "batch", "pipeline", "torch_build", "mode", "value", "unit", "outcome", "note"),
    LATENCY: ("gpu", "batch", "pipeline", "stage", "latency_s", "source", "note"),
}


class _Citation(msgspec.Struct, frozen=True):
    date: datetime.date
    repository: str


class _Gpu(msgspec.Struct, frozen=True):
    key: str


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that every TOML beside a CSV must have. `workloads` maps a pipeline of the CSV to a workload."""

    timer: str
    citation: _Citation
    workloads: dict[str, str]


class _LadderSource(_Source, frozen=True, kw_only=True):
    test: str
    memory_unit_bytes: Count
    gpu: _Gpu


class _ThroughputSource(_Source, frozen=True, kw_only=True):
    """Maps the columns of the CSV to builds of torch, stages and pipelines."""

    software: dict[str, Any]
    builds: dict[str, str]
    stages: dict[str, str]
    pipelines: dict[str, str]


class _Publication(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures were printed, how they were timed, and with which torch."""

    title: str
    date: datetime.date
    url: str
    timer: str
    torch: str


class _LatencySource(msgspec.Struct, frozen=True, kw_only=True):
    """Maps a pipeline of the CSV to a workload, and its column `source` to a publication."""

    workloads: dict[str, str]
    sources: dict[str, _Publication]


_AnySource = TypeVar("_AnySource", bound=msgspec.Struct)
_Listed = TypeVar("_Listed")


def family_of_gpu(machine_name: str) -> str | None:
    """Return the family of a GPU's name ("NVIDIA A100-SXM4-80GB": a100); None if the name has a word of another GPU."""
    words = [word for word in slug(machine_name).split("-") if not _NEUTRAL.fullmatch(word)]
    return words[0] if len(words) == 1 else None


def family_figures(root: Path, machine_name: str) -> dict[str, tuple[FamilyFigure, ...]]:
    """Return the figures published for the family of a GPU by case key, one for each source and build of torch.

    `root` is the folder `baselines`. Files are read in the order of their names; a later one replaces a case, source and build.
    """
    family = family_of_gpu(machine_name)
    if family is None:
        return {}
    figures_by_case: dict[str, dict[tuple[str, str], FamilyFigure]] = {}
    for csv_path in source_files(root):
        if _read_toml(csv_path)["format"] == LADDER:
            continue
        for figure in read_figures(csv_path):
            if figure.family == family:
                figures_by_case.setdefault(figure.case_key, {})[figure.source, figure.build] = figure
    return {case_key: tuple(builds.values()) for case_key, builds in figures_by_case.items()}


def source_files(root: Path) -> list[Path]:
    """List the CSVs of published figures below `root`, the folder `baselines`."""
    return sorted((root / FOLDER).glob("*.csv"))


@functools.cache
def read_figures(csv_path: Path) -> tuple[FamilyFigure, ...]:
    """Read all figures of GPU families in a CSV; a `ValueError` names the file, the row and the column that is wrong."""
    toml = _read_toml(csv_path)
    if toml["format"] == LATENCY:
        latency_source = _decode_source(toml, _LatencySource, file_format=LATENCY, csv_path=csv_path)
        read_row = functools.partial(_latency_figure, source=latency_source)
    else:
        source = _decode_source(toml, _ThroughputSource, file_format=THROUGHPUT, csv_path=csv_path)
        read_row = functools.partial(_throughput_figure, source=source)
    figures: dict[tuple[str, ...], FamilyFigure] = {}
    for where, row in _rows(csv_path, _COLUMNS[toml["format"]]):
        figure = read_row(row, where=where)
        cell = (figure.family, figure.case_key, figure.source, figure.build)
        if cell in figures:
            raise ValueError(
                f"{where}: {figure.case_key!r} on {figure.family} with torch {figure.build!r} stands in this file twice"
            )
        figures[cell] = figure
    return tuple(figures.values())


def describe_source(csv_path: Path) -> str:
    """Check a CSV and its TOML, and return how many figures they hold and of which GPU."""
    if _read_toml(csv_path)["format"] != LADDER:
        return f"{len(read_figures(csv_path))} figures of GPU families, not gated"
    document = published_document(csv_path)
    return f"{len(document['benchmarks'])} figures of {document['machine_info'][benchmark_json.BLOCK]['gpu_key']}"


def published_document(
    csv_path: Path, *, gpu_key: str | None = None, pipelines: Collection[str] | None = None
) -> dict[str, Any]:
    """Make the baseline document of a ladder, from the rows of `pipelines` or from all rows.

    The TOML beside the CSV names the GPU key. A `ValueError` if `gpu_key` is another one, or a pipeline is unknown.
    """
    toml = _read_toml(csv_path)
    source = _decode_source(toml, _LadderSource, file_format=LADDER, csv_path=csv_path)
    if gpu_key not in (None, source.gpu.key):
        raise ValueError(f"{csv_path}: measured on {source.gpu.key}, not on {gpu_key}: name that key")
    wanted = set(source.workloads) if pipelines is None else set(pipelines)
    unknown = sorted(wanted - set(source.workloads))
    if unknown or not wanted:
        wrong, choices = ", ".join(unknown) or "no pipeline", ", ".join(sorted(source.workloads))
        raise ValueError(f"{csv_path}: {wrong} asked for; choose from {choices}")
    benchmarks = [
        _ladder_benchmark(row, source=source, where=where)
        for where, row in _rows(csv_path, _COLUMNS[LADDER])
        if pipelines is None or row["pipeline"] in wanted
    ]
    published_at = f"{source.citation.date}T00:00:00+00:00"
    return benchmark_json.make_document(
        benchmarks,
        gpu_key=source.gpu.key,
        # JSON has no dates; this writes them as text.
        machine_info=to_json({name: toml[name] for name in ("gpu", "software", "citation") if name in toml}),
        commit_info={"id": None, "time": published_at, "project": source.citation.repository, "dirty": False},
        datetime=published_at,
        version=_LAYOUT_VERSION,
    )


def _ladder_benchmark(row: Mapping[str, str], *, source: _LadderSource, where: str) -> dict[str, Any]:
    pipeline, stage = row["pipeline"], row["stage"]
    workload = _listed(source.workloads, pipeline, where=f"{where}: pipeline")
    latency_s = _number(row["latency_s"], where=f"{where}: latency_s")
    memory = _number(row["peak_memory_gb"], where=f"{where}: peak_memory_gb")
    repeats = [text for text in row["repeat_latencies_s"].split(";") if text]
    block = {
        "schema": SCHEMA,
        "gpu_key": source.gpu.key,
        "case_key": f"{pipeline}/{stage}/{workload}",
        "source": benchmark_json.PUBLISHED,
        "process_medians_s": [latency_s],
        "peak_bytes": round(memory * source.memory_unit_bytes),
        "fingerprint": None,
        "outcome": benchmark_json.PASSED,
        "repeat_latencies_s": [_number(text, where=f"{where}: repeat_latencies_s") for text in repeats],
        "note": row["note"],
    }
    _, _, test = source.test.rpartition("::")
    return benchmark_json.make_benchmark(
        block,
        name=f"{test}[{pipeline}-{stage}]",
        fullname=f"{source.test}[{pipeline}-{stage}]",
        group=pipeline,
        seconds=[latency_s],
        options={"timer": source.timer},
    )


def _throughput_figure(row: Mapping[str, str], *, source: _ThroughputSource, where: str) -> FamilyFigure:
    def listed(table: Mapping[str, str], column: str) -> str:
        return _listed(table, row[column], where=f"{where}: {column}")

    family = _family_with_batch(row, where=where)
    expect(row["outcome"] in OUTCOMES, f"{where}: outcome", ", ".join(OUTCOMES), row["outcome"])
    pipeline, stage = listed(source.pipelines, "pipeline"), listed(source.stages, "mode")
    workload = f"{listed(source.workloads, 'pipeline')}-b{row['batch']}"
    conversion = f"printed as {row['value']} {_PER_ITERATION}" if row["unit"] == _PER_ITERATION else ""
    return FamilyFigure(
        family=family,
        case_key=f"{pipeline}/{stage}/{workload}",
        build=listed(source.builds, "torch_build"),
        mode=row["mode"],
        outcome=row["outcome"],
        iterations_per_s=_iterations_per_s(row, where=where),
        note="; ".join(filter(None, (conversion, row["note"]))),
    )


def _latency_figure(row: Mapping[str, str], *, source: _LatencySource, where: str) -> FamilyFigure:
    publication = _listed(source.sources, row["source"], where=f"{where}: source")
    workload = f"{_listed(source.workloads, row['pipeline'], where=f'{where}: pipeline')}-b{row['batch']}"
    return FamilyFigure(
        family=_family_with_batch(row, where=where),
        case_key=f"{row['pipeline']}/{row['stage']}/{workload}",
        build=publication.torch,
        mode=row["stage"],
        outcome=OK,
        latency_s=_number(row["latency_s"], where=f"{where}: latency_s"),
        source=publication.title,
        note=row["note"],
    )


def _family_with_batch(row: Mapping[str, str], *, where: str) -> str:
    """Return the family of the row's GPU, and check the batch beside it."""
    family = family_of_gpu(row["gpu"])
    if family is None:
        raise ValueError(f"{where}: gpu: expected the name of a GPU family, such as A100, found {row['gpu']!r}")
    is_count = re.fullmatch(r"[1-9][0-9]{0,3}", row["batch"])
    expect(is_count, f"{where}: batch", "a whole number above zero", row["batch"])
    return family


def _iterations_per_s(row: Mapping[str, str], *, where: str) -> float | None:
    """Convert the value to one unit: the same table prints a long iteration in seconds and a short one as a rate."""
    if row["outcome"] != OK:
        no_figure = not (row["value"] or row["unit"])
        expect(no_figure, f"{where}: value", f"none with outcome {row['outcome']}", row["value"])
        return None
    value, unit = _number(row["value"], where=f"{where}: value"), row["unit"]
    expect(unit in (_PER_SECOND, _PER_ITERATION), f"{where}: unit", f"{_PER_SECOND} or {_PER_ITERATION}", unit)
    return value if unit == _PER_SECOND else 1 / value


def _read_toml(csv_path: Path) -> dict[str, Any]:
    """Read the TOML beside a CSV, and check that it states one of the formats."""
    path = csv_path.with_suffix(".toml")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it says on which GPU the figures in the CSV beside it were measured")
    try:
        toml = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    file_format = toml.get("format")
    expect(file_format in FORMATS, f"{path}: format", ", ".join(FORMATS), file_format)
    return toml


def _decode_source(toml: dict[str, Any], record: type[_AnySource], *, file_format: str, csv_path: Path) -> _AnySource:
    where = str(csv_path.with_suffix(".toml"))
    expect_equal(toml["format"], file_format, f"{where}: format")
    return decode(toml, record, where=where)


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


def _listed(table: Mapping[str, _Listed], name: str, *, where: str) -> _Listed:
    """Look up a name of the CSV in a table of the TOML."""
    if name not in table:
        raise ValueError(f"{where}: {name!r} is not listed in the TOML; listed are {', '.join(sorted(table))}")
    return table[name]
