"""A history in PostgreSQL: many writers at the same time, and a server that is killed and restarted meanwhile."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

from speedgate.history import database, queries
from speedgate.history.entries import HistoryEntry
from tests.support.history_samples import entry
from tests.support.postgres import Server, running

WRITERS, RUNS = 16, 20
ALL = RUNS * (WRITERS + WRITERS // 2)  # runs; two writers share each of the last WRITERS // 2 cases
NUMBERS = itertools.count()


@pytest.fixture
def url(postgres: Server) -> str:
    """Create an empty database."""
    return postgres.create(f"history{next(NUMBERS)}")


def samples(writer: int) -> Iterator[HistoryEntry]:
    """Yield the entries of one writer: its own case and, as after a retried job, a case of its neighbour."""
    own_key, shared_key = f"pipeline{writer}/int8/1024px-30steps-b1", f"shared{writer // 2}/int8/1024px-30steps-b1"
    return (entry(key, number=number) for number in range(RUNS) for key in (own_key, shared_key))


def held_up(entries: Iterator[HistoryEntry], halfway: Path) -> Iterator[HistoryEntry]:
    """Yield the entries; the second half waits until a file exists."""
    for index, upload in enumerate(entries):
        while index >= RUNS and not halfway.exists():
            time.sleep(0.02)
        yield upload


def start_and_write(url: str, writer: int) -> queries.UploadCounts:
    """Do what a session does: prepare the history and upload."""
    database.prepare_history(url)
    return queries.add_entries(url, samples(writer))


def write(url: str, writer: int, halfway: Path) -> queries.UploadCounts:
    """Upload to an existing history."""
    return queries.add_entries(url, held_up(samples(writer), halfway))


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Start sixteen processes."""
    with multiprocessing.get_context("spawn").Pool(WRITERS) as processes:
        yield processes


def check_complete(url: str, counts: list[queries.UploadCounts]) -> None:
    """Check that every run of every writer is stored once."""
    own_keys = [f"pipeline{writer}/int8/1024px-30steps-b1" for writer in range(WRITERS)]
    shared_keys = [f"shared{pair}/int8/1024px-30steps-b1" for pair in range(WRITERS // 2)]
    run_ids_by_case = {
        series.case_key: [point.run_id for point in series.points] for series in queries.read_series(url)
    }

    assert Counter({key: len(set(ids)) for key, ids in run_ids_by_case.items()}) == Counter(
        dict.fromkeys([*own_keys, *shared_keys], RUNS)
    )
    assert [len(ids) for ids in run_ids_by_case.values()] == [RUNS] * (WRITERS + WRITERS // 2)
    assert len(list(queries.read_entries(url))) == ALL
    assert sum(count.added + count.present for count in counts) == 2 * RUNS * WRITERS


@pytest.mark.slow
def test_sixteen_writers_at_once_lose_nothing_and_add_nothing_twice(url, pool):
    """Sixteen writers create the history together; no run is lost, and a run that two of them upload is added once."""
    counts = pool.starmap(start_and_write, [(url, writer) for writer in range(WRITERS)], chunksize=1)

    check_complete(url, counts)
    assert sum(count.added for count in counts) == ALL


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_is_waited_for(postgres, url, pool, tmp_path):
    """When the server is killed twice, no run is lost or added twice, and every writer finishes by itself."""
    halfway = tmp_path / "halfway"
    database.prepare_history(url)
    uploads = [pool.apply_async(write, (url, writer, halfway)) for writer in range(WRITERS)]

    wait_for(lambda: rows(url) > 0, uploads)
    restart(postgres)  # while the writers upload
    wait_for(lambda: rows(url) == ALL // 2, uploads)
    restart(postgres, meanwhile=halfway.touch)  # while the writers wait, so that each of them loses its connection

    check_complete(url, [upload.get(timeout=300) for upload in uploads])


@pytest.mark.slow
def test_a_reader_sees_one_moment(url, monkeypatch):
    """A run that is added while a reader reads is not in its result, but in the next one."""
    database.prepare_history(url)
    read = queries._versions_by_environment

    def meanwhile(connection: Any) -> Any:
        versions = read(connection)
        queries.add_entries(url, samples(0))
        return versions

    monkeypatch.setattr(queries, "_versions_by_environment", meanwhile)

    assert queries.read_series(url) == []
    assert queries.read_series(url) != []


@pytest.mark.slow
def test_a_server_that_stays_away_is_one_line_and_nothing_is_lost(postgres, url):
    """A server that does not come back is one line of error; earlier runs are stored, and the same call adds the rest."""
    database.prepare_history(url)
    entries = list(samples(0))

    def lost() -> Iterator[HistoryEntry]:
        yield from entries[:5]
        postgres.kill()
        yield from entries[5:]

    with pytest.raises(ValueError, match=r"history postgresql://speedgate@/.*: .*connect") as refused:
        queries.add_entries(url, lost(), retry_s=0.3)
    assert "\n" not in str(refused.value)
    postgres.start()

    assert rows(url) == 5
    assert queries.add_entries(url, entries) == queries.UploadCounts(added=len(entries) - 5, present=5)


@pytest.mark.parametrize(("ci", "ends"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_server_is_a_skip_at_a_desk_and_a_failure_in_ci(monkeypatch, ci, ends):
    """Without PostgreSQL these tests are skipped with a reason on a desk, and fail in CI."""
    monkeypatch.setattr("tests.support.postgres.binaries", lambda: None)
    monkeypatch.setenv("CI", ci)

    with pytest.raises(ends, match="apt-get install postgresql"), running():
        pass


def restart(server: Server, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Kill and start the server, as after a power cut."""
    server.kill()
    meanwhile()
    time.sleep(0.5)
    server.start()


def rows(url: str) -> int:
    """Count the stored runs."""
    return sum(len(series.points) for series in queries.read_series(url))


def wait_for(condition: Callable[[], bool], uploads: list[Any]) -> None:
    """Wait for the condition, long enough for a busy machine. No writer may have finished before."""
    deadline_s = time.monotonic() + 240
    while not condition():
        for upload in uploads:
            assert not upload.ready(), upload.get()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
