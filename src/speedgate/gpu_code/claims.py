"""Judge the generated code of one case by what its stage promises: each claim is a function of the record and the promise.

A claim returns None if the stage promises nothing of the kind, or if the record does not hold what the claim needs.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from speedgate.gate.judge import judge_facts
from speedgate.gpu_code import figures
from speedgate.gpu_code.figures import claim_on, format_bytes
from speedgate.results.gpu_code import GpuCode, ModuleCode, QuantisedLayers
from speedgate.results.run import Outcome, Verdict

GENERATED, GRAPHS, PLACEMENT, FALLBACKS = "gpu code", "gpu graphs", "gpu placement", "gpu fallbacks"
QUANTISED, SCALE, FUSED = "gpu quantised products", "gpu fused scale", "gpu fused products"
SPILLS, ATTENTION = "gpu spills", "gpu attention"
CUDA_GRAPHS, COUNTS = "gpu CUDA graphs", "gpu counts"
_CODECS = ("vae_decode", "vae_encode")  # names of modules that are no denoisers, below the prefix of their part
_ATTENTION = re.compile(r"(\w+)_attention")
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Promise:
    """What a stage promises of its generated code.

    `graphs` is the number of graphs of all modules together; with `whole_modules` each module is one. `quantised_layers` is
    the number of quantised layers, called or not, and `product` the external operation that each called one becomes in each of
    `graphs_per_layer` graphs, but for `unused_layers`, whose outputs nothing reads. With
    `fused_scale` the scale is multiplied in the kernel of that product; `unfused_scale` is the known reason why it is not.
    `attentions` is the number of attentions in one call of all denoisers, None if it is not compiled as a whole, and
    `attention_kernel` the kernel that the stage names. `saved_products` is by how many products a call needs fewer than
    `parent`, another stage. `fallbacks` maps each operator that may stay with aten, in one dtype ("aten.mul complex64") or in
    all, to the reason, and `cpu_scalars` is the reason why kernels may get numbers from the CPU, if they may.
    """

    graphs: int
    whole_modules: bool
    cuda_graphs: bool
    product: str | None = None
    quantised_layers: int = 0
    graphs_per_layer: int = 1
    unused_layers: int = 0
    fused_scale: bool = False
    unfused_scale: str | None = None
    attentions: int | None = None
    attention_kernel: str | None = None
    parent: str | None = None
    saved_products: int | None = None
    fallbacks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cpu_scalars: str | None = None


def judge_generated(code: GpuCode) -> Verdict:
    """UNKNOWN if no code was generated, with the reason."""
    if code.unknown is not None:
        return _verdict(code, GENERATED, Outcome.UNKNOWN, code.unknown)
    return _verdict(code, GENERATED, Outcome.PASS, f"generated for {_count(len(code.modules), 'module')}")


def judge_graphs(code: GpuCode, promise: Promise) -> Verdict:
    """NOT_APPLIED unless there are as many graphs as promised, and at most one a module if whole modules are compiled."""
    total = sum(module.graphs for module in code.modules)
    wrong = [f"{module.module} has {module.graphs} graphs" for module in code.modules if module.graphs > 1]
    if total != promise.graphs:
        wrong = [f"{total} graphs, expected {promise.graphs}", *wrong]
    elif not promise.whole_modules:
        wrong = []
    return _facts(code, GRAPHS, wrong, f"{_count(total, 'graph')} of {_count(len(code.modules), 'module')}")


def judge_placement(code: GpuCode, promise: Promise) -> Verdict:
    """NOT_APPLIED if the code reads or makes a tensor on the CPU, or copies between devices.

    A number that a kernel gets from the CPU as an argument is allowed if a reason is listed.
    """
    wrong = [f"{module.module} has {module.cpu_tensors} CPU tensors" for module in code.modules if module.cpu_tensors]
    wrong += [
        f"{module.module} copies {module.device_copies} times between devices"
        for module in code.modules
        if module.device_copies
    ]
    scalars = {module.module: module.cpu_scalars for module in code.modules if module.cpu_scalars}
    if promise.cpu_scalars is None:
        wrong += [f"kernels of {name} get {number} numbers from the CPU" for name, number in scalars.items()]
    reason = f"; {sum(scalars.values())} numbers from the CPU: {promise.cpu_scalars}" if scalars else ""
    return _facts(code, PLACEMENT, wrong, f"no CPU tensor and no copy between devices{reason}")


def judge_fallbacks(code: GpuCode, promise: Promise) -> Verdict:
    """NOT_APPLIED if an operator without a lowering is not listed with a reason."""
    wrong = [
        f"{module.module} falls back to {operator} {count} times, and no reason is listed"
        for module in code.modules
        for operator, count in module.fallbacks.items()
        if promise.fallbacks.keys().isdisjoint((operator, figures.operation(operator)))
    ]
    listed = sorted({operator for module in code.modules for operator in module.fallbacks})
    return _facts(code, FALLBACKS, wrong, f"only with a reason: {', '.join(listed)}" if listed else "none")


def judge_quantised(code: GpuCode, promise: Promise) -> Verdict | None:
    """NOT_APPLIED unless all layers are quantised and each that is called is one product of the promised operation.

    Layers that stay behind uncalled are counted with their bytes: they cost memory, and no time.
    """
    if promise.product is None:
        return None
    layers = code.quantised or QuantisedLayers(called=0, dead=0, dead_bytes=0)
    count = _external(code.modules, lambda name: figures.operation(name) == promise.product)
    total, wrong = layers.called + layers.dead, []
    if total != promise.quantised_layers:
        wrong.append(f"{total} layers are quantised, expected {promise.quantised_layers}")
    used, graphs = layers.called - promise.unused_layers, promise.graphs_per_layer
    each = f" in each of {graphs} graphs" if graphs > 1 else ""
    if count != used * graphs:
        wrong.append(f"{count} products by {promise.product} for {used} quantised layers that are called{each}")
    dead = f"; {layers.dead} more are never called and hold {format_bytes(layers.dead_bytes)}" if layers.dead else ""
    return _facts(code, QUANTISED, wrong, f"each of {used} called layers is one {promise.product}{each}{dead}")


def judge_fused_scale(code: GpuCode, promise: Promise) -> Verdict | None:
    """NOT_APPLIED if products write their sums for a later kernel to scale, and no reason is listed.

    A product with its scale is a kernel that inductor generates, so an external product has none.
    """
    if not promise.fused_scale:
        return None
    count = _external(code.modules, lambda name: figures.operation(name) == promise.product)
    if count == 0:
        return _verdict(code, SCALE, Outcome.PASS, "no product leaves its scale to a later kernel")
    text = f"a later kernel multiplies the scale of {count} products"
    if promise.unfused_scale is None:
        return _verdict(code, SCALE, Outcome.NOT_APPLIED, f"{text}, and no reason is listed")
    return _verdict(code, SCALE, Outcome.PASS, f"{text}: {promise.unfused_scale}")


def judge_fused_products(code: GpuCode, parent: GpuCode, promise: Promise) -> Verdict | None:
    """NOT_APPLIED unless one call of all modules needs exactly the promised number of products less than the parent stage."""
    if promise.saved_products is None:
        return None
    if parent.unknown is not None:
        return _verdict(code, FUSED, Outcome.UNKNOWN, f"{promise.parent} is unknown: {parent.unknown}")
    before, after = (sum(sum(figures.products(module).values()) for module in each.modules) for each in (parent, code))
    figure = f"{before} -> {after} products from {promise.parent}"
    wrong = [] if before - after == promise.saved_products else [f"{figure}, expected {promise.saved_products} fewer"]
    return _facts(code, FUSED, wrong, f"{figure}, {promise.saved_products} fewer")


def judge_spills(code: GpuCode) -> Verdict | None:
    """NOT_APPLIED if a kernel spills registers to memory; None if no cubin was compiled."""
    kernels = [kernel for module in code.modules for kernel in module.kernels]
    if any(kernel.spilled_bytes is None for kernel in kernels):
        return None
    wrong = [f"{kernel.name} spills {kernel.spilled_bytes} bytes" for kernel in kernels if kernel.spilled_bytes]
    return _facts(code, SPILLS, wrong, f"none of {_count(len(kernels), 'kernel')}")


def judge_attention(code: GpuCode, promise: Promise) -> Verdict | None:
    """NOT_APPLIED unless the denoisers call an attention kernel, and the named one, as often as they have attentions.

    Attention by separate products and a softmax (the "math" kernel) calls none. A decoder may use any kernel.
    """
    if promise.attentions is None:
        return None
    counts: dict[str, int] = {}
    for module in code.modules:
        for name, count in module.external.items() if is_denoiser(module) else ():
            if match := _ATTENTION.fullmatch(figures.operation(name)):
                counts[match[1]] = counts.get(match[1], 0) + count
    seen = ", ".join(f"{name} x{count}" for name, count in sorted(counts.items())) or "none"
    kernel = promise.attention_kernel
    right = counts.get(kernel, 0) if kernel else sum(counts.values())
    expected = f"expected {kernel or 'any kernel but math'} x{promise.attentions}"
    return _facts(code, ATTENTION, [] if right == promise.attentions else [f"{seen}, {expected}"], seen)


def judge_cuda_graphs(code: GpuCode, promise: Promise) -> Verdict | None:
    """NOT_APPLIED if inductor has a reason not to capture a CUDA graph in a mode that uses them."""
    if not promise.cuda_graphs:
        return None
    wrong = [f"{module.module}: {reason}" for module in code.modules for reason in module.cudagraph_skips]
    return _facts(code, CUDA_GRAPHS, wrong, f"possible for {_count(len(code.modules), 'module')}")


def judge_counts(code: GpuCode, expected: Mapping[str, Any] | None, *, version: str) -> Verdict:
    """NOT_APPLIED unless each count is exactly the stored one; NO_BASELINE if none is stored for this version of torch."""
    if expected is None:
        sentence = f"no counts are stored for torch {version}: --regen-expected writes them"
        return _verdict(code, COUNTS, Outcome.NO_BASELINE, sentence)
    observed = counts_of(code)
    absent = {
        name: None for name in observed if name not in expected
    }  # a module or fact that is not stored is a difference
    return judge_facts(
        code.case_key,
        claim_on(COUNTS, code.target),
        expected={**expected, **absent},
        observed=observed,
        outcome=Outcome.NOT_APPLIED,
    )


def counts_of(code: GpuCode) -> dict[str, Any]:
    """Return the exact counts of a record as facts of builtin types, by module."""
    facts: dict[str, Any] = {}
    for prefix, module in figures.modules_by_name(code).items():
        values = {
            "graphs": module.graphs,
            "calls_per_image": module.calls_per_image,
            "kernels": len(module.kernels),
            "launches": module.launches,
            "external": dict(sorted(module.external.items())),
            "fallbacks": dict(sorted(module.fallbacks.items())),
            "device_copies": module.device_copies,
            "cpu_tensors": module.cpu_tensors,
            "cudagraph_skips": list(module.cudagraph_skips),
            "moved_bytes": module.moved_bytes,
            "flops": dict(sorted(module.flops.items())),
        }
        if module.cpu_scalars:
            values["cpu_scalars"] = module.cpu_scalars
        facts |= {f"{prefix}.{name}": value for name, value in values.items()}
    if code.quantised is not None:
        layers = code.quantised
        facts["quantised"] = {"called": layers.called, "dead": layers.dead, "dead_bytes": layers.dead_bytes}
    return facts


def is_denoiser(module: ModuleCode) -> bool:
    """Return True if the module is called in each denoising step; a ControlNet is too."""
    return module.module.rpartition(".")[2] not in _CODECS


def _external(modules: Iterable[ModuleCode], matches: Callable[[str], bool]) -> int:
    return sum(count for module in modules for name, count in module.external.items() if matches(name))


def _facts(code: GpuCode, claim: str, wrong: list[str], right: str) -> Verdict:
    if not wrong:
        return _verdict(code, claim, Outcome.PASS, right)
    more = [f"and {len(wrong) - _MOST_NAMED} more"] if len(wrong) > _MOST_NAMED else []
    return _verdict(code, claim, Outcome.NOT_APPLIED, "; ".join([*wrong[:_MOST_NAMED], *more]))


def _verdict(code: GpuCode, claim: str, outcome: Outcome, sentence: str) -> Verdict:
    return Verdict(case_key=code.case_key, claim=claim_on(claim, code.target), outcome=outcome, sentence=sentence)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
