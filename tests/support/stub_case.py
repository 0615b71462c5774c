"""A fake case that misbehaves as the installed `stubkernel` says."""

from __future__ import annotations

import importlib.util
from typing import Any

from tests.support.fake_case import FakeCase


class StubCase(FakeCase):
    """Takes its misbehaviour, in the terms of `FakeCase`, from the package's `BEHAVIOUR`; without the package there is none."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if importlib.util.find_spec("stubkernel") is not None:
            import stubkernel

            self.faults = stubkernel.BEHAVIOUR
