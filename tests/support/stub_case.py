"""A fake case that is as well as the `stubkernel` which is installed where it runs."""

from __future__ import annotations

import importlib.util
from typing import Any

from tests.support.fake_case import FakeCase


class StubCase(FakeCase):
    """What is wrong with it is the package's `BEHAVIOUR`, in the words of `FakeCase`; without the package nothing is."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if importlib.util.find_spec("stubkernel") is not None:
            import stubkernel

            self.wrong = stubkernel.BEHAVIOUR
