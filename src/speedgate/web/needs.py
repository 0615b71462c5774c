"""What is asked for before work begins: the packages of the extra."""

from __future__ import annotations

import importlib.util

PACKAGES = ("altair", "jinja2", "vl_convert")


def report() -> None:
    """A `ValueError` that names the extra where one of its packages is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"a report needs the report extra ({', '.join(missing)} missing): pip install 'speedgate[report]'"
        )
