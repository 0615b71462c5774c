"""`--history URL`: results are uploaded after the last measurement, and a failed upload hides no verdict."""

from __future__ import annotations

import importlib
import shlex
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

from speedgate.cli import main
from speedgate.history import database, queries
from speedgate.results.case_key import CaseKey
from speedgate.results.exit_status import ExitStatus
from tests.support.fake_bench import FakeBench

URL = "sqlite:///history.sqlite"
SHORT = ("--stage=fp32", "--rounds=4", f"--history={URL}")
CLAIMS = ("test_latency", "test_recipe")


@pytest.fixture(scope="session", autouse=True)
def database_libraries():
    """Import what a history uses: `pytester` would forget each library that a test imports, and it would be imported again."""
    for name in ("alembic.command", "psycopg", "speedgate.history.exchange", "sqlalchemy.dialects.postgresql.psycopg"):
        importlib.import_module(name)


@pytest.fixture
def points(bench: FakeBench) -> Any:
    """Return the points of each stage's series."""

    def read() -> dict[str, list[Any]]:
        return {CaseKey.parse(series.case_key).stage: list(series.points) for series in queries.read_series(URL)}

    return read


def imported(source: object, capsys: pytest.CaptureFixture[str]) -> str:
    """Import a file or folder into the history, and return what was printed."""
    capsys.readouterr()
    assert main(["history", "import", str(source), "--history", URL]) == 0
    return capsys.readouterr().out


def test_each_session_adds_its_cases_once(bench, points, capsys):
    """Each session is one point with its commit; importing its results folder later adds no other."""
    for _ in range(2):
        result = bench.run(*SHORT, claims=CLAIMS, prepare=commit)
        assert (result.ending, result.exit_status) == ([f"history: 1 runs added to {URL}"], 0)

    assert [(point.commit, point.dirty, len(point.process_medians_s)) for point in points()["fp32"]] == [
        ("abc123", True, 1)
    ] * 2
    imported(result.session.options.results, capsys)
    assert len(points()["fp32"]) == 2


def commit(config):
    """Let the session be one of this commit."""
    plugin = SimpleNamespace(
        pytest_benchmark_generate_commit_info=lambda: {"id": "abc123", "dirty": True, "project": "p", "branch": "b"}
    )
    config.pluginmanager.register(plugin)


def test_a_recording_is_added_when_it_is_finished_whichever_command_finishes_it(bench, points, capsys):
    """A case is added once, and importing the results or obtained.json afterwards adds nothing."""
    command = ("--stage=fp32,bf16", f"--history={URL}")
    first = bench.record(*command, bf16={"kill": "generate", "from": 3})
    imported(first.session.options.results, capsys)

    results = [bench.record(*command, bf16={"kill": "generate"}), bench.record(*command)]

    lines = [line for result in (first, *results) for line in result.ending if line.startswith("history: ")]
    assert [line.replace(f" to {URL}", "") for line in lines] == [
        "history: 1 runs added",
        "history: 0 runs added, 1 already stored",
        "history: 1 runs added, 1 already stored",
    ]
    assert results[-1].red == []
    obtained = bench.path / "baselines" / first.session.machine.key / "obtained.json"
    assert "0 added, 2 already stored" in imported(obtained, capsys)
    assert {stage: [len(point.process_medians_s) for point in values] for stage, values in points().items()} == {
        "fp32": [3],
        "bf16": [3],
    }


@pytest.mark.parametrize("other", [None, {}])
def test_a_reference_is_not_uploaded(bench, points, other):
    """A case that was only built as a reference is not added, in a live comparison neither."""
    result = bench.run("--stage=fp32", "--rounds=4", f"--history={URL}", other=other)

    assert result.red == []
    assert "bf16" in result.stages
    assert list(points()) == ["fp32"]


@pytest.mark.parametrize(
    ("fault", "status", "red"),
    [
        ({}, ExitStatus.UPLOAD, []),
        ({"structure": {"unet.linears": 0}}, ExitStatus.UPLOAD_AND_TESTS, ["test_recipe[sdxl-tiny-fp32]"]),
    ],
)
def test_a_failed_upload_is_reported_and_hides_no_verdict(bench, points, fault, status, red):
    """The exit status tells a failed upload from red tests, and the printed command uploads the results on disk."""
    history = bench.path / "history.sqlite"
    bench.on_call = lambda _: history.write_bytes(b"gone" * 2000)

    result = bench.run(*SHORT, claims=CLAIMS, fp32=fault)

    assert (result.exit_status, result.red) == (status, red)
    assert result.ending[0] == f"history: NOT UPLOADED: history {URL}: file is not a database"
    history.unlink()
    assert main(shlex.split(result.ending[1].removeprefix("upload it later: speedgate "))) == 0
    assert len(points()["fp32"]) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/db", r"history postgresql://me@127\.0\.0\.1:1/db: connection failed: "),
        ("sqlite:////proc/history.sqlite", ""),
        ("sqlite:////proc/x/y", r"history sqlite:////proc/x/y: /proc/x cannot be created: No such file"),
    ],
)
def test_a_history_that_cannot_be_reached_stops_before_anything_is_measured(bench, url, message):
    """The usage error is one line without the password, and no worker is started."""
    bench.on_call = lambda operation: pytest.fail(f"a worker was asked for {operation}")

    with pytest.raises(pytest.UsageError, match=f"--history: {message}") as raised:
        bench.run(*SHORT, f"--history={url}")
    assert "secret" not in str(raised.value)


def test_a_history_of_a_later_version_stops_before_anything_is_measured(bench):
    """The error has the command that upgrades speedgate."""
    import sqlalchemy as sa

    database.prepare_history(URL)
    with database.open_engine(URL, write=True) as engine, engine.begin() as connection:
        connection.execute(sa.text("UPDATE speedgate_schema SET version_num = '9999'"))

    with pytest.raises(pytest.UsageError, match="pip install --upgrade speedgate"):
        bench.run(*SHORT)


def test_the_option_without_a_url_names_a_file_of_the_checkout(bench):
    """The file is created in `.speedgate`, and only if something is measured."""
    path = bench.path / database.DEFAULT_FILE
    config = bench.configure("--collect-only", "--history")
    gate = SimpleNamespace(fixturenames=("gate",))
    config.pluginmanager.get_plugin("speedgate-history").pytest_collection_finish(
        SimpleNamespace(config=config, items=[gate])
    )
    assert not path.exists()

    bench.run("--stage=fp32", "--rounds=4", "--history", claims=CLAIMS)

    assert len(queries.read_series(database.sqlite_url(path))) == 1
