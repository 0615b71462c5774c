"""Read series and entries from a history, and add entries to it.

An entry is added in one transaction, which is repeated while the connection is lost. The key of a run is a digest of what was
measured, so a transaction whose result we never learned is simply repeated: it cannot add a run twice. Reading uses plain rows,
in PostgreSQL through a server-side cursor, so that an answer is never in memory as a whole.
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
from speedgate.history.machine import CaseDrift, MachineSeries, machine_series
from speedgate.history.trend import Series, SeriesPoint

RETRY_S = 60.0  # long enough for a server that restarts
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
# Classes of PostgreSQL's SQLSTATE that pass by themselves: a broken connection, a shutdown or restart, a deadlock.
_TRANSIENT = ("08", "57P", "40")
_ROWS_PER_FETCH = 5000
# The fields of a point that are columns of the table `runs` as they are.
_POINT_FIELDS = (
    "run_id", "measured_at", "commit", "peak_bytes", "ssim", "first_image_s", "compile_s", "cache", "fingerprint", "outcome",
    "dirty",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class UploadCounts:
    """The number of runs that an upload added, and of runs that the history already held."""

    added: int
    present: int


def add_entries(url: str, entries: Iterable[HistoryEntry], *, retry_s: float = RETRY_S) -> UploadCounts:
    """Add entries, each in its own transaction, which is retried for up to `retry_s` while the connection is lost.

    Raises `ValueError` if an entry could not be added. Those before it are stored, and the same call again adds the rest.
    """
    added = present = 0
    with database.open_engine(url, write=True) as engine:
        _retry(functools.partial(_require_current_schema, engine, url), retry_s=retry_s)
        for entry in entries:
            if _retry(functools.partial(_insert, engine, entry), retry_s=retry_s):
                added += 1
            else:
                present += 1
    return UploadCounts(added=added, present=present)


def read_series(
    url: str, *, gpu_key: str | None = None, case_key: str | None = None, source: str | None = RECORDED
) -> list[Series]:
    """Read all series, or those of a GPU key or a case, sorted by GPU key and case key; their points are oldest first.

    Units are those of `SeriesPoint`. Published figures come from other software, so they are left out unless `source` is
    `published`, or None for both. Raises `ValueError` if there is no history or its schema is of another version.
    """
    with database.open_engine(url, write=False) as engine, engine.connect() as connection:
        import sqlalchemy as sa

        database.require_current_schema(connection, url)
        columns = schema.tables().runs.c
        versions = _versions_by_environment(connection)
        filters = {columns.gpu_key: gpu_key, columns.case_key: case_key, columns.source: source}
        # The medians as text: `_points` parses the short lists of a thousand runs at once, which is faster.
        medians_s = sa.cast(columns.process_medians_s, sa.Text)
        selected = [columns.gpu_key, columns.case_key, columns.environment_id, medians_s]
        selected += [columns["commit_id" if name == "commit" else name] for name in _POINT_FIELDS]
        rows = _rows(connection, sa.select(*selected), filters)
        all_series = [
            Series(gpu_key=gpu, case_key=case, points=_points(list(group), versions))
            for (gpu, case), group in itertools.groupby(rows, key=lambda row: row[:2])
        ]
    return sorted(all_series, key=lambda series: (series.gpu_key, series.case_key))


def read_machines(url: str, *, gpu_key: str | None = None) -> list[MachineSeries]:
    """Read the series of all machines, or of one GPU key: their drift since their baselines were recorded.

    Raises `ValueError` as `read_series` does.
    """
    with database.open_engine(url, write=False) as engine, engine.connect() as connection:
        import sqlalchemy as sa

        database.require_current_schema(connection, url)
        columns = schema.tables().runs.c
        selected = [columns.gpu_key, columns.measured_at, columns.commit_id, columns.drift_baseline, columns.drift]
        query = sa.select(*selected).where(columns.drift.is_not(None))
        if gpu_key is not None:
            query = query.where(columns.gpu_key == gpu_key)
        rows = connection.execute(
            query
        )  # in no order: to read along the index of the series takes longer than to sort a few
        return machine_series(
            CaseDrift(gpu_key=gpu, measured_at=measured_at, commit=commit, baseline=baseline, drift=drift)
            for gpu, measured_at, commit, baseline, drift in rows
        )


def read_entries(url: str, *, gpu_key: str | None = None, case_key: str | None = None) -> Iterator[HistoryEntry]:
    """Yield all entries, or those of a GPU key or a case, one at a time; grouped by case, oldest first.

    Raises `ValueError` if there is no history, its schema is of another version, or an entry was edited in the database.
    """
    with database.open_engine(url, write=False) as engine, engine.connect() as connection:
        import sqlalchemy as sa

        database.require_current_schema(connection, url)
        columns, documents = schema.tables().runs.c, schema.tables().documents
        filters = {columns.gpu_key: gpu_key, columns.case_key: case_key}
        query = sa.select(columns.run_id, documents.c.document).join(documents)
        for run_id, document in _rows(connection, query, filters):
            entry = entry_from_json(document, where=f"run {run_id}")
            if entry.run_id != run_id:
                raise ValueError(f"run {run_id}: its contents do not match its key; it was edited in the database")
            yield entry


def _require_current_schema(engine: Any, url: str) -> bool:
    with engine.connect() as connection:
        database.require_current_schema(connection, url)
    return True


def _insert(engine: Any, entry: HistoryEntry) -> bool:
    """Add the entry; False if the history holds it already."""
    tables = schema.tables()
    with engine.begin() as connection:
        versions = entry.versions
        environment_id = schema.json_digest(versions)[:32]
        _insert_row(connection, tables.environments, environment_id=environment_id, versions=versions)
        if not _insert_row(connection, tables.runs, environment_id=environment_id, **entry.columns()):
            return False
        _insert_row(connection, tables.documents, run_id=entry.run_id, document=entry.document)
        return True


def _insert_row(connection: Any, table: Any, **values: Any) -> bool:
    """Insert a row; False if there is one with its primary key."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    # A returned row means that it was new. `rowcount` would not tell: some drivers set it to -1.
    statement = dialect.insert(table).values(values).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(statement).first() is not None


def _retry(attempt: Callable[[], bool], *, retry_s: float) -> bool:
    import sqlalchemy as sa

    deadline_s, pause_s = time.monotonic() + retry_s, _FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except sa.exc.DBAPIError as error:
            if not _is_transient(error) or time.monotonic() + pause_s > deadline_s:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _is_transient(error: Any) -> bool:
    """True if the same statement may work in a moment. An error of psycopg without SQLSTATE is a lost or failed connection."""
    import psycopg

    if not isinstance(error.orig, psycopg.OperationalError):
        return False
    code = error.orig.sqlstate
    return code is None or code.startswith(_TRANSIENT)


def _rows(connection: Any, query: Any, filters: dict[Any, str | None]) -> Iterator[Any]:
    """Yield rows in the order of the index, series by series. Runs of the same time are in the order of their digests."""
    runs = schema.tables().runs
    for column, value in filters.items():
        if value is not None:
            query = query.where(column == value)
    ordered = query.order_by(runs.c.case_key, runs.c.gpu_key, runs.c.measured_at, runs.c.run_id)
    yield from connection.execution_options(yield_per=_ROWS_PER_FETCH).execute(ordered)


def _versions_by_environment(connection: Any) -> dict[str, dict[str, str]]:
    """Read the versions of all environments: thousands of runs share a few of them."""
    table = schema.tables().environments
    return dict(iter(connection.execute(table.select())))  # `dict` would take the result itself for a mapping


def _points(rows: list[Any], versions: dict[str, dict[str, str]]) -> tuple[SeriesPoint, ...]:
    medians_s = json.loads(f"[{','.join(row[3] for row in rows)}]")
    return tuple(
        SeriesPoint(
            process_medians_s=tuple(medians),
            versions=versions[row[2]],
            **dict(zip(_POINT_FIELDS, row[4:], strict=True)),
        )
        for row, medians in zip(rows, medians_s, strict=True)
    )
