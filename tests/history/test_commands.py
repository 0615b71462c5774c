"""`speedgate history import`, `export` and `upgrade`: a round trip changes nothing, and bad input is one line of error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

from speedgate.cli import main
from speedgate.history import database, queries
from speedgate.history.entries import entry_from_result
from speedgate.results.json_io import to_json, write_json
from tests.support.artifacts import HOSTILE
from tests.support.baseline_samples import BF16, INT8, KEY, make_confirmation, make_document, make_run, obtain
from tests.support.history_samples import commit, document, entry, session_folder

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "baselines" / KEY / "0001_published.json"
RECIPE = {"case_key": INT8, "claim": "recipe", "outcome": "PASS", "sentence": "as described"}


def new(tmp_path: Path, name: str = "other") -> str:
    """Return the URL of a history that does not exist yet."""
    return database.sqlite_url(tmp_path / f"{name}.sqlite")


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a history with every kind of run: measured, lost, published, and one with hostile texts."""
    folder = tmp_path_factory.mktemp("every_kind")
    url = new(folder, "history")
    assert main(["history", "import", str(PUBLISHED), "--history", url]) == 0
    hostile = document(BF16, gpu_key=HOSTILE[:150], number=5)
    hostile["verdicts"][0]["sentence"] = HOSTILE + "\0"
    hostile["run"]["environment"] = {"torch": HOSTILE}
    lost = document(outcome="INVALID", run=None, number=6)
    samples = [
        *(entry(number=number) for number in range(2)),
        entry(number=2, confirmation=to_json(make_confirmation())),
        *(entry_from_result(result, where="s") for result in (hostile, lost)),
    ]
    queries.add_entries(url, samples)
    return folder


@pytest.fixture
def url(every_kind: Path, tmp_path: Path) -> str:
    """Copy that history for one test."""
    shutil.copytree(every_kind, tmp_path, dirs_exist_ok=True)
    return new(tmp_path, "history")


def history(*arguments: Any) -> int:
    """Run `speedgate history` and return its exit status."""
    return main(["history", *map(str, arguments)])


def fails(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Run `speedgate history`, check that it ends with status 2 and one line, and return the line."""
    assert history(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_round_trip_changes_nothing(url, tmp_path, capsys):
    """An export, imported into an empty history and exported again, has the same bytes; imported again, it adds nothing."""
    first, second, other = tmp_path / "1.json", tmp_path / "2.json", new(tmp_path)

    assert history("export", first, "--history", url) == 0
    assert history("import", first, "--history", other) == 0
    assert history("export", second, "--history", other) == 0

    assert first.read_bytes() == second.read_bytes()
    assert queries.read_series(url, source=None) == queries.read_series(other, source=None)
    assert queries.read_machines(url) == queries.read_machines(other) != []
    assert history("import", first, "--history", url) == 0
    assert "0 added, 29 already stored" in capsys.readouterr().out


@pytest.mark.slow
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


def test_a_file_that_was_cut_short_is_refused_as_a_whole(url, tmp_path, capsys):
    """A truncated export is one line of error with its name, and no history is created."""
    path = tmp_path / "1.json"
    history("export", path, "--history", url)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert str(path) in fails(capsys, "import", path, "--history", new(tmp_path))
    assert not (tmp_path / "other.sqlite").exists()


def test_a_broken_result_lets_none_of_its_session_in(tmp_path, capsys):
    """One truncated result refuses all folders of the import, and is named with its folder: two may hold the same name."""
    good, bad = (session_folder(tmp_path / name, document(INT8), document(BF16)) for name in ("a", "b"))
    path = next(bad.iterdir())
    path.write_bytes(path.read_bytes()[:-30])

    line = fails(capsys, "import", good, bad, "--history", new(tmp_path))

    assert line.startswith(f"speedgate: {bad}: {path.name}: not JSON")
    assert not (tmp_path / "other.sqlite").exists()


@pytest.mark.parametrize(
    "no_run",
    [
        document(run=document()["run"] | {"processes": []}, verdicts=[]),  # others were compared with it
        document(run=None, verdicts=[RECIPE]),  # it was described
        document() | {"unfinished": True},  # a recording that goes on
    ],
    ids=["compared with", "described", "unfinished"],
)
def test_a_case_that_was_not_measured_to_its_end_is_no_run(tmp_path, capsys, no_run):
    """An import adds only cases that this machine measured or lost, and only when their recording is finished."""
    url = new(tmp_path)
    write_json(tmp_path / "results" / "sdxl__bf16__1px.json", no_run)
    write_json(tmp_path / "results" / "sdxl__int8__1px.json", document(number=1))

    assert history("import", tmp_path / "results", "--history", url) == 0
    assert ": 1 added" in capsys.readouterr().out
    assert [point.commit for series in queries.read_series(url) for point in series.points] == [commit(1)["id"]]


def test_a_file_of_pytest_benchmark_is_imported(tmp_path):
    """A file of `pytest bench --benchmark-json` can be imported, and gives the same run as its results folder."""
    url, result = new(tmp_path), document()
    saved = make_document()
    saved["benchmarks"][0]["extra_info"]["speedgate"] = result
    write_json(tmp_path / "saved.json", saved)

    assert history("import", tmp_path / "saved.json", session_folder(tmp_path / "results"), "--history", url) == 0
    assert [len(series.points) for series in queries.read_series(url)] == [1]


def test_published_figures_are_kept_apart(url):
    """Published figures are in the history, but in a series only if requested."""
    assert sum(len(series.points) for series in queries.read_series(url)) == 5
    assert sum(len(series.points) for series in queries.read_series(url, source="published")) == 24


def test_a_baseline_file_that_is_no_run_is_refused(tmp_path, capsys):
    """Figures without a GPU key belong to no series, and those of a failed recording would look like a good run."""
    baseline = make_document()
    del baseline["machine_info"]["speedgate"]["gpu_key"]
    write_json(tmp_path / "0001_a.json", baseline)
    failed = obtain(tmp_path, make_run(), failed={INT8: "test_parity"})

    missing = fails(capsys, "import", tmp_path / "0001_a.json", "--history", new(tmp_path))
    assert "0001_a.json: machine_info.speedgate.gpu_key: missing" in missing
    assert "a failing case is never a baseline" in fails(capsys, "import", failed, "--history", new(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("figures.parquet",), "expected a name that ends in .json"),
        (("1.json", "--case", "sdxl/int9"), "holds no such run"),
    ],
)
def test_an_export_that_would_be_empty_or_no_json_writes_no_file(
    url, tmp_path, monkeypatch, capsys, arguments, message
):
    """Another suffix and a misspelt case are errors, and no file is written."""
    monkeypatch.chdir(tmp_path)

    assert message in fails(capsys, "export", *arguments, "--history", url)
    assert [path.name for path in tmp_path.iterdir()] == ["history.sqlite"]


@pytest.mark.parametrize("arguments", [("export", "1.json"), ("upgrade",)])
def test_a_missing_history_is_an_error(tmp_path, capsys, arguments):
    """Reading or upgrading a mistyped path is an error and creates no file."""
    url = database.sqlite_url(tmp_path / "mistyped" / "history.sqlite")

    assert fails(capsys, *arguments, "--history", url) == f"speedgate: history {url}: there is no such file"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    """A folder that cannot be created is one line with the history, without the number of the system's error."""
    (tmp_path / "file").touch()
    url = database.sqlite_url(tmp_path / "file" / "history.sqlite")

    with pytest.raises(ValueError, match=rf"^history {url}: {tmp_path}/file cannot be created: File exists$"):
        database.prepare_history(url)


@pytest.mark.parametrize("arguments", [("import", PUBLISHED), ("export", "1.json"), ("upgrade",)])
def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, capsys, arguments):
    """A missing extra is one line with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert "pip install 'speedgate[history]'" in fails(capsys, *arguments, "--history", new(tmp_path))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("history.sqlite", "history.sqlite: expected a URL, sqlite:///FILE or"),
        ("u:secret@host", "expected a URL"),
        ("x:secret@h://", "expected a URL"),
        ("mysql://me:secret@host/db", "mysql://...: expected sqlite:///FILE or"),
        ("sqlite:///:memory:", "a database in memory is lost"),
        ("postgresql://me:secret@host:port/db", "not a valid URL"),
        ("postgresql://u:sec@ret@127.0.0.1:1/secret", "as %40"),
        ("postgresql://me:secret@127.0.0.1:1/db", "history postgresql://me@127.0.0.1:1/db: connection failed"),
        ("postgresql://me@127.0.0.1:1/db?password=secret", "history postgresql://me@127.0.0.1:1/db: connection failed"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line_without_its_password(url, message, capsys):
    """A wrong URL, or one without a server, is one line of error without any part of the password."""
    line = fails(capsys, "import", PUBLISHED, "--history", url)

    assert message in line
    assert not any(part in line for part in ("secret", "sec@", "@ret"))


def test_a_driver_that_repeats_the_password_is_not_repeated():
    """A password inside the message of a driver is replaced."""
    url = "postgresql://me:s3cr3t@host/db"

    assert database.message_without_password("invalid\n port in s3cr3t@host", url) == "invalid port in ***@host"
    assert database.history_command("import", "my results", url=url) == (
        "PGPASSWORD=... speedgate history import 'my results' --history postgresql://me@host/db"
    )
