"""A case and a worker's target for tests of the runner: no process, no clock, and one dictionary of misbehaviours."""

from __future__ import annotations

import dataclasses
from typing import Any

from speedgate.measure.worker import WorkerFailure


@dataclasses.dataclass(frozen=True)
class FakeSpec:
    """A case of a toy suite; satisfies the runner's `CaseSpec`."""

    stage: str = "fast"
    compiles: bool = False

    @property
    def key(self) -> str:
        return f"toy/{self.stage}/one"

    @property
    def id(self) -> str:
        return f"toy-{self.stage}"


class FakeTarget:
    """Answers as a worker does. `seconds` are those of its rounds, after the first image.

    `fails` maps an operation to the exception that it raises: text becomes a `WorkerFailure` with that text.
    """

    pid = None

    def __init__(
        self,
        *,
        seconds: float = 0.5,
        fails: dict[str, Any] | None = None,
        first: dict[str, Any] | None = None,
        **reply: Any,
    ) -> None:
        self.seconds, self.fails, self.first, self.reply = seconds, fails or {}, first or {}, reply
        self.calls: list[str] = []
        self.images = 0
        self.is_closed = False

    def call(self, operation: str, **keywords: Any) -> Any:
        """Answer one operation."""
        assert not self.is_closed, f"{operation!r} was asked of a worker that was closed"
        self.calls.append(operation)
        failure = self.fails.get(operation)
        if isinstance(failure, str):
            raise WorkerFailure(failure)
        if failure is not None:
            raise failure
        return getattr(self, operation)(**keywords)

    def close(self) -> None:
        """Remember the end."""
        self.is_closed = True

    def versions(self) -> dict[str, Any]:
        return {"python": "3"}

    def load(self) -> dict[str, Any]:
        return {
            "recipe": {"stages": ["fast"]},
            "structure": {"linears": 3},
            "environment": self.versions(),
            "seconds": {"import_s": 0.1, "load_s": 0.1, "apply_s": 0.1},
            "offers": ["attribute"],
        } | self.reply

    def first_image(self) -> dict[str, Any]:
        self.images += 1
        return {"first_image_s": 1.0, "cache_hits": 0, "cache_misses": 0} | self.first

    def generate(self) -> dict[str, Any]:
        self.images += 1
        return {"seconds": self.seconds, "peak_bytes": 2**20, "images": self.images} | self.reply

    def modules(self) -> list[str]:
        return ["pytest"]

    def count(self) -> dict[str, Any]:
        return {"graphs": 1}

    def attribute(self) -> dict[str, Any]:
        return {"kernels": [["gemm", 4, 0.1]], "attention_kernels": {}, "code_digest": "00000000deadbeef"}
