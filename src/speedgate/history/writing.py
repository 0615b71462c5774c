"""Uploading: one transaction a case, tried again while the connection is gone, and nothing twice.

The key of a run is a digest of what was measured. So a transaction whose end nobody heard of is simply tried again.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from typing import Any

from speedgate.history import database, schema
from speedgate.history.entries import Entry

PATIENCE_S = 60.0  # a server that restarts is back within this
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
# PostgreSQL's SQLSTATE of what passes by itself: connections that broke, a shutdown, a restart, a deadlock.
_PASSING = ("08", "57P", "40")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Added:
    """How many runs an upload added, and how many of its runs were there already."""

    added: int
    known: int


def add(url: str, entries: Iterable[Entry], *, patience_s: float = PATIENCE_S) -> Added:
    """Upload entries, each in a transaction of its own; `patience_s` is how long each may wait for a lost connection.

    A `ValueError` where one could not be written: those before it are there, and the same call again adds the rest.
    """
    added = known = 0
    with database.opened(url, write=True) as engine:
        _patiently(functools.partial(_check, engine, url), patience_s=patience_s)
        for entry in entries:
            if _patiently(functools.partial(_insert, engine, entry), patience_s=patience_s):
                added += 1
            else:
                known += 1
    return Added(added=added, known=known)


def _check(engine: Any, url: str) -> bool:
    with engine.connect() as connection:
        database.current(connection, url)
    return True


def _insert(engine: Any, entry: Entry) -> bool:
    """Whether the entry was new."""
    tables = schema.tables()
    with engine.begin() as connection:
        versions = entry.versions
        environment_id = schema.digest(versions)[:32]
        _insert_new(connection, tables.environments, environment_id=environment_id, versions=versions)
        if not _insert_new(connection, tables.runs, environment_id=environment_id, **entry.columns()):
            return False
        _insert_new(connection, tables.documents, run_id=entry.run_id, document=entry.document())
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
