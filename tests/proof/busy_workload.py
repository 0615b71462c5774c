"""A worker's target whose rounds are many short parallel products, as those of a small pipeline."""

from __future__ import annotations

import time
from typing import Any

import torch


class Workload:
    """Makes an "image" of convolutions, products and some Python. The number of threads is set by each call."""

    def __init__(self, *, repetitions: int) -> None:
        self._repetitions = repetitions
        torch.manual_seed(0)
        self._convolution = torch.nn.Conv2d(32, 32, 3, padding=1)
        self._image, self._matrix = torch.randn(1, 32, 64, 64), torch.randn(384, 384)
        self._images = 0

    def use_threads(self, *, count: int) -> None:
        """Set how many threads each product uses, from now on."""
        torch.set_num_threads(count)

    @torch.inference_mode()
    def generate(self) -> dict[str, Any]:
        """Run one round and return its seconds; the peak of memory is not measured."""
        started_s = time.perf_counter()
        for _ in range(self._repetitions):
            torch.nn.functional.silu(self._convolution(self._image))
            torch.softmax(self._matrix @ self._matrix, -1)
            sum(range(10_000))  # threads are idle between products
        self._images += 1
        return {"seconds": time.perf_counter() - started_s, "peak_bytes": 1, "images": self._images}

    def close(self) -> None:
        """Do nothing: no resource is held."""
