"""A history's database: opened, made and upgraded by Alembic's steps, and held to the schema that this version knows.

What a driver says becomes a `ValueError` of one line that names the history, without its password.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speedgate.history import schema, urls

MIGRATIONS = Path(__file__).parent / "migrations"
VERSIONS = (MIGRATIONS / "versions",)
# libpq's, unless the URL says otherwise. A host that was cut off is noticed in a minute, not in the kernel's two hours.
_CONNECT = {"connect_timeout": 10, "tcp_user_timeout": 60_000, "application_name": "speedgate"}
_BUSY_TIMEOUT_S = 60  # how long a writer of an SQLite file waits for another one
_LOCK = 0x5BEED6A7E  # of PostgreSQL's advisory locks, ours while a schema is changed


class State(enum.Enum):
    """What a database holds beside what this version of speedgate writes."""

    NEW = "no history yet"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"


@contextlib.contextmanager
def opened(url: str, *, write: bool) -> Iterator[Any]:
    """SQLAlchemy's engine; of an SQLite file that is only read, one that never makes it."""
    parsed = urls.parsed(url)
    import sqlalchemy as sa

    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and write:
        _make_folder(Path(parsed.database).parent, url)
    else:
        _refuse_missing(url)
    connect = {"timeout": _BUSY_TIMEOUT_S} if sqlite else _CONNECT | dict(parsed.query)
    # What several queries read is of one moment, while others write; a transaction of SQLite is so by itself.
    level = {} if sqlite or write else {"isolation_level": "REPEATABLE READ"}
    engine = sa.create_engine(parsed, json_serializer=schema.canonical, pool_size=1, connect_args=connect, **level)
    if sqlite:
        _prepare_sqlite(engine, write=write)
    try:
        with spoken(url):
            yield engine
    finally:
        engine.dispose()


def _make_folder(folder: Path, url: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"history {urls.shown(url)}: {folder} cannot be made: {error.strerror}") from error


def _refuse_missing(url: str) -> None:
    """Of PostgreSQL a connection says as much by itself."""
    parsed = urls.parsed(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database).is_file():
        raise ValueError(f"history {urls.shown(url)}: there is no such file")


@contextlib.contextmanager
def spoken(url: str) -> Iterator[None]:
    """Say what the database says in one line."""
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        said = getattr(error, "orig", None) or error
        raise ValueError(f"history {urls.shown(url)}: {urls.scrubbed(str(said), url)}") from error


def prepare(url: str) -> None:
    """Make the history if there is none, and see that it can be written to; a `ValueError` says what to do where not."""
    with opened(url, write=True) as engine:
        with engine.connect() as connection:
            found = state(connection)
        if found is State.NEW:
            _upgrade(engine)
        else:
            _refuse_other(found, url)
        _try_writing(engine)


def current(connection: Any, url: str) -> None:
    """A `ValueError` unless the history is there and of the schema that this version knows."""
    found = state(connection)
    if found is State.NEW:
        raise ValueError(f"history {urls.shown(url)}: the database holds none; pytest bench --history=URL makes one")
    _refuse_other(found, url)


def upgrade(url: str) -> tuple[str | None, str]:
    """Bring an older history to this version's schema: its revision before and after. A newer or a missing one is refused."""
    _refuse_missing(url)
    with opened(url, write=True) as engine:
        with engine.connect() as connection:
            before, found = _revision(connection), state(connection)
        if found is State.NEWER:
            _refuse_other(found, url)
        _upgrade(engine)
        return before, _script().get_current_head()


def state(connection: Any) -> State:
    """How the schema of a database compares with ours."""
    revision, script = _revision(connection), _script()
    if revision is None:
        return State.NEW
    if revision == script.get_current_head():
        return State.CURRENT
    known = {step.revision for step in script.walk_revisions()}
    return State.OLDER if revision in known else State.NEWER


def _refuse_other(found: State, url: str) -> None:
    if found is State.NEWER:
        raise ValueError(
            f"history {urls.shown(url)}: its schema is newer than this speedgate knows; upgrade the software:"
            " pip install --upgrade speedgate"
        )
    if found is State.OLDER:
        raise ValueError(
            f"history {urls.shown(url)}: its schema is older than this speedgate writes; upgrade it:"
            f" {urls.command('upgrade', url=url)}"
        )


def _prepare_sqlite(engine: Any, *, write: bool) -> None:
    """Transactions that begin when they are said to: https://docs.sqlalchemy.org/en/21/dialects/sqlite.html, "transactions"."""
    from sqlalchemy import event

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        if not write:
            connection.execute("PRAGMA cache_size=-262144")  # KiB: rows of a series lie all over the file
        connection.execute("PRAGMA foreign_keys=ON")

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _upgrade(engine: Any) -> None:
    """All missing steps in one transaction. Runners that start at once wait for one another, and find nothing left to do."""
    import sqlalchemy as sa
    from alembic import command

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's transaction is exclusive by itself
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _try_writing(engine: Any) -> None:
    with engine.connect() as connection:
        connection.execute(schema.tables().environments.insert().values(environment_id="probe", versions={}))
        connection.rollback()


def _revision(connection: Any) -> str | None:
    from alembic.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
    revision: str | None = context.get_current_revision()
    return revision


def _script() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("path_separator", "newline")
    for name, paths in (("script_location", (MIGRATIONS,)), ("version_locations", VERSIONS)):
        config.set_main_option(name, "\n".join(map(str, paths)).replace("%", "%%"))
    return config
