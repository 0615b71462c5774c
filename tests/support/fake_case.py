"""A worker target that builds nothing. It reads from `behaviour.json` what it returns and how it fails."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fixtures.pipelines.definition import Workload
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import compiles, lineage

# Imported late: numpy, and modules that import pytest. A run of the tests starts hundreds of these workers.

SECONDS = {"fp32": 0.7, "bf16": 0.5, "sdpa": 0.4, "compile": 0.3, "fused_qkv": 0.29, "int8": 0.25}
SECONDS |= {"fp16": 0.45, "compile_reduce_overhead": 0.35}
# On the fake GPU: the published seconds, and a peak below each published one.
CUDA_SECONDS = {"fp32": 7.362, "bf16": 4.626, "sdpa": 3.315, "compile": 2.538, "fused_qkv": 2.523, "int8": 2.429}
PEAK_BYTES = 7 * 2**30
# The environment that a test makes for `--against` has its own behaviour.json: that is the other arm.
PREFIX = Path(sys.prefix)
ARM = "other" if (PREFIX / "behaviour.json").exists() else "this"
NOISE = {"fp32": 0.0, "bf16": 0.016, "sdpa": 0.016, "compile": 0.012, "fused_qkv": 0.012, "int8": 0.024}
NOISE |= {"fp16": 0.01, "compile_reduce_overhead": 0.01}


class BuildLog:
    """Remembers every worker of a session in `builds.log`, because each fake worker is a process of its own."""

    def __init__(self) -> None:
        self._path = Path("builds.log")

    def add(self, stage: str, arm: str) -> None:
        """Append a worker."""
        with self._path.open("a") as log:
            log.write(f"{stage} {os.getpid()} {arm}\n")

    def builds(self) -> list[tuple[str, str]]:
        """Return stage and arm of each worker so far."""
        return [(stage, arm) for stage, _, arm in self._lines()]

    def living(self) -> int:
        """Return how many workers are alive."""
        return sum(Path(f"/proc/{pid}").exists() for _, pid, _ in self._lines())

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self._path.read_text().splitlines()]


class FakeCase:
    """Answers the requests of `fixtures.worker.built_case.BuiltCase`. `behaviour` maps a stage to its faults:

    `abort`, `kill`, `hang`, `raise` (out of memory) or `fail`: the operation in which this happens;
    `from`: the number of the stage's process, in this arm, from which on the faults apply;
    `slower`: a factor on the seconds; `at`: the component that is slower;
    `spread`: the standard deviation of the level of a process, as a share of it; `draw`: the seed of these levels;
    `turned`: the slower half of the rounds comes first; `bigger`: a factor on the peak memory;
    `syncs`: host synchronisations in a step; `lacks_int8`: no quantised linears;
    `noise`: a factor on the error of step and image;
    `order`: by how much the first of each two processes is slower;
    `crowded`: the operation that is out of memory while another process lives.

    Any other name replaces the value of the same name in an answer: `seconds`, `images`, `loops`, `components`, `offers`,
    `kernels`, `attention_kernels`, `code_digest`, `first_image_s`, `compile_s`, `cache_hits`, `recipe`, `structure` and the
    counts.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        size: str,
        stage: str,
        weights: dict[str, Any],
        device: str,
        workload: dict[str, Any],
        behaviour: Mapping[str, Any] | None = None,
        log: BuildLog | None = None,
        arm: str = ARM,
        fault: dict[str, Any] | None = None,
    ) -> None:
        self.stage, self.pipeline_spec = stage, pipelines()[pipeline]
        self.size, self.workload = self.pipeline_spec.sizes[size], Workload(**workload)
        self.weights, self.device = weights, device
        self.behaviour = _behaviour() if behaviour is None else behaviour
        self.log, self.arm = log or BuildLog(), arm
        self.faults: dict[str, Any] = self.behaviour.get(stage, {})
        if fault is not None:  # of `--inject slower_step`
            self.faults = self.faults | {"slower": 1 + fault["amount"] / 100}
        self.rounds = 0
        self.images = 0

    def versions(self) -> dict[str, Any]:
        return {"python": sys.version.split()[0]} | self.behaviour.get("versions", {})

    def load(self) -> dict[str, Any]:
        self.log.add(self.stage, self.arm)
        workers = self.log.builds()
        if workers.count((self.stage, self.arm)) < self.faults.get("from", 1):
            self.faults = {}
        self.level = self._level(len(workers))
        self._misbehave("load")
        structure = self._structure()
        if "lacks_int8" in self.faults:
            structure = {name: 0 if name.endswith("int8_linears") else value for name, value in structure.items()}
        return {
            "structure": structure | self.faults.get("structure", {}),
            "recipe": {"stages": [stage.name for stage in lineage(self.stage, without=self.pipeline_spec.unsupported)]}
            | {"weights": {"source": self.weights["source"], "revisions": self.weights["revisions"]}}
            | self.faults.get("recipe", {}),
            "environment": self.versions(),
            "seconds": {"import_s": 1.0, "load_s": 2.0, "apply_s": 0.5},
            "offers": self.faults.get("offers", ["attribute"]),
        }

    def first_image(self) -> dict[str, Any]:
        self._misbehave("first_image")
        self.images += 1
        compile_s = 1.0 if compiles(self.stage, without=self.pipeline_spec.unsupported) else 0.0
        figures = {"first_image_s": 1.5, "compile_s": compile_s, "cache_hits": 0, "cache_misses": 0}
        return {name: self.faults.get(name, value) for name, value in figures.items()}

    def load_cache(self, *, artifacts: bytes) -> float:
        self._misbehave("load_cache")
        self.faults = {"cache_hits": 2} | self.faults
        return 0.1

    def save_cache(self) -> bytes:
        self._misbehave("save_cache")
        return f"compiled {self.stage}".encode()

    def generate(self) -> dict[str, Any]:
        self._misbehave("generate")
        self.rounds += 1
        self.images += 1
        wobble = 1 + 0.002 * (-1) ** (self.rounds + self.faults.get("turned", False))
        normal_seconds = CUDA_SECONDS if self.device == "cuda" else SECONDS
        seconds = normal_seconds[self.stage] * self.level * wobble * self.faults.get("slower", 1.0)
        return {
            "seconds": self.faults.get("seconds", seconds),
            "peak_bytes": round(PEAK_BYTES * self.faults.get("bigger", 1.0)),
            "images": self.faults.get("images", self.images),
            "loops": self.faults.get("loops", {"": {"iterations": self.size.workload.steps, "seconds": 0.8 * seconds}}),
            "components": self.faults.get("components", self._components(seconds)),
        }

    def inspect(self, *, precise: bool = False) -> dict[str, Any]:
        self._misbehave("inspect")
        import numpy as np

        rng = np.random.default_rng(1)
        image, step = rng.random((64, 64, 3)), rng.standard_normal((2, 4, 8, 8))
        loop = np.ones((2, 1, 4, 8, 8), dtype=np.float32)
        error = np.random.default_rng(2)
        size = NOISE[self.stage] * (0.1 if precise else 1.0) * self.faults.get("noise", 1.0)
        return {
            "image": (image + 0.75 * size * error.standard_normal(image.shape)).astype(np.float32).tobytes(),
            "image_shape": list(image.shape),
            "earlier": [],
            "earlier_shapes": [],
            "steps": [(step + size * error.standard_normal(step.shape)).astype(np.float32).tobytes()],
            "step_shapes": [[1, 1, *step.shape]],
            **({} if "older_probes" in self.faults else {"loops": [loop.tobytes()], "loop_shapes": [list(loop.shape)]}),
            "decoded": (0.5 * (step + size * error.standard_normal(step.shape))).astype(np.float32).tobytes(),
            "decoded_shape": list(step.shape),
        }

    def modules(self) -> list[str]:
        return ["pytest"]

    def count(self) -> dict[str, Any]:
        self._misbehave("count")
        graphs = sum(bool(value) for name, value in self._structure().items() if name.endswith(".compiled"))
        recompiles = self.faults.get("recompiles", 0)
        syncs = self.faults.get("syncs", 0.0) if self.device == "cuda" else None
        return {
            "graphs": graphs,
            "inductor_graphs": self.faults.get("inductor_graphs", graphs),
            "graph_breaks": 0,
            "recompiles": recompiles,
            "cudagraph_skips": self.faults.get("cudagraph_skips", 0),
            "denoiser_calls": sum(part.steps(self.workload) * part.calls_per_step for part in self.pipeline_spec.parts),
            "vae_decode_calls": self.faults.get(
                "vae_decode_calls", sum(part.vae is not None for part in self.pipeline_spec.parts)
            ),
            "syncs_per_step": syncs,
        }

    def attribute(self) -> dict[str, Any]:
        self._misbehave("attribute")
        kernels = {"gemm": [120, 0.12], "softmax": [40, 0.03], "copy": [9, 0.001]} | self.faults.get("kernels", {})
        return {
            "kernels": [[name, *row] for name, row in kernels.items() if row],
            "attention_kernels": self.faults.get("attention_kernels", {"flash": 40}),
            "code_digest": self.faults.get("code_digest", "00000000deadbeef"),
        }

    def close(self) -> None:
        pass

    def _components(self, seconds: float) -> dict[str, list[float]]:
        """Return nine tenths of the seconds, by component; the seconds that `slower` adds are in the component of `at`."""
        steps = self.size.workload.steps
        normal_s = seconds / self.faults.get("slower", 1.0)
        seconds_by_component = {
            "text_encoders": [0.1 * normal_s],
            "denoiser": steps * [0.6 * normal_s / steps],
            "vae_decode": [0.2 * normal_s],
        }
        at = self.faults.get("at", "denoiser")
        calls = seconds_by_component[at]
        seconds_by_component[at] = [call + (seconds - normal_s) / len(calls) for call in calls]
        return seconds_by_component

    def _level(self, number: int) -> float:
        level = 1 + self.faults.get("order", 0.0) * (number % 2)
        if "spread" not in self.faults:
            return level
        import numpy as np

        draw = np.random.default_rng([self.faults.get("draw", 0), number]).standard_normal()
        return level * (1 + self.faults["spread"] * float(draw))

    def _structure(self) -> dict[str, Any]:
        facts = [
            self.size.expected.get(stage.name, {})
            for stage in lineage(self.stage, without=self.pipeline_spec.unsupported)
        ]
        return {name: value for stage in facts for name, value in stage.items()}

    def _misbehave(self, operation: str) -> None:
        is_crowded = self.faults.get("crowded") == operation and self.log.living() > 1
        if self.faults.get("raise") == operation or is_crowded:
            raise MemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if self.faults.get("fail") == operation:
            raise RuntimeError("no kernel image is available\nfor execution on the device")
        self._end_process(operation)

    def _end_process(self, operation: str) -> None:
        """End this process, or stop answering, if that is the operation's fault."""
        if self.faults.get("abort") == operation:
            print("the last words of a worker", file=sys.stderr, flush=True)
            os.abort()
        if self.faults.get("kill") == operation:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.faults.get("hang") == operation:
            time.sleep(600)


class FakeImportCheck:
    """Answers as `fixtures.worker.meta.ImportCheck`, with the versions of `behaviour.json` in place of real ones."""

    def versions(self) -> dict[str, Any]:
        from speedgate.measure.machine import installed_versions

        return installed_versions() | _behaviour().get("versions", {})

    def close(self) -> None:
        pass


def _behaviour() -> dict[str, Any]:
    path = (PREFIX if ARM == "other" else Path()) / "behaviour.json"
    return json.loads(path.read_text()) if path.exists() else {}
