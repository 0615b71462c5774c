"""A worker's side of the compile cache: what torch compiled in this process, as bytes, and such bytes into torch's caches.

`torch.compiler.load_cache_artifacts` writes them into torch's caches on disk (`TORCHINDUCTOR_CACHE_DIR`), where compiling
finds them; torch unpickles what it finds, so bytes from elsewhere are code from elsewhere.

A hit of an imported graph is not a warm start. The C++ that inductor writes for a CPU is there as source and is built anew; of
the Triton kernels those are missing that torch's own launcher cannot start (https://github.com/pytorch/pytorch/issues/191124).
"""

from __future__ import annotations

import time


def save() -> bytes | None:
    """What this process compiled or found compiled, to be asked for after the first image; None where there is nothing."""
    import torch

    saved = torch.compiler.save_cache_artifacts()
    return None if saved is None else saved[0]


def load(artifacts: bytes) -> float:
    """Put them into torch's caches; the seconds that it took. A `ValueError` where torch cannot read them."""
    import torch

    started_s = time.perf_counter()
    if torch.compiler.load_cache_artifacts(artifacts) is None:
        raise ValueError("torch cannot read the compile cache that was imported for this case; its log says why")
    return time.perf_counter() - started_s
