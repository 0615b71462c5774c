"""Documents in pytest-benchmark's JSON layout; each benchmark carries our block in `extra_info["speedgate"]`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from speedgate.records import SCHEMA, Run, run_from_json, to_json

BLOCK = "speedgate"
PASSED, FAILED = "passed", "failed"
RECORDED, PUBLISHED = "recorded", "published"

# The layout's statistics, in seconds unless they are counts: what pytest-benchmark's tables and comparisons read.
STATS_FIELDS = frozenset(
    "min max mean stddev rounds median iqr q1 q3 iqr_outliers stddev_outliers outliers ld15iqr hd15iqr ops total"
    " data iterations".split()
)


def stats(seconds: Sequence[float]) -> dict[str, Any]:
    """The `stats` object of a benchmark, raw seconds included."""
    # Not a documented class, and the only reach into one: the quartile and outlier rules have to be pytest-benchmark's
    # own, or its comparison would set two definitions against each other. Imported late to keep the command line quick.
    from pytest_benchmark.stats import Stats

    untyped: Any = Stats
    summary = untyped()
    for value in seconds:
        summary.update(value)
    return {**summary.as_dict(), "data": list(seconds), "iterations": 1}


def benchmark(
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
        "stats": stats(seconds),
    }


def recorded(run: Run, *, gpu_key: str, meta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
    """The entry of a measured run; `reason` says why it failed, None that it passed."""
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
    if reason is not None:
        block["reason"] = reason
    seconds = [value for process in run.processes for value in process.seconds]
    return benchmark(
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


def document(
    benchmarks: Sequence[Mapping[str, Any]],
    *,
    gpu_key: str,
    machine_info: Mapping[str, Any],
    commit_info: Mapping[str, Any],
    datetime: str,
    version: str,
) -> dict[str, Any]:
    """The whole file; `version` is pytest-benchmark's, and `machine_info` comes to hold the GPU key."""
    ours = {**machine_info.get(BLOCK, {}), "gpu_key": gpu_key}
    assert machine_info.get(BLOCK, ours).get("gpu_key", gpu_key) == gpu_key, "machine_info is of another GPU"
    return {
        "machine_info": {**machine_info, BLOCK: ours},
        "commit_info": dict(commit_info),
        "benchmarks": [dict(entry) for entry in benchmarks],
        "datetime": datetime,
        "version": version,
    }
