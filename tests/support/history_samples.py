"""Make results, entries and whole histories for the tests of the history."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from speedgate.history import database, schema
from speedgate.history.entries import HistoryEntry, entry_from_result
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import to_json, write_json
from tests.support.artifacts import result
from tests.support.baseline_samples import INT8, KEY, make_run

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
PARITY = {"ssim": 0.9965, "step_error": None}


def commit(number: int, *, dirty: bool = False) -> dict[str, Any]:
    """Describe a numbered commit as pytest-benchmark does."""
    return {"id": f"{number:040x}", "time": None, "dirty": dirty, "project": "p", "branch": "main"}


def at(number: int) -> str:
    """Return the time of a numbered run: one each hour."""
    return (START + datetime.timedelta(hours=number)).isoformat()


def document(case_key: str = INT8, *, number: int = 0, **changes: Any) -> dict[str, Any]:
    """Make the result file of a numbered run of a case."""
    run = to_json(make_run(case_key, medians_s=(2.4 + number / 1000, 2.45, 2.5)))
    run |= {"parity": PARITY, "cold_start": run["cold_start"] | {"compile_s": 3.5}}
    fields = {"measured_at": at(number), "commit": commit(number), "run": run}
    result_file: dict[str, Any] = json.loads(json.dumps(result(case_key, **fields | changes)))
    return result_file


def entry(case_key: str = INT8, *, number: int = 0, **changes: Any) -> HistoryEntry:
    """Make the entry of a numbered run of a case."""
    return entry_from_result(document(case_key, number=number, **changes), where="sample")


def session_folder(folder: Path, *documents: dict[str, Any]) -> Path:
    """Write a results folder as `pytest bench --results` does."""
    for result_file in documents or (document(),):
        name = CaseKey.parse(result_file["run"]["case_key"]).file_name if result_file["run"] else "lost.json"
        write_json(folder / name, result_file)
    return folder


def case_keys(count: int) -> list[str]:
    """Return different case keys."""
    return [f"pipeline{index:05d}/int8/1024px-30steps-b1" for index in range(count)]


def fill(url: str, *, cases: int, runs: int, gpu_key: str = KEY) -> None:
    """Create a history of `runs` runs of `cases` cases with five processes each; bulk inserts, without documents."""
    database.prepare_history(url)
    tables = schema.tables()
    versions = dict.fromkeys(("torch", "torch_git", "diffusers", "torchao", "triton"), "1.2.3.dev20260101+cu130")
    keys = case_keys(cases)
    with database.open_engine(url, write=True) as engine, engine.begin() as connection:
        connection.execute(tables.environments.insert(), [{"environment_id": "e", "versions": versions}])
        for row in _rows(gpu_key, runs):  # as sessions add them: all cases of one, then of the next
            rows = [row | {"case_key": key, "run_id": schema.json_digest([key, row["measured_at"]])} for key in keys]
            connection.execute(tables.runs.insert(), rows)


def _rows(gpu_key: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "gpu_key": gpu_key,
            "commit_id": f"{number:040x}",
            "dirty": False,
            "measured_at": (START + datetime.timedelta(hours=number)).isoformat(timespec="microseconds"),
            "source": "recorded",
            "process_medians_s": [2.4 + number / 7000 + process / 900 for process in range(5)],
            "peak_bytes": 9 * 2**30,
            "ssim": 0.9965,
            "first_image_s": 31.25,
            "cache": "cold cache",
            "fingerprint": "f00d",
            "outcome": "PASS",
            "environment_id": "e",
        }
        for number in range(count)
    ]
