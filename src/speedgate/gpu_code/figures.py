"""The figures of a module's generated code that are judged and shown: launches, FLOPs, products by width, and bytes as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from speedgate.results.gpu_code import GpuCode, ModuleCode

# External operations that multiply matrices, as `ModuleCode.external` names them before the dtype.
_PRODUCT = re.compile(r"_int_mm|_scaled_mm|b?mm|addmm|baddbmm|convolution")
_ON = " on "
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_BITS = re.compile(r"\d+")  # the first number in the name of a dtype: int8, float8_e4m3fn, bfloat16


def claim_on(claim: str, target: str) -> str:
    """Return the name of a claim about the code for a target: a case has the same claims for each target."""
    return f"{claim}{_ON}{target}"


def target_of_claim(claim: str) -> str | None:
    """Return the target that a claim names; None for a claim about something else."""
    name, on, target = claim.rpartition(_ON)
    return target if on and name.startswith("gpu ") else None


def modules_by_name(code: GpuCode) -> dict[str, ModuleCode]:
    """Return the modules by name; one that is called with several sets of shapes has a number behind its name."""
    modules: dict[str, ModuleCode] = {}
    for module in code.modules:
        name, number = module.module, 1
        while name in modules:
            number += 1
            name = f"{module.module}#{number}"
        modules[name] = module
    return modules


def launches(module: ModuleCode) -> int:
    """Count what one call launches: Triton kernels, external kernels and fallbacks."""
    return module.launches + sum(module.external.values()) + sum(module.fallbacks.values())


def flops(module: ModuleCode) -> int:
    """Add up the FLOPs of one call over all dtypes."""
    return sum(module.flops.values())


def operation(external: str) -> str:
    """Return the operation of a name such as "addmm bfloat16"."""
    return external.partition(" ")[0]


def products(module: ModuleCode) -> Mapping[str, int]:
    """Count the matrix products and convolutions of one call, by operation and dtype."""
    return {name: count for name, count in module.external.items() if _PRODUCT.fullmatch(operation(name))}


def products_by_dtype(modules: Iterable[ModuleCode]) -> dict[str, int]:
    """Count the matrix products and convolutions of one call of each module, by the dtype of their inputs."""
    counts: Counter[str] = Counter()
    for module in modules:
        for name, count in products(module).items():
            counts[name.partition(" ")[2]] += count
    return dict(sorted(counts.items(), key=lambda item: (bits(item[0]), item[0])))


def bits(dtype: str) -> int:
    """Return the bits of one element, from the name of the dtype; 0 if it has no number."""
    number = _BITS.search(dtype)
    return int(number[0]) if number else 0


def moved_bytes_per_image(code: GpuCode) -> int:
    """Add up the bytes that all calls of an image move."""
    return sum(module.calls_per_image * module.moved_bytes for module in code.modules)


def format_bytes(count: float) -> str:
    """Format bytes with five digits in a decimal unit, as memory bandwidth is given."""
    for size, unit in _UNITS:
        if abs(count) >= size:
            return f"{count / size:.5g} {unit}"
    return f"{count:.0f} B"


def spilled_bytes(modules: Iterable[ModuleCode]) -> int | None:
    """Add up the bytes of spilled registers over all distinct kernels; None if no machine code was compiled."""
    spills = [kernel.spilled_bytes for module in modules for kernel in module.kernels]
    counted = [spilled for spilled in spills if spilled is not None]
    return sum(counted) if spills and len(counted) == len(spills) else None
