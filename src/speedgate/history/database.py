"""A history's database: opened, made and upgraded by Alembic's steps, and held to the schema that this version knows.

What a driver says becomes a `ValueError` of one line that names the history, without its password.
"""

from __future__ import annotations

import contextlib
import enum
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speedgate.history import schema
from speedgate.results import optional

DEFAULT_FILE = Path(".speedgate") / "history.sqlite"
URL_FORMS = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg")
_MEMORY = (None, "", ":memory:")
MIGRATIONS = Path(__file__).parent / "migrations"
VERSIONS = (MIGRATIONS / "versions",)
# libpq's, unless the URL says otherwise. A host that was cut off is noticed in a minute, not in the kernel's two hours.
_CONNECT = {"connect_timeout": 10, "tcp_user_timeout": 60_000, "application_name": "speedgate"}
_BUSY_TIMEOUT_S = 60  # how long a writer of an SQLite file waits for another one
_LOCK = 0x5BEED6A7E  # of PostgreSQL's advisory locks, ours while a schema is changed


class SchemaState(enum.Enum):
    """What a database holds beside what this version of speedgate writes."""

    NEW = "no history yet"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"


@contextlib.contextmanager
def open_engine(url: str, *, write: bool) -> Iterator[Any]:
    """SQLAlchemy's engine; of an SQLite file that is only read, one that never makes it."""
    parsed = parse_url(url)
    import sqlalchemy as sa

    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and write:
        _make_folder(Path(parsed.database).parent, url)
    else:
        _refuse_missing(url)
    connect = {"timeout": _BUSY_TIMEOUT_S} if sqlite else _CONNECT | dict(parsed.query)
    # What several queries read is of one moment, while others write; a transaction of SQLite is so by itself.
    level = {} if sqlite or write else {"isolation_level": "REPEATABLE READ"}
    engine = sa.create_engine(parsed, json_serializer=schema.canonical_json, pool_size=1, connect_args=connect, **level)
    if sqlite:
        _prepare_sqlite(engine, write=write)
    try:
        with translate_errors(url):
            yield engine
    finally:
        engine.dispose()


def _make_folder(folder: Path, url: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"history {url_without_password(url)}: {folder} cannot be made: {error.strerror}") from error


def _refuse_missing(url: str) -> None:
    """Of PostgreSQL a connection says as much by itself."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database).is_file():
        raise ValueError(f"history {url_without_password(url)}: there is no such file")


@contextlib.contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Say what the database says in one line."""
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        said = getattr(error, "orig", None) or error
        raise ValueError(f"history {url_without_password(url)}: {message_without_password(str(said), url)}") from error


def prepare_history(url: str) -> None:
    """Make the history if there is none, and see that it can be written to; a `ValueError` says what to do where not."""
    with open_engine(url, write=True) as engine:
        with engine.connect() as connection:
            found = schema_state(connection)
        if found is SchemaState.NEW:
            _upgrade(engine)
        else:
            _refuse_other(found, url)
        _try_writing(engine)


def require_current_schema(connection: Any, url: str) -> None:
    """A `ValueError` unless the history is there and of the schema that this version knows."""
    found = schema_state(connection)
    if found is SchemaState.NEW:
        raise ValueError(
            f"history {url_without_password(url)}: the database holds none; pytest bench --history=URL makes one"
        )
    _refuse_other(found, url)


def upgrade_history(url: str) -> tuple[str | None, str]:
    """Bring an older history to this version's schema: its revision before and after. A newer or a missing one is refused."""
    _refuse_missing(url)
    with open_engine(url, write=True) as engine:
        with engine.connect() as connection:
            before, found = _revision(connection), schema_state(connection)
        if found is SchemaState.NEWER:
            _refuse_other(found, url)
        _upgrade(engine)
        return before, _script().get_current_head()


def schema_state(connection: Any) -> SchemaState:
    """How the schema of a database compares with ours."""
    revision, script = _revision(connection), _script()
    if revision is None:
        return SchemaState.NEW
    if revision == script.get_current_head():
        return SchemaState.CURRENT
    known = {step.revision for step in script.walk_revisions()}
    return SchemaState.OLDER if revision in known else SchemaState.NEWER


def _refuse_other(found: SchemaState, url: str) -> None:
    if found is SchemaState.NEWER:
        raise ValueError(
            f"history {url_without_password(url)}: its schema is newer than this speedgate knows; upgrade the software:"
            " pip install --upgrade speedgate"
        )
    if found is SchemaState.OLDER:
        raise ValueError(
            f"history {url_without_password(url)}: its schema is older than this speedgate writes; upgrade it:"
            f" {history_command('upgrade', url=url)}"
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


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


def check_url(text: str) -> str:
    """`text` if it may be a history's URL, by its scheme alone; a `ValueError` that never repeats a password."""
    scheme, found, _ = text.partition("://")
    if not found or not scheme.isprintable() or set(scheme) & {":", "@"}:
        said = "what is given as a history" if {":", "@"} & set(text) else text  # half a URL may hold a password
        raise ValueError(f"{said}: expected a URL, {URL_FORMS}; write --history=URL, or a bare --history at the end")
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme}://...: expected {URL_FORMS}")
    if scheme != "sqlite" and text.count("@") > 1:
        # SQLAlchemy takes the first one for the end of the password, and would show the rest of it as the host.
        raise ValueError(
            f'{scheme}://...: holds more than one "@": write one that is part of a name or a password as %40, or leave the'
            " password to PGPASSWORD or ~/.pgpass"
        )
    return text


def require_extra() -> None:
    """A `ValueError` with the command that installs what a history needs, where it is missing."""
    optional.need("history", what="a history")


def parse_url(text: str) -> Any:
    """SQLAlchemy's URL, with the driver that we bring; a `ValueError` where it is none or would keep nothing."""
    check_url(text)
    require_extra()
    import sqlalchemy as sa

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        # What SQLAlchemy says may repeat the URL, and so its password.
        raise ValueError(f"--history: not a URL that can be read; expected {URL_FORMS}") from error
    if url.get_backend_name() == "sqlite" and (url.database in _MEMORY or url.query):
        raise ValueError(f"--history: expected a file and nothing else, {URL_FORMS}: what is in memory is lost")
    return url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")


def url_without_password(text: str) -> str:
    """The URL without its password, wherever that stands in it: it can be used with PGPASSWORD or ~/.pgpass."""
    import sqlalchemy as sa

    url = parse_url(text)
    query = {name: value for name, value in url.query.items() if not _is_secret(name)}
    bare = sa.URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database, query)
    return str(bare.render_as_string())


def message_without_password(message: str, text: str) -> str:
    """What a driver says, on one line and without the URL's password."""
    url = parse_url(text)
    secrets = [url.password, *(value for name, value in url.query.items() if _is_secret(name))]
    line = " ".join(message.split())
    for secret in secrets:
        line = line.replace(str(secret), "***") if secret else line
    return line


def history_command(*words: str, url: str) -> str:
    """`speedgate history` with these words, for a shell; the password of the URL is left to be filled in."""
    line = shlex.join(["speedgate", "history", *words, "--history", url_without_password(url)])
    return f"PGPASSWORD=... {line}" if has_password(url) else line


def has_password(text: str) -> bool:
    """Whether what is shown of the URL lacks a password that it holds."""
    url = parse_url(text)
    return url.password is not None or any(_is_secret(name) for name in url.query)


def _is_secret(name: str) -> bool:
    return "password" in name.lower()
