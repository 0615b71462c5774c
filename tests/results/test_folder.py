"""Artifacts that somebody wrote to hurt us: what is refused, and that nothing of them reaches the disk."""

from __future__ import annotations

import io
import os
import random
import stat
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from speedgate.measure.machine import Machine
from speedgate.plugin.judgement import Gate
from speedgate.results import folder
from speedgate.results.folder import parse_results, read_archive, read_folder
from speedgate.results.run import Comparison, Outcome, Turns, Verdict
from tests.support.artifacts import NAME, SESSION, archive, encoded, result
from tests.support.baseline_samples import BF16, INT8, KEY, make_run
from tests.support.sessions import make_session


def spoiled(**changes: Any) -> bytes:
    """A result with some fields replaced."""
    return encoded(result() | changes)


def test_a_folder_and_an_archive_hold_the_same(tmp_path: Path) -> None:
    """The results of a folder are read as those of its archive."""
    (tmp_path / SESSION).mkdir()
    (tmp_path / NAME).write_bytes(encoded(result()))

    assert read_folder(tmp_path) == read_archive(archive({NAME: encoded(result())}))


def test_a_case_is_what_its_file_says() -> None:
    """Nothing is lost: whose it is, what was measured, how it was judged."""
    (case,) = parse_results({NAME: encoded(result(outcome="SLOWER"))})

    assert (case.session, case.gpu_key, case.case_key, case.outcome) == (SESSION, KEY, INT8, Outcome.SLOWER)
    assert case.run is not None
    assert len(case.run.processes) == 3


def test_what_a_session_writes_is_read(tmp_path: Path) -> None:
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


def test_caches_beside_the_results_are_left_alone(tmp_path: Path) -> None:
    """Other files that the suite writes into the same folder, links and deep folders included, are no results."""
    cache = tmp_path / "environments" / "a" / "b" / "c" / "d"
    cache.mkdir(parents=True)
    (cache / "x.json").write_text("no JSON")
    (tmp_path / "environments" / "link.json").symlink_to("/etc/passwd")

    assert read_folder(tmp_path) == {}
    assert read_archive(archive({"environments/a/b/c/d/x.json": b"no JSON"})) == {}


@pytest.mark.parametrize(
    "name",
    [
        "../x.json",
        "/etc/x.json",
        f"{SESSION}/../../x.json",
        "..\\x.json",
        "C:/x.json",
        f"{SESSION}//x.json",
        "./x.json",
    ],
)
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    """An archive that tries to leave its folder is refused, though nothing of it would have been unpacked."""
    with pytest.raises(ValueError, match="leads out of the archive"):
        read_archive(archive({name: encoded(result())}))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_an_entry_that_is_no_file_is_refused(kind: int) -> None:
    """A link in an archive is refused, wherever it leads."""
    with pytest.raises(ValueError, match="a link or a device"):
        read_archive(archive({NAME: b"/etc/passwd"}, mode=kind | 0o777))


@pytest.mark.parametrize("linked", [NAME, SESSION])
def test_a_link_in_a_folder_is_refused(tmp_path: Path, linked: str) -> None:
    """Neither a result nor a run's folder may be a link: it would show another file of the machine."""
    (tmp_path / linked).parent.mkdir(exist_ok=True)
    (tmp_path / linked).symlink_to("/etc/passwd")

    with pytest.raises(ValueError, match="a link; results are plain files"):
        read_folder(tmp_path)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe would be waited for until the job's time is up."""
    os.mkfifo(tmp_path / "case.json")

    with pytest.raises(ValueError, match="not a plain file"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["missing", "linked"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A mistyped folder is an error, not a run without results."""
    (tmp_path / "linked").symlink_to(tmp_path)

    with pytest.raises(ValueError, match="not a folder; name the one"):
        read_folder(tmp_path / name)


def test_a_hundred_megabytes_are_refused(tmp_path: Path) -> None:
    """A large file is refused in a folder, and in an archive that packs it small, before it is unpacked as a whole."""
    (tmp_path / "case.json").write_bytes(b"")
    os.truncate(tmp_path / "case.json", 100 * 2**20)
    bomb = archive({NAME: bytes(100 * 2**20)})

    assert len(bomb) < 2**20
    for read, given in ((read_folder, tmp_path), (read_archive, bomb)):
        with pytest.raises(ValueError, match=r"json: more than 4 MiB"):
            read(given)  # type: ignore[operator]


def test_a_bomb_is_not_unpacked_as_a_whole() -> None:
    """A file that unpacks to 100 MB is read only up to the limit."""
    bomb = archive({NAME: bytes(100 * 2**20)})
    tracemalloc.start()

    with pytest.raises(ValueError, match="more than 4 MiB"):
        read_archive(bomb)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 20 * 2**20


def test_many_files_are_refused_by_their_sum() -> None:
    """Files that are each small enough must not be too much together."""
    files = {f"{SESSION}/{index}.json": bytes(4 * 2**20) for index in range(33)}

    with pytest.raises(ValueError, match="the files together: more than 128 MiB"):
        read_archive(archive(files))


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of files is bounded, in both."""
    monkeypatch.setattr(folder, "MAX_FILES", 2)
    files = {f"{index}.json": b"{}" for index in range(3)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    with pytest.raises(ValueError, match="more than 2 files; results of one run are fewer: name its folder"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match="the archive: more than 2 files"):
        read_archive(archive(files))


def test_a_large_archive_is_refused_unread() -> None:
    """More than any run leaves is refused by its length."""
    with pytest.raises(ValueError, match="the archive: more than 64 MiB"):
        read_archive(bytes(64 * 2**20 + 1))


def test_a_name_that_stands_twice_is_refused() -> None:
    """One reader would show the first, another the last."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed, pytest.warns(UserWarning, match="Duplicate name"):
        packed.writestr(NAME, b"{}")
        packed.writestr(NAME, b"{}")

    with pytest.raises(ValueError, match="stands in the archive twice"):
        read_archive(stream.getvalue())


def test_a_damaged_archive_is_one_clear_error() -> None:
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
        (b"\xff\xfe", "not JSON"),
        (b"<html>", "not JSON"),
        (b"[" * 100_000, "not JSON|nested"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested more than"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": NaN}', "expected a finite number"),
        (b"1" * 5000, "not JSON"),
        (b"[]", "case.json: expected an object, found a list"),
        (b"{}", "case.json: missing field gpu_key"),
        (spoiled(extra=1), "unknown field extra"),
        (spoiled(gpu_key="x" * 201), "gpu_key: expected a text of length <= 200"),
        (spoiled(run={"case_key": "x"}), "run: missing field"),
        (encoded(result("x" * 201)), "run.case_key: expected a text of length <= 200"),
        (spoiled(verdicts=[result()["verdicts"][0]] * 201), "verdicts: expected a list of length <= 200"),
        (encoded(result(outcome="EXCELLENT")), r"verdicts\[0\].outcome: invalid enum value 'EXCELLENT'"),
        (encoded(result(explanation=["x"] * 21)), "explanation: expected a list of length <= 20"),
        (encoded(result(explanation=["x" * 2001])), r"explanation\[0\]: expected a text of length <= 2000"),
        (encoded(result(verdicts=result("other/case/key")["verdicts"])), "expected the result of one case, found 2"),
        (spoiled(run=None, verdicts=[]), "expected the result of one case, found 0"),
    ],
)
def test_what_is_no_result_is_refused(data: bytes, message: str) -> None:
    """Each departure from what the suite writes is a ValueError that names the place."""
    with pytest.raises(ValueError, match=message):
        parse_results({NAME: data})


def test_no_result_at_all_is_no_pass() -> None:
    """An empty artifact, or one of a bump's own files alone, is an error."""
    with pytest.raises(ValueError, match="a run that measured nothing is no pass"):
        parse_results({"nightly/verdict.json": b"{}"})


def test_a_description_is_no_measurement() -> None:
    """Where something is to be built, a case without a run does not count; one without rounds, of --skip-latency, does."""
    recipe = {"case_key": INT8, "claim": "recipe", "outcome": "PASS", "sentence": "s"}
    described, unmeasured = spoiled(run=None, verdicts=[recipe]), spoiled(run=result()["run"] | {"processes": []})

    with pytest.raises(ValueError, match="no case was built"):
        parse_results({NAME: described}, built=True)
    assert parse_results({NAME: unmeasured}, built=True)


def test_a_bump_is_read_where_it_lies(tmp_path: Path) -> None:
    """The cases of a bump count, its verdict and words are no cases, and the bisection's steps are left alone."""
    bump, bisect = tmp_path / "bump" / SESSION, tmp_path / "bisect" / "torch-1"
    (bisect / "2.14").mkdir(parents=True)
    bump.mkdir(parents=True)
    for path in (bump / "case.json", bisect / "2.14" / "case.json"):
        path.write_bytes(encoded(result()))
    for path in (bump / "verdict.json", bump / "summary.md", bisect / "state.json"):
        path.write_text("{}")

    assert [case.session for case in parse_results(read_folder(tmp_path))] == [f"bump/{SESSION}"]


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an archive leaves the current folder as it was."""
    monkeypatch.chdir(tmp_path)

    read_archive(archive({NAME: encoded(result())}))

    assert list(tmp_path.iterdir()) == []
