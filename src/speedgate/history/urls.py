"""A history's URL: which ones there are, how one is opened, and how it is shown without its password."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from speedgate.results import optional

FILE = Path(".speedgate") / "history.sqlite"
VALID = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg")
_MEMORY = (None, "", ":memory:")


def of_file(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


def checked(text: str) -> str:
    """`text` if it may be a history's URL, by its scheme alone; a `ValueError` that never repeats a password."""
    scheme, found, _ = text.partition("://")
    if not found or not scheme.isprintable() or set(scheme) & {":", "@"}:
        said = "what is given as a history" if {":", "@"} & set(text) else text  # half a URL may hold a password
        raise ValueError(f"{said}: expected a URL, {VALID}; write --history=URL, or a bare --history at the end")
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme}://...: expected {VALID}")
    if scheme != "sqlite" and text.count("@") > 1:
        # SQLAlchemy takes the first one for the end of the password, and would show the rest of it as the host.
        raise ValueError(
            f'{scheme}://...: holds more than one "@": write one that is part of a name or a password as %40, or leave the'
            " password to PGPASSWORD or ~/.pgpass"
        )
    return text


def available() -> None:
    """A `ValueError` with the command that installs what a history needs, where it is missing."""
    optional.need("history", what="a history")


def parsed(text: str) -> Any:
    """SQLAlchemy's URL, with the driver that we bring; a `ValueError` where it is none or would keep nothing."""
    checked(text)
    available()
    import sqlalchemy as sa

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        # What SQLAlchemy says may repeat the URL, and so its password.
        raise ValueError(f"--history: not a URL that can be read; expected {VALID}") from error
    if url.get_backend_name() == "sqlite" and (url.database in _MEMORY or url.query):
        raise ValueError(f"--history: expected a file and nothing else, {VALID}: what is in memory is lost")
    return url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")


def shown(text: str) -> str:
    """The URL without its password, wherever that stands in it: it can be used with PGPASSWORD or ~/.pgpass."""
    import sqlalchemy as sa

    url = parsed(text)
    query = {name: value for name, value in url.query.items() if not _is_secret(name)}
    bare = sa.URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database, query)
    return str(bare.render_as_string())


def scrubbed(message: str, text: str) -> str:
    """What a driver says, on one line and without the URL's password."""
    url = parsed(text)
    secrets = [url.password, *(value for name, value in url.query.items() if _is_secret(name))]
    line = " ".join(message.split())
    for secret in secrets:
        line = line.replace(str(secret), "***") if secret else line
    return line


def command(*words: str, url: str) -> str:
    """`speedgate history` with these words, for a shell; the password of the URL is left to be filled in."""
    line = shlex.join(["speedgate", "history", *words, "--history", shown(url)])
    return f"PGPASSWORD=... {line}" if has_secret(url) else line


def has_secret(text: str) -> bool:
    """Whether what is shown of the URL lacks a password that it holds."""
    url = parsed(text)
    return url.password is not None or any(_is_secret(name) for name in url.query)


def _is_secret(name: str) -> bool:
    return "password" in name.lower()
