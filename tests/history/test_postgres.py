"""A history in PostgreSQL: many writers at once, and a server that is killed under them and comes back."""

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
ALL = RUNS * (WRITERS + WRITERS // 2)  # the runs of as many cases, half of which two writers have
NUMBERS = itertools.count()


@pytest.fixture
def url(postgres: Server) -> str:
    """An empty database."""
    return postgres.create(f"history{next(NUMBERS)}")


def samples(writer: int) -> Iterator[HistoryEntry]:
    """What one runner has: its own case and, as after a retried job, one that its neighbour has too."""
    own, shared = f"pipeline{writer}/int8/1024px-30steps-b1", f"shared{writer // 2}/int8/1024px-30steps-b1"
    return (entry(key, number=number) for number in range(RUNS) for key in (own, shared))


def held_up(entries: Iterator[HistoryEntry], halfway: Path) -> Iterator[HistoryEntry]:
    """The same, where the second half waits for a file to be there."""
    for index, one in enumerate(entries):
        while index >= RUNS and not halfway.exists():
            time.sleep(0.02)
        yield one


def start_and_write(url: str, writer: int) -> queries.UploadCounts:
    """A whole session's part in it."""
    database.prepare_history(url)
    return queries.add_entries(url, samples(writer))


def write(url: str, writer: int, halfway: Path) -> queries.UploadCounts:
    """Upload to a history that is there."""
    return queries.add_entries(url, held_up(samples(writer), halfway))


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Sixteen processes."""
    with multiprocessing.get_context("spawn").Pool(WRITERS) as processes:
        yield processes


def check_complete(url: str, done: list[queries.UploadCounts]) -> None:
    """Every run of every writer is there, once."""
    own = [f"pipeline{writer}/int8/1024px-30steps-b1" for writer in range(WRITERS)]
    shared = [f"shared{pair}/int8/1024px-30steps-b1" for pair in range(WRITERS // 2)]
    found = {series.case_key: [point.run_id for point in series.points] for series in queries.read_series(url)}

    assert Counter({key: len(set(ids)) for key, ids in found.items()}) == Counter(dict.fromkeys([*own, *shared], RUNS))
    assert [len(ids) for ids in found.values()] == [RUNS] * (WRITERS + WRITERS // 2)
    assert len(list(queries.read_entries(url))) == ALL
    assert sum(one.added + one.present for one in done) == 2 * RUNS * WRITERS


def test_sixteen_writers_at_once_lose_nothing_and_add_nothing_twice(url, pool):
    """They make the history together, and each of two that upload the same run finds it there."""
    done = pool.starmap(start_and_write, [(url, writer) for writer in range(WRITERS)], chunksize=1)

    check_complete(url, done)
    assert sum(one.added for one in done) == ALL


def test_a_server_that_is_killed_and_comes_back_is_waited_for(postgres, url, pool, tmp_path):
    """Nothing that was reported as written is lost, nothing is written twice, and no writer has to be started again."""
    halfway = tmp_path / "halfway"
    database.prepare_history(url)
    uploads = [pool.apply_async(write, (url, writer, halfway)) for writer in range(WRITERS)]

    wait_for(lambda: rows(url) > 0, uploads)
    restart(postgres)  # while they write
    wait_for(lambda: rows(url) == ALL // 2, uploads)
    restart(postgres, meanwhile=halfway.touch)  # and while they wait, so that each of them has lost its connection

    check_complete(url, [upload.get(timeout=300) for upload in uploads])


def test_a_reader_sees_one_moment(url, monkeypatch):
    """A run that is added while it reads, of versions that it has not read, is not in its answer, and in the next one."""
    database.prepare_history(url)
    read = queries._versions_by_environment

    def meanwhile(connection: Any) -> Any:
        found = read(connection)
        queries.add_entries(url, samples(0))
        return found

    monkeypatch.setattr(queries, "_versions_by_environment", meanwhile)

    assert queries.read_series(url) == []
    assert queries.read_series(url) != []


def test_a_server_that_stays_away_is_one_line_and_nothing_is_lost(postgres, url):
    """Patience ends; what was written before is there, and the same call adds the rest."""
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
    """Nowhere are these tests left out in silence."""
    monkeypatch.setattr("tests.support.postgres.binaries", lambda: None)
    monkeypatch.setenv("CI", ci)

    with pytest.raises(ends, match="apt-get install postgresql"), running():
        pass


def restart(server: Server, meanwhile: Callable[[], object] = lambda: None) -> None:
    """As after a power cut."""
    server.kill()
    meanwhile()
    time.sleep(0.5)
    server.start()


def rows(url: str) -> int:
    """How many runs are there."""
    return sum(len(series.points) for series in queries.read_series(url))


def wait_for(condition: Callable[[], bool], uploads: list[Any]) -> None:
    """Until it holds, for as long as a busy machine may need. No writer may have come to an end by then."""
    deadline_s = time.monotonic() + 240
    while not condition():
        for upload in uploads:
            assert not upload.ready(), upload.get()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
