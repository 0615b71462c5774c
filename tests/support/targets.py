"""A worker's target that does what a test asks of it, and every way of dying."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from fixtures.stages import torch_state


class Target:
    """Made in the worker by `tests.support.targets:Target`."""

    def __init__(self, *, refuses: str | None = None) -> None:
        if refuses is not None:
            raise LookupError(refuses)
        self.closed = False

    def echo(self, *, value: Any) -> Any:
        """Return what came."""
        return value

    def pid(self) -> int:
        """Say which process this is."""
        return os.getpid()

    def say(self, *, out: str, err: str = "") -> None:
        """Write to both streams."""
        print(out, flush=True)
        print(err, file=sys.stderr, flush=True)

    def spin(self, *, seconds: float) -> float:
        """Keep the processor busy and return how long it took."""
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            pass
        return time.perf_counter() - started_s

    def multiply(self, *, seconds: float) -> None:
        """Keep torch's threads busy, as a round does."""
        import torch

        values = torch.rand(512, 512)
        ends_s = time.perf_counter() + seconds
        while time.perf_counter() < ends_s:
            values @ values

    def raises(self, *, message: str) -> None:
        """Fail like a model."""
        raise RuntimeError(message)

    def hang(self) -> None:
        """Never answer."""
        print("about to hang", file=sys.stderr, flush=True)
        time.sleep(600)

    def closes_its_pipe(self) -> None:
        """Fall silent without ending."""
        os.closerange(3, 256)
        time.sleep(600)

    def abort(self) -> None:
        """Die like a failed assertion in C++."""
        print("terminate called after throwing an instance", file=sys.stderr, flush=True)
        os.abort()

    def is_killed(self) -> None:
        """Die as the out-of-memory killer has it."""
        os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self, *, status: int) -> None:
        """End at once, without an exception and without an answer."""
        os._exit(status)

    def exits(self) -> None:
        """End as a script does."""
        sys.exit("nothing left to do")

    def returns_an_object(self) -> object:
        """Answer with what cannot cross."""
        return self

    def close(self) -> None:
        """Remember that it was ended."""
        self.closed = True


class Compiled:
    """A function that inductor compiles, in place of a case: made by `tests.support.targets:Compiled`."""

    def first_image(self) -> dict[str, int]:
        """Compile it and call it; what inductor's graph cache has counted."""
        import torch

        # A call of a library: a graph of inductor's without C++ to build, which takes half a minute in an empty cache.
        torch.compile(lambda x: x @ x)(torch.ones(4, 4))
        counted = torch_state.compiler_counts()
        return {name: counted[name] for name in ("cache_hits", "cache_misses")}

    def load_cache(self, *, artifacts: bytes) -> float:
        """As a case does."""
        return torch_state.load_compile_cache(artifacts)

    def save_cache(self) -> bytes | None:
        """As a case does."""
        return torch_state.save_compile_cache()

    def close(self) -> None:
        """Nothing to end."""
