"""Make records of generated code for tests."""

from __future__ import annotations

from typing import Any

from speedgate.results.gpu_code import GpuCode, Kernel, ModuleCode

CASE = "sdxl-tiny/compile/32px-4steps-b1"
NAME = "triton_poi_fused_silu"


def make_kernel(digest: str = "a", **fields: Any) -> Kernel:
    """Make a kernel that moves 1 MB in two launches and spills nothing."""
    default: dict[str, Any] = {"name": f"{NAME}_{len(digest)}", "launches": 2, "moved_bytes": 1_000_000}
    return Kernel(**{"digest": digest, "registers": 40, "spilled_bytes": 0, "shared_bytes": 0, **default, **fields})


def make_module(name: str = "denoiser", **fields: Any) -> ModuleCode:
    """Make a module of one graph with two kernels, 100 products and 4 MB."""
    default: dict[str, Any] = {
        "graphs": 1,
        "calls_per_image": 4,
        "kernels": (make_kernel("a"), make_kernel("bb")),
        "external": {"mm bfloat16": 60, "addmm bfloat16": 40, "flash_attention bfloat16": 16},
        "fallbacks": {},
        "device_copies": 0,
        "cpu_tensors": 0,
        "cudagraph_skips": (),
        "moved_bytes": 4_000_000,
        "flops": {"bfloat16": 10**9},
    }
    return ModuleCode(module=name, **{**default, **fields})


def make_code(*modules: ModuleCode, case_key: str = CASE, **fields: Any) -> GpuCode:
    """Make the record of a case for an A100; of a denoiser alone if no module is given."""
    versions = {"torch": "2.14.1+cu130", "triton": "3.7.1", "diffusers": "0.42.1", "torchao": "0.18.0"}
    default: dict[str, Any] = {"target": "a100", "versions": versions, "modules": modules or (make_module(),)}
    return GpuCode(case_key=case_key, **{**default, **fields})
