"""The packages of a worker are those that it imported, and what these require."""

from __future__ import annotations

import importlib.metadata

from speedgate.measure.imported_packages import imported_modules, packages_of


def test_a_required_package_counts_although_nothing_of_it_was_imported():
    """pytest requires pluggy; a package of this environment that pytest does not require is left out, and so is this project."""
    packages = packages_of(["pytest", "speedgate", "sys", "a_module_of_no_package"])

    assert packages["pytest"] == importlib.metadata.version("pytest")
    assert packages["pluggy"] == importlib.metadata.version("pluggy")
    assert not {"msgspec", "torch", "speedgate"} & set(packages)
    assert "colorama" not in packages  # required on another system only


def test_modules_are_named_by_their_package():
    """The worker names each package once, however many modules of it were imported."""
    names = imported_modules()

    assert "speedgate" in names and not any("." in name for name in names)
