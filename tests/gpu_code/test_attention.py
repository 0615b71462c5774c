"""The attention kernel is the one that torch would choose on the target."""

from __future__ import annotations

from unittest import mock

import pytest

from speedgate.gpu_code.attention import attend, choose_kernel

ALL = ("cudnn", "flash", "efficient", "math")
A100, RTX_4090, H100 = (8, 0), (8, 9), (9, 0)


@pytest.mark.parametrize(
    "expected, changes",
    [
        ("flash", {}),
        ("flash", {"capability": RTX_4090}),
        ("cudnn", {"capability": H100}),
        ("flash", {"capability": H100, "cudnn_version": 91000}),
        ("flash", {"capability": H100, "head_sizes": (44, 44, 44)}),
        ("efficient", {"masked": True}),
        ("efficient", {"head_sizes": (512, 512, 512)}),
        ("efficient", {"dtype": "torch.float32"}),
        ("efficient", {"allowed": ("efficient",)}),
        ("math", {"allowed": ("math",)}),
        ("math", {"head_sizes": (500, 500, 500)}),
        ("math", {"dtype": "torch.float64"}),
        ("flash", {"head_sizes": (100, 100, 100)}),
    ],
)
def test_the_first_kernel_that_takes_the_inputs_is_chosen(expected, changes):
    """Flash comes first, cuDNN before it on Hopper; a mask, a large head or float32 needs the memory-efficient kernel."""
    inputs = {
        "capability": A100,
        "dtype": "torch.bfloat16",
        "head_sizes": (64, 64, 64),
        "masked": False,
        "allowed": ALL,
        "cudnn_version": 91900,
    }
    assert choose_kernel(**inputs | changes) == expected


def test_no_kernel_is_an_error():
    """An attention kernel that refuses the inputs is not replaced by another one."""
    with pytest.raises(ValueError, match=r"none of the allowed attention kernels \(flash\)"):
        choose_kernel(
            capability=A100,
            dtype="torch.bfloat16",
            head_sizes=(512, 512, 512),
            masked=False,
            allowed=("flash",),
            cudnn_version=0,
        )


@pytest.mark.parametrize("kernel", ["flash", "efficient", "cudnn", "math"])
@pytest.mark.parametrize("head_size", [64, 44])
def test_each_kernel_is_called_with_what_it_takes(kernel, head_size):
    """Each operator accepts our arguments, and the result has the shape of the query whatever was padded."""
    torch = pytest.importorskip("torch")
    query = torch.empty(2, 3, 16, head_size, dtype=torch.float16, device="meta")
    mask = None if kernel == "flash" else torch.empty(2, 1, 16, 7, dtype=torch.float16, device="meta")
    key = torch.empty(2, 3, 7, head_size, dtype=torch.float16, device="meta")
    with mock.patch("speedgate.gpu_code.attention.choose_kernel", return_value=kernel):
        assert attend(query, key, key, mask, capability=A100).shape == query.shape
