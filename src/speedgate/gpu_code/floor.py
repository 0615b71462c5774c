"""Compute the least seconds that a stage's bytes and FLOPs take at the published peaks of its target.

Assumed: each kernel reads its inputs from memory and writes its outputs there once, none waits, and a module moves bytes while
it computes. A cache that keeps a tensor between two kernels can beat that, so this bounds a stage whose tensors are larger than
the L2 cache; launches, tile sizes and clocks below the published ones make real kernels slower. Text encoders, the scheduler
and the host are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from speedgate.gpu_code.targets import Target
from speedgate.results.gpu_code import GpuCode, ModuleCode

# The arithmetic of a product by the dtype of its inputs. Stages multiply float32 as TF32; `fp32_ieee` does not.
_ARITHMETIC = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "int8": "int8",
    "float8_e4m3fn": "fp8",
}
TF32 = "tf32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModuleFloor:
    """The work of one module for an image: bytes, FLOPs, and the least seconds that each takes alone."""

    module: str
    moved_bytes: int
    flops: int
    moving_s: float
    computing_s: float

    @property
    def least_s(self) -> float:
        """The larger of both: a module moves bytes while it computes."""
        return max(self.moving_s, self.computing_s)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floor:
    """The work of a case for an image, and the least seconds that it takes: modules run one after the other."""

    modules: tuple[ModuleFloor, ...]

    @property
    def least_s(self) -> float:
        return sum(module.least_s for module in self.modules)

    @property
    def moved_bytes(self) -> int:
        return sum(module.moved_bytes for module in self.modules)

    @property
    def flops(self) -> int:
        return sum(module.flops for module in self.modules)


def compute_floor(code: GpuCode, target: Target, *, float32: str = TF32) -> Floor:
    """Compute the least seconds of an image. `float32` names the arithmetic of float32 products, "tf32" or "fp32".

    A `ValueError` if the record says that nothing is known, or if the target has no peak for a dtype of its products.
    """
    if code.unknown is not None:
        raise ValueError(f"{code.case_key} on {code.target}: the generated code is unknown ({code.unknown})")
    return Floor(modules=tuple(_module_floor(module, target, float32=float32) for module in code.modules))


def _module_floor(module: ModuleCode, target: Target, *, float32: str) -> ModuleFloor:
    calls = module.calls_per_image
    computing_s = sum(
        count / _peak(dtype, target, {**_ARITHMETIC, "float32": float32}) for dtype, count in module.flops.items()
    )
    return ModuleFloor(
        module=module.module,
        moved_bytes=calls * module.moved_bytes,
        flops=calls * sum(module.flops.values()),
        moving_s=calls * module.moved_bytes / target.bytes_per_s,
        computing_s=calls * computing_s,
    )


def _peak(dtype: str, target: Target, arithmetic: Mapping[str, str]) -> float:
    name = arithmetic.get(dtype, dtype)
    if name not in target.flops_per_s:
        raise ValueError(f"{target.name} has no published peak for products of {dtype}")
    return target.flops_per_s[name]
