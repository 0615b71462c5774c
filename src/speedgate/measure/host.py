"""The worker's side: hold one target object and do what is asked of it until the channel closes."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping
from typing import Any


def make_target(factory: str, arguments: Mapping[str, Any]) -> Any:
    """Call `module:name` with `arguments`."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)


def serve(channel: Any, factory: str, arguments: Mapping[str, Any]) -> None:
    """Answer `(operation, keywords)` with `("value", v)` or, where it raised, `("error", type, message, traceback)`."""
    target: Any = None
    for operation, keywords in channel:
        try:
            if target is None:
                target = make_target(factory, arguments)
            answer: tuple[Any, ...] = ("value", getattr(target, operation)(**keywords))
        except Exception as error:  # the boundary: whatever it is, the other side raises it and owns it
            answer = ("error", type(error).__name__, str(error), traceback.format_exc())
        channel.send(answer)
