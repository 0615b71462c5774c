"""What an interrupted recording leaves, so that the same command goes on where it stopped: what is known of each case.

`baselines/<gpu-key>/recording/` holds a file per case, written after each process and whatever else is learned of it. What
was measured under any other conditions never counts; it is set aside.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from speedgate.baselines.store import key_folder
from speedgate.results import json_io
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import to_json, write_json
from speedgate.results.run import SCHEMA, Run, run_from_json

FOLDER = "recording"
_SESSION = "session"
# What is kept of a case: what is known of it, and beside that what it made.
SUFFIXES = (".json", ".safetensors", ".precise.safetensors")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointKey:
    """What must be the same for kept processes to count. Everything in it can be written as JSON.

    `source` is the digest of the code that measures (`speedgate.measure.code_digest`); `weights` says which were loaded.
    """

    case_key: str
    rounds: int
    environment: Mapping[str, Any]
    source: str
    weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def store_run(
    root: Path, gpu_key: str, *, key: CheckpointKey, run: Run, session: Mapping[str, Any] | None = None
) -> None:
    """Replace what is kept of the case by `run`: every process so far, and what else is known of it.

    `session` is what the one that began with it says of when that was: sessions that go on with the case say the same.
    """
    document = {"schema": SCHEMA, "gpu_key": gpu_key, "conditions": to_json(key), "run": to_json(run)}
    write_json(checkpoint_path(root, gpu_key, key.case_key), document | {_SESSION: dict(session or {})})


def has_checkpoint(root: Path, gpu_key: str, case_key: str) -> bool:
    """Whether anything lies there under the case's name."""
    return os.path.lexists(checkpoint_path(root, gpu_key, case_key))


def load_run(root: Path, gpu_key: str, *, key: CheckpointKey, fingerprint: str | None = None) -> Run | None:
    """What was kept of the case under the same conditions; of the recipe with that fingerprint, where one is given.

    A file that is broken, or of other conditions, is renamed: it is no reason to stop, and its hours are not ours to
    delete.
    """
    path = checkpoint_path(root, gpu_key, key.case_key)
    if not os.path.lexists(path):
        return None
    try:
        run = _read(path, gpu_key=gpu_key, key=key)
        if fingerprint not in (None, run.fingerprint):
            raise ValueError(f"{path}: kept of another recipe")
    except (TypeError, ValueError):
        path.replace(_aside(path))
        return None
    return run


def load_session(root: Path, gpu_key: str, *, case_key: str) -> dict[str, Any]:
    """What was kept with the case of the session that began with it; what `load_run` has found to be sound is asked this."""
    document = json_io.read_json(checkpoint_path(root, gpu_key, case_key))
    return dict(document.get(_SESSION, {}))


def discard(root: Path, gpu_key: str, *, case_keys: Collection[str]) -> None:
    """Forget what is kept of these cases, once a recording of them was finished; other cases' processes stay."""
    folder = key_folder(root, gpu_key) / FOLDER
    if not os.path.lexists(folder):
        return
    # Out of the way first: deleting takes time, and half of a finished recording must not be taken for an interrupted one.
    with tempfile.TemporaryDirectory(prefix=".discarded-", dir=folder.parent) as trash:
        for case_key, suffix in itertools.product(case_keys, SUFFIXES):
            path = checkpoint_path(root, gpu_key, case_key, suffix=suffix)
            for found in (path, _aside(path)):
                if os.path.lexists(found):
                    found.replace(Path(trash) / found.name)
        if not any(folder.iterdir()):
            folder.rmdir()


def checkpoint_path(root: Path, gpu_key: str, case_key: str, *, suffix: str = ".json") -> Path:
    """Where something is kept of a case."""
    return key_folder(root, gpu_key) / FOLDER / f"{CaseKey.parse(case_key).file_stem}{suffix}"


def _aside(path: Path) -> Path:
    return path.with_name(f"previous-{path.name}")


def _read(path: Path, *, gpu_key: str, key: CheckpointKey) -> Run:
    document = json_io.read_json(path)
    if not isinstance(document, dict) or not isinstance(data := document.pop("run", None), dict):
        raise ValueError(f"{path}: expected an object with a run")
    if not isinstance(document.pop(_SESSION, {}), dict):
        raise ValueError(f"{path}: {_SESSION}: expected an object")
    expected = {"schema": SCHEMA, "gpu_key": gpu_key, "conditions": to_json(key)}
    if _canonical(document) != _canonical(expected):
        raise ValueError(f"{path}: kept under other conditions")
    run = run_from_json(data, where=f"{path}: run")
    if run.case_key != key.case_key or not run.processes:
        raise ValueError(f"{path}: run: expected a measured one of {key.case_key}")
    return run


def _canonical(data: Mapping[str, Any]) -> str:
    """Equal where the JSON is: a tuple is its list, and True is not 1."""
    return json.dumps(data, sort_keys=True)
