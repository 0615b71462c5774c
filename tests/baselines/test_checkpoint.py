"""What an interrupted recording leaves: it counts under the same conditions only, and never gets in the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speedgate.baselines import checkpoint, store
from speedgate.baselines.checkpoint import Conditions, discard, keep, kept
from speedgate.results.run import Process, Run
from tests.support.baseline_samples import BF16, COLD, INT8, KEY, make_run, obtain

ROOT = Path(__file__).parents[2]
CONDITIONS = Conditions(
    case_key=INT8,
    rounds=2,
    environment={"torch": "2.13.0", "gpus": ["a", "b"]},
    source="0" * 64,
    weights={"source": "synthetic", "revisions": {}},
)
PROCESSES = (
    Process(seconds=(2.4, 2.5), peak_bytes=(7, 9), cold_start=COLD),
    Process(
        seconds=(2.6, 2.7), peak_bytes=(7, 8), cold_start=COLD, void=("the clock fell",), health={"throttled": None}
    ),
)
RUN = dataclasses.replace(
    make_run(), processes=PROCESSES, counts={"graphs": 2}, parity={"ssim": 0.998, "step_gain": None}
)


def folder(root: Path) -> Path:
    return root / KEY / "recording"


def kept_file(root: Path) -> Path:
    return folder(root) / "sdxl__int8__1024px-30steps-b1.json"


def of(case_key: str, *, processes: int = 2) -> Run:
    """What is kept of another case, or of fewer processes."""
    return dataclasses.replace(RUN, case_key=case_key, processes=PROCESSES[:processes])


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    """Every process of an interrupted recording, and whatever else was learned of the case, counts when it is recorded again."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)

    assert kept(tmp_path, KEY, conditions=CONDITIONS) == RUN
    assert list(folder(tmp_path).iterdir()) == [kept_file(tmp_path)]


def test_a_copied_recording_counts_on_the_next_machine(tmp_path: Path) -> None:
    """Copying the folder of a recording is enough to continue it elsewhere."""
    keep(tmp_path / "first", KEY, conditions=CONDITIONS, run=RUN)

    shutil.copytree(tmp_path / "first", tmp_path / "second")
    shutil.rmtree(tmp_path / "first")

    assert kept(tmp_path / "second", KEY, conditions=CONDITIONS) == RUN


def test_nothing_is_kept_before_the_first_process(tmp_path: Path) -> None:
    """Asking makes no file."""
    assert kept(tmp_path, KEY, conditions=CONDITIONS) is None
    assert list(tmp_path.iterdir()) == []


def test_keeping_replaces_what_was_kept_of_the_case_alone(tmp_path: Path) -> None:
    """After each process all of the case so far are kept, once; other cases keep theirs."""
    other = dataclasses.replace(CONDITIONS, case_key=BF16)
    keep(tmp_path, KEY, conditions=other, run=of(BF16, processes=1))
    keep(tmp_path, KEY, conditions=CONDITIONS, run=of(INT8, processes=1))
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)

    assert kept(tmp_path, KEY, conditions=CONDITIONS) == RUN
    assert kept(tmp_path, KEY, conditions=other) == of(BF16, processes=1)


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
def test_other_conditions_start_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    """What was measured with other rounds, weights, versions or code never counts, and is set aside as it is."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)
    before = kept_file(tmp_path).read_bytes()

    assert kept(tmp_path, KEY, conditions=dataclasses.replace(CONDITIONS, **change)) is None

    aside = kept_file(tmp_path).with_name(f"previous-{kept_file(tmp_path).name}")
    assert list(folder(tmp_path).iterdir()) == [aside]
    assert aside.read_bytes() == before


def test_another_recipe_starts_anew(tmp_path: Path) -> None:
    """Where it is known how the stage is built now, what was built differently never counts."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)

    assert kept(tmp_path, KEY, conditions=CONDITIONS, fingerprint="f00d") == RUN
    assert kept(tmp_path, KEY, conditions=CONDITIONS, fingerprint="beef") is None


def test_conditions_are_compared_as_they_are_stored(tmp_path: Path) -> None:
    """A tuple is the list that JSON makes of it, and the order of keys means nothing."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)
    environment = {"gpus": ("a", "b"), "torch": "2.13.0"}

    found = kept(tmp_path, KEY, conditions=dataclasses.replace(CONDITIONS, environment=environment))

    assert found == RUN


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
    """Whatever lies there under the name, the recording starts anew and nothing is lost."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)
    spoilt = spoil(kept_file(tmp_path).read_text())
    kept_file(tmp_path).write_text(spoilt)

    assert kept(tmp_path, KEY, conditions=CONDITIONS) is None
    assert [path.read_text() for path in folder(tmp_path).glob("previous-*")] == [spoilt]


def test_a_link_is_set_aside_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    """A link to nowhere is a broken file like any other, and nothing is written through one."""
    target = tmp_path / "precious"
    folder(tmp_path).mkdir(parents=True)
    kept_file(tmp_path).symlink_to(target)

    assert kept(tmp_path, KEY, conditions=CONDITIONS) is None
    kept_file(tmp_path).symlink_to(target)
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)

    assert not target.exists()
    assert kept(tmp_path, KEY, conditions=CONDITIONS) == RUN


def test_another_key_keeps_its_own(tmp_path: Path) -> None:
    """Processes never count for another GPU key, not even where the files were copied."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)
    shutil.copytree(tmp_path / KEY, tmp_path / "nvidia-t4")

    assert kept(tmp_path, "nvidia-t4", conditions=CONDITIONS) is None


def test_a_finished_recording_leaves_nothing(tmp_path: Path) -> None:
    """The folder is gone, and everything else of the key stays."""
    obtained = obtain(tmp_path)
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)
    for suffix in (".safetensors", ".precise.safetensors"):
        checkpoint.path_of(tmp_path, KEY, INT8, suffix=suffix).touch()

    discard(tmp_path, KEY, case_keys=[INT8])
    discard(tmp_path, KEY, case_keys=[INT8])

    assert list(obtained.parent.iterdir()) == [obtained]
    assert kept(tmp_path, KEY, conditions=CONDITIONS) is None


def test_discarding_takes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short while it deletes, it leaves nothing that would be taken for an interrupted recording."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", interrupted)
        discard(tmp_path, KEY, case_keys=[INT8])

    assert kept(tmp_path, KEY, conditions=CONDITIONS) is None


def test_what_is_kept_is_no_baseline(tmp_path: Path) -> None:
    """Half a recording is compared with nothing and cannot be promoted."""
    keep(tmp_path, KEY, conditions=CONDITIONS, run=RUN)

    assert (store.known_keys(tmp_path), store.load(tmp_path, KEY)) == ([], {})


def test_git_does_not_see_what_is_kept() -> None:
    """An interrupted recording is nobody's commit."""
    ignored = (ROOT / "baselines" / ".gitignore").read_text().splitlines()

    assert f"{checkpoint.FOLDER}/" in ignored


def test_a_key_cannot_lead_elsewhere(tmp_path: Path) -> None:
    """A key is one folder name, also for what is thrown away."""
    with pytest.raises(ValueError, match="GPU key"):
        discard(tmp_path, "../elsewhere", case_keys=[INT8])


def test_discarding_leaves_what_is_kept_of_other_cases(tmp_path: Path) -> None:
    """A recording of one stage that is finished does not cost another one the hours that it was interrupted after."""
    other = dataclasses.replace(CONDITIONS, case_key=BF16)
    for conditions in (CONDITIONS, other):
        keep(tmp_path, KEY, conditions=conditions, run=of(conditions.case_key))

    discard(tmp_path, KEY, case_keys=[INT8])

    assert kept(tmp_path, KEY, conditions=CONDITIONS) is None
    assert kept(tmp_path, KEY, conditions=other) == of(BF16)
