"""Code is generated once for equal versions, sources, case and target, and a process that fails is an unknown record."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from pathlib import Path

import pytest

from speedgate.gpu_code.jobs import Arm, Generator, Job, digest_sources
from speedgate.results.json_io import to_json, write_json
from tests.support.gpu_codes import CASE, make_code

JOB = Job(case_key=CASE, target="a100", arguments=("--record", "record.json"))
# Copies the record that the job names, and notes its call; without a record, and of one that is unknown, it fails.
MODULE = """
import pathlib, sys
folder = pathlib.Path(__file__).parent
with (folder / "calls").open("a") as calls:
    print(sys.argv[2], file=calls)
print("the last line")
pathlib.Path(sys.argv[4]).write_bytes((folder / sys.argv[2]).read_bytes())
sys.exit(sys.argv[2] in ("unknown.json", "crashed.json"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module that stands for the suite's, and one record."""
    (tmp_path / "fake_generator.py").write_text(MODULE)
    write_json(tmp_path / "record.json", to_json(make_code()))
    return tmp_path


def arm_of(folder: Path, **changes: str) -> Arm:
    """Make the arm of this interpreter."""
    versions = {"torch": "2.14.1"}
    return dataclasses.replace(Arm(python=sys.executable, paths=(str(folder),), versions=versions), **changes)


def open_generator(folder: Path) -> Generator:
    """Open a generator with its cache in the folder."""
    return Generator("fake_generator", cache=folder / "cache", processes=2)


def calls(folder: Path) -> int:
    """Return how many processes were started."""
    path = folder / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_record_is_made_once_and_kept(folder: Path) -> None:
    """A second session with equal versions and sources starts no process; with other sources it does."""
    arm = arm_of(folder)
    for session in range(2):
        with open_generator(folder) as generator:
            assert generator.has_record(arm, JOB) is (session > 0)
            assert [generator.record(arm, JOB) for _ in range(2)] == [make_code()] * 2
    assert calls(folder) == 1

    with open_generator(folder) as generator:
        generator.record(arm_of(folder, sources="other"), JOB)
    assert calls(folder) == 2


def test_a_process_starts_while_the_session_changes_its_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that starts a process does not read the variables that pytest sets and deletes for each test meanwhile."""
    with open_generator(folder) as generator:
        monkeypatch.setattr(os, "environ", {"PATH": 1})  # what no process could be started with

        assert generator.record(arm_of(folder), JOB) == make_code()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("missing.json", "no code was generated; it ended with exit status 1; FileNotFoundError: "),
        (
            "bad.json",
            "no code was generated; the record of sdxl-tiny/compile/32px-4steps-b1: missing field case_key; the last line",
        ),
        ("other.json", "no code was generated; it wrote the record of a/b/c for a100; the last line"),
        ("unknown.json", "a stub does not fit"),
        ("crashed.json", "no code was generated; it ended with exit status 1; the last line"),
    ],
)
def test_a_process_that_fails_is_unknown_and_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, record: str, reason: str
) -> None:
    """The reason is that of its record, or the exit status or the wrong field and the last line; nothing is kept of it."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    (folder / "bad.json").write_text("{}")
    write_json(folder / "other.json", to_json(make_code(case_key="a/b/c")))
    write_json(folder / "crashed.json", to_json(make_code()))
    write_json(folder / "unknown.json", to_json(make_code(versions={"torch": "2.14.1"}, unknown="a stub does not fit")))
    job = dataclasses.replace(JOB, arguments=("--record", record))

    for _ in range(2):
        with open_generator(folder) as generator:
            code = generator.record(arm_of(folder), job)

    assert code.unknown is not None
    assert code.unknown.startswith(reason)
    assert (code.versions, calls(folder)) == ({"torch": "2.14.1"}, 2)
    assert list((folder / "cache").iterdir()) == []


def test_each_new_record_is_noted_in_the_thread_that_asks(folder: Path) -> None:
    """A record that was made has a line, one that was kept has none, and no line is written by another thread."""
    notes: list[tuple[int, str]] = []

    def note(line: str) -> None:
        notes.append((threading.get_ident(), line))

    for _ in range(2):
        with Generator("fake_generator", cache=folder / "cache", processes=1, note=note) as generator:
            generator.record(arm_of(folder), JOB)

    ((thread, line),) = notes
    assert thread == threading.get_ident()
    assert line.startswith(f"{CASE} for a100: code generated in ")


def test_a_process_that_takes_too_long_is_ended(folder: Path) -> None:
    """After the time limit the process is killed and its record is unknown."""
    (folder / "fake_generator.py").write_text("import time\ntime.sleep(600)\n")

    with Generator("fake_generator", cache=folder / "cache", processes=1, timeout_s=0.05) as generator:
        code = generator.record(arm_of(folder), JOB)

    assert code.unknown == "no code was generated; it took longer than 0.05 s"


def test_the_end_of_a_session_stops_what_still_runs(folder: Path) -> None:
    """Leaving the block ends running processes and begins no waiting ones."""
    (folder / "fake_generator.py").write_text(MODULE + "import time\ntime.sleep(600)\n")
    jobs = [dataclasses.replace(JOB, target=f"t{number}") for number in range(5)]

    with open_generator(folder) as generator:
        generator.start(arm_of(folder), jobs)

    assert calls(folder) <= 2


def test_sources_are_those_that_generate_code(tmp_path: Path) -> None:
    """A change of the suite's files, or of a module that generates code, changes the digest; a missing module does not matter."""
    suite, module = tmp_path / "cases.py", tmp_path / "gpu_code" / "lowering.py"
    module.parent.mkdir()
    digests = set()
    for path, text in ((suite, "a"), (suite, "b"), (module, "a"), (module, "b")):
        path.write_text(text)
        digests.add(digest_sources([suite], package=tmp_path))

    assert len(digests) == 4
