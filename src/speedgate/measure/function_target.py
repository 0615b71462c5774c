"""A worker's target that calls one Python function: the smallest thing that the runner can measure."""

from __future__ import annotations

import hashlib
import importlib.util
import resource
import sys
import time
from pathlib import Path
from typing import Any

from speedgate.measure.machine import installed_versions


def file_digest(file: str) -> dict[str, str]:
    """Return the digest of a function's file. Processes of an interrupted recording count for the same file only."""
    return {"sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()}


class FunctionTarget:
    """Imports the Python file `file` and calls its function `name` without arguments, once per round."""

    def __init__(self, *, file: str, name: str) -> None:
        self._file, self._name = file, name
        self._images = 0

    def versions(self) -> dict[str, Any]:
        """Return the versions of the packages that speedgate knows of, in this worker."""
        return installed_versions()

    def load(self) -> dict[str, Any]:
        """Import the file and find the function."""
        started_s = time.perf_counter()
        spec = importlib.util.spec_from_file_location("speedgate_function_case", self._file)
        assert spec is not None and spec.loader is not None, f"{self._file} is no Python file"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._function = getattr(module, self._name)
        return {
            "recipe": {"function": self._name, "weights": file_digest(self._file)},
            "structure": {},
            "environment": self.versions(),
            "seconds": {"import_s": time.perf_counter() - started_s, "load_s": 0.0, "apply_s": 0.0},
        }

    def first_image(self) -> dict[str, Any]:
        """Call the function for the first time."""
        return {"first_image_s": self.generate()["seconds"], "cache_hits": 0, "cache_misses": 0}

    def generate(self) -> dict[str, Any]:
        """Call the function once; return its seconds and the peak resident memory of this process in bytes."""
        started_s = time.perf_counter()
        self._function()
        seconds = time.perf_counter() - started_s
        self._images += 1
        unit_bytes = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes but on macOS
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
        return {"seconds": seconds, "peak_bytes": peak_bytes, "images": self._images}

    def close(self) -> None:
        """End nothing: a function holds nothing."""
