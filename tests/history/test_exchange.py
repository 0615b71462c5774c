"""`speedgate history import` and `export`: a round trip changes nothing, and truncated files are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

from speedgate.cli import main
from speedgate.history import database, queries
from speedgate.history.entries import entry_from_result
from speedgate.results.json_io import write_json
from tests.support.artifacts import HOSTILE
from tests.support.baseline_samples import BF16, INT8, KEY, make_document, make_run, obtain
from tests.support.history_samples import document, entry, session_folder

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "baselines" / KEY / "0001_published.json"


def new(tmp_path: Path, name: str) -> str:
    """Return the URL of a history that does not exist yet."""
    return database.sqlite_url(tmp_path / f"{name}.sqlite")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Create a history with every kind of run: measured, lost, published, and one with hostile texts."""
    url = new(tmp_path, "history")
    assert main(["history", "import", str(PUBLISHED), "--history", url]) == 0
    hostile = document(BF16, gpu_key=HOSTILE[:150], number=5)
    hostile["verdicts"][0]["sentence"] = HOSTILE + "\0"
    hostile["run"]["environment"] = {"torch": HOSTILE}
    lost = document(outcome="INVALID", run=None, number=6)
    samples = [
        *(entry(number=number) for number in range(3)),
        *(entry_from_result(result, where="s") for result in (hostile, lost)),
    ]
    queries.add_entries(url, samples)
    return url


def history(*arguments: Any) -> int:
    """Run `speedgate history` and return its exit status."""
    return main(["history", *map(str, arguments)])


def test_a_round_trip_changes_nothing(url, tmp_path):
    """An export, imported into an empty history and exported again, has the same bytes."""
    first, second, other = tmp_path / "1.json", tmp_path / "2.json", new(tmp_path, "other")

    assert history("export", first, "--history", url) == 0
    assert history("import", first, "--history", other) == 0
    assert history("export", second, "--history", other) == 0

    assert first.read_bytes() == second.read_bytes()
    assert queries.read_series(url, source=None) == queries.read_series(other, source=None)


def test_an_import_of_what_is_there_adds_nothing(url, tmp_path, capsys):
    """Importing a history's own export adds nothing."""
    history("export", tmp_path / "1.json", "--history", url)

    assert history("import", tmp_path / "1.json", "--history", url) == 0
    assert "0 added, 29 already stored" in capsys.readouterr().out


def test_postgresql_and_sqlite_hold_the_same(postgres, url, tmp_path):
    """Exports from PostgreSQL and SQLite are equal to the byte: no number, text or order differs."""
    there = postgres.create("exchange")
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    history("export", first, "--history", url)

    assert history("import", first, "--history", there) == 0
    assert history("export", second, "--history", there) == 0

    assert first.read_bytes() == second.read_bytes()
    assert queries.read_series(there, source=None) == queries.read_series(url, source=None)


def test_pytest_benchmark_compares_an_export(url, tmp_path):
    """`pytest-benchmark compare` shows the runs of an export side by side."""
    history("export", tmp_path / "1.json", "--history", url, "--case", INT8, "--gpu-key", KEY)
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "1.json", "--columns=median,rounds"]

    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert process.returncode == 0, process.stderr
    assert f"benchmark '{INT8} on {KEY}': 4 tests" in process.stdout  # three of ours and the published one


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused_as_a_whole(url, tmp_path, share, capsys):
    """A truncated export is one line of error with its name, and no history is created."""
    path, other = tmp_path / "1.json", new(tmp_path, "other")
    history("export", path, "--history", url)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])

    assert history("import", path, "--history", other) == 2

    err = capsys.readouterr().err
    assert str(path) in err
    assert err.count("\n") == 1
    assert not (tmp_path / "other.sqlite").exists()


def test_a_result_that_was_cut_short_lets_none_of_its_folder_in(tmp_path, capsys):
    """If one result is truncated, no result of its folder is added: half a session would look like a whole one."""
    folder = session_folder(tmp_path / "results", document(INT8), document(BF16))
    path = next(folder.iterdir())
    path.write_bytes(path.read_bytes()[:-30])

    assert history("import", folder, "--history", new(tmp_path, "other")) == 2
    assert f"{path.name}: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "other.sqlite").exists()


def test_what_pytest_benchmark_saved_is_imported(tmp_path):
    """A file of `pytest bench --benchmark-json` can be imported, and gives the same run as its results folder."""
    url, result = new(tmp_path, "history"), document()
    saved = make_document()
    saved["benchmarks"][0]["extra_info"]["speedgate"] = result
    write_json(tmp_path / "saved.json", saved)

    assert history("import", tmp_path / "saved.json", session_folder(tmp_path / "results"), "--history", url) == 0
    assert [len(series.points) for series in queries.read_series(url)] == [1]


def test_published_figures_are_kept_apart(url):
    """Published figures are in the history, but in a series only if requested."""
    assert sum(len(series.points) for series in queries.read_series(url)) == 5
    assert sum(len(series.points) for series in queries.read_series(url, source="published")) == 24


def test_a_baseline_file_without_a_gpu_key_is_refused(tmp_path, capsys):
    """A series belongs to one GPU key, so figures without one cannot be imported."""
    path, baseline = tmp_path / "0001_a.json", make_document()
    del baseline["machine_info"]["speedgate"]["gpu_key"]
    write_json(path, baseline)

    assert history("import", path, "--history", new(tmp_path, "other")) == 2
    assert f"{path}: machine_info.speedgate.gpu_key: missing" in capsys.readouterr().err


def test_a_recording_that_failed_is_refused(tmp_path, capsys):
    """A baseline file of a failed recording is refused: it has no verdicts, so it would look like a good run."""
    path = obtain(tmp_path, make_run(), failed={INT8: "test_parity"})

    assert history("import", path, "--history", new(tmp_path, "other")) == 2
    assert "a failing case is never a baseline" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["figures.parquet", "figures"])
def test_an_export_is_json(url, tmp_path, name, capsys):
    """An export with another suffix is refused, and the error names the right one."""
    assert history("export", tmp_path / name, "--history", url) == 2
    assert "expected a name that ends in .json" in capsys.readouterr().err


def test_an_empty_export_is_an_error(url, tmp_path, capsys):
    """An export of a misspelt case is an error and writes no file."""
    assert history("export", tmp_path / "1.json", "--history", url, "--case", "sdxl/int9") == 2
    assert "holds no such run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["history.sqlite"]


def test_a_missing_history_is_an_error(tmp_path, capsys):
    """Reading a missing history is an error and creates no file."""
    assert history("export", tmp_path / "1.json", "--history", new(tmp_path, "other")) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("import", PUBLISHED), ("export", "1.json"), ("upgrade",)])
def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, capsys, arguments):
    """A missing extra is one line with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert history(*arguments, "--history", new(tmp_path, "other")) == 2
    assert "pip install 'speedgate[history]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("history.sqlite", "history.sqlite: expected a URL, sqlite:///FILE or"),
        ("mysql://me:secret@host/db", "mysql://...: expected sqlite:///FILE or"),
        ("sqlite://", "a database in memory is lost"),
        ("sqlite:///:memory:", "a database in memory is lost"),
        ("postgresql://me:secret@host:port/db", "not a valid URL"),
        ("postgresql://me:secret@127.0.0.1:1/db", "history postgresql://me@127.0.0.1:1/db: connection failed"),
        ("postgresql://me@127.0.0.1:1/db?password=secret", "history postgresql://me@127.0.0.1:1/db: connection failed"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line_without_its_password(url, message, capsys):
    """A wrong URL, or one without a server, is one line of error without the password."""
    assert history("import", PUBLISHED, "--history", url) == 2

    err = capsys.readouterr().err
    assert message in err
    assert "secret" not in err
    assert err.count("\n") == 1


def test_a_driver_that_repeats_the_password_is_not_repeated():
    """A password inside the message of a driver is replaced."""
    url = "postgresql://me:s3cr3t@host/db"

    assert database.message_without_password("invalid\n port in s3cr3t@host", url) == "invalid port in ***@host"
    assert database.history_command("import", "my results", url=url) == (
        "PGPASSWORD=... speedgate history import 'my results' --history postgresql://me@host/db"
    )
