"""Measure real series: processes of the tiny pipeline alone and live pairs, with and without injected slowdowns.

The file is written after every process, so that an interrupted collection can continue.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fixtures.worker.built_case import BuiltCase
from speedgate.measure.machine import resolve_machine
from speedgate.measure.worker import Worker

ROOT = Path(__file__).parents[2]
LEVELS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.06, 0.10)
ALONE_ROUNDS = 20  # per level in a process alone: 1 s, like the suite's default
PAIR_BLOCKS = 20  # per level of a pair; a block is: this arm, other arm, other arm, this arm
WARM_UP = 6
_DIGITS = 6  # microseconds


class SlowedCase(BuiltCase):
    """Make the last denoising step of a built case longer by a share of the whole image's seconds."""

    def load(self) -> dict[str, Any]:
        """Load the case with a wrapper around the denoiser, which is there at every level."""
        answer = super().load()
        self._extra_s, self._calls, forward = 0.0, 0, self.pipeline.unet.forward

        def slowed(*args: Any, **keywords: Any) -> Any:
            output = forward(*args, **keywords)
            self._calls += 1
            if self._calls % self.workload.steps == 0:
                until_s = time.perf_counter() + self._extra_s
                while time.perf_counter() < until_s:
                    pass
            return output

        self.pipeline.unet.forward = slowed
        return answer

    def warm_up(self) -> None:
        """Measure the seconds of an image in this process."""
        self._base_s = statistics.median([self.generate()["seconds"] for _ in range(WARM_UP)][1:])

    def slowed(self, *, level: float) -> float:
        """Return the seconds of a round whose last step is longer by `level` times the seconds of an image."""
        self._extra_s = level * self._base_s
        try:
            return round(float(self.generate()["seconds"]), _DIGITS)
        finally:
            self._extra_s = 0.0


def collect(path: Path, *, alone: int, pairs: int, stage: str = "fp32") -> dict[str, Any]:
    """Measure the processes and pairs that `path` still lacks, and return the whole series."""
    series = json.loads(path.read_text(encoding="utf-8")) if path.exists() else _empty(stage)
    with tempfile.TemporaryDirectory(prefix="speedgate-proof-") as scratch:
        log = Path(scratch) / "worker.log"
        while len(series["alone"]) < alone or len(series["pairs"]) < pairs:
            # In turn, so that both series are measured in the same hours.
            if len(series["alone"]) * pairs <= len(series["pairs"]) * alone:
                kind, (measured, environment) = "alone", _alone(stage, log)
            else:
                kind, (measured, environment) = "pairs", _pair(stage, log, number=len(series["pairs"]))
            _same_machine(series, environment, path)
            series[kind].append(measured)
            _write(path, series)
            print(f"{len(series['alone'])} of {alone} alone, {len(series['pairs'])} of {pairs} pairs", flush=True)
    return series


def _empty(stage: str) -> dict[str, Any]:
    return {"machine": resolve_machine("cpu").key, "stage": stage, "alone": [], "pairs": []}


def _same_machine(series: dict[str, Any], environment: dict[str, Any], path: Path) -> None:
    here = {"machine": resolve_machine("cpu").key, "environment": environment}
    recorded = {name: series.setdefault(name, value) for name, value in here.items()}
    if recorded != here:
        raise ValueError(f"{path}: measured on another machine or with other versions; name a new file with --series")


def _write(path: Path, series: dict[str, Any]) -> None:
    """Write a temporary file and rename it. One line per process, because a line per round would be useless."""
    parts = [f"{json.dumps(name)}: {_value(value)}" for name, value in series.items()]
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    temporary.replace(path)


def _value(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in value) + "\n]"


def _alone(stage: str, log: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    started_s = time.perf_counter()
    worker, environment = _open(stage, log)
    opened_s = time.perf_counter() - started_s
    seconds: dict[str, list[float]] = {str(level): [] for level in LEVELS}
    for _ in range(ALONE_ROUNDS):
        for level in LEVELS:
            seconds[str(level)].append(worker.call("slowed", level=level))
    worker.close()
    return {"opened_s": round(opened_s, 2), "seconds": seconds}, environment


def _pair(stage: str, log: Path, *, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure one live pair: without a change, and with two of the slowdowns in turn."""
    this_first = number % 2 == 0
    started_s = time.perf_counter()
    first, environment = _open(stage, log)
    second, _ = _open(stage, log)
    opened_s = time.perf_counter() - started_s
    this_arm, other_arm = (first, second) if this_first else (second, first)
    seconds = {}
    for level in _levels(number):
        seconds[str(level)] = {"own": [], "other": []}
    for _ in range(PAIR_BLOCKS):
        for level, sides in seconds.items():
            for arm in ("own", "other", "other", "own"):
                worker = this_arm if arm == "own" else other_arm
                sides[arm].append(worker.call("slowed", level=float(level) if arm == "own" else 0.0))
    this_arm.close()
    other_arm.close()
    return {"own_first": this_first, "opened_s": round(opened_s, 2), "seconds": seconds}, environment


def _levels(number: int) -> Iterator[float]:
    yield LEVELS[0]
    injected = LEVELS[1:]
    # Each slowdown gets equally many pairs of both orders: the order changes with each pair, the slowdowns with every second.
    start = number // 2 * 2 % len(injected)
    yield from (injected[start], injected[(start + 1) % len(injected)])


def _open(stage: str, log: Path) -> tuple[Worker, dict[str, Any]]:
    worker = Worker(
        "tests.proof.series:SlowedCase",
        arguments={
            "pipeline": "sdxl",
            "size": "tiny",
            "stage": stage,
            "weights": {"source": "synthetic"},
            "device": "cpu",
        },
        paths=[str(ROOT), str(ROOT / "src")],
        log=log,
        timeout_s=600.0,
    )
    environment = worker.call("load")["environment"]
    worker.call("first_image")
    worker.call("warm_up")
    return worker, environment
