"""`speedgate history import` and `upgrade`: which runs are added, and which input is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

from speedgate.cli import main
from speedgate.history import database, queries
from speedgate.results.json_io import write_json
from tests.support.baseline_samples import INT8
from tests.support.history_samples import commit, document, session_folder

RECIPE = {"case_key": INT8, "claim": "recipe", "outcome": "PASS", "sentence": "as described"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Create an empty history."""
    url = database.sqlite_url(tmp_path / "history.sqlite")
    database.prepare_history(url)
    return url


@pytest.mark.parametrize(
    "no_run",
    [
        document(run=document()["run"] | {"processes": []}, verdicts=[]),  # others were compared with it
        document(run=None, verdicts=[RECIPE]),  # it was described
        document() | {"unfinished": True},  # a recording that goes on
    ],
)
def test_what_was_not_measured_to_its_end_is_no_run(url, tmp_path, capsys, no_run):
    """An import adds only cases that this machine measured or lost, and only when their recording is finished."""
    write_json(tmp_path / "results" / "sdxl__bf16__1px.json", no_run)
    write_json(tmp_path / "results" / "sdxl__int8__1px.json", document(number=1))

    assert main(["history", "import", str(tmp_path / "results"), "--history", url]) == 0
    assert ": 1 added" in capsys.readouterr().out
    assert [point.commit for series in queries.read_series(url) for point in series.points] == [commit(1)["id"]]


def test_an_upgrade_makes_no_history(tmp_path, capsys):
    """A mistyped path is an error, and nothing is created there."""
    url = database.sqlite_url(tmp_path / "mistyped" / "history.sqlite")

    assert main(["history", "upgrade", "--history", url]) == 2
    assert capsys.readouterr().err == f"speedgate: history {url}: there is no such file\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    """A folder that cannot be created is one line with the history, without the number of the system's error."""
    (tmp_path / "file").touch()
    url = database.sqlite_url(tmp_path / "file" / "history.sqlite")

    with pytest.raises(ValueError, match=rf"^history {url}: {tmp_path}/file cannot be created: File exists$"):
        database.prepare_history(url)


def test_a_broken_result_is_named_with_its_folder(url, tmp_path, capsys):
    """A broken result is named with its folder, because two folders may contain files of the same name."""
    for name in ("a", "b"):
        session_folder(tmp_path / name)
    (path,) = (tmp_path / "b").iterdir()
    path.write_text(path.read_text()[:100])

    assert main(["history", "import", str(tmp_path / "a"), str(tmp_path / "b"), "--history", url]) == 2
    assert capsys.readouterr().err.startswith(f"speedgate: {tmp_path / 'b'}: {path.name}: not JSON")
    assert queries.read_series(url) == []


@pytest.mark.parametrize(
    "text", ["u:S3cret@host", "u:S3cret", "postgresql://u:SEC@RET@127.0.0.1:1/S3cret", "x:S3cret@h://"]
)
def test_a_url_that_is_none_is_not_repeated(text):
    """The error names the expected URL and never repeats any part of a password."""
    with pytest.raises(ValueError, match=r"expected a URL|as %40") as caught:
        database.check_url(text)
    assert not re.search("SEC|RET|S3cret", str(caught.value))
