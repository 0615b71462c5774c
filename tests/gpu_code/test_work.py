"""Bytes and FLOPs of eager operations, against figures that are computed by hand."""

from functools import partial

import pytest
import torch

from speedgate.gpu_code.work import counting_work, moved_bytes

ROWS, INNER, COLUMNS = 8, 16, 32


def tensor(*shape, dtype=torch.bfloat16):
    """Make a tensor without data."""
    return torch.empty(*shape, dtype=dtype, device="meta")


OUTPUT = 2 * ROWS * COLUMNS
SIZE = 2 * ROWS * INNER
OPERATIONS = {
    "a product": (lambda left, right: left @ right, 256 + 1024 + OUTPUT),
    "elementwise": (lambda left, right: left + left, 3 * SIZE),
    "a broadcast row": (lambda left, right: left + left[:1].expand(ROWS, INNER), SIZE + 2 * INNER + SIZE),
    "a view": (lambda left, right: left.t().unsqueeze(0)[..., 1:].expand(3, -1, -1), 0),
    "an allocation": (lambda left, right: torch.empty_like(left), 0),
    "a cast": (lambda left, right: left.float(), SIZE + 2 * SIZE),
    "another layout": (lambda left, right: left.t().contiguous(), 2 * SIZE),
    "a copy": (lambda left, right: torch.empty_like(left).copy_(left), 2 * SIZE),
    "in place": (lambda left, right: left.add_(left), 3 * SIZE),
    "a sum with nothing": (
        lambda left, right: torch.baddbmm(tensor(1, ROWS, COLUMNS), left[None], right[None], beta=0),
        256 + 1024 + OUTPUT,
    ),
}


@pytest.mark.parametrize(("function", "moved_bytes"), OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_reads_its_inputs_and_writes_its_outputs(function, moved_bytes):
    """Each tensor counts once, a view and an allocation not at all, and nothing counts that is not read."""
    left, right = tensor(ROWS, INNER), tensor(INNER, COLUMNS)  # 256 and 1024 bytes
    with counting_work() as work:
        function(left, right)

    assert work.moved_bytes == moved_bytes


PRODUCTS = [
    (torch.matmul, torch.bfloat16, "bfloat16"),
    (torch._int_mm, torch.int8, "int8"),
    (partial(torch.ops.higher_order.out_dtype, torch.ops.aten.mm.default, torch.int32), torch.int8, "int8"),
    (torch.matmul, torch.float32, "float32"),
]


@pytest.mark.parametrize(("product", "dtype", "counted_as"), PRODUCTS)
def test_flops_are_counted_by_the_dtype_of_the_inputs(product, dtype, counted_as):
    """A product is two operations for each row, column and inner element, in the arithmetic of its inputs."""
    with counting_work() as work:
        product(tensor(ROWS, INNER, dtype=dtype), tensor(INNER, COLUMNS, dtype=dtype))

    assert work.flops == {counted_as: 2 * ROWS * INNER * COLUMNS}


def test_a_question_moves_nothing():
    """A fake CUDA tensor is asked for its device by an operation of the dispatcher, which reads no memory."""
    assert moved_bytes(torch.ops.prim.device.default, (tensor(ROWS, INNER),), {}, torch.device("cuda")) == 0
