"""Checkpoints of an interrupted recording: they count for the same key only, and never get in the way."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from speedgate.baselines import checkpoint, store
from speedgate.baselines.checkpoint import CheckpointKey, discard, load_run, store_run
from speedgate.results.run import Process, Run
from tests.support.baseline_samples import BF16, COLD, INT8, KEY, make_run, obtain

ROOT = Path(__file__).parents[2]
CHECKPOINT_KEY = CheckpointKey(
    case_key=INT8,
    rounds=2,
    environment={"torch": "2.13.0", "gpus": ["a", "b"]},
    source="0" * 64,
    weights={"source": "synthetic", "revisions": {}},
)
PROCESSES = (
    Process(seconds=(2.4, 2.5), peak_bytes=(7, 9), cold_start=COLD),
    Process(
        seconds=(2.6, 2.7), peak_bytes=(7, 8), cold_start=COLD, discarded_reasons=("hot",), health={"throttled": None}
    ),
)
RUN = msgspec.structs.replace(
    make_run(), processes=PROCESSES, counts={"graphs": 2}, parity={"ssim": 0.998, "step_gain": None}
)


def folder(root: Path) -> Path:
    return root / KEY / "recording"


def checkpoint_file(root: Path) -> Path:
    return folder(root) / "sdxl__int8__1024px-30steps-b1.json"


def of(case_key: str, *, processes: int = 2) -> Run:
    """The run of another case, or of fewer processes."""
    return msgspec.structs.replace(RUN, case_key=case_key, processes=PROCESSES[:processes])


def test_a_stored_run_is_read_back(tmp_path):
    """An interrupted recording counts where it continues, in a copy of its folder too, for its recipe; a look makes no file."""
    assert load_run(tmp_path / "first", KEY, key=CHECKPOINT_KEY) is None
    assert not (tmp_path / "first").exists()
    store_run(tmp_path / "first", KEY, key=CHECKPOINT_KEY, run=RUN)
    (tmp_path / "first").rename(tmp_path / "second")
    same_key = dataclasses.replace(CHECKPOINT_KEY, environment={"gpus": ("a", "b"), "torch": "2.13.0"})

    assert load_run(tmp_path / "second", KEY, key=same_key, fingerprint="f00d") == RUN
    assert load_run(tmp_path / "second", KEY, key=CHECKPOINT_KEY) == RUN
    assert list(folder(tmp_path / "second").iterdir()) == [checkpoint_file(tmp_path / "second")]
    assert load_run(tmp_path / "second", KEY, key=same_key, fingerprint="beef") is None


def test_other_cases_keep_their_checkpoints(tmp_path):
    """Storing replaces, and discarding deletes, the checkpoint of one case and no hours that were measured of another."""
    other = dataclasses.replace(CHECKPOINT_KEY, case_key=BF16)
    store_run(tmp_path, KEY, key=other, run=of(BF16, processes=1))
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=of(INT8, processes=1))
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) == RUN

    discard(tmp_path, KEY, case_keys=[INT8])
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None
    assert load_run(tmp_path, KEY, key=other) == of(BF16, processes=1)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 3},
        {"weights": {"source": "hub", "revisions": {}}},
        {"environment": {"torch": "2.14.0", "gpus": ["a", "b"]}},
        {"environment": {"torch": "2.13.0", "gpus": ["b", "a"]}},
        {"source": "1" * 64},
    ],
)
def test_another_checkpoint_key_starts_anew(tmp_path, change):
    """A run with other rounds, weights, versions or code never counts, and its file is renamed unchanged."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    before = checkpoint_file(tmp_path).read_bytes()

    assert load_run(tmp_path, KEY, key=dataclasses.replace(CHECKPOINT_KEY, **change)) is None

    aside = checkpoint_file(tmp_path).with_name(f"previous-{checkpoint_file(tmp_path).name}")
    assert list(folder(tmp_path).iterdir()) == [aside]
    assert aside.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schema": 1', '"schema": 2'),
        ('"rounds": 2', '"rounds": 3, "rounds": 2'),
        (f'"gpu_key": "{KEY}"', '"gpu_key": "nvidia-t4"'),
        (f'"run": {{\n    "attribution": null,\n    "case_key": "{INT8}"', f'"run": {{"case_key": "{BF16}"'),
        ('"seconds": [', '"seconds": [0.0,'),
        ("}", ""),
    ],
)
def test_a_broken_file_is_set_aside(tmp_path, old, new):
    """A file that is broken or of another case is renamed, so that the recording starts anew and nothing is lost."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    text = checkpoint_file(tmp_path).read_text()
    spoilt = text.replace(old, new)
    assert spoilt != text
    checkpoint_file(tmp_path).write_text(spoilt)

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None
    assert [path.read_text() for path in folder(tmp_path).glob("previous-*")] == [spoilt]


def test_a_link_is_set_aside_and_what_it_leads_to_is_left_alone(tmp_path):
    """A link to nowhere is a broken file like any other, and nothing is written through one."""
    target = tmp_path / "precious"
    folder(tmp_path).mkdir(parents=True)
    checkpoint_file(tmp_path).symlink_to(target)

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None
    checkpoint_file(tmp_path).symlink_to(target)
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    assert not target.exists()
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) == RUN


def test_a_finished_recording_leaves_nothing(tmp_path):
    """The folder is gone, everything else of the key stays, and nothing outside of it is deleted."""
    with pytest.raises(ValueError, match="GPU key"):
        discard(tmp_path, "../elsewhere", case_keys=[INT8])
    obtained = obtain(tmp_path)
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    for suffix in (".safetensors", ".precise.safetensors"):
        checkpoint.checkpoint_path(tmp_path, KEY, INT8, suffix=suffix).touch()

    discard(tmp_path, KEY, case_keys=[INT8])
    discard(tmp_path, KEY, case_keys=[INT8])

    assert list(obtained.parent.iterdir()) == [obtained]
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None


def test_discarding_takes_all_or_nothing(tmp_path, monkeypatch):
    """Cut short while it deletes, it leaves nothing that would be taken for an interrupted recording."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", Mock(side_effect=KeyboardInterrupt))
        discard(tmp_path, KEY, case_keys=[INT8])

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None


def test_a_checkpoint_is_no_baseline(tmp_path):
    """Half a recording is compared with nothing, cannot be promoted, and is never committed by accident."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    assert (store.gpu_keys(tmp_path), store.newest_baselines(tmp_path, KEY)) == ([], {})
    assert f"{checkpoint.FOLDER}/" in (ROOT / "baselines" / ".gitignore").read_text().splitlines()
