"""`pytest bench --history URL`: results are uploaded after the last measurement, and a failed upload hides no verdict."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

from speedgate.cli import main
from speedgate.history import database, queries
from speedgate.results.case_key import CaseKey
from tests.support.suite import Folder, Suite, red

SHORT = (
    "--stage=fp32",
    "--rounds=4",
    "-k",
    "(latency or recipe) and not full_recipe",
    "--history=sqlite:///history.sqlite",
)
COMMIT = """

def pytest_benchmark_generate_commit_info():
    return {"id": "abc123", "dirty": True, "time": None, "project": "p", "branch": "b"}
"""
# Breaks the history between the check before the first case and the upload after the last.
LOST = """

def pytest_runtest_logfinish(nodeid, location):
    import pathlib

    pathlib.Path("history.sqlite").write_bytes(b"gone" * 2000)
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(Folder(tmp_path))


def append(suite: Suite, hook: str) -> None:
    """Add a hook to the conftest of the suite."""
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(hook)


def history(suite: Suite) -> str:
    """Return the URL of the history in `SHORT`, as an absolute path."""
    return database.sqlite_url(suite.path / "history.sqlite")


def points(suite: Suite) -> list[Any]:
    """Return the points of the only series."""
    (series,) = queries.read_series(history(suite))
    assert series.gpu_key == suite.machine.key
    return list(series.points)


def test_each_session_adds_its_cases_once(suite):
    """Each session is one point; importing its results folder later adds no other."""
    append(suite, COMMIT)

    for _ in range(2):
        result = suite.run(*SHORT)
        result.stdout.fnmatch_lines(["history: 1 runs added to sqlite:///history.sqlite"])
        assert result.ret == 0

    assert [(point.commit, point.dirty, len(point.process_medians_s)) for point in points(suite)] == [
        ("abc123", True, 1)
    ] * 2
    assert main(["history", "import", str(suite.path / "results"), "--history", history(suite)]) == 0
    assert len(points(suite)) == 2


def test_a_recording_and_its_file_are_the_same_run(suite, capsys):
    """Importing obtained.json after the session adds nothing."""
    result = suite.run(
        "--gate=record", "--processes=5", "--rounds=4", "--stage=fp32", "--history=sqlite:///history.sqlite"
    )
    obtained = suite.path / "baselines" / suite.machine.key / "obtained.json"

    assert red(result) == []
    assert main(["history", "import", str(obtained), "--history", history(suite)]) == 0
    assert "0 added, 1 already stored" in capsys.readouterr().out


def test_a_resumed_recording_adds_each_run_once(suite, capsys):
    """A case is added once, when it is finished, whichever command finishes it; its file adds nothing."""
    command = (
        "--gate=record",
        "--processes=5",
        "--rounds=4",
        "--stage=fp32,bf16",
        "--history=sqlite:///history.sqlite",
    )
    suite.misbehave(bf16={"kill": "generate", "from": 4})
    results = [suite.run(*command)]
    first = str(suite.path / "results")
    assert main(["history", "import", first, "--history", history(suite)]) == 0
    results.append(suite.run(*command))
    suite.misbehave()
    results.append(suite.run(*command))
    obtained = suite.path / "baselines" / suite.machine.key / "obtained.json"
    capsys.readouterr()

    lines = [line for result in results for line in result.outlines if line.startswith("history: ")]
    assert [line.replace(" to sqlite:///history.sqlite", "") for line in lines] == [
        "history: 1 runs added",
        "history: 0 runs added, 1 already stored",
        "history: 1 runs added, 1 already stored",
    ]
    assert red(results[-1]) == []
    assert main(["history", "import", str(obtained), "--history", history(suite)]) == 0
    assert "0 added, 2 already stored" in capsys.readouterr().out
    processes_by_stage = {
        CaseKey.parse(series.case_key).stage: [len(point.process_medians_s) for point in series.points]
        for series in queries.read_series(history(suite))
    }
    assert processes_by_stage == {"fp32": [5], "bf16": [5]}


@pytest.mark.parametrize("live", [False, True])
def test_a_reference_is_not_uploaded(suite, live):
    """A case that was only built as a reference is not added, in a live comparison neither."""
    against = [suite.against()] if live else []

    result = suite.run("--stage=fp32", "--rounds=4", "--history=sqlite:///history.sqlite", *against)

    assert red(result) == []
    assert "bf16" in suite.results()
    assert [CaseKey.parse(series.case_key).stage for series in queries.read_series(history(suite))] == ["fp32"]


@pytest.mark.parametrize(
    ("faults", "status", "red_tests"),
    [({}, 10, []), ({"structure": {"unet.linears": 0}}, 11, ["test_recipe[sdxl-tiny-fp32]"])],
)
def test_a_failed_upload_is_reported_and_hides_no_verdict(suite, monkeypatch, faults, status, red_tests):
    """The exit status tells a failed upload from red tests, and the printed command uploads the results on disk."""
    append(suite, LOST)
    suite.misbehave(fp32=faults)

    result = suite.run(*SHORT)

    assert (result.ret, red(result)) == (status, red_tests)
    assert "history: NOT UPLOADED: history sqlite:///history.sqlite: file is not a database" in result.outlines
    (command,) = [line for line in result.outlines if line.startswith("upload it later: speedgate ")]
    (suite.path / "history.sqlite").unlink()
    monkeypatch.chdir(suite.path)
    assert main(shlex.split(command.partition("speedgate ")[2])) == 0
    assert len(points(suite)) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql://me:secret@127.0.0.1:1/db",
            r"--history: history postgresql://me@127\.0\.0\.1:1/db: connection failed: .*",
        ),
        ("sqlite:////proc/history.sqlite", r"--history: .*"),
        ("sqlite:////proc/x/y", r"--history: history sqlite:////proc/x/y: /proc/x cannot be created: No such file"),
    ],
)
def test_a_history_that_cannot_be_reached_stops_before_anything_is_measured(suite, url, message):
    """The command ends with exit status 4 and one line, without the password, before a worker is started."""
    result = suite.run(*SHORT, f"--history={url}")

    assert result.ret == 4
    assert re.search(message, result.stderr.str() + result.stdout.str())
    assert "secret" not in result.stderr.str() + result.stdout.str()
    assert not (suite.path / "builds.log").exists()


def test_a_history_of_a_later_version_stops_before_anything_is_measured(suite):
    """The error has the command that upgrades speedgate."""
    import sqlalchemy as sa

    database.prepare_history(history(suite))
    with database.open_engine(history(suite), write=True) as engine, engine.begin() as connection:
        connection.execute(sa.text("UPDATE speedgate_schema SET version_num = '9999'"))

    result = suite.run(*SHORT)

    assert result.ret == 4
    assert "pip install --upgrade speedgate" in result.stderr.str()
    assert not (suite.path / "builds.log").exists()


def test_the_option_without_a_url_names_a_file_of_the_checkout(suite):
    """The file is created in `.speedgate`, and only if something is measured."""
    path = suite.path / database.DEFAULT_FILE

    assert suite.run("--stage=fp32", "--collect-only", "--history").ret == 0
    assert not path.exists()
    assert suite.run(*SHORT[:-1], "--history").ret == 0
    assert len(queries.read_series(database.sqlite_url(path))) == 1
