"""Find the installed packages that a worker ran with: those that it imported modules from, and what these require.

The worker names its modules, which is cheap. The metadata of all packages, half a second of reading, is read by the session.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_FROM_THE_CHECKOUT = "speedgate"  # its code is that of the commit, whatever version its metadata state


def imported_modules() -> list[str]:
    """Return the names of the modules that this process has imported, without those inside of packages."""
    return sorted({name.partition(".")[0] for name in sys.modules})


def packages_of(modules: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that has one of these modules, by canonical name, and of all that it requires.

    A required package counts although no module of it was imported: torch loads the libraries of some by itself.
    """
    distributions = _distributions_by_module()
    pending = [canonicalize_name(name) for module in modules for name in distributions.get(module, ())]
    packages: dict[str, str] = {}
    while pending:
        name = pending.pop()
        if name in packages or name == _FROM_THE_CHECKOUT:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # required for another purpose, and not installed
            continue
        packages[name] = distribution.version
        pending += [canonicalize_name(needed) for needed in filter(None, map(_needed, distribution.requires or ()))]
    return dict(sorted(packages.items()))


def _needed(text: str) -> str | None:
    """Return the name of a package that is required here without any extra; None for another requirement."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    return requirement.name if requirement.marker is None or requirement.marker.evaluate({"extra": ""}) else None


@functools.cache
def _distributions_by_module() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
