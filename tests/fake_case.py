"""A worker's target that builds nothing: what it measures and how it fails is read from `behaviour.json`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.selection import Case
from fixtures.stages import lineage

SECONDS = {"fp32": 0.7, "bf16": 0.5, "sdpa": 0.4, "compile": 0.3, "fused_qkv": 0.29, "int8": 0.25}
# Where it plays a GPU: the published seconds, and a peak below each published one.
CUDA_SECONDS = {"fp32": 7.362, "bf16": 4.626, "sdpa": 3.315, "compile": 2.538, "fused_qkv": 2.523, "int8": 2.429}
PEAK_BYTES = 7 * 2**30
NOISE = {"fp32": 0.0, "bf16": 0.02, "sdpa": 0.02, "compile": 0.015, "fused_qkv": 0.015, "int8": 0.03}


class FakeCase:
    """Speaks as `fixtures.built.BuiltCase` does. `behaviour.json` maps a stage to what is wrong with it:

    `slower` (a factor on the seconds), `bigger` (one on the peak), `syncs` (in a step), `lacks_int8`, `noise` (more
    error in step and image), and `abort`, `hang` or `raise` (the operation in which it happens).
    """

    def __init__(self, *, pipeline: str, size: str, stage: str, weights: dict[str, Any], device: str) -> None:
        self.case = Case(pipeline=pipeline, size=size, stage=stage)
        self.weights, self.device = weights, device
        path = Path("behaviour.json")
        self.wrong: dict[str, Any] = json.loads(path.read_text()).get(stage, {}) if path.exists() else {}
        self.rounds = 0
        self.images = 0
        with Path("builds.log").open("a") as log:
            log.write(f"{stage} {os.getpid()}\n")

    def load(self) -> dict[str, Any]:
        self._misbehave("load")
        structure = self.case.expected_structure()
        if "lacks_int8" in self.wrong:
            structure["unet.int8_linears"] = 0
        return {
            "structure": structure,
            "recipe": {"stages": [stage.name for stage in lineage(self.case.stage)]},
            "environment": {"python": sys.version.split()[0]},
            "seconds": {"import_s": 1.0, "load_s": 2.0, "apply_s": 0.5},
        }

    def first_image(self) -> dict[str, Any]:
        self._misbehave("first_image")
        self.images += 1
        return {"first_image_s": 1.5, "cache_hits": 0, "cache_misses": 0}

    def generate(self) -> dict[str, Any]:
        self._misbehave("generate")
        self.rounds += 1
        self.images += 1
        wobble = 1 + 0.002 * (-1) ** self.rounds
        usual = CUDA_SECONDS if self.device == "cuda" else SECONDS
        seconds = usual[self.case.stage] * wobble * self.wrong.get("slower", 1.0)
        peak_bytes = round(PEAK_BYTES * self.wrong.get("bigger", 1.0))
        return {"seconds": self.wrong.get("seconds", seconds), "peak_bytes": peak_bytes, "images": self.images}

    def inspect(self, *, precise: bool = False) -> dict[str, Any]:
        self._misbehave("inspect")
        rng = np.random.default_rng(1)
        image, step = rng.random((64, 64, 3)), rng.standard_normal((2, 4, 8, 8))
        own = np.random.default_rng(2)
        size = NOISE[self.case.stage] * (0.1 if precise else 1.0) * self.wrong.get("noise", 1.0)
        return {
            "image": (image + size * own.standard_normal(image.shape)).astype(np.float32).tobytes(),
            "image_shape": list(image.shape),
            "step": (step + size * own.standard_normal(step.shape)).astype(np.float32).tobytes(),
            "step_shape": list(step.shape),
            "decoded": (step + size * own.standard_normal(step.shape)).astype(np.float32).tobytes(),
            "decoded_shape": list(step.shape),
            "components_s": {"denoiser": 0.1},
        }

    def count(self, *, prompt: str, seed: int) -> dict[str, Any]:
        self._misbehave("count")
        graphs = 2 if self.case.expected_structure()["unet.compiled"] else 0
        recompiles = self.wrong.get("recompiles", 0)
        syncs = self.wrong.get("syncs", 0.0) if self.device == "cuda" else None
        return {
            "graphs": graphs,
            "inductor_graphs": self.wrong.get("inductor_graphs", graphs),
            "graph_breaks": 0,
            "recompiles": recompiles,
            "cudagraph_skips": self.wrong.get("cudagraph_skips", 0),
            "denoiser_calls": self.case.spec.workload.steps,
            "vae_decode_calls": self.wrong.get("vae_decode_calls", 1),
            "syncs_per_step": syncs,
        }

    def close(self) -> None:
        pass

    def _misbehave(self, operation: str) -> None:
        if self.wrong.get("raise") == operation:
            raise MemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if self.wrong.get("abort") == operation:
            print("the last words of a worker", file=sys.stderr, flush=True)
            os.abort()
        if self.wrong.get("hang") == operation:
            time.sleep(600)
