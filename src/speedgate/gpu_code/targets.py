"""The GPUs that code can be generated for: facts of each device, and the document and table that each fact was taken from.

Peak throughput is of dense matrices: data sheets print twice as much for matrices with half of their numbers zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

KIB, MIB, GIB = 2**10, 2**20, 2**30
TERA, GIGA = 1e12, 1e9

# https://docs.nvidia.com/cuda/cuda-c-programming-guide/
_CAPABILITIES = 'CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"'
# https://images.nvidia.com/aem-dam/en-zz/Solutions/data-center/nvidia-ampere-architecture-whitepaper.pdf
_A100_PAPER = 'NVIDIA A100 Tensor Core GPU Architecture (white paper), "Comparison of NVIDIA Data Center GPUs"'
# https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf
_A100_SHEET = "NVIDIA A100 data sheet (1758950-r4), column A100 80GB SXM"
# https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper
_H100_PAPER = (
    'NVIDIA H100 Tensor Core GPU Architecture (white paper), "Comparison of NVIDIA Data Center GPUs", column H100 SXM5'
)
# https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet
_H100_SHEET = "NVIDIA H100 data sheet, column H100 SXM"
# https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf
_ADA_PAPER = "NVIDIA Ada GPU Architecture (white paper), appendix A, column GeForce RTX 4090"
_TORCH = "str(torch.cuda.get_device_properties(0)) on such a GPU, as posted by its users"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A GPU that code is generated for, and its published peaks.

    `gpu` is the name that torch prints, `capability` the CUDA compute capability. `flops_per_s` maps an arithmetic (the
    names of `Stage.arithmetic`) to the peak of dense matrix products; an arithmetic that the GPU lacks has no entry.
    `memory_bytes` is the nominal size; a driver keeps some of it. `sources` maps each other field to a document and table.
    """

    name: str
    gpu: str
    capability: tuple[int, int]
    multiprocessors: int
    l2_bytes: int
    shared_bytes_per_block: int = 48 * KIB
    shared_bytes_per_block_optin: int
    shared_bytes_per_multiprocessor: int
    registers_per_multiprocessor: int = 64 * KIB
    threads_per_multiprocessor: int
    threads_per_block: int = 1024
    threads_per_warp: int = 32
    memory_bytes: int
    bytes_per_s: float
    flops_per_s: Mapping[str, float]
    sources: Mapping[str, str]


_BY_CAPABILITY = dict.fromkeys(
    (
        "shared_bytes_per_block",
        "shared_bytes_per_block_optin",
        "shared_bytes_per_multiprocessor",
        "registers_per_multiprocessor",
        "threads_per_multiprocessor",
        "threads_per_block",
        "threads_per_warp",
    ),
    _CAPABILITIES,
)

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="a100",
            gpu="NVIDIA A100-SXM4-80GB",
            capability=(8, 0),
            multiprocessors=108,
            l2_bytes=40 * MIB,
            shared_bytes_per_block_optin=163 * KIB,
            shared_bytes_per_multiprocessor=164 * KIB,
            threads_per_multiprocessor=2048,
            memory_bytes=80 * GIB,
            bytes_per_s=2039 * GIGA,
            flops_per_s={
                "fp32": 19.5 * TERA,
                "tf32": 156 * TERA,
                "bf16": 312 * TERA,
                "fp16": 312 * TERA,
                "int8": 624 * TERA,
            },
            sources={
                **_BY_CAPABILITY,
                "gpu": _TORCH,
                "capability": _A100_PAPER,
                "multiprocessors": _A100_PAPER,
                "l2_bytes": _A100_PAPER,
                "memory_bytes": _A100_SHEET,
                "bytes_per_s": _A100_SHEET,
                "flops_per_s": _A100_SHEET,
            },
        ),
        Target(
            name="h100",
            gpu="NVIDIA H100 80GB HBM3",
            capability=(9, 0),
            multiprocessors=132,
            l2_bytes=50 * MIB,
            shared_bytes_per_block_optin=227 * KIB,
            shared_bytes_per_multiprocessor=228 * KIB,
            threads_per_multiprocessor=2048,
            memory_bytes=80 * GIB,
            bytes_per_s=3350 * GIGA,
            flops_per_s={
                "fp32": 66.9 * TERA,
                "tf32": 494.7 * TERA,
                "bf16": 989.4 * TERA,
                "fp16": 989.4 * TERA,
                "int8": 1978.9 * TERA,
                "fp8": 1978.9 * TERA,
            },
            sources={
                **_BY_CAPABILITY,
                "gpu": _TORCH,
                "capability": _H100_PAPER,
                "multiprocessors": _H100_PAPER,
                "l2_bytes": _H100_PAPER,
                "memory_bytes": _H100_SHEET,
                "bytes_per_s": _H100_SHEET,
                "flops_per_s": _H100_PAPER,
            },
        ),
        Target(
            name="rtx-4090",
            gpu="NVIDIA GeForce RTX 4090",
            capability=(8, 9),
            multiprocessors=128,
            l2_bytes=72 * MIB,
            shared_bytes_per_block_optin=99 * KIB,
            shared_bytes_per_multiprocessor=100 * KIB,
            threads_per_multiprocessor=1536,
            memory_bytes=24 * GIB,
            bytes_per_s=1008 * GIGA,
            # 16-bit products that are summed in fp32, as cuBLAS does; for fp8 the higher peak, which sums in fp16: a least
            # time may be too low, but never too high.
            flops_per_s={
                "fp32": 82.6 * TERA,
                "tf32": 82.6 * TERA,
                "bf16": 165.2 * TERA,
                "fp16": 165.2 * TERA,
                "int8": 660.6 * TERA,
                "fp8": 660.6 * TERA,
            },
            sources={
                **_BY_CAPABILITY,
                "gpu": _TORCH,
                "capability": _CAPABILITIES,
                "multiprocessors": _ADA_PAPER,
                "l2_bytes": _ADA_PAPER,
                "memory_bytes": _ADA_PAPER,
                "bytes_per_s": _ADA_PAPER,
                "flops_per_s": _ADA_PAPER,
            },
        ),
    )
}


def target_of(name: str) -> Target:
    """Return the target of that name; a `ValueError` lists the names if there is none."""
    if name not in TARGETS:
        raise ValueError(f"{name!r} is no GPU that code can be generated for; there are: {', '.join(TARGETS)}")
    return TARGETS[name]
