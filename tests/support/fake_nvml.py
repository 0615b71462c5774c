"""Replay scripted answers of NVML in place of `pynvml`, from the files in `tests/support/nvml/`.

The answers were written from NVML's documentation; none of them has been recorded on a real GPU yet.

A file maps a query, with the names of its constants, to its answers in order; the last answer repeats. An answer
`"NVML_ERROR_..."` is raised. `about` describes the scripted GPU, and `like` names a file whose answers this file changes.
Error classes and constants are nvidia-ml-py's own, and a query must exist there with the same arguments.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml as real
import pytest

from speedgate.measure.monitor import Reading
from speedgate.measure.nvml import NvmlMonitor

FOLDER = Path(__file__).parent / "nvml"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


class FakeNvml:
    """Stand for the module `pynvml` in `sys.modules`; `open` counts the calls of nvmlInit without a shutdown."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self.answers = {}
        for question, script in answers.items():
            function, *constants = question.split()
            self.answers[function, *(getattr(real, name) for name in constants)] = list(script)
        self.open = 0
        self.handles: set[Any] = set()  # the handles of all queries

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802 - NVML's name
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's name
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802 - NVML's name
        return f"gpu{index}"

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:  # noqa: N802 - NVML's name
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:  # noqa: N802 - NVML's name
        if index == 0:
            raise real.NVMLError(real.NVML_ERROR_NOT_FOUND)  # instances need not begin at 0
        return f"{handle} instance {index}"

    def __getattr__(self, name: str) -> Any:
        value = getattr(real, name)
        return self._replay(name) if inspect.isfunction(value) else value

    def _replay(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any) -> Any:
            inspect.signature(getattr(real, name)).bind(*arguments)
            self.handles.update(arguments[:1])
            script = self.answers[name, *arguments[1:]]
            value = script.pop(0) if len(script) > 1 else script[0]
            if isinstance(value, str) and value.startswith("NVML_ERROR_"):
                raise real.NVMLError(getattr(real, value))
            return _shaped(value)

        return answer


def open_gpu(
    patch: pytest.MonkeyPatch, name: str = "idle_h200", changed: dict[str, list[Any]] | None = None, **options: Any
) -> NvmlMonitor:
    """Open a monitor of the GPU in `tests/support/nvml/<name>.json`, with the answers in `changed` in place of its own."""
    patch.setitem(sys.modules, "pynvml", FakeNvml(answers(name) | (changed or {})))
    return NvmlMonitor(**options)


def one_round(monitor: NvmlMonitor) -> Reading:
    """Return the monitor's reading around the first round of a session."""
    monitor.facts()
    monitor.begin()
    return monitor.end()


def answers(name: str) -> dict[str, list[Any]]:
    """Return the script in `tests/support/nvml/<name>.json`, merged into the script that it is like."""
    data = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return (answers(data["like"]) if "like" in data else {}) | data["answers"]


def _shaped(value: Any) -> Any:
    """Convert objects to structures like those of nvidia-ml-py, whose fields are attributes."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _shaped(field) for name, field in value.items()})
    return [_shaped(item) for item in value] if isinstance(value, list) else value
