"""Artifacts that somebody wrote to hurt us: what is refused, and that nothing of them reaches the disk."""

from __future__ import annotations

import io
import os
import random
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from speedgate.measure.machine import Machine
from speedgate.plugin.judgement import Gate
from speedgate.results import folder
from speedgate.results.folder import parse_results, read_archive, read_folder
from speedgate.results.json_io import to_json
from speedgate.results.run import Comparison, Outcome, Turns, Verdict
from tests.support.artifacts import NAME, SESSION, archive, encoded, result
from tests.support.baseline_samples import BF16, INT8, KEY, make_confirmation, make_run
from tests.support.sessions import make_session


def spoiled(**changes: Any) -> bytes:
    """A result with some fields replaced."""
    return encoded(result() | changes)


def confirmed(**changes: Any) -> bytes:
    """A result with a confirmation some of whose fields are replaced."""
    return spoiled(confirmation=to_json(make_confirmation()) | changes)


PAIRS = to_json(make_confirmation())["comparison"]


def test_a_folder_and_an_archive_hold_the_same(tmp_path, monkeypatch):
    """The results of a folder are read as those of its archive, and nothing of an archive reaches the disk."""
    (tmp_path / "results" / SESSION).mkdir(parents=True)
    (tmp_path / "results" / NAME).write_bytes(encoded(result()))
    monkeypatch.chdir(tmp_path)

    assert read_folder(tmp_path / "results") == read_archive(archive({NAME: encoded(result())}))
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_case_is_described_by_its_file():
    """Nothing is lost: whose it is, what was measured, how it was judged."""
    (case,) = parse_results({NAME: encoded(result(outcome="SLOWER"))})

    assert (case.session, case.gpu_key, case.case_key, case.outcome) == (SESSION, KEY, INT8, Outcome.SLOWER)
    assert case.run is not None
    assert len(case.run.processes) == 3


def test_what_a_session_writes_is_read(tmp_path):
    """A field that the suite comes to write and this reader does not know would make every result a refused one."""
    machine = Machine(key=KEY, device="cuda", name="A100", memory_bytes=1)
    session = make_session(tmp_path, machine=machine)
    gate = Gate(session)
    run = session.store_run(make_run())
    session.store_comparison(Comparison(case_key=INT8, label="other", other=run, turns=Turns.ROUNDS))
    gate.add(Verdict(case_key=INT8, claim="latency", outcome=Outcome.PASS, sentence="s"))
    gate.parity(Verdict(case_key=INT8, claim="parity", outcome=Outcome.DIFFERENT, sentence="s"), {"ssim": float("nan")})
    gate.facts(BF16, "recipe", expected={"a": 1}, observed={"a": 2})

    results = parse_results(read_folder(tmp_path / "results"))

    assert [(case.case_key, case.outcome, case.run is None) for case in results] == [
        (BF16, Outcome.NOT_APPLIED, True),
        (INT8, Outcome.DIFFERENT, False),
    ]


def test_caches_beside_the_results_are_left_alone(tmp_path):
    """Other files that the suite writes into the same folder, links and deep folders included, are no results."""
    cache = tmp_path / "environments" / "a" / "b" / "c" / "d"
    cache.mkdir(parents=True)
    (cache / "x.json").write_text("no JSON")
    (tmp_path / "environments" / "link.json").symlink_to("/etc/passwd")

    assert read_folder(tmp_path) == {}
    assert read_archive(archive({"environments/a/b/c/d/x.json": b"no JSON"})) == {}


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        *(
            (name, stat.S_IFREG, "leads out of the archive")
            for name in ("../x.json", "/etc/x.json", f"{SESSION}/../../x.json", "..\\x.json", "C:/x.json", "a//x.json")
        ),
        *((NAME, kind, "a link or a device") for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR)),
    ],
)
def test_an_entry_that_is_no_plain_file_in_the_archive_is_refused(name, mode, message):
    """A name that leads out, a link or a device makes the whole archive refused, though nothing would be unpacked."""
    with pytest.raises(ValueError, match=message):
        read_archive(archive({name: encoded(result())}, mode=mode | 0o777))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (NAME, lambda path: path.symlink_to("/etc/passwd"), "a link; results are plain files"),
        (SESSION, lambda path: path.symlink_to("/etc"), "a link; results are plain files"),
        ("case.json", os.mkfifo, "not a plain file"),
    ],
)
def test_a_file_of_a_folder_has_to_be_plain(tmp_path, name, make, message):
    """A link would show another file of the machine, and a pipe would be waited for until the job's time is up."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    make(tmp_path / name)

    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["missing", "linked"])
def test_a_mistyped_folder_is_refused(tmp_path, name):
    """A missing folder, or a link, is an error and not a run without results."""
    (tmp_path / "linked").symlink_to(tmp_path)

    with pytest.raises(ValueError, match="not a folder; name the one"):
        read_folder(tmp_path / name)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A large file is refused in a folder, and in an archive that packs it small; it is read only up to the limit."""
    (tmp_path / "case.json").write_bytes(b"")
    os.truncate(tmp_path / "case.json", 40 * 2**20)
    bomb = archive({NAME: bytes(40 * 2**20)})
    readers: list[tuple[Callable[[Any], Any], Any]] = [(read_folder, tmp_path), (read_archive, bomb)]

    tracemalloc.start()
    for read, given in readers:
        with pytest.raises(ValueError, match=r"json: more than 4 MiB"):
            read(given)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(bomb) < 2**20
    assert peak_bytes < 20 * 2**20


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_FILES", 2, "more than 2 files; results of one run are fewer: name its folder"),
        ("MAX_TOTAL_BYTES", 2**20, "the files together: more than 1 MiB"),
    ],
)
def test_many_small_files_are_refused(tmp_path, monkeypatch, limit, value, message):
    """Small files are bounded by their number and sum, in a folder and in an archive, and an archive by its length, unread."""
    monkeypatch.setattr(folder, limit, value)
    files = {f"{index}.json": bytes(400_000) for index in range(3)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match=message.partition(";")[0]):
        read_archive(archive(files))
    monkeypatch.setattr(folder, "MAX_ARCHIVE_BYTES", 2**20)
    with pytest.raises(ValueError, match="the archive: more than 1 MiB"):
        read_archive(bytes(2**20 + 1))


def test_a_name_that_stands_twice_is_refused():
    """One reader would show the first, another the last."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed, pytest.warns(UserWarning, match="Duplicate name"):
        packed.writestr(NAME, b"{}")
        packed.writestr(NAME, b"{}")

    with pytest.raises(ValueError, match="stands in the archive twice"):
        read_archive(stream.getvalue())


def test_a_damaged_archive_is_one_clear_error():
    """Whatever bytes an artifact has, reading it ends in results or in a ValueError: 300 random damages."""
    whole, dice = archive({NAME: encoded(result())}), random.Random(0)  # noqa: S311
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole[: dice.choice([len(whole), dice.randrange(len(whole))])])
        for _ in range(dice.randrange(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256) if damaged else 0
        try:
            parse_results(read_archive(bytes(damaged)))
        except ValueError:
            refused += 1

    assert refused > 100


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "not JSON"),
        (b'{"a": NaN}', "expected a finite number"),
        (b"{}", "case.json: missing field gpu_key"),
        (spoiled(verdicts=[result()["verdicts"][0]] * 201), "verdicts: expected a list of length <= 200"),
        (encoded(result(outcome="EXCELLENT")), r"verdicts\[0\].outcome: invalid enum value 'EXCELLENT'"),
        (encoded(result(verdicts=result("other/case/key")["verdicts"])), "expected the result of one case, found 2"),
        (spoiled(run=None, verdicts=[]), "expected the result of one case, found 0"),
        (confirmed(case_key=BF16), "expected a comparison of 'sdxl/bf16"),
        (confirmed(case_key=BF16, comparison=None), "expected the result of one case, found 2"),
        (confirmed(stored_ratio=0.0), "confirmation.stored_ratio: expected a number"),
        (confirmed(comparison=PAIRS | {"log_ratios": [1e300] * 6}), "expected ratios of at most 1000000"),
        (confirmed(comparison=PAIRS | {"log_ratios": [0.1]}), "expected an order and a process of each arm"),
    ],
)
def test_what_is_no_result_is_refused(data, message):
    """Each departure from what the suite writes is a ValueError that names the place."""
    with pytest.raises(ValueError, match=message):
        parse_results({NAME: data})


def test_a_description_is_no_measurement():
    """No result is no pass; where something is to be built, a case without a run does not count, one without rounds does."""
    recipe = {"case_key": INT8, "claim": "recipe", "outcome": "PASS", "sentence": "s"}
    described, unmeasured = spoiled(run=None, verdicts=[recipe]), spoiled(run=result()["run"] | {"processes": []})

    with pytest.raises(ValueError, match="a run that measured nothing is no pass"):
        parse_results({"nightly/verdict.json": b"{}"})
    with pytest.raises(ValueError, match="no case was built"):
        parse_results({NAME: described}, built=True)
    assert parse_results({NAME: unmeasured}, built=True)


def test_a_bump_is_read_where_it_lies(tmp_path):
    """The cases of a bump count, its verdict and words are no cases, and the bisection's steps are left alone."""
    bump, bisect = tmp_path / "bump" / SESSION, tmp_path / "bisect" / "torch-1"
    (bisect / "2.14").mkdir(parents=True)
    bump.mkdir(parents=True)
    for path in (bump / "case.json", bisect / "2.14" / "case.json"):
        path.write_bytes(encoded(result()))
    for path in (bump / "verdict.json", bump / "summary.md", bisect / "state.json"):
        path.write_text("{}")

    assert [case.session for case in parse_results(read_folder(tmp_path))] == [f"bump/{SESSION}"]
