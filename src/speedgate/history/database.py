"""Open the database of a history, create it or upgrade it with Alembic, and check that its schema is the one this version uses.

Errors of a database driver become a `ValueError` of one line that names the history and never contains its password.
"""

from __future__ import annotations

import contextlib
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
# Defaults of libpq, unless the URL sets them. A lost host is noticed after a minute, not after the kernel's two hours.
_CONNECT = {"connect_timeout": 10, "tcp_user_timeout": 60_000, "application_name": "speedgate"}
_BUSY_TIMEOUT_S = 60  # how long a writer of an SQLite file waits for another writer
_LOCK = 0x5BEED6A7E  # the number of the PostgreSQL advisory lock that we hold while we change a schema


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file."""
    return f"sqlite:///{path}"


def check_url(text: str) -> str:
    """Return `text` if its scheme is one of a history's URL. The `ValueError` otherwise never repeats a password."""
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.isprintable() or set(scheme) & {":", "@"}:
        subject = "the history" if {":", "@"} & set(text) else text  # half a URL may contain a password
        raise ValueError(f"{subject}: expected a URL, {URL_FORMS}; write --history=URL, or a bare --history at the end")
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme}://...: expected {URL_FORMS}")
    if scheme != "sqlite" and text.count("@") > 1:
        # SQLAlchemy ends the password at the first "@", and would show the rest of the password as the host.
        raise ValueError(
            f'{scheme}://...: contains more than one "@"; write an "@" inside a user name or a password as %40, or give'
            " the password in PGPASSWORD or ~/.pgpass"
        )
    return text


def parse_url(text: str) -> Any:
    """Return SQLAlchemy's URL with our driver. Raises `ValueError` for an invalid URL and for a database in memory.

    A missing optional dependency is a `ValueError` too; it names the command that installs it.
    """
    check_url(text)
    optional.require_extra("history", what="a history")
    import sqlalchemy as sa

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        # The text of SQLAlchemy's error may contain the URL, and so the password.
        raise ValueError(f"--history: not a valid URL; expected {URL_FORMS}") from error
    if url.get_backend_name() == "sqlite" and (url.database in _MEMORY or url.query):
        raise ValueError(f"--history: a database in memory is lost at the end; expected {URL_FORMS}, without a query")
    return url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")


def url_without_password(text: str) -> str:
    """Remove the password from the URL and from its query; PGPASSWORD or ~/.pgpass can supply it instead."""
    import sqlalchemy as sa

    url = parse_url(text)
    query = {name: value for name, value in url.query.items() if not _is_secret(name)}
    bare = sa.URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database, query)
    return str(bare.render_as_string())


def message_without_password(message: str, text: str) -> str:
    """Put a driver's message on one line and replace the URL's password in it by `***`."""
    line = " ".join(message.split())
    for secret in _secrets(text):
        line = line.replace(secret, "***")
    return line


def history_command(*words: str, url: str) -> str:
    """Write the shell line `speedgate history WORDS --history URL`, with `PGPASSWORD=...` in place of a password."""
    line = shlex.join(["speedgate", "history", *words, "--history", url_without_password(url)])
    return f"PGPASSWORD=... {line}" if _secrets(url) else line


def _secrets(text: str) -> list[str]:
    """List what `url_without_password` removes."""
    url = parse_url(text)
    values = [url.password, *(value for name, value in url.query.items() if _is_secret(name))]
    return [str(value) for value in values if value]


def _is_secret(name: str) -> bool:
    return "password" in name.lower()


@contextlib.contextmanager
def open_engine(url: str, *, write: bool) -> Iterator[Any]:
    """Yield SQLAlchemy's engine. Without `write`, a missing SQLite file is an error and is not created."""
    parsed = parse_url(url)
    import sqlalchemy as sa

    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and write:
        folder = Path(parsed.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"history {url_without_password(url)}: {folder} cannot be created: {error.strerror}"
            raise ValueError(message) from error
    else:
        _require_file(url)
    connect = {"timeout": _BUSY_TIMEOUT_S} if sqlite else _CONNECT | dict(parsed.query)
    # All queries of a reader see one moment while others write. A transaction of SQLite does so by itself.
    level = {} if sqlite or write else {"isolation_level": "REPEATABLE READ"}
    engine = sa.create_engine(parsed, json_serializer=schema.canonical_json, pool_size=1, connect_args=connect, **level)
    if sqlite:
        _prepare_sqlite(engine, write=write)
    try:
        with translate_errors(url):
            yield engine
    finally:
        engine.dispose()


def _require_file(url: str) -> None:
    """Raise `ValueError` if an SQLite file is missing. For PostgreSQL, the connection itself fails."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database).is_file():
        raise ValueError(f"history {url_without_password(url)}: there is no such file")


@contextlib.contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Turn an error of SQLAlchemy into a `ValueError` of one line without the password."""
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        message = message_without_password(str(getattr(error, "orig", None) or error), url)
        raise ValueError(f"history {url_without_password(url)}: {message}") from error


def prepare_history(url: str) -> None:
    """Create the history if it is missing, and check that we can write to it. A `ValueError` says what to do otherwise."""
    with open_engine(url, write=True) as engine:
        with engine.connect() as connection:
            revision = _revision(connection)
        if revision is None:
            _upgrade(engine)
        else:
            _require_current(revision, url)
        with engine.connect() as connection:
            connection.execute(schema.tables().environments.insert().values(environment_id="probe", versions={}))
            connection.rollback()


def require_current_schema(connection: Any, url: str) -> None:
    """Raise `ValueError` unless the database holds a history with the schema of this version."""
    revision = _revision(connection)
    if revision is None:
        raise ValueError(
            f"history {url_without_password(url)}: the database holds no history; pytest bench --history=URL creates one"
        )
    _require_current(revision, url)


def upgrade_history(url: str) -> tuple[str | None, str]:
    """Upgrade an older history to the schema of this version, and return the revision before and after.

    Raises `ValueError` for a newer history and for a missing file.
    """
    _require_file(url)
    with open_engine(url, write=True) as engine:
        with engine.connect() as connection:
            before = _revision(connection)
        if before is not None:
            _require_no_newer(before, url)
        _upgrade(engine)
        return before, _script().get_current_head()


def _require_current(revision: str, url: str) -> None:
    _require_no_newer(revision, url)
    if revision != _script().get_current_head():
        raise ValueError(
            f"history {url_without_password(url)}: its schema is older than this version of speedgate; upgrade the history:"
            f" {history_command('upgrade', url=url)}"
        )


def _require_no_newer(revision: str, url: str) -> None:
    if revision not in {migration.revision for migration in _script().walk_revisions()}:
        raise ValueError(
            f"history {url_without_password(url)}: its schema is newer than this version of speedgate; upgrade speedgate:"
            " pip install --upgrade speedgate"
        )


def _prepare_sqlite(engine: Any, *, write: bool) -> None:
    """Let SQLAlchemy begin each transaction: https://docs.sqlalchemy.org/en/21/dialects/sqlite.html, "transactions"."""
    from sqlalchemy import event

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        if not write:
            connection.execute("PRAGMA cache_size=-262144")  # KiB; the rows of a series lie all over the file
        connection.execute("PRAGMA foreign_keys=ON")

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _upgrade(engine: Any) -> None:
    """Run all missing migrations in one transaction. Runners that start together wait for one another."""
    import sqlalchemy as sa
    from alembic import command

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's transaction is exclusive by itself
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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
