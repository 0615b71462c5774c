"""A history in an SQLite file: every run is stored once and unchanged; wrong results and other schemas are refused."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

from speedgate.cli import main
from speedgate.history import database, entries, queries
from speedgate.history.entries import HistoryEntry
from speedgate.results.json_io import to_json, write_json
from tests.support.artifacts import HOSTILE
from tests.support.baseline_samples import BF16, INT8, make_confirmation, obtain
from tests.support.history_samples import at, commit, document, entry, fill, session_folder

FP32 = "sdxl/fp32/1024px-30steps-b1"
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
LARGE = document()["run"] | {"processes": [document()["run"]["processes"][0] | {"peak_bytes": [2**63] * 3}]}
LATER = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "0003"


def upgrade():
    op.add_column("speedgate_runs", sa.Column("later", sa.Text, server_default="yes"))
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Create an empty history."""
    url = database.sqlite_url(tmp_path / "history.sqlite")
    database.prepare_history(url)
    return url


@pytest.fixture
def later(tmp_path: Path) -> tuple[Path, ...]:
    """Make the migration folders of a later version of speedgate."""
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "v9999_later.py").write_text(LATER)
    return (*database.VERSIONS, tmp_path / "later")


def everything(url: str) -> list[Any]:
    """Read all documents of a history."""
    return [entry.document for entry in queries.read_entries(url)]


def test_a_point_is_what_the_run_measured(url):
    """Figures, versions, verdict and commit of a run are read as they were uploaded."""
    sample = entry(number=3)
    queries.add_entries(url, [sample])

    ((point,),) = [series.points for series in queries.read_series(url)]

    assert sample.run is not None
    assert point.process_medians_s == sample.run.process_medians_s
    assert (point.run_id, point.measured_at) == (sample.run_id, "2026-01-01T03:00:00.000000+00:00")
    assert (point.commit, point.dirty, point.outcome) == (commit(3)["id"], False, "PASS")
    assert (point.peak_bytes, point.ssim, point.first_image_s, point.cache) == (9, 0.9965, 4.0, "cold cache")
    assert point.compile_s == 3.5
    assert (point.fingerprint, point.versions) == ("f00d", {"torch": "2.13.0"})


def test_everything_that_was_uploaded_is_kept(url):
    """All fields of a result are stored: raw seconds of each process, components, parity, cold start, health and verdicts."""
    sample = document(health={"load_1min": 0.5})
    queries.add_entries(url, [entries.entry_from_result(sample, where="sample")])

    (stored,) = everything(url)

    assert {name: stored[name] for name in sample} == sample | {"measured_at": stored["measured_at"]}


def confirmed(case_key: str, drift: float, *, number: int, baseline: str = "old.json", **changes: Any) -> HistoryEntry:
    """Make the entry of a run whose case was confirmed on a machine with that drift; its program is 2 % faster."""
    confirmation = make_confirmation(case_key, stored_ratio=drift * 0.98, live_ratio=0.98, baseline=baseline)
    return entry(case_key, number=number, confirmation=to_json(confirmation), **changes)


def test_a_machine_has_a_series_of_its_own(url):
    """A session's drift is the median of its confirmed cases, by GPU key and baseline file; other runs add nothing."""
    samples = [
        confirmed(INT8, 1.05, number=1), confirmed(BF16, 1.03, number=1), confirmed(FP32, 1.07, number=1),
        confirmed(INT8, 1.0, number=2, baseline="new.json"), confirmed(INT8, 0.9, number=0, gpu_key="another"),
        entry(BF16, number=2),
        entry(FP32, number=2, confirmation=to_json(make_confirmation(FP32, live_ratio=None))),
    ]  # fmt: skip
    queries.add_entries(url, samples)

    another, ours = queries.read_machines(url)

    assert (another.gpu_key, [point.drift for point in another.points]) == ("another", [pytest.approx(0.9)])
    assert [(point.measured_at[11:13], point.commit, point.baseline, point.cases) for point in ours.points] == [
        ("01", commit(1)["id"], "old.json", 3),
        ("02", commit(2)["id"], "new.json", 1),
    ]
    assert [point.drift for point in ours.points] == pytest.approx([1.05, 1.0])
    assert queries.read_machines(url, gpu_key="another") == [another]


def test_a_retried_upload_adds_nothing(url):
    """Uploading the same results again adds no run."""
    samples = [entry(number=number) for number in range(3)]
    queries.add_entries(url, samples)

    assert queries.add_entries(url, samples) == queries.UploadCounts(added=0, present=3)
    assert len(everything(url)) == 3


@pytest.mark.parametrize(
    "changes",
    [{"measured_at": at(7)}, {"commit": commit(7)}, {"gpu_key": "another"}, {"run": document(number=7)["run"]}],
)
def test_another_run_is_another_point(url, changes):
    """A result with another time, commit, machine or figure is another run."""
    samples = [document(), document() | changes]

    counts = queries.add_entries(url, [entries.entry_from_result(sample, where="sample") for sample in samples])

    assert counts == queries.UploadCounts(added=2, present=0)


def test_a_recording_and_its_baseline_are_one_run(url, tmp_path):
    """The upload of a recording and a later import of its baseline file are the same run."""
    run = entry().run
    assert run is not None
    path = obtain(tmp_path, run)
    written = json.loads(path.read_text())
    write_json(path, written | {"datetime": at(0), "commit_info": commit(0)})
    queries.add_entries(url, [entry()])

    assert main(["history", "import", str(path), "--history", url]) == 0
    assert len(everything(url)) == 1


def test_series_are_in_order(url):
    """Series are sorted by GPU key and case, and their points by time, whatever the order of uploads."""
    samples = [
        entry(key, number=number, gpu_key=gpu) for gpu in ("b", "a") for key in (INT8, BF16) for number in (2, 0, 1)
    ]
    queries.add_entries(url, samples)

    all_series = queries.read_series(url)

    assert [(series.gpu_key, series.case_key) for series in all_series] == [
        ("a", BF16),
        ("a", INT8),
        ("b", BF16),
        ("b", INT8),
    ]
    assert [[point.commit for point in series.points] for series in all_series] == [
        [commit(n)["id"] for n in (0, 1, 2)]
    ] * 4
    assert queries.read_series(url, gpu_key="b", case_key=INT8) == all_series[3:]


def test_a_case_that_was_lost_is_kept(url):
    """A case whose worker died has only verdicts: it is a point with an outcome and without figures."""
    sample = entries.entry_from_result(document(outcome="INVALID", run=None), where="sample")
    queries.add_entries(url, [sample])

    ((point,),) = [series.points for series in queries.read_series(url)]

    assert (point.process_medians_s, point.peak_bytes, point.outcome) == ((), None, "INVALID")


def test_more_cases_than_a_statement_takes_parameters(url):
    """More cases than a database takes parameters in a statement can be read; the limit is lowered from 32,766 to 50."""
    from sqlalchemy import Pool, event

    def lower_limit(connection, _):
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 50)

    fill(url, cases=60, runs=1)
    event.listen(Pool, "connect", lower_limit)
    try:
        assert len(queries.read_series(url)) == 60
    finally:
        event.remove(Pool, "connect", lower_limit)


def test_names_with_html_are_kept_as_they_are(url):
    """Names with HTML are stored as plain text, without escaping."""
    hostile = document(BF16) | {"gpu_key": HOSTILE[:150]}
    hostile["run"] |= {"case_key": f"a/<b>{HOSTILE[:90]}/c", "environment": {"torch": HOSTILE}}
    hostile["verdicts"] = [
        hostile["verdicts"][0] | {"case_key": hostile["run"]["case_key"], "sentence": HOSTILE + "\0"}
    ]
    sample = entries.entry_from_result(hostile, where="sample")
    queries.add_entries(url, [sample])

    (series,) = queries.read_series(url)

    assert (series.gpu_key, series.case_key) == (sample.gpu_key, sample.case_key)
    assert series.points[0].versions == {"torch": HOSTILE}
    assert everything(url) == [sample.document]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measured_at": None}, "results of earlier versions do not contain the time"),
        ({"measured_at": "yesterday"}, "measured_at: expected a time in ISO 8601"),
        (
            {"confirmation": to_json(make_confirmation(baseline="a\0b"))},
            "confirmation.baseline: contains characters that a database cannot store",
        ),
        ({"confirmation": {"drift": 1.05}}, "confirmation: "),
        ({"measured_at": "0001-01-01T00:00:00+14:00"}, "measured_at: expected a time in ISO 8601"),
        ({"gpu_key": "a\0b"}, "gpu_key: contains characters"),
        ({"gpu_key": "half \ud800 of a pair"}, "gpu_key: contains characters"),
        ({"gpu_key": "x" * 201}, "gpu_key: expected"),
        ({"run": LARGE}, "peak_bytes: expected at most"),
    ],
)
def test_a_result_that_no_database_holds_is_refused(changes, message):
    """A wrong time, a key with characters that no database takes, and a peak above its largest integer are named."""
    with pytest.raises(ValueError, match=message):
        entries.entry_from_result(document() | changes, where="sample")


def test_an_older_history_is_refused_until_it_is_upgraded(url, later, monkeypatch, capsys):
    """An older history is refused until one command upgrades it, and it keeps its runs."""
    queries.add_entries(url, [entry()])
    before = everything(url)
    monkeypatch.setattr(database, "VERSIONS", later)

    for refused in (lambda: database.prepare_history(url), lambda: queries.read_series(url)):
        with pytest.raises(
            ValueError, match="older than this version of speedgate; upgrade the history: speedgate history upgrade"
        ):
            refused()
    assert main(["history", "upgrade", "--history", url]) == 0

    assert "schema 0003 before, 9999 now" in capsys.readouterr().out
    assert everything(url) == before
    database.prepare_history(url)


def test_a_newer_history_is_refused_with_the_software_to_upgrade(url, later, capsys):
    """A newer history is left alone by a session, a reader and an upgrade, and the error names the upgrade of the software."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "VERSIONS", later)
        database.upgrade_history(url)

    for refused in (
        lambda: database.prepare_history(url),
        lambda: queries.read_series(url),
        lambda: queries.add_entries(url, [entry()]),
    ):
        with pytest.raises(ValueError, match=r"newer than this version of speedgate.*pip install --upgrade speedgate"):
            refused()
    assert main(["history", "upgrade", "--history", url]) == 2
    assert "pip install --upgrade speedgate" in capsys.readouterr().err


def test_the_steps_make_the_tables_that_the_code_uses(url):
    """The migrations create exactly the tables that the code uses."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from speedgate.history import schema

    with database.open_engine(url, write=False) as engine, engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.tables().metadata) == []


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    """A file that is no database is one line of error and stays unchanged."""
    path, contents = tmp_path / "history.sqlite", b"<html>no series</html>" * 100
    path.write_bytes(contents)

    with pytest.raises(ValueError, match=r"history sqlite:///.*: file is not a database"):
        database.prepare_history(database.sqlite_url(path))
    assert path.read_bytes() == contents


def test_an_edited_run_is_noticed(url):
    """A figure that was edited in the database no longer matches the key of its run, which is an error."""
    import sqlalchemy as sa

    queries.add_entries(url, [entry()])
    with database.open_engine(url, write=True) as engine, engine.begin() as connection:
        connection.execute(sa.text("UPDATE speedgate_documents SET document = replace(document, '2.45', '1.45')"))

    with pytest.raises(ValueError, match="it was edited"):
        everything(url)


def test_a_full_disk_loses_nothing(url, tmp_path):
    """On a full disk the results and the runs stored before remain, and the same command adds the rest later."""
    results = session_folder(tmp_path / "results", *(document(f"p{index}/int8/1px") for index in range(40)))
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    command = [sys.executable, "-m", "speedgate.cli", "history", "import", str(results), "--history", url]

    full = subprocess.run(command, env=ENVIRONMENT, preexec_fn=small_files, capture_output=True, text=True, check=False)

    assert full.returncode == 2, full.stderr
    assert "disk" in full.stderr
    assert full.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    assert 0 < len(everything(url)) < 40
    assert main(command[3:]) == 0
    assert len(everything(url)) == 40


def small_files() -> None:
    """Limit the files of this process to 96 KiB, like a full disk, without being root."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (96 * 2**10, 96 * 2**10))
