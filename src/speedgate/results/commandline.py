"""A command line as it is shown and stored: without the passwords of the URLs that stand in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

# What a shell hands over may hold any character unescaped, so a password ends at the last "@" that there is: rather too much
# is left out than half of one is told.
_PASSWORD = re.compile(r"(://[^:/]*):.*@", re.DOTALL)
_QUERY = re.compile(r"(?<=[?&])([^=&]*password[^=&]*)=[^&]*&?", re.IGNORECASE)


def shown(words: Iterable[str]) -> str:
    """The command for a shell; what a URL in it lacks can be given by PGPASSWORD or ~/.pgpass."""
    return shlex.join(without_password(word) for word in words)


def without_password(word: str) -> str:
    """The argument, be it a URL or one that ends in a URL; any other as it is."""
    if "://" not in word:
        return word
    return _QUERY.sub("", _PASSWORD.sub(r"\1@", word)).rstrip("?&")
