"""Compare the generated code of one case in two environments: more work is red, and the kernels that differ are named.

Counts have no noise, so one look decides. Each module is judged by itself: a decoder that moves twice the bytes would not
show in the sum over an image of thirty denoising steps.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from speedgate.gate import explain
from speedgate.gpu_code import figures
from speedgate.gpu_code.figures import claim_on, format_bytes
from speedgate.results.gpu_code import GpuCode, Kernel, ModuleCode
from speedgate.results.run import Outcome, Verdict

CLAIM = explain.WORK
TOLERANCE = 0.01  # a smaller rise of bytes, launches or FLOPs is not more work
_MOST_NAMED = 3  # kernels in one line
_LONGEST_LINE = 1000  # characters; names of kernels are another program's
_WIDTHS = (8, 16)  # bits: products may not move from at most so many to more
_NUMBER = re.compile(r"_\d+$")  # the running number at the end of a kernel's name


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pair:
    """The code of one module in this arm and in the other arm; None on the side where it is not compiled."""

    name: str
    this: ModuleCode | None
    other: ModuleCode | None


def judge_work(this: GpuCode, other: GpuCode, *, label: str) -> tuple[Verdict, list[str]]:
    """Judge the work of this arm's code by that of the other arm, called `label`; return the verdict and its explanation.

    MORE_WORK if bytes, launches or FLOPs of a module rise by more than `TOLERANCE`, if a graph, spill, copy, fallback, CPU
    tensor or CUDA-graph skip appears, or if products get a wider dtype. UNKNOWN if one side is unknown. Raises `ValueError`
    if the two are not of one case and target.
    """
    if (this.case_key, this.target) != (other.case_key, other.target):
        raise ValueError(
            "expected two records of one case and target, found"
            f" {this.case_key} for {this.target} and {other.case_key} for {other.target}"
        )
    for code, arm in ((this, "this arm"), (other, label)):
        if code.unknown is not None:
            return _verdict(this, Outcome.UNKNOWN, f"{arm} is unknown: {code.unknown}"), []
    pairs = _pairs(this, other)
    worse = [f"{pair.name}: {'; '.join(texts)}" for pair in pairs if (texts := list(_more_work(pair)))]
    outcome = Outcome.MORE_WORK if worse else Outcome.PASS
    sentence = "; ".join(worse) if worse else _no_more_work(pairs)
    lines = [f"{this.target} {line}" for pair in pairs for line in _different_kernels(pair)]
    return _verdict(this, outcome, f"{sentence}; against {label}"), [line[:_LONGEST_LINE] for line in lines]


def _verdict(code: GpuCode, outcome: Outcome, sentence: str) -> Verdict:
    return Verdict(case_key=code.case_key, claim=claim_on(CLAIM, code.target), outcome=outcome, sentence=sentence)


def _pairs(this: GpuCode, other: GpuCode) -> list[_Pair]:
    after, before = (figures.modules_by_name(code) for code in (this, other))
    return [_Pair(name=name, this=after.get(name), other=before.get(name)) for name in {**before, **after}]


def _more_work(pair: _Pair) -> Iterator[str]:
    """Yield what makes the GPU do more in this arm, each with the figures of both arms, the other arm's first."""
    after, before = pair.this, pair.other
    if after is None or before is None:
        yield "is compiled in one arm only"
        return
    for name, figure, form in _FIGURES:
        old, new = figure(before), figure(after)
        if new > old * (1 + TOLERANCE):
            yield _change(name, old, new, form)
    counts: Sequence[tuple[str, int, int]] = (
        ("graphs", before.graphs, after.graphs),
        ("copies between devices", before.device_copies, after.device_copies),
        ("CPU tensors", before.cpu_tensors, after.cpu_tensors),
        ("numbers from the CPU", before.cpu_scalars, after.cpu_scalars),
        *(
            (f"fallbacks to {operator}", before.fallbacks.get(operator, 0), count)
            for operator, count in after.fallbacks.items()
        ),
    )
    yield from (f"{name} {old} -> {new}" for name, old, new in counts if new > old)
    if _has_cubins(before) and _has_cubins(after) and after.spilled_bytes > before.spilled_bytes:
        spilling = ", ".join(kernel.name for kernel in after.kernels if kernel.spilled_bytes)
        yield f"spilled registers {before.spilled_bytes} -> {after.spilled_bytes} bytes ({spilling})"
    for reason in dict.fromkeys(after.cudagraph_skips):
        if reason not in before.cudagraph_skips:
            yield f"no CUDA graph any more: {reason}"
    yield from _wider_products(before, after)


_FIGURES: Sequence[tuple[str, Callable[[ModuleCode], int], Callable[[float], str]]] = (
    ("bytes moved", lambda module: module.moved_bytes, format_bytes),
    ("launches", figures.launches, lambda count: f"{count:.0f}"),
    ("FLOPs", figures.flops, lambda count: f"{count:.5g}"),
)


def _change(name: str, old: float, new: float, form: Callable[[float], str]) -> str:
    share = f" ({new / old - 1:+.2%})" if old else ""
    return f"{name} {form(old)} -> {form(new)}{share}"


def _has_cubins(module: ModuleCode) -> bool:
    return all(kernel.spilled_bytes is not None for kernel in module.kernels)


def _wider_products(before: ModuleCode, after: ModuleCode) -> Iterator[str]:
    """Yield the products that moved from a narrow dtype to a wider one, such as from int8 to bfloat16."""
    counts = [figures.products_by_dtype([module]) for module in (before, after)]
    for limit in _WIDTHS:
        (old_narrow, old_wide), (new_narrow, new_wide) = (_split(count, limit) for count in counts)
        if new_narrow < old_narrow and new_wide > old_wide:
            yield (
                f"products of at most {limit} bits {old_narrow} -> {new_narrow}, of more bits {old_wide} -> {new_wide}"
            )


def _split(counts: Mapping[str, int], limit: int) -> tuple[int, int]:
    narrow = sum(count for dtype, count in counts.items() if figures.bits(dtype) <= limit)
    return narrow, sum(counts.values()) - narrow


def _no_more_work(pairs: Sequence[_Pair]) -> str:
    """Say that both arms are equal to the digit, or what changed without being more work."""
    changes = []
    for pair in pairs:
        assert pair.this is not None and pair.other is not None, "a module of one arm only is more work"
        old_and_new = [(name, figure(pair.other), figure(pair.this), form) for name, figure, form in _FIGURES]
        texts = [_change(*figure) for figure in old_and_new if figure[1] != figure[2]]
        after, before = pair.this.external, pair.other.external
        names = [name for name in {**before, **after} if before.get(name, 0) != after.get(name, 0)]
        texts += [f"{name} {before.get(name, 0)} -> {after.get(name, 0)}" for name in names]
        if texts:
            changes.append(f"{pair.name}: {', '.join(texts)}")
    if changes:
        return f"no more work: {'; '.join(changes)}"
    totals = [
        f"{pair.name} {format_bytes(pair.this.moved_bytes)} and {figures.launches(pair.this)} launches a call"
        for pair in pairs
        if pair.this is not None
    ]
    return f"equal to the digit: {', '.join(totals)}"


def _different_kernels(pair: _Pair) -> Iterator[str]:
    """Yield a line for the kernels that appeared, vanished, changed, or are launched more or less often.

    A kernel has changed if both arms have one of its name, apart from the running number, and none of its digest.
    """
    if pair.this is None or pair.other is None:
        return
    after, before = (_by_digest(module) for module in (pair.this, pair.other))
    appeared = [kernel for digest, kernel in after.items() if digest not in before]
    vanished = [kernel for digest, kernel in before.items() if digest not in after]
    paired = Counter(map(_root, appeared)) & Counter(map(_root, vanished))
    changed, appeared = _take(appeared, Counter(paired))
    _, vanished = _take(vanished, Counter(paired))
    repeated = [
        after[digest] for digest in after if digest in before and after[digest].launches != before[digest].launches
    ]
    for kind, kernels, module in (
        ("appeared", appeared, pair.this),
        ("vanished", vanished, pair.other),
        ("changed", changed, pair.this),
        ("launched more or less often", repeated, pair.this),
    ):
        if kernels:
            yield f"{pair.name}: kernels {kind}: {_list(kernels, module)}"


def _by_digest(module: ModuleCode) -> dict[str, Kernel]:
    """Return the kernels by digest; those of equal code are added up."""
    kernels: dict[str, Kernel] = {}
    for kernel in module.kernels:
        equal = kernels.get(kernel.digest)
        kernels[kernel.digest] = kernel if equal is None else _sum(equal, kernel)
    return kernels


def _sum(first: Kernel, second: Kernel) -> Kernel:
    return Kernel(
        name=first.name,
        digest=first.digest,
        launches=first.launches + second.launches,
        moved_bytes=first.moved_bytes + second.moved_bytes,
    )


def _root(kernel: Kernel) -> str:
    return _NUMBER.sub("", kernel.name)


def _take(kernels: Sequence[Kernel], counts: Counter[str]) -> tuple[list[Kernel], list[Kernel]]:
    """Split the kernels into as many of each name as `counts` says, those that move most first, and the others."""
    taken: list[Kernel] = []
    others: list[Kernel] = []
    for kernel in sorted(kernels, key=lambda kernel: -kernel.moved_bytes):
        is_taken = counts[_root(kernel)] > 0
        counts[_root(kernel)] -= is_taken
        (taken if is_taken else others).append(kernel)
    return taken, others


def _list(kernels: Sequence[Kernel], module: ModuleCode) -> str:
    """Name the kernels that move most, each with its share of the module's bytes, and count the others."""
    ordered = sorted(kernels, key=lambda kernel: (-kernel.moved_bytes, kernel.name))
    names = [
        f"{kernel.name} {kernel.digest[:8]} ({_share(kernel.moved_bytes, module)})" for kernel in ordered[:_MOST_NAMED]
    ]
    if rest := ordered[_MOST_NAMED:]:
        names.append(f"{len(rest)} more ({_share(sum(kernel.moved_bytes for kernel in rest), module)})")
    return ", ".join(names)


def _share(moved_bytes: int, module: ModuleCode) -> str:
    return f"{moved_bytes / module.moved_bytes:.1%} of the bytes" if module.moved_bytes else "no bytes"
