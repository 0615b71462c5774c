"""A worker's target that builds nothing: what it measures and how it fails is read from `behaviour.json`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fixtures.pipelines.definition import Workload
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import lineage

# Imported where they are used: numpy, and what imports pytest. Hundreds of these workers start in a run of the tests.

SECONDS = {"fp32": 0.7, "bf16": 0.5, "sdpa": 0.4, "compile": 0.3, "fused_qkv": 0.29, "int8": 0.25}
SECONDS |= {"fp16": 0.45, "compile_reduce_overhead": 0.35}
# Where it plays a GPU: the published seconds, and a peak below each published one.
CUDA_SECONDS = {"fp32": 7.362, "bf16": 4.626, "sdpa": 3.315, "compile": 2.538, "fused_qkv": 2.523, "int8": 2.429}
PEAK_BYTES = 7 * 2**30
# Which arm of a live comparison this is: one that a test has made for `--against` has a behaviour of its own.
PREFIX = Path(sys.prefix)
ARM = "other" if (PREFIX / "behaviour.json").exists() else "this"
NOISE = {
    "fp32": 0.0,
    "bf16": 0.02,
    "sdpa": 0.02,
    "compile": 0.015,
    "fused_qkv": 0.015,
    "int8": 0.03,
    "fp16": 0.01,
    "compile_reduce_overhead": 0.01,
}


class FakeCase:
    """Speaks as `fixtures.worker.built_case.BuiltCase` does. `behaviour.json` maps a stage to what is wrong with it:

    `slower` (a factor on the seconds), `spread` (the sd of its processes' levels, as a share, seeded by `draw`), `turned` (the
    slower half of the rounds comes first), `bigger` (a factor on the peak), `syncs` (in a step), `lacks_int8`, `noise`
    (more error in step and image), `abort`, `kill`, `hang`, `raise` (out of memory) or `fail` (the operation in which it
    happens), `at` (the component that is slower), and what it says instead of `seconds`, `images`, `loops`, `components`,
    `offers`, `kernels`, `attention_kernels`, `code_digest`, `first_image_s`, `cache_hits`, `recipe`, `structure` and the counts.

    Of a live comparison: `order` (by how much the first of each two processes is slower), `crowded` (the operation that
    finds no memory while another process lives), and `from` (the number of the stage's process, in this arm, with which it
    begins to be wrong).
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
    ) -> None:
        self.stage, self.pipeline_spec = stage, pipelines()[pipeline]
        self.size, self.workload = self.pipeline_spec.sizes[size], Workload(**workload)
        self.weights, self.device = weights, device
        behaviour = _behaviour()
        self.wrong: dict[str, Any] = behaviour.get(stage, {})
        self.rounds = 0
        self.images = 0

    def versions(self) -> dict[str, Any]:
        return {"python": sys.version.split()[0]} | _behaviour().get("versions", {})

    def load(self) -> dict[str, Any]:
        with Path("builds.log").open("a") as log:
            log.write(f"{self.stage} {os.getpid()} {ARM}\n")
        built = builds()
        if sum(line[::2] == [self.stage, ARM] for line in built) < self.wrong.get("from", 1):
            self.wrong = {}
        self.level = self._level(len(built))
        self._misbehave("load")
        structure = self._structure()
        if "lacks_int8" in self.wrong:
            structure = {name: 0 if name.endswith("int8_linears") else value for name, value in structure.items()}
        return {
            "structure": structure | self.wrong.get("structure", {}),
            "recipe": {"stages": [stage.name for stage in lineage(self.stage, without=self.pipeline_spec.unsupported)]}
            | {"weights": {"source": self.weights["source"], "revisions": self.weights["revisions"]}}
            | self.wrong.get("recipe", {}),
            "environment": self.versions(),
            "seconds": {"import_s": 1.0, "load_s": 2.0, "apply_s": 0.5},
            "offers": self.wrong.get("offers", ["attribute"]),
        }

    def first_image(self) -> dict[str, Any]:
        self._misbehave("first_image")
        self.images += 1
        first_image_s, cache_hits = self.wrong.get("first_image_s", 1.5), self.wrong.get("cache_hits", 0)
        return {"first_image_s": first_image_s, "cache_hits": cache_hits, "cache_misses": 0}

    def load_cache(self, *, artifacts: bytes) -> float:
        self._misbehave("load_cache")
        self.wrong = {"cache_hits": 2} | self.wrong
        return 0.1

    def save_cache(self) -> bytes:
        self._misbehave("save_cache")
        return f"compiled {self.stage}".encode()

    def generate(self) -> dict[str, Any]:
        self._misbehave("generate")
        self.rounds += 1
        self.images += 1
        wobble = 1 + 0.002 * (-1) ** (self.rounds + self.wrong.get("turned", False))
        usual = CUDA_SECONDS if self.device == "cuda" else SECONDS
        seconds = usual[self.stage] * self.level * wobble * self.wrong.get("slower", 1.0)
        return {
            "seconds": self.wrong.get("seconds", seconds),
            "peak_bytes": round(PEAK_BYTES * self.wrong.get("bigger", 1.0)),
            "images": self.wrong.get("images", self.images),
            "loops": self.wrong.get("loops", {"": {"iterations": self.size.workload.steps, "seconds": 0.8 * seconds}}),
            "components": self.wrong.get("components", self._components(seconds)),
        }

    def inspect(self, *, precise: bool = False) -> dict[str, Any]:
        self._misbehave("inspect")
        import numpy as np

        rng = np.random.default_rng(1)
        image, step = rng.random((64, 64, 3)), rng.standard_normal((2, 4, 8, 8))
        own = np.random.default_rng(2)
        size = NOISE[self.stage] * (0.1 if precise else 1.0) * self.wrong.get("noise", 1.0)
        return {
            "image": (image + size * own.standard_normal(image.shape)).astype(np.float32).tobytes(),
            "image_shape": list(image.shape),
            "earlier": [],
            "earlier_shapes": [],
            "steps": [(step + size * own.standard_normal(step.shape)).astype(np.float32).tobytes()],
            "step_shapes": [list(step.shape)],
            "decoded": (0.5 * (step + size * own.standard_normal(step.shape))).astype(np.float32).tobytes(),
            "decoded_shape": list(step.shape),
        }

    def count(self) -> dict[str, Any]:
        self._misbehave("count")
        graphs = sum(bool(value) for name, value in self._structure().items() if name.endswith(".compiled"))
        recompiles = self.wrong.get("recompiles", 0)
        syncs = self.wrong.get("syncs", 0.0) if self.device == "cuda" else None
        return {
            "graphs": graphs,
            "inductor_graphs": self.wrong.get("inductor_graphs", graphs),
            "graph_breaks": 0,
            "recompiles": recompiles,
            "cudagraph_skips": self.wrong.get("cudagraph_skips", 0),
            "denoiser_calls": sum(part.steps(self.workload) for part in self.pipeline_spec.parts),
            "vae_decode_calls": self.wrong.get(
                "vae_decode_calls", sum(part.vae is not None for part in self.pipeline_spec.parts)
            ),
            "syncs_per_step": syncs,
        }

    def attribute(self) -> dict[str, Any]:
        self._misbehave("attribute")
        kernels = {"gemm": [120, 0.12], "softmax": [40, 0.03], "copy": [9, 0.001]} | self.wrong.get("kernels", {})
        return {
            "kernels": [[name, *row] for name, row in kernels.items() if row],
            "attention_kernels": self.wrong.get("attention_kernels", {"flash": 40}),
            "code_digest": self.wrong.get("code_digest", "00000000deadbeef"),
        }

    def close(self) -> None:
        pass

    def _components(self, seconds: float) -> dict[str, list[float]]:
        """Nine tenths of a round, what `slower` adds to it in the component that is `at` fault."""
        steps = self.size.workload.steps
        usual_s = seconds / self.wrong.get("slower", 1.0)
        spent = {
            "text_encoders": [0.1 * usual_s],
            "denoiser": steps * [0.6 * usual_s / steps],
            "vae_decode": [0.2 * usual_s],
        }
        at = self.wrong.get("at", "denoiser")
        spent[at] = [call + (seconds - usual_s) / len(spent[at]) for call in spent[at]]
        return spent

    def _level(self, number: int) -> float:
        level = 1 + self.wrong.get("order", 0.0) * (number % 2)
        if "spread" not in self.wrong:
            return level
        import numpy as np

        draw = np.random.default_rng([self.wrong.get("draw", 0), number]).standard_normal()
        return level * (1 + self.wrong["spread"] * float(draw))

    def _structure(self) -> dict[str, Any]:
        facts = [
            self.size.expected.get(stage.name, {})
            for stage in lineage(self.stage, without=self.pipeline_spec.unsupported)
        ]
        return {name: value for stage in facts for name, value in stage.items()}

    def _misbehave(self, operation: str) -> None:
        living = sum(Path(f"/proc/{pid}").exists() for _, pid, _ in builds())
        if self.wrong.get("raise") == operation or (self.wrong.get("crowded") == operation and living > 1):
            raise MemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if self.wrong.get("fail") == operation:
            raise RuntimeError("no kernel image is available\nfor execution on the device")
        if self.wrong.get("abort") == operation:
            print("the last words of a worker", file=sys.stderr, flush=True)
            os.abort()
        if self.wrong.get("kill") == operation:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.wrong.get("hang") == operation:
            time.sleep(600)


class FakeImportCheck:
    """Speaks as `fixtures.worker.meta.ImportCheck` does, of an environment that holds what its behaviour says."""

    def versions(self) -> dict[str, Any]:
        from speedgate.measure.machine import installed_versions

        return installed_versions() | _behaviour().get("versions", {})

    def close(self) -> None:
        pass


def builds() -> list[list[str]]:
    """Stage, process and arm of each worker so far."""
    return [line.split() for line in Path("builds.log").read_text().splitlines()]


def _behaviour() -> dict[str, Any]:
    path = (PREFIX if ARM == "other" else Path()) / "behaviour.json"
    return json.loads(path.read_text()) if path.exists() else {}
