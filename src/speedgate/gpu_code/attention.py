"""The attention kernel that torch would choose on a target, and the operators that stand for it in a graph.

torch chooses in C++ and asks the driver for the device, so without a GPU the choice is made here, by the same rule:
`select_sdp_backend` and its filters in aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, for dense inputs without dropout
at inference (read at torch 2.14). A kernel that `torch.nn.attention.sdpa_kernel` forbids is not chosen here either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HALF = ("torch.float16", "torch.bfloat16")
_MOST_HEAD_SIZE = 256  # of flash, and of cuDNN on Hopper
_LEAST_CUDNN = 91501  # check_prefer_cudnn_attention: cuDNN first from 9.15.1 on, on compute capabilities 9.0 and 10.0
_CUDNN_FIRST = ((9, 0), (10, 0))


def choose_kernel(
    *,
    capability: tuple[int, int],
    dtype: str,
    head_sizes: Sequence[int],
    masked: bool,
    allowed: Sequence[str],
    cudnn_version: int,
    key_length: int = 2,
) -> str:
    """Return "cudnn", "flash", "efficient" or "math".

    `head_sizes` are those of query, key and value, and `dtype` is torch's name of theirs. `cudnn_version` is
    `torch.backends.cudnn.version()`. Raises `ValueError` if every allowed kernel refuses such inputs, as torch does.
    """
    half, ampere = dtype in _HALF, capability >= (8, 0)
    equal = len(set(head_sizes)) == 1 and head_sizes[0] <= _MOST_HEAD_SIZE
    most_cudnn = _MOST_HEAD_SIZE if capability == (9, 0) and cudnn_version >= 91000 else 128
    aligned = all(size % (8 if half else 4) == 0 for size in head_sizes)
    fits = {
        "cudnn": half and ampere and aligned and key_length > 1 and max(head_sizes) <= most_cudnn,
        "flash": half and ampere and equal and not masked,
        "efficient": aligned and (half or dtype == "torch.float32") and (ampere or dtype != "torch.bfloat16"),
        "math": True,
    }
    cudnn_first = capability in _CUDNN_FIRST and cudnn_version >= _LEAST_CUDNN
    order = ("cudnn", "flash", "efficient", "math") if cudnn_first else ("flash", "efficient", "math", "cudnn")
    for kernel in order:
        if fits[kernel] and kernel in allowed:
            return kernel
    raise ValueError(f"none of the allowed attention kernels ({', '.join(allowed)}) takes such inputs")


def attend(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    capability: tuple[int, int],
) -> Any:
    """Call the operator of the chosen kernel, padded as in torch's own call (ATen/native/transformers/attention.cpp)."""
    import torch

    aten = torch.ops.aten
    backends = torch.backends.cuda
    allowed = {
        "cudnn": backends.cudnn_sdp_enabled(),
        "flash": backends.flash_sdp_enabled(),
        "efficient": backends.mem_efficient_sdp_enabled(),
        "math": backends.math_sdp_enabled(),
    }
    kernel = choose_kernel(
        capability=capability,
        dtype=str(query.dtype),
        head_sizes=[query.shape[-1], key.shape[-1], value.shape[-1]],
        masked=attn_mask is not None,
        allowed=[name for name, enabled in allowed.items() if enabled],
        cudnn_version=torch.backends.cudnn.version() or 0,
        key_length=key.shape[-2],
    )
    if attn_mask is not None and attn_mask.dtype == torch.bool and kernel != "math":
        attn_mask = torch.where(attn_mask, 0.0, float("-inf")).to(query.dtype)
    scale = query.shape[-1] ** -0.5 if scale is None else scale  # of the head size before padding
    if kernel == "flash":
        size = query.shape[-1]
        padded = [
            torch.nn.functional.pad(tensor, (0, -size % 8)) if size % 8 else tensor for tensor in (query, key, value)
        ]
        attended = aten._scaled_dot_product_flash_attention.default(*padded, dropout_p, is_causal, False, scale=scale)[
            0
        ]
        return attended[..., :size] if size % 8 else attended
    if kernel == "efficient":
        if attn_mask is not None:
            attn_mask = _aligned(attn_mask).expand(*query.shape[:-1], key.shape[-2])
        return aten._scaled_dot_product_efficient_attention.default(
            query, key, value, attn_mask, False, dropout_p, is_causal, scale=scale
        )[0]
    if kernel == "cudnn":
        return aten._scaled_dot_product_cudnn_attention.default(
            query, key, value, attn_mask, False, dropout_p, is_causal, False, scale=scale
        )[0]
    return aten._scaled_dot_product_attention_math.default(
        query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]


def _aligned(mask: Any) -> Any:
    """Give each row of a mask an aligned beginning, as the memory-efficient kernel wants: pad to 8 numbers and cut again."""
    import torch

    if mask.stride(-1) == 1 and all(stride % 8 == 0 for stride in mask.stride()[:-1]):
        return mask
    columns = mask.shape[-1]
    return torch.nn.functional.pad(mask, (0, 8 - columns % 8))[..., :columns]
