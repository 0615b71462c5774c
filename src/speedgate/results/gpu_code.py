"""The record of the code that inductor generates for a GPU: counts and bytes of each compiled module, without a GPU.

Nothing here is a timing: two records of the same versions, case and target are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from speedgate.results.run import ShortText

SCHEMA = 1

NonNegativeInt = Annotated[int, Meta(ge=0)]
# inductor names a kernel by all operations that it fuses: one of DeepFloyd IF's has more than 200 characters.
KernelName = Annotated[str, Meta(min_length=1, max_length=2000)]


class Kernel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One distinct Triton kernel of a module.

    `digest` is of its source without its name and numbering, so equal code has an equal digest under two versions of torch.
    `moved_bytes` is the sum over its launches in one call of the module. `registers`, `spilled_bytes` and `shared_bytes` come
    from its cubin; None if it was not compiled.
    """

    name: KernelName
    digest: ShortText
    launches: NonNegativeInt
    moved_bytes: NonNegativeInt
    registers: NonNegativeInt | None = None
    spilled_bytes: NonNegativeInt | None = None
    shared_bytes: NonNegativeInt | None = None


class ModuleCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The generated code of one compiled module, per call: "denoiser" or "vae_decode", with the part's prefix if there is one.

    Where only regions of it are compiled, `graphs` counts the distinct ones, each of which counts as often as a call runs it,
    and `moved_bytes` and `flops` include the eager rest.

    `external` counts the calls of kernels that inductor does not generate, by operation and dtype ("addmm bfloat16",
    "_int_mm int8", "flash_attention bfloat16"). `fallbacks` counts the calls of aten operators without a lowering, named
    likewise ("aten.sort int64"). `device_copies` counts copies between devices, and `cpu_tensors` the CPU tensors that the
    code reads or makes. `cpu_scalars` counts apart from them the CPU tensors without dimensions whose number is an argument of
    a kernel. `cudagraph_skips` holds inductor's own reasons. `moved_bytes` is inductor's count for the whole
    module, external kernels included. `flops` are by dtype of the product's inputs.
    """

    module: ShortText
    graphs: NonNegativeInt
    calls_per_image: NonNegativeInt
    kernels: tuple[Kernel, ...]
    external: Mapping[str, NonNegativeInt]
    fallbacks: Mapping[str, NonNegativeInt]
    device_copies: NonNegativeInt
    cpu_tensors: NonNegativeInt
    cudagraph_skips: tuple[str, ...]
    moved_bytes: NonNegativeInt
    flops: Mapping[str, NonNegativeInt]
    cpu_scalars: NonNegativeInt = 0

    @property
    def launches(self) -> int:
        """Launches of Triton kernels in one call."""
        return sum(kernel.launches for kernel in self.kernels)

    @property
    def spilled_bytes(self) -> int:
        """Bytes of registers that the kernels of this module spill to memory, over all distinct kernels."""
        return sum(kernel.spilled_bytes or 0 for kernel in self.kernels)


class QuantisedLayers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The quantised linear layers of a stage: those that a forward calls, and those that it leaves behind in memory."""

    called: NonNegativeInt
    dead: NonNegativeInt
    dead_bytes: NonNegativeInt


class GpuCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The generated code of one case for one target.

    Choices for which kernels must be timed on the device keep inductor's defaults: the templates and configurations among
    which max-autotune and coordinate descent choose. Every other option of the stage is applied.

    `unknown` says why nothing is known (a stub does not fit this version of torch, say); `modules` is then empty.
    `versions` are those of torch, triton, diffusers and torchao. `compiled` is False for an eager stage, whose modules hold
    bytes and FLOPs alone. `processor_s` is what lowering took; it is no fact of the code and is never compared.
    """

    case_key: ShortText
    target: ShortText
    versions: Mapping[str, ShortText]
    compiled: bool = True
    modules: tuple[ModuleCode, ...] = ()
    quantised: QuantisedLayers | None = None
    unknown: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    processor_s: float = 0.0
    schema: int = SCHEMA


class GeneratedCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The generated code of a case for one target in this arm, and in the other arm of a live comparison."""

    this: GpuCode
    other: GpuCode | None = None
