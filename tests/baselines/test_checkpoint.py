"""Checkpoints of an interrupted recording: they count for the same key only, and never get in the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        seconds=(2.6, 2.7),
        peak_bytes=(7, 8),
        cold_start=COLD,
        discarded_reasons=("the clock fell",),
        health={"throttled": None},
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


def test_a_stored_run_is_read_back(tmp_path: Path) -> None:
    """Every process of an interrupted recording, and whatever else was learned of the case, counts when it is recorded again."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) == RUN
    assert list(folder(tmp_path).iterdir()) == [checkpoint_file(tmp_path)]


def test_a_copied_recording_counts_on_the_next_machine(tmp_path: Path) -> None:
    """Copying the folder of a recording is enough to continue it elsewhere."""
    store_run(tmp_path / "first", KEY, key=CHECKPOINT_KEY, run=RUN)

    shutil.copytree(tmp_path / "first", tmp_path / "second")
    shutil.rmtree(tmp_path / "first")

    assert load_run(tmp_path / "second", KEY, key=CHECKPOINT_KEY) == RUN


def test_no_file_is_made_before_the_first_process(tmp_path: Path) -> None:
    """Looking for a checkpoint makes no file."""
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_storing_replaces_the_checkpoint_of_that_case_alone(tmp_path: Path) -> None:
    """After each process the checkpoint has all processes of the case, once; other cases keep theirs."""
    other = dataclasses.replace(CHECKPOINT_KEY, case_key=BF16)
    store_run(tmp_path, KEY, key=other, run=of(BF16, processes=1))
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=of(INT8, processes=1))
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) == RUN
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
def test_another_checkpoint_key_starts_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    """A run with other rounds, weights, versions or code never counts, and its file is renamed unchanged."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    before = checkpoint_file(tmp_path).read_bytes()

    assert load_run(tmp_path, KEY, key=dataclasses.replace(CHECKPOINT_KEY, **change)) is None

    aside = checkpoint_file(tmp_path).with_name(f"previous-{checkpoint_file(tmp_path).name}")
    assert list(folder(tmp_path).iterdir()) == [aside]
    assert aside.read_bytes() == before


def test_another_recipe_starts_anew(tmp_path: Path) -> None:
    """If the fingerprint of the recipe is given, a run of another recipe never counts."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY, fingerprint="f00d") == RUN
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY, fingerprint="beef") is None


def test_checkpoint_keys_are_compared_as_they_are_stored(tmp_path: Path) -> None:
    """A tuple is the list that JSON makes of it, and the order of keys means nothing."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    environment = {"gpus": ("a", "b"), "torch": "2.13.0"}

    run = load_run(tmp_path, KEY, key=dataclasses.replace(CHECKPOINT_KEY, environment=environment))

    assert run == RUN


def change(**fields: Any) -> Callable[[str], str]:
    """A change of the document's fields."""
    return lambda text: json.dumps({**json.loads(text), **fields})


def in_run(**fields: Any) -> Callable[[str], str]:
    """A change of the run's fields."""

    def spoil(text: str) -> str:
        document = json.loads(text)
        document["run"].update(fields)
        return json.dumps(document)

    return spoil


def in_process(**fields: Any) -> Callable[[str], str]:
    """A change of the second process's fields."""

    def spoil(text: str) -> str:
        document = json.loads(text)
        document["run"]["processes"][1].update(fields)
        return json.dumps(document)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace('"rounds": 2', '"rounds": 3, "rounds": 2'),
        change(schema=2),
        change(schema=True),
        change(gpu_key="nvidia-t4"),
        change(conditions=None),
        change(run=None),
        change(run=[]),
        in_run(processes=[]),
        in_run(processes={"0": {}}),
        in_run(processes=[7]),
        in_run(case_key=BF16),
        in_run(colour="red"),
        change(more=1),
        in_process(seconds=[]),
        in_process(seconds=[0.0]),
        in_process(seconds=[float("nan")]),
        in_process(peak_bytes=[-1]),
        in_process(cold_start=None),
        in_process(void=7),
        in_process(colour="red"),
    ],
)
def test_a_broken_file_is_set_aside(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    """A file that is broken in any way is renamed, so that the recording starts anew and nothing is lost."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    spoilt = spoil(checkpoint_file(tmp_path).read_text())
    checkpoint_file(tmp_path).write_text(spoilt)

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None
    assert [path.read_text() for path in folder(tmp_path).glob("previous-*")] == [spoilt]


def test_a_link_is_set_aside_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    """A link to nowhere is a broken file like any other, and nothing is written through one."""
    target = tmp_path / "precious"
    folder(tmp_path).mkdir(parents=True)
    checkpoint_file(tmp_path).symlink_to(target)

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None
    checkpoint_file(tmp_path).symlink_to(target)
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    assert not target.exists()
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) == RUN


def test_another_gpu_key_has_its_own_checkpoints(tmp_path: Path) -> None:
    """Processes never count for another GPU key, not even where the files were copied."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    shutil.copytree(tmp_path / KEY, tmp_path / "nvidia-t4")

    assert load_run(tmp_path, "nvidia-t4", key=CHECKPOINT_KEY) is None


def test_a_finished_recording_leaves_nothing(tmp_path: Path) -> None:
    """The folder is gone, and everything else of the key stays."""
    obtained = obtain(tmp_path)
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)
    for suffix in (".safetensors", ".precise.safetensors"):
        checkpoint.checkpoint_path(tmp_path, KEY, INT8, suffix=suffix).touch()

    discard(tmp_path, KEY, case_keys=[INT8])
    discard(tmp_path, KEY, case_keys=[INT8])

    assert list(obtained.parent.iterdir()) == [obtained]
    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None


def test_discarding_takes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short while it deletes, it leaves nothing that would be taken for an interrupted recording."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", interrupted)
        discard(tmp_path, KEY, case_keys=[INT8])

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None


def test_a_checkpoint_is_no_baseline(tmp_path: Path) -> None:
    """Half a recording is compared with nothing and cannot be promoted."""
    store_run(tmp_path, KEY, key=CHECKPOINT_KEY, run=RUN)

    assert (store.gpu_keys(tmp_path), store.newest_baselines(tmp_path, KEY)) == ([], {})


def test_git_ignores_checkpoints() -> None:
    """An interrupted recording is never committed by accident."""
    ignored = (ROOT / "baselines" / ".gitignore").read_text().splitlines()

    assert f"{checkpoint.FOLDER}/" in ignored


def test_a_key_cannot_lead_elsewhere(tmp_path: Path) -> None:
    """Discarding never deletes outside of the folder of its GPU key."""
    with pytest.raises(ValueError, match="GPU key"):
        discard(tmp_path, "../elsewhere", case_keys=[INT8])


def test_discarding_leaves_the_checkpoints_of_other_cases(tmp_path: Path) -> None:
    """A finished recording of one stage does not delete the hours that were measured of another."""
    other = dataclasses.replace(CHECKPOINT_KEY, case_key=BF16)
    for key in (CHECKPOINT_KEY, other):
        store_run(tmp_path, KEY, key=key, run=of(key.case_key))

    discard(tmp_path, KEY, case_keys=[INT8])

    assert load_run(tmp_path, KEY, key=CHECKPOINT_KEY) is None
    assert load_run(tmp_path, KEY, key=other) == of(BF16)
