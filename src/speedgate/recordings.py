"""What an interrupted recording leaves, so that the same command goes on where it stopped: finished processes, by case.

`baselines/<gpu-key>/recording/` holds a file per case, written after each process. What was measured under any other
conditions never counts; it is set aside.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate import benchmark_json
from speedgate.baselines import key_folder
from speedgate.records import SCHEMA, Process, process_from_json, to_json, write_json

FOLDER = "recording"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditions:
    """What must be the same for kept processes to count. Everything in it can be written as JSON."""

    case_key: str
    fingerprint: str
    rounds: int
    environment: Mapping[str, Any]
    commit: Mapping[str, Any]


def obstacle(commit: Mapping[str, Any]) -> str | None:
    """Why what was measured of this code could not be known for the same again; `commit` is what pytest-benchmark says."""
    if commit.get("dirty"):
        return "the checkout has uncommitted changes"
    return "its commit is not known" if commit.get("id") in (None, "unknown", "unversioned") else None


def keep(root: Path, gpu_key: str, *, conditions: Conditions, processes: Sequence[Process]) -> None:
    """Replace what is kept of the case by `processes`, all of those that were measured so far."""
    document = {
        "schema": SCHEMA,
        "gpu_key": gpu_key,
        "conditions": to_json(conditions),
        "processes": [to_json(process) for process in processes],
    }
    write_json(_path(root, gpu_key, conditions.case_key), document)


def kept(root: Path, gpu_key: str, *, conditions: Conditions) -> tuple[Process, ...]:
    """The processes that were kept of the case under the same conditions.

    A file that is broken, or of other conditions, is renamed: it is no reason to stop, and its hours are not ours to
    delete.
    """
    path = _path(root, gpu_key, conditions.case_key)
    if not os.path.lexists(path):
        return ()
    try:
        return _read(path, gpu_key=gpu_key, conditions=conditions)
    except (TypeError, ValueError):
        path.replace(_aside(path))
        return ()


def discard(root: Path, gpu_key: str, *, case_keys: Collection[str]) -> None:
    """Forget what is kept of these cases, once a recording of them was finished; other cases' processes stay."""
    folder = key_folder(root, gpu_key) / FOLDER
    if not os.path.lexists(folder):
        return
    # Out of the way first: deleting takes time, and half of a finished recording must not be taken for an interrupted one.
    with tempfile.TemporaryDirectory(prefix=".discarded-", dir=folder.parent) as trash:
        for path in (_path(root, gpu_key, case_key) for case_key in case_keys):
            for found in (path, _aside(path)):
                if os.path.lexists(found):
                    found.replace(Path(trash) / found.name)
        if not any(folder.iterdir()):
            folder.rmdir()


def _path(root: Path, gpu_key: str, case_key: str) -> Path:
    return key_folder(root, gpu_key) / FOLDER / f"{case_key.replace('/', '__')}.json"


def _aside(path: Path) -> Path:
    return path.with_name(f"previous-{path.name}")


def _read(path: Path, *, gpu_key: str, conditions: Conditions) -> tuple[Process, ...]:
    document = benchmark_json.read(path)
    if not isinstance(document, dict) or not isinstance(processes := document.pop("processes", None), list):
        raise ValueError(f"{path}: expected an object with a list of processes")
    expected = {"schema": SCHEMA, "gpu_key": gpu_key, "conditions": to_json(conditions)}
    if _canonical(document) != _canonical(expected):
        raise ValueError(f"{path}: kept under other conditions")
    return tuple(process_from_json(data, where=f"{path}: processes[{i}]") for i, data in enumerate(processes))


def _canonical(data: Mapping[str, Any]) -> str:
    """Equal where the JSON is: a tuple is its list, and True is not 1."""
    return json.dumps(data, sort_keys=True)
