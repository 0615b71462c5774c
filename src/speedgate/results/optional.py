"""Check that the packages of an extra are installed, before the work that needs them begins."""

from __future__ import annotations

import importlib.util

PACKAGES = {
    "history": ("sqlalchemy", "alembic", "psycopg"),
    "report": ("altair", "jinja2", "vl_convert"),
    "trend": ("ruptures",),
}


def require_extra(extra: str, *, what: str, packages: tuple[str, ...] | None = None) -> None:
    """Raise a `ValueError` that names the extra if one of its packages, or of the given ones, is missing."""
    wanted = PACKAGES[extra] if packages is None else packages
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"{what} needs the {extra} extra ({', '.join(missing)} missing): pip install 'speedgate[{extra}]'"
        )
