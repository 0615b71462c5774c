"""What a history holds: series for whoever looks for changes or draws them, and whole entries for an export.

Plain rows, no objects of an ORM; in PostgreSQL through a cursor on the server, so that no answer is in memory as a whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from speedgate.baselines.benchmark_json import RECORDED
from speedgate.history import database, schema
from speedgate.history.entries import Entry, from_document
from speedgate.history.series import Point, Series

_ROWS = 5000  # fetched at a time


def series(
    url: str, *, gpu_key: str | None = None, case_key: str | None = None, source: str | None = RECORDED
) -> list[Series]:
    """The series of every case on every GPU key, or of those named, by GPU key and case key; points oldest first.

    Seconds, bytes and UTC times as in `Point`. Published figures are of other people's software and in no series, unless
    `source` is `published`, or None for both. A `ValueError` where there is no history, or one of another schema.
    """
    with database.opened(url, write=False) as engine, engine.connect() as connection:
        database.current(connection, url)
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


def entries(
    url: str, *, gpu_key: str | None = None, case_key: str | None = None, run_id: str | None = None
) -> Iterator[Entry]:
    """Everything that was uploaded, of each run or of those named, case by case and oldest first; one at a time.

    A `ValueError` where there is no history, one of another schema, or an entry that is not what was uploaded.
    """
    with database.opened(url, write=False) as engine, engine.connect() as connection:
        database.current(connection, url)
        c = schema.tables().runs.c
        for key, document in _rows(
            connection, _document_query(), {c.gpu_key: gpu_key, c.case_key: case_key, c.run_id: run_id}
        ):
            entry = from_document(document, where=f"run {key}")
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


def _points(rows: list[Any], versions: dict[str, dict[str, str]]) -> tuple[Point, ...]:
    medians_s = json.loads(f"[{','.join(row[5] for row in rows)}]")
    return tuple(
        Point(
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
