"""Checkpoints: what an interrupted recording has measured of each case, so that the same command can continue it.

`baselines/<gpu-key>/recording/` holds a file per case, written after each process and whenever something else is known of
the case. A checkpoint with another key, or a broken one, is renamed and never used.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from speedgate.baselines.store import key_folder
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import decode, read_json, to_json, write_json
from speedgate.results.run import Run

FOLDER = "recording"
# The files of a case: its checkpoint, and the images and outputs of steps that parity needs.
SUFFIXES = (".json", ".safetensors", ".precise.safetensors")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointKey:
    """All that must be the same for stored processes to count. It can be written as JSON.

    `source` is the digest of the code that measures (`speedgate.measure.code_digest`); `weights` names the loaded weights.
    """

    case_key: str
    rounds: int
    environment: Mapping[str, Any]
    source: str
    weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class _Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1] = 1
    gpu_key: str
    conditions: dict[str, Any]  # the `CheckpointKey`
    run: Run
    session: dict[str, Any] = {}


def store_run(
    root: Path, gpu_key: str, *, key: CheckpointKey, run: Run, session: Mapping[str, Any] | None = None
) -> None:
    """Replace the checkpoint of a case by `run`, which has all processes so far.

    `session` has the time and commit of the session that began the case; sessions that continue it pass the same.
    """
    checkpoint = _Checkpoint(gpu_key=gpu_key, conditions=to_json(key), run=run, session=dict(session or {}))
    write_json(checkpoint_path(root, gpu_key, key.case_key), to_json(checkpoint))


def has_checkpoint(root: Path, gpu_key: str, case_key: str) -> bool:
    """Return whether a file has the name of the case's checkpoint; it may be broken."""
    return os.path.lexists(checkpoint_path(root, gpu_key, case_key))


def load_run(root: Path, gpu_key: str, *, key: CheckpointKey, fingerprint: str | None = None) -> Run | None:
    """Read the run of a case if it was stored under the same key, and for the recipe with `fingerprint` if that is given.

    A file that is broken or has another key is renamed: it is no reason to stop, and it may hold hours of somebody's work.
    """
    path = checkpoint_path(root, gpu_key, key.case_key)
    if not os.path.lexists(path):
        return None
    try:
        run = _read_run(path, gpu_key=gpu_key, key=key)
        if fingerprint not in (None, run.fingerprint):
            raise ValueError(f"{path}: stored for another recipe")
    except (TypeError, ValueError):
        path.replace(_previous(path))
        return None
    return run


def load_session(root: Path, gpu_key: str, *, case_key: str) -> dict[str, Any]:
    """Read the time and commit of the session that began a case. Call it only after `load_run` has returned the run."""
    path = checkpoint_path(root, gpu_key, case_key)
    return decode(read_json(path), _Checkpoint, where=str(path)).session


def discard(root: Path, gpu_key: str, *, case_keys: Collection[str]) -> None:
    """Delete the checkpoints of these cases, because a recording of them was finished; other cases keep theirs."""
    folder = key_folder(root, gpu_key) / FOLDER
    if not os.path.lexists(folder):
        return
    # Move first: deleting takes time, and half of a finished recording must not be taken for an interrupted one.
    with tempfile.TemporaryDirectory(prefix=".discarded-", dir=folder.parent) as trash:
        for case_key, suffix in itertools.product(case_keys, SUFFIXES):
            path = checkpoint_path(root, gpu_key, case_key, suffix=suffix)
            for file in (path, _previous(path)):
                if os.path.lexists(file):
                    file.replace(Path(trash) / file.name)
        if not any(folder.iterdir()):
            folder.rmdir()


def checkpoint_path(root: Path, gpu_key: str, case_key: str, *, suffix: str = ".json") -> Path:
    """Return the path of one of the files of a case, by its suffix."""
    return key_folder(root, gpu_key) / FOLDER / f"{CaseKey.parse(case_key).file_stem}{suffix}"


def _previous(path: Path) -> Path:
    return path.with_name(f"previous-{path.name}")


def _read_run(path: Path, *, gpu_key: str, key: CheckpointKey) -> Run:
    checkpoint = decode(read_json(path), _Checkpoint, where=str(path))
    is_same_key = _canonical(checkpoint.conditions) == _canonical(to_json(key))
    if checkpoint.gpu_key != gpu_key or not is_same_key:
        raise ValueError(f"{path}: stored under another key")
    run = checkpoint.run
    if run.case_key != key.case_key or not run.processes:
        raise ValueError(f"{path}: run: expected a measured run of {key.case_key}")
    return run


def _canonical(data: Mapping[str, Any]) -> str:
    """Write JSON in one way, so that a tuple equals its list, and True does not equal 1."""
    return json.dumps(data, sort_keys=True)
