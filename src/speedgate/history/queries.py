"""What a history holds: series for whoever looks for changes or draws them, and whole entries for an export.

Plain rows, no objects of an ORM; in PostgreSQL through a cursor on the server, so that no answer is in memory as a whole.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from speedgate.baselines.benchmark_json import RECORDED
from speedgate.history import database, schema
from speedgate.history.entries import HistoryEntry, entry_from_json
from speedgate.history.trend import Series, SeriesPoint

_ROWS = 5000  # fetched at a time
PATIENCE_S = 60.0  # a server that restarts is back within this
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
# PostgreSQL's SQLSTATE of what passes by itself: connections that broke, a shutdown, a restart, a deadlock.
_PASSING = ("08", "57P", "40")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UploadCounts:
    """How many runs an upload added, and how many of its runs were there already."""

    added: int
    present: int


def add_entries(url: str, entries: Iterable[HistoryEntry], *, patience_s: float = PATIENCE_S) -> UploadCounts:
    """Upload entries, each in a transaction of its own; `patience_s` is how long each may wait for a lost connection.

    A `ValueError` where one could not be written: those before it are there, and the same call again adds the rest.
    """
    added = known = 0
    with database.open_engine(url, write=True) as engine:
        _patiently(functools.partial(_check, engine, url), patience_s=patience_s)
        for entry in entries:
            if _patiently(functools.partial(_insert, engine, entry), patience_s=patience_s):
                added += 1
            else:
                known += 1
    return UploadCounts(added=added, present=known)


def _check(engine: Any, url: str) -> bool:
    with engine.connect() as connection:
        database.require_current_schema(connection, url)
    return True


def _insert(engine: Any, entry: HistoryEntry) -> bool:
    """Whether the entry was new."""
    tables = schema.tables()
    with engine.begin() as connection:
        versions = entry.versions
        environment_id = schema.json_digest(versions)[:32]
        _insert_new(connection, tables.environments, environment_id=environment_id, versions=versions)
        if not _insert_new(connection, tables.runs, environment_id=environment_id, **entry.columns()):
            return False
        _insert_new(connection, tables.documents, run_id=entry.run_id, document=entry.document)
        return True


def _insert_new(connection: Any, table: Any, **values: Any) -> bool:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    # What comes back says whether it was new: an insert's `rowcount` is -1 where a driver does not tell.
    statement = dialect.insert(table).values(values).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(statement).first() is not None


def _patiently(attempt: Callable[[], bool], *, patience_s: float) -> bool:
    import sqlalchemy as sa

    deadline_s, pause_s = time.monotonic() + patience_s, _FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except sa.exc.DBAPIError as error:
            if not _passes(error) or time.monotonic() + pause_s > deadline_s:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _passes(error: Any) -> bool:
    """Whether the same may work in a moment. Without an SQLSTATE, psycopg speaks of a connection that it lost or never got."""
    import psycopg

    if not isinstance(error.orig, psycopg.OperationalError):
        return False
    code = error.orig.sqlstate
    return code is None or code.startswith(_PASSING)


def read_series(
    url: str, *, gpu_key: str | None = None, case_key: str | None = None, source: str | None = RECORDED
) -> list[Series]:
    """The series of every case on every GPU key, or of those named, by GPU key and case key; points oldest first.

    Seconds, bytes and UTC times as in `SeriesPoint`. Published figures are of other people's software and in no series, unless
    `source` is `published`, or None for both. A `ValueError` where there is no history, or one of another schema.
    """
    with database.open_engine(url, write=False) as engine, engine.connect() as connection:
        database.require_current_schema(connection, url)
        runs = schema.tables().runs
        versions = _versions(connection)
        rows = _rows(
            connection, _series_query(), {runs.c.gpu_key: gpu_key, runs.c.case_key: case_key, runs.c.source: source}
        )
        found = [
            Series(gpu_key=gpu, case_key=case, points=_points(list(group), versions))
            for (gpu, case), group in itertools.groupby(rows, key=lambda row: row[:2])
        ]
    return sorted(found, key=lambda one: (one.gpu_key, one.case_key))


def read_entries(
    url: str, *, gpu_key: str | None = None, case_key: str | None = None, run_id: str | None = None
) -> Iterator[HistoryEntry]:
    """Everything that was uploaded, of each run or of those named, case by case and oldest first; one at a time.

    A `ValueError` where there is no history, one of another schema, or an entry that is not what was uploaded.
    """
    with database.open_engine(url, write=False) as engine, engine.connect() as connection:
        database.require_current_schema(connection, url)
        c = schema.tables().runs.c
        for key, document in _rows(
            connection, _document_query(), {c.gpu_key: gpu_key, c.case_key: case_key, c.run_id: run_id}
        ):
            entry = entry_from_json(document, where=f"run {key}")
            if entry.run_id != key:
                raise ValueError(f"run {key}: the history holds another run under this key; it was edited")
            yield entry


def _series_query() -> Any:
    import sqlalchemy as sa

    c = schema.tables().runs.c
    # As text: a thousand short lists are parsed at once, below.
    return sa.select(
        c.gpu_key, c.case_key, c.run_id, c.measured_at, c.commit_id, sa.cast(c.process_medians_s, sa.Text), c.peak_bytes,
        c.ssim, c.first_image_s, c.cache, c.fingerprint, c.outcome, c.environment_id, c.dirty,
    )  # fmt: skip


def _document_query() -> Any:
    import sqlalchemy as sa

    tables = schema.tables()
    return sa.select(tables.runs.c.run_id, tables.documents.c.document).join(tables.documents)


def _rows(connection: Any, query: Any, named: dict[Any, str | None]) -> Iterator[Any]:
    """The rows in the order of the index, series by series; those of one time, which clones may share, in that of digests."""
    runs = schema.tables().runs
    for column, value in named.items():
        if value is not None:
            query = query.where(column == value)
    ordered = query.order_by(runs.c.case_key, runs.c.gpu_key, runs.c.measured_at, runs.c.run_id)
    yield from connection.execution_options(yield_per=_ROWS).execute(ordered)


def _versions(connection: Any) -> dict[str, dict[str, str]]:
    """What ran, by key: thousands of runs share a few environments."""
    table = schema.tables().environments
    return dict(iter(connection.execute(table.select())))  # a result by itself looks like a mapping to `dict`


def _points(rows: list[Any], versions: dict[str, dict[str, str]]) -> tuple[SeriesPoint, ...]:
    medians_s = json.loads(f"[{','.join(row[5] for row in rows)}]")
    return tuple(
        SeriesPoint(
            run_id=row[2],
            measured_at=row[3],
            commit=row[4],
            process_medians_s=tuple(medians),
            peak_bytes=row[6],
            ssim=row[7],
            first_image_s=row[8],
            cache=row[9],
            fingerprint=row[10],
            outcome=row[11],
            versions=versions[row[12]],
            dirty=row[13],
        )
        for row, medians in zip(rows, medians_s, strict=True)
    )
