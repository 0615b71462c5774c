"""Count the bytes and FLOPs of eager operations on fake or meta tensors: neither weights nor a GPU are needed.

Eager PyTorch runs one kernel for each aten operation. It reads the operation's inputs from memory and writes its outputs; views
move nothing, and a tensor that an operation broadcasts is read once.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

# Operations that allocate, or return their input in another shape; torch does not mark the latter as views.
_MOVE_NOTHING = frozenset(
    f"aten::{name}"
    for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh")
)
# Questions such as "which device?", which a fake tensor hands to the dispatcher as an operation.
_QUESTIONS = "prim::"
# In-place operations that write their first argument without reading it.
_WRITE_ALONE = frozenset({"aten::copy_", "aten::fill_", "aten::zero_"})
# Products that do not read their first argument if beta is 0; diffusers' default attention passes an empty tensor there.
_ADDED_TO = frozenset({"aten::addmm", "aten::baddbmm"})


@dataclasses.dataclass
class Work:
    """Bytes read and written, and FLOPs by the dtype of the product's inputs."""

    moved_bytes: int = 0
    flops: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


@contextlib.contextmanager
def counting_work() -> Iterator[Work]:
    """Count the work of the operations that run in the block."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    work = Work()

    class Counting(TorchDispatchMode):  # type: ignore[misc,unused-ignore]  # no type without torch
        supports_higher_order_operators = True

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = operation(*args, **(kwargs or {}))
            if operation is torch.ops.higher_order.out_dtype:  # how torchao multiplies int8 while a graph is traced
                operation, _, *args = args
            work.moved_bytes += moved_bytes(operation, args, kwargs or {}, output)
            for dtype, flops in _flops(operation, args, kwargs or {}, output).items():
                work.flops[dtype] += flops
            return output

    with Counting():
        yield work


def moved_bytes(operation: Any, args: Any, keywords: Mapping[str, Any], output: Any) -> int:
    """Return the bytes that an operation's kernel reads and writes."""
    name = operation._schema.name
    if operation.is_view or name in _MOVE_NOTHING or name.startswith(_QUESTIONS):
        return 0
    writes_alone = name in _WRITE_ALONE or (name in _ADDED_TO and keywords.get("beta") == 0)
    inputs = args[1:] if writes_alone else args
    return sum(map(_bytes, _tensors((inputs, keywords, output))))


def _flops(operation: Any, args: Any, keywords: Mapping[str, Any], output: Any) -> dict[str, int]:
    """Return the FLOPs of a product by the dtype of its inputs; torch's own registry has a formula for each but `_int_mm`."""
    import torch
    from torch.utils.flop_counter import flop_registry

    packet = operation.overloadpacket
    if packet is torch.ops.aten._int_mm:
        (rows, inner), (_, columns) = args[0].shape, args[1].shape
        return {"int8": 2 * rows * inner * columns}
    if packet not in flop_registry:
        return {}
    first, *_ = _tensors(args)
    return {str(first.dtype).removeprefix("torch."): flop_registry[packet](*args, **keywords, out_val=output)}


def _tensors(values: Any) -> list[Any]:
    import torch
    from torch.utils._pytree import tree_leaves

    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _bytes(tensor: Any) -> int:
    """Return the bytes of a tensor without repetitions: the stride of a broadcast dimension is 0."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else min(size, 1)
    return int(count) * int(tensor.element_size())
