"""Documents in pytest-benchmark's JSON layout; each benchmark carries our block in `extra_info["speedgate"]`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import as_object, expect, expect_equal, positive, to_json
from speedgate.results.run import SCHEMA, Baseline, Run, run_from_json

BLOCK = "speedgate"
PASSED, FAILED = "passed", "failed"
RECORDED, PUBLISHED = "recorded", "published"
WITHOUT_FIGURE = "without_figure"

# The layout's statistics, in seconds unless they are counts: what pytest-benchmark's tables and comparisons read.
STATS_FIELDS = frozenset(
    {"min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "iqr_outliers", "stddev_outliers"}
    | {"outliers", "ld15iqr", "hd15iqr", "ops", "total", "data", "iterations"}
)


def timing_stats(seconds: Sequence[float]) -> dict[str, Any]:
    """The `stats` object of a benchmark, raw seconds included."""
    # Not a documented class, and the only reach into one: the quartile and outlier rules have to be pytest-benchmark's
    # own, or its comparison would set two definitions against each other. Imported late to keep the command line quick.
    from pytest_benchmark.stats import Stats

    untyped: Any = Stats
    summary = untyped()
    for value in seconds:
        summary.update(value)
    return {**summary.as_dict(), "data": list(seconds), "iterations": 1}


def make_benchmark(
    block: Mapping[str, Any],
    *,
    name: str,
    fullname: str,
    group: str | None,
    seconds: Sequence[float],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """One entry of `benchmarks`; `param` is what stands between the brackets of `name`."""
    _, bracket, param = name.partition("[")
    return {
        "name": name,
        "fullname": fullname,
        "group": group,
        "param": param.removesuffix("]") if bracket else None,
        # pytest-benchmark cannot serialise our parameters; the case key in the block says what they were.
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
) -> dict[str, Any]:
    """The entry of a measured run; `reason` says why it failed, None that it passed.

    `session` is what the one that measured it says of itself, where it is not the one that writes the file; `roofline` a
    `speedgate.gate.roofline.Roofline` of it as builtin types, where one was made.
    """
    block = {
        "schema": SCHEMA,
        "gpu_key": gpu_key,
        "case_key": run.case_key,
        "source": RECORDED,
        "process_medians_s": list(run.process_medians_s),
        "peak_bytes": run.peak_bytes,
        "fingerprint": run.fingerprint,
        "outcome": PASSED if reason is None else FAILED,
        "run": to_json(run),
    }
    if session:
        block["session"] = dict(session)
    if roofline is not None:
        block["roofline"] = dict(roofline)
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


def unusable(run: Run) -> str | None:
    """Why `run` could not be read back as a baseline, or None: one bad run must not lose the record of the others."""
    if not run.processes:
        return "no process was measured"
    try:
        run_from_json(json.loads(json.dumps(to_json(run), allow_nan=False)), where=run.case_key)
    except (TypeError, ValueError) as error:
        return f"the run cannot be stored: {error}"
    return None


def make_document(
    benchmarks: Sequence[Mapping[str, Any]],
    *,
    gpu_key: str,
    machine_info: Mapping[str, Any],
    commit_info: Mapping[str, Any],
    datetime: str,
    version: str,
    failed: Mapping[str, str] | None = None,
    without_figure: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The whole file; `version` is pytest-benchmark's, and `machine_info` comes to hold the GPU key.

    `failed` holds the cases that failed without a usable run, `without_figure` the blocks of those that came to an end
    which is to be expected again. They have no statistics, so they cannot stand among the benchmarks; pytest-benchmark
    ignores the object that they stand in.
    """
    ours = {**machine_info.get(BLOCK, {}), "gpu_key": gpu_key}
    assert machine_info.get(BLOCK, ours).get("gpu_key", gpu_key) == gpu_key, "machine_info is of another GPU"
    return {
        "machine_info": {**machine_info, BLOCK: ours},
        "commit_info": dict(commit_info),
        "benchmarks": [dict(entry) for entry in benchmarks],
        "datetime": datetime,
        "version": version,
        **_beside(failed=dict(failed or {}), without_figure=[dict(block) for block in without_figure]),
    }


def _beside(**fields: Any) -> dict[str, Any]:
    """Our object beside the benchmarks, with those of the fields that hold anything; none without them."""
    kept = {name: value for name, value in fields.items() if value}
    return {BLOCK: kept} if kept else {}


def parse_baselines(document: Any, *, path: Path, gpu_key: str) -> list[Baseline]:
    """The baselines of a document that is, or is to become, the file `path`."""
    found: dict[str, Baseline] = {}
    _none_failed(document, path=path)
    for where, block in speedgate_blocks(document, where=str(path)):
        baseline = _baseline(block, path=path, gpu_key=gpu_key, where=where)
        if baseline.case_key in found:
            raise ValueError(f"{where}.case_key: {baseline.case_key!r} stands in this file twice")
        found[baseline.case_key] = baseline
    stated = as_object(as_object(document.get("machine_info")).get(BLOCK)).get("gpu_key")
    expect_equal(stated, gpu_key, f"{path}: machine_info.{BLOCK}.gpu_key")
    return list(found.values())


def _none_failed(document: Any, *, path: Path) -> None:
    """Refuse what `--gate record` wrote of failing cases, all of them in one message."""
    reasons = dict(as_object(as_object(as_object(document).get(BLOCK)).get("failed")))
    if not reasons or document.get("benchmarks"):
        for _, block in speedgate_blocks(document, where=str(path)):
            if block.get("outcome") == FAILED:
                reasons[str(block.get("case_key"))] = block.get("reason")
    if reasons:
        listed = ", ".join(f"{case_key} ({reason})" for case_key, reason in reasons.items())
        raise ValueError(f"{path}: outcome: a failing case is never a baseline: {listed}; record it anew")


def blocks_without_figure(document: Any, *, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The block of each case that has no figure, with the place where it stands."""
    here = f"{where}: {BLOCK}.{WITHOUT_FIGURE}"
    cells = as_object(as_object(document).get(BLOCK)).get(WITHOUT_FIGURE, [])
    expect(isinstance(cells, list), here, "a list", cells)
    for index, block in enumerate(cells):
        expect(isinstance(block, dict), f"{here}[{index}]", "an object", block)
        yield f"{here}[{index}]", block


def speedgate_blocks(document: Any, *, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Our block of each benchmark, with the place where it stands, once pytest-benchmark's own fields are there."""
    benchmarks = as_object(document).get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise ValueError(f"{where}: benchmarks: expected a list with at least one benchmark")
    for index, entry in enumerate(benchmarks):
        here = f"{where}: benchmarks[{index}]"
        if not isinstance(entry, dict):
            raise ValueError(f"{here}: expected an object, found {type(entry).__name__}")
        for field in ("name", "fullname"):
            if not isinstance(entry.get(field), str):
                raise ValueError(f"{here}.{field}: expected a string, found {entry.get(field)!r}")
        if missing := STATS_FIELDS - set(as_object(entry.get("stats"))):
            raise ValueError(f"{here}.stats: missing field {', '.join(sorted(missing))}")
        block = as_object(entry.get("extra_info")).get(BLOCK)
        if not isinstance(block, dict):
            raise ValueError(f"{here}.extra_info.{BLOCK}: missing; only what --gate record writes is a baseline")
        yield f"{here}.extra_info.{BLOCK}", block


def _baseline(block: Mapping[str, Any], *, path: Path, gpu_key: str, where: str) -> Baseline:
    expect_equal(block.get("schema"), SCHEMA, f"{where}.schema")
    expect_equal(block.get("gpu_key"), gpu_key, f"{where}.gpu_key")
    case_key, source, fingerprint = block.get("case_key"), block.get("source"), block.get("fingerprint")
    case_key = check_case_key(case_key, where=f"{where}.case_key")
    if source not in (RECORDED, PUBLISHED):
        raise ValueError(f"{where}.source: expected {RECORDED!r} or {PUBLISHED!r}, found {source!r}")
    expect_equal(block.get("outcome"), PASSED, f"{where}.outcome")
    if not isinstance(fingerprint, str | None):
        raise ValueError(f"{where}.fingerprint: expected a string or null, found {fingerprint!r}")
    baseline = Baseline(
        path=str(path),
        gpu_key=gpu_key,
        case_key=case_key,
        source=source,
        process_medians_s=_medians(block.get("process_medians_s"), where=f"{where}.process_medians_s"),
        peak_bytes=_bytes(block.get("peak_bytes"), where=f"{where}.peak_bytes"),
        fingerprint=fingerprint,
    )
    if source == PUBLISHED:
        return baseline
    run = run_from_json(block.get("run", {}), where=f"{where}.run")
    _agrees(baseline, run, where=where)
    return dataclasses.replace(baseline, cold_starts=run.cold_starts, run=run, share=_share(block, where=where))


def check_case_key(value: Any, *, where: str) -> str:
    """`value` where it is a pipeline, a stage and a workload; a `ValueError` that names `where` else."""
    expect(CaseKey.is_key(value), where, "a case key, PIPELINE/STAGE/WORKLOAD", value)
    return str(value)


def _medians(values: Any, *, where: str) -> tuple[float, ...]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where}: expected the seconds of at least one process, found {values!r}")
    return tuple(positive(value, where=f"{where}[{index}]") for index, value in enumerate(values))


def _share(block: Mapping[str, Any], *, where: str) -> float | None:
    found = block.get("roofline")
    return None if found is None else positive(as_object(found).get("share"), where=f"{where}.roofline.share")


def _bytes(value: Any, *, where: str) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{where}: expected a whole number of bytes, found {value!r}")
    positive(value, where=where)
    return value


def _agrees(baseline: Baseline, run: Run, *, where: str) -> None:
    """Refuse figures that the run beside them does not bear out: a baseline is recorded anew, never edited."""
    if not run.processes:
        raise ValueError(f"{where}.run.processes: expected at least one process")
    for field in ("case_key", "process_medians_s", "peak_bytes", "fingerprint"):
        expect_equal(getattr(baseline, field), getattr(run, field), f"{where}.{field}")
