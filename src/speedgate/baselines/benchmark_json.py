"""Build and parse documents in pytest-benchmark's JSON layout, which its own comparisons read.

Each benchmark holds our data in `extra_info["speedgate"]`. A recorded one has its run there, with each measured second once;
`stats` is pytest-benchmark's summary of the same seconds, and nothing here reads it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from speedgate.baselines.source import ARCHIVE, COMMIT
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import Count, Positive, as_object, decode, expect, expect_equal, to_json
from speedgate.results.run import SCHEMA, Baseline, Origin, Run
from speedgate.results.run_marks import refuse_marked

BLOCK = "speedgate"
PASSED, FAILED = "passed", "failed"
RECORDED, PUBLISHED = "recorded", "published"
WITHOUT_FIGURE = "without_figure"


# The fields that pytest-benchmark's tables and comparisons read; in seconds unless they are counts.
_SECONDS = ("min", "max", "mean", "stddev", "median", "iqr", "q1", "q3", "ld15iqr", "hd15iqr", "ops", "total")
_COUNTS = ("rounds", "iterations", "iqr_outliers", "stddev_outliers")
_STATS = [*((name, float) for name in _SECONDS), *((name, int) for name in _COUNTS), ("outliers", str)]
Stats: Any = msgspec.defstruct("Stats", _STATS, frozen=True, kw_only=True)


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `benchmarks`, as far as we or pytest-benchmark need it."""

    name: str
    fullname: str
    stats: Stats
    extra_info: dict[str, Any]


class _Document(msgspec.Struct, frozen=True):
    benchmarks: Annotated[list[Benchmark], Meta(min_length=1)]


class _Block(msgspec.Struct, frozen=True, kw_only=True, tag_field="source"):
    schema: Literal[1]
    gpu_key: str
    outcome: Literal["passed"]


class _Roofline(msgspec.Struct, frozen=True):
    share: Positive


class _RecordedBlock(_Block, frozen=True, kw_only=True, tag=RECORDED):
    run: Run
    roofline: _Roofline | None = None
    origin: Origin | None = None


class _PublishedBlock(_Block, frozen=True, kw_only=True, tag=PUBLISHED):
    case_key: str
    process_medians_s: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    peak_bytes: Count
    fingerprint: None


_ANY_BLOCK: Any = _RecordedBlock | _PublishedBlock


class OutOfMemory(msgspec.Struct, frozen=True, kw_only=True):
    """A case that did not fit into the memory of the GPU that was recorded; `note` is the sentence of its verdict."""

    case_key: str
    gpu_key: str
    note: Annotated[str, Meta(min_length=1)]
    schema: Literal[1] = 1
    source: Literal["recorded"] = "recorded"
    outcome: Literal["oom"] = "oom"


def timing_stats(seconds: Sequence[float]) -> dict[str, Any]:
    """Summarise seconds as pytest-benchmark does; like its own saved runs by default, without the seconds."""
    # Not a documented class, and the only reach into one: the quartile and outlier rules have to be pytest-benchmark's
    # own, or its comparison would set two definitions against each other. Imported late to keep the command line quick.
    from pytest_benchmark.stats import Stats as BenchmarkStats

    untyped: Any = BenchmarkStats
    summary = untyped()
    for value in seconds:
        summary.update(value)
    return {**summary.as_dict(), "iterations": 1}


def make_benchmark(
    block: Mapping[str, Any],
    *,
    name: str,
    fullname: str,
    group: str | None,
    seconds: Sequence[float],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Build one entry of `benchmarks`; its `param` is the text between the brackets of `name`."""
    _, bracket, param = name.partition("[")
    return {
        "name": name,
        "fullname": fullname,
        "group": group,
        "param": param.removesuffix("]") if bracket else None,
        # pytest-benchmark cannot serialise our parameters; the case key in the block names them.
        "params": None,
        "options": dict(options),
        "extra_info": {BLOCK: dict(block)},
        "stats": timing_stats(seconds),
    }


def recorded_benchmark(
    run: Run,
    *,
    gpu_key: str,
    meta: Mapping[str, Any],
    reason: str | None = None,
    session: Mapping[str, Any] | None = None,
    roofline: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Build the entry of a measured run. `meta` has the name, full name and group of its test; `reason` is why it failed.

    `session` has the time and commit of the session that measured the run, if another one writes the file. `roofline` is
    the run's `speedgate.gate.roofline.Roofline` as builtin types. `origin` holds the packages of the run.
    """
    block = {
        "schema": SCHEMA,
        "gpu_key": gpu_key,
        "source": RECORDED,
        "outcome": PASSED if reason is None else FAILED,
        "run": to_json(run if origin is None else msgspec.structs.replace(run, packages={})),
    }
    if session:
        block["session"] = dict(session)
    if roofline is not None:
        block["roofline"] = dict(roofline)
    if origin is not None:
        block["origin"] = to_json(origin)
    if reason is not None:
        block["reason"] = reason
    seconds = [value for process in run.processes for value in process.seconds]
    return make_benchmark(
        block,
        name=meta["name"],
        fullname=meta["fullname"],
        group=meta["group"],
        seconds=seconds,
        options={"timer": "speedgate", "processes": len(run.processes), "min_rounds": len(seconds)},
    )


def make_document(
    benchmarks: Sequence[Mapping[str, Any]],
    *,
    gpu_key: str,
    machine_info: Mapping[str, Any],
    commit_info: Mapping[str, Any],
    datetime: str,
    version: str,
    failed: Mapping[str, str] | None = None,
    out_of_memory: Sequence[OutOfMemory] = (),
) -> dict[str, Any]:
    """Build a file; `version` is pytest-benchmark's, and `machine_info` gets the GPU key.

    `failed` has the reason of each case that failed without a run. Such cases and those out of memory have no statistics,
    so they are not among the benchmarks but in an object of ours, which pytest-benchmark ignores.
    """
    ours = {"gpu_key": gpu_key} | machine_info.get(BLOCK, {})
    assert ours["gpu_key"] == gpu_key, "machine_info is of another GPU"
    beside = {"failed": dict(failed or {}), WITHOUT_FIGURE: [to_json(case) for case in out_of_memory]}
    beside = {name: value for name, value in beside.items() if value}
    return {
        "machine_info": {**machine_info, BLOCK: ours},
        "commit_info": dict(commit_info),
        "benchmarks": [dict(entry) for entry in benchmarks],
        "datetime": datetime,
        "version": version,
        **({BLOCK: beside} if beside else {}),
    }


def parse_baselines(document: Any, *, path: Path, gpu_key: str) -> list[Baseline]:
    """Parse the baselines of a document that is, or will become, the file `path`.

    A `ValueError` names the file and the field that is wrong, or all cases that failed.
    """
    _refuse_failed(document, path=path)
    baselines: dict[str, Baseline] = {}
    for where, block in speedgate_blocks(document, where=str(path)):
        baseline = _baseline(block, path=path, gpu_key=gpu_key, where=where)
        if baseline.case_key in baselines:
            raise ValueError(f"{where}: {baseline.case_key!r} stands in this file twice")
        baselines[baseline.case_key] = baseline
    stated = as_object(as_object(document.get("machine_info")).get(BLOCK)).get("gpu_key")
    expect_equal(stated, gpu_key, f"{path}: machine_info.{BLOCK}.gpu_key")
    return list(baselines.values())


def parse_out_of_memory(document: Any, *, path: Path, gpu_key: str) -> Iterator[tuple[str, OutOfMemory]]:
    """Parse the cases that did not fit, each with its place in the file; a `ValueError` names what is wrong."""
    here = f"{path}: {BLOCK}.{WITHOUT_FIGURE}"
    cases = as_object(as_object(document).get(BLOCK)).get(WITHOUT_FIGURE, [])
    for index, case in enumerate(decode(cases, list[OutOfMemory], where=here)):
        where = f"{here}[{index}]"
        expect_equal(case.gpu_key, gpu_key, f"{where}.gpu_key")
        check_case_key(case.case_key, where=f"{where}.case_key")
        yield where, case


def speedgate_blocks(document: Any, *, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield our block of each benchmark with its place, after a check of the fields that pytest-benchmark needs."""
    refuse_marked(as_object(document), where=where)  # a result file of one case
    for index, benchmark in enumerate(decode(document, _Document, where=where).benchmarks):
        here = f"{where}: benchmarks[{index}].extra_info.{BLOCK}"
        block = benchmark.extra_info.get(BLOCK)
        if not isinstance(block, dict):
            raise ValueError(f"{here}: missing; only what --gate record writes is a baseline")
        refuse_marked(block, where=here)
        yield here, block


def check_case_key(case_key: Any, *, where: str) -> None:
    """Raise a `ValueError` that names `where` unless the value is a case key."""
    expect(CaseKey.is_key(case_key), where, "a case key, PIPELINE/STAGE/WORKLOAD", case_key)


def _refuse_failed(document: Any, *, path: Path) -> None:
    """Refuse a recording with failing cases, and list all of them in one message."""
    reasons = dict(as_object(as_object(as_object(document).get(BLOCK)).get("failed")))
    if not reasons or document.get("benchmarks"):
        for _, block in speedgate_blocks(document, where=str(path)):
            if block.get("outcome") == FAILED:
                reasons[str(as_object(block.get("run")).get("case_key"))] = block.get("reason")
    if reasons:
        cases = ", ".join(f"{case_key} ({reason})" for case_key, reason in reasons.items())
        raise ValueError(f"{path}: a failing case is never a baseline: {cases}; record it again")


def _check_origin(origin: Origin | None, *, where: str) -> None:
    """Raise a `ValueError` unless the origin names its code as a recording does, and a Python that can be shown."""
    if origin is None:
        return
    names = (
        ("commit", origin.commit, COMMIT, "40 or 64 hexadecimal digits"),
        ("archive", origin.archive, ARCHIVE, "a name as source-0123456789abcdef.zip"),
    )
    for field, name, pattern, expected in names:
        expect(name is None or pattern.fullmatch(name), f"{where}.{field}", expected, (name or "")[:100])
    expect(origin.python.isprintable(), f"{where}.python", "a version of Python", origin.python)


def _baseline(block: Mapping[str, Any], *, path: Path, gpu_key: str, where: str) -> Baseline:
    parsed: _RecordedBlock | _PublishedBlock = decode(block, _ANY_BLOCK, where=where)
    expect_equal(parsed.gpu_key, gpu_key, f"{where}.gpu_key")
    figures: _PublishedBlock | Run
    recorded: dict[str, Any] = {}
    if isinstance(parsed, _PublishedBlock):
        figures, source = parsed, PUBLISHED
    else:
        figures, source, where = parsed.run, RECORDED, f"{where}.run"
        expect(figures.processes, f"{where}.processes", "at least one process", [])
        share = parsed.roofline.share if parsed.roofline else None
        _check_origin(parsed.origin, where=f"{where.removesuffix('.run')}.origin")
        recorded = {"cold_starts": figures.cold_starts, "run": figures, "share": share, "origin": parsed.origin}
    check_case_key(figures.case_key, where=f"{where}.case_key")
    return Baseline(
        path=str(path),
        gpu_key=gpu_key,
        case_key=figures.case_key,
        source=source,
        process_medians_s=figures.process_medians_s,
        peak_bytes=figures.peak_bytes,
        fingerprint=figures.fingerprint,
        **recorded,
    )
