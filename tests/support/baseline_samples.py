"""Make runs, baselines and baseline files for tests."""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speedgate.baselines import benchmark_json, store
from speedgate.baselines.origin import RecordedCode
from speedgate.results.case_key import CaseKey
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.json_io import write_json
from speedgate.results.run import Baseline, ColdStart, Comparison, Confirmation, Outcome, Process, Run, Turns

KEY = "nvidia-a100-sxm4-80gb-400w"
INT8 = "sdxl/int8/1024px-30steps-b1"
BF16 = "sdxl/bf16/1024px-30steps-b1"
COLD = ColdStart(import_s=1.0, load_s=2.0, apply_s=3.0, first_image_s=4.0, cache_hits=0, cache_misses=5)


def make_run(
    case_key: str = INT8,
    *,
    medians_s: Sequence[float] = (2.4, 2.45, 2.5),
    peak_bytes: Sequence[int] = (7, 9, 8),
    fingerprint: str = "f00d",
    environment: dict[str, Any] | None = None,
) -> Run:
    """Make a run with one process per median, each of three rounds, whose peaks are repeated until there are three."""
    peaks = (tuple(peak_bytes) * 3)[:3]
    processes = tuple(
        Process(seconds=(median - 0.01, median, median + 0.01), peak_bytes=peaks, cold_start=COLD)
        for median in medians_s
    )
    return Run(
        case_key=case_key,
        fingerprint=fingerprint,
        environment={"torch": "2.13.0"} if environment is None else environment,
        recipe={"dtype": "bfloat16"},
        structure={"graphs": 1},
        cold_start=COLD,
        components_s={"unet": 2.0},
        processes=processes,
    )


def make_baseline(*medians_s: float, source: str = "recorded", peak_bytes: int = 9) -> Baseline:
    """Make a baseline for the case of `make_run`: recorded with the same recipe, or published."""
    published = source == "published"
    return Baseline(
        path=f"baselines/{KEY}/{'0001' if published else '0002'}_{source}.json",
        gpu_key=KEY,
        case_key=INT8,
        source=source,
        process_medians_s=medians_s,
        peak_bytes=peak_bytes,
        fingerprint=None if published else "f00d",
    )


def make_confirmation(
    case_key: str = INT8,
    *,
    stored_ratio: float = 1.06,
    live_ratio: float | None = 1.0,
    baseline: str = f"baselines/{KEY}/0002_recorded.json",
) -> Confirmation:
    """Make the confirmation of a case by six pairs of the same ratio; by none, with a reason, if the ratio is None."""
    comparison = None
    orders, run = (True, False) * 3, make_run(case_key, medians_s=(2.4,) * 6)
    if live_ratio is not None:
        comparison = Comparison(
            case_key=case_key,
            label="the baseline's code",
            other=run,
            turns=Turns.ROUNDS,
            log_ratios=(math.log(live_ratio),) * len(orders),
            this_first=orders,
        )
    return Confirmation(
        case_key=case_key,
        stored=Outcome.SLOWER,
        stored_ratio=stored_ratio,
        comparison=comparison,
        processes=run.processes if comparison else (),
        reason="" if comparison else "its commit is not in this clone",
        baseline=baseline,
    )


def make_meta(case_key: str) -> dict[str, str]:
    """Make pytest-benchmark's facts about the test of a case."""
    key = CaseKey.parse(case_key)
    name = f"test_latency[{key.pipeline}-{key.stage}]"
    return {"name": name, "fullname": f"bench/test_latency.py::{name}", "group": key.pipeline}


def make_document(*runs: Run, gpu_key: str = KEY) -> dict[str, Any]:
    """Make a valid recorded document. The caller may change it: it shares nothing with another one."""
    entries = [
        benchmark_json.recorded_benchmark(run, gpu_key=gpu_key, meta=make_meta(run.case_key))
        for run in runs or (make_run(),)
    ]
    document = benchmark_json.make_document(
        entries, gpu_key=gpu_key, machine_info={}, commit_info={}, datetime="2026-01-01T00:00:00+00:00", version="5.3.1"
    )
    return copy.deepcopy(document)


def store_file(root: Path, name: str, *runs: Run, gpu_key: str = KEY) -> Path:
    """Write a valid recorded document of `runs` as `name` in the folder of `gpu_key`."""
    path = root / gpu_key / name
    write_json(path, make_document(*runs, gpu_key=gpu_key))
    return path


def store_published(root: Path, latency_s: float, case_key: str = INT8) -> Path:
    """Write one published figure as the first baseline file of `KEY`."""
    document = make_document(make_run(case_key))
    figure = {"case_key": case_key, "process_medians_s": [latency_s], "peak_bytes": 9, "fingerprint": None}
    facts = {"schema": 1, "gpu_key": KEY, "source": "published", "outcome": "passed"}
    document["benchmarks"][0]["extra_info"]["speedgate"] = facts | figure
    path = root / KEY / "0001_published.json"
    write_json(path, document)
    return path


def obtain(
    root: Path,
    *runs: Run,
    failed: dict[str, str] | None = None,
    out_of_memory: dict[str, str] | None = None,
    rooflines: dict[str, dict[str, Any]] | None = None,
    code: RecordedCode | None = None,
) -> Path:
    """Write `obtained.json` as a recording session would."""
    return store.write_obtained(
        root,
        KEY,
        runs=runs,
        failed=failed or {},
        benchmarks_meta={run.case_key: make_meta(run.case_key) for run in runs},
        machine_info={"python_version": "3.11"},
        commit_info={"id": "0" * 40},
        out_of_memory=out_of_memory,
        rooflines=rooflines,
        code=code,
    )


def copy_source(csv_path: Path, folder: Path) -> Path:
    """Copy a CSV of published figures and its TOML, for a test to change; return the copy of the CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".csv", ".toml"):
        source = csv_path.with_suffix(suffix)
        (folder / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    return folder / csv_path.name


def publish_throughput(root: Path, *figures: FamilyFigure, name: str = "guide") -> Path:
    """Write figures of a GPU family as a throughput table below `root`, a folder `baselines`; return the CSV."""
    tables: dict[str, dict[str, str]] = {name: {} for name in ("builds", "stages", "pipelines", "workloads")}
    rows = [["gpu", "batch", "pipeline", "torch_build", "mode", "value", "unit", "outcome", "note"]]
    for figure in figures:
        key = CaseKey.parse(figure.case_key)
        workload, _, batch = key.workload.rpartition("-b")
        tables["builds"][figure.build] = figure.build
        tables["stages"][figure.mode] = key.stage
        tables["pipelines"][key.pipeline] = key.pipeline
        tables["workloads"][key.pipeline] = workload
        value, unit = ("", "") if figure.iterations_per_s is None else (str(figure.iterations_per_s), "it/s")
        cell = [figure.family.upper(), batch, key.pipeline, figure.build, figure.mode]
        rows.append([*cell, value, unit, figure.outcome, figure.note])
    path = root / "published" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    lines = ['format = "throughput"', 'timer = "tqdm"', "[software]", "[citation]", "date = 2024-01-31"]
    lines.append('repository = "https://example.org"')
    for table, names in tables.items():
        lines += [f"[{table}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in names.items())]
    path.with_suffix(".toml").write_text("\n".join(lines), encoding="utf-8")
    return path
