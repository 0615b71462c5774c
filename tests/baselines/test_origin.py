"""A recording remembers its code and its packages, keeps the archive that it needs, and promotion says what is missing."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import msgspec
import pytest

from speedgate.baselines import origin, promote, source, store
from speedgate.baselines.origin import RecordedCode
from speedgate.cli import main
from speedgate.results.run import Origin, Run
from tests.support.baseline_samples import BF16, INT8, KEY, make_run, obtain
from tests.support.git_repository import Repository

CODE = RecordedCode(digest="d" * 64, commit="c" * 40)
HERE = {"torch": "2.0", "numpy": "2.4"}


def with_packages(case_key: str = INT8, **packages: str) -> Run:
    return msgspec.structs.replace(make_run(case_key), packages=packages)


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / KEY).iterdir())


def test_each_recorded_case_has_its_origin(tmp_path):
    """Read back, all cases share one environment, so that one is made for all; the packages are not stored twice."""
    path = obtain(tmp_path, with_packages(INT8, torch="2.0"), with_packages(BF16, torch="2.0", scipy="1"), code=CODE)

    cases = store.read_file(path, gpu_key=KEY).baselines

    expected = Origin(
        python=platform.python_version(),
        packages={"scipy": "1", "torch": "2.0"},
        code_digest=CODE.digest,
        commit=CODE.commit,
    )
    assert [cases[key].origin for key in (INT8, BF16)] == [expected] * 2
    assert path.read_text().count('"scipy"') == 2


def test_a_package_that_changed_during_a_recording_is_that_of_each_case(tmp_path):
    """The versions of another session's cases never replace those that a case's own worker imported."""
    runs = [with_packages(INT8, torch="2.0"), with_packages(BF16, torch="2.1")]

    versions = {key: recorded.packages["torch"] for key, recorded in origin.origins(runs, CODE).items()}

    assert versions == {INT8: "2.0", BF16: "2.1"}


def test_a_suite_or_a_worker_that_does_not_say_has_no_origin(tmp_path):
    """An older worker, or a suite without known code, still records a baseline."""
    path = obtain(tmp_path, make_run(INT8), with_packages(BF16, torch="2"), code=CODE)
    assert store.read_file(path, gpu_key=KEY).baselines[INT8].origin is None

    path = obtain(tmp_path, with_packages(INT8, torch="2.0"))
    assert store.read_file(path, gpu_key=KEY).baselines[INT8].origin is None


def test_an_archive_stays_as_long_as_a_file_names_it(tmp_path):
    """A promoted one is kept; those of recordings that were replaced are not."""
    codes = [RecordedCode(digest="d" * 64, files={"fixtures/a.py": data}) for data in (b"1", b"2", b"3")]
    promoted, first, _ = (code.archive[0] for code in codes)
    obtain(tmp_path, with_packages(torch="2.0"), code=codes[0])
    promote.promote(tmp_path, KEY)
    assert files(tmp_path) == ["0001_recorded.json", promoted]

    obtain(tmp_path, with_packages(torch="2.0"), code=codes[1])
    store.set_aside_obtained(tmp_path, KEY)
    names = ["0001_recorded.json", "previous-obtained.json", promoted, first]
    assert files(tmp_path) == sorted(names)

    for code in (codes[2], CODE):
        obtain(tmp_path, with_packages(torch="2.0"), code=code)
        store.set_aside_obtained(tmp_path, KEY)
    assert files(tmp_path) == sorted(["0001_recorded.json", "previous-obtained.json", promoted])


def test_the_code_of_a_clean_checkout_is_its_commit(tmp_path):
    """Code in no commit is kept as it is on disk when the recording begins."""
    repository = Repository(tmp_path)
    assert origin.read_code(tmp_path, repository.code, digest="d") == RecordedCode(digest="d", commit=repository.first)

    repository.write({"fixtures/__init__.py": "CHANGED = 1\n"})
    code = origin.read_code(tmp_path, repository.code, digest="d")

    repository.write({"fixtures/__init__.py": "CHANGED_LATER = 1\n"})

    assert (code.commit, code.files["fixtures/__init__.py"]) == (None, b"CHANGED = 1\n")


def test_promotion_says_what_is_missing_to_make_the_arm_again(tmp_path, capsys, monkeypatch):
    """The new file is written all the same; each problem is a line, and a baseline that can be made again has none."""
    repository = Repository(tmp_path)
    root = tmp_path / "baselines"
    monkeypatch.setattr(origin, "installed_version", HERE.get)
    monkeypatch.setattr(origin, "_is_local", lambda name: name == "local")

    def promoted(*runs: Run, code: RecordedCode | None, **fields: Any) -> list[str]:
        obtain(root, *runs, code=code, **fields)
        assert main(["--root", str(root), "promote", KEY]) == 0
        *notes, last = capsys.readouterr().out.splitlines()
        assert last.endswith("review it, then commit it")
        return [note.partition("confirm a suspicion yet: ")[2] for note in notes]

    good = RecordedCode(digest="d", commit=repository.first)
    assert promoted(with_packages(INT8, **HERE), code=good) == []
    assert promoted(make_run(INT8), with_packages(BF16, **HERE), code=good) == [
        "its code and its packages were not recorded"
    ]

    other = RecordedCode(digest="d", commit="0" * 40)
    monkeypatch.setitem(HERE, "local", "1")
    assert promoted(with_packages(INT8, numpy="1.9", torch="2.0", local="1"), code=other) == [
        "commit 000000000000 is not in this clone: fetch it, or it is of another repository",
        "not installed here: numpy 1.9; it was not checked whether an index still has them",
        "not from an index: local 1; they cannot be installed again",
    ]

    archive = RecordedCode(digest="d", files=source.read_folders(repository.code))
    path = root / KEY / archive.archive[0]
    assert promoted(with_packages(INT8, torch="2.0"), code=archive) == [
        f"its code is in no commit; commit the archive {path} too"
    ]
    repository.commit({})
    assert "its code" not in " ".join(promoted(with_packages(INT8, torch="2.0"), code=archive))


@pytest.mark.parametrize("packages", [{"torch": ""}, {"torch": 2}, {str(number): "1" for number in range(1001)}])
def test_an_origin_that_nobody_recorded_is_refused(packages):
    """A name or version of another kind, or too many of them, is found when the file is read."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"python": "3.11", "packages": packages, "code_digest": "d"}, Origin)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"commit": "--output=a-file"}, "commit: expected 40 or 64 hexadecimal digits"),
        ({"commit": "main"}, "commit: expected 40 or 64 hexadecimal digits"),
        ({"archive": "../../source-0123456789abcdef.zip"}, "archive: expected a name as source-0123456789abcdef.zip"),
        ({"archive": "a" * 9000}, "archive: expected a name as source-0123456789abcdef.zip"),
        ({"python": "\x1b[31m3.11\n"}, "python: expected a version of Python"),
    ],
)
def test_an_origin_that_names_no_code_is_refused_when_its_file_is_read(tmp_path, changes, message):
    """Before anything is built, in one short line with the file and the field; `speedgate check` finds it too."""
    path = obtain(tmp_path, with_packages(INT8, **HERE), code=CODE)
    document = json.loads(path.read_text("utf-8"))
    document["benchmarks"][0]["extra_info"]["speedgate"]["origin"].update(changes)
    path.write_text(json.dumps(document), "utf-8")

    with pytest.raises(ValueError, match=rf"extra_info\.speedgate\.origin\.{message}, found ") as error:
        store.read_file(path, gpu_key=KEY)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400 + len(str(path))


def test_packages_are_named_without_control_characters():
    """The sentence is shown in terminals and logs, where an escape could hide it."""
    assert origin.name_packages({"a\x1b[31m": "1\n"}) == "a?[31m 1?"
