"""The hooks that a suite implements for the plugin."""

from __future__ import annotations

import pytest

from speedgate.gate.drill import Catalogue


@pytest.hookspec(firstresult=True)
def pytest_speedgate_faults() -> Catalogue | None:
    """Return the faults that `--inject` can put into a worker of this suite. Called only if the option is given."""
