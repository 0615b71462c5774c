"""A worker in this process that answers, fails and dies as a worker process does, for `fake_bench.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from speedgate.measure.worker import OutOfTime, WorkerFailure
from speedgate.plugin.session import Session
from tests.support.fake_case import FakeCase

DEATHS = {
    "abort": "{name} died during {operation!r} (SIGABRT)",
    "kill": "{name} died during {operation!r} (SIGKILL, often the out-of-memory killer)",
    "hang": "{name} did not answer {operation!r} within 3 s and was killed",
}


class FakeClock:
    """Stands for the age of this process, by which the budget of a recording is counted."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FakeBuilds:
    """Remembers the workers of this process, and those that have loaded a case."""

    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.most_living = 0
        self._loads: list[tuple[str, str]] = []

    def add(self, stage: str, arm: str) -> None:
        """Append a worker that loads a case."""
        self._loads.append((stage, arm))
        self.most_living = max(self.most_living, self.living())

    def builds(self) -> list[tuple[str, str]]:
        """Return stage and arm of each worker that has loaded a case."""
        return self._loads

    def living(self) -> int:
        """Return how many workers are not closed."""
        return sum(not worker.is_closed for worker in self.workers)


@dataclasses.dataclass(kw_only=True)
class FakeWorker:
    """Answers as a `Worker` does, from a `FakeCase` in this process. `on_call` gets the name of each operation before it runs."""

    case: FakeCase
    name: str
    session: Session
    clock: FakeClock
    on_call: Callable[[str], None]
    pid: int | None = None
    is_closed: bool = False
    operations: list[str] = dataclasses.field(default_factory=list)

    def call(self, operation: str, **keywords: Any) -> Any:
        """Answer one operation. Raises `WorkerFailure` or `OutOfTime` as a worker process would."""
        assert not self.is_closed, f"{operation!r} was asked of a worker that was closed"
        self.on_call(operation)
        self.operations.append(operation)
        try:
            answer = getattr(self.case, operation)(**keywords)
        except (MemoryError, RuntimeError) as error:
            message = " ".join(str(error).split())
            raise WorkerFailure(f"{operation!r} of {self.name} raised {type(error).__name__}: {message}") from error
        for way, sentence in DEATHS.items():
            if self.case.faults.get(way) == operation:
                if way == "hang" and self.session.budget.seconds is not None:
                    self.clock.now_s += self.session.budget.left_s
                    raise OutOfTime(f"the budget was over during {operation!r}")
                raise WorkerFailure(sentence.format(name=self.name, operation=operation))
        return answer

    def close(self) -> None:
        """Remember the end."""
        self.is_closed = True


class InProcessCase(FakeCase):
    """A `FakeCase` that leaves it to its `FakeWorker` to die."""

    def _end_process(self, operation: str) -> None:
        pass
