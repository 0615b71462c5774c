"""What is asked for before work begins: the packages of an extra."""

from __future__ import annotations

import importlib.util

PACKAGES = {
    "history": ("sqlalchemy", "alembic", "psycopg"),
    "report": ("altair", "jinja2", "vl_convert"),
    "trend": ("ruptures",),
}


def need(extra: str, *, what: str, packages: tuple[str, ...] | None = None) -> None:
    """A `ValueError` that names the extra where one of its packages, or of those that are wanted of it, is missing."""
    wanted = PACKAGES[extra] if packages is None else packages
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"{what} needs the {extra} extra ({', '.join(missing)} missing): pip install 'speedgate[{extra}]'"
        )
