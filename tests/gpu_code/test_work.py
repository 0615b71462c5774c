"""Bytes and FLOPs of eager operations, against figures that are computed by hand."""

import pytest
import torch

from speedgate.gpu_code.work import counting_work

ROWS, INNER, COLUMNS = 8, 16, 32


def tensor(*shape, dtype=torch.bfloat16):
    """Make a tensor without data."""
    return torch.empty(*shape, dtype=dtype, device="meta")


@pytest.fixture
def left():
    """Return a matrix of 8 rows and 16 columns, 256 bytes."""
    return tensor(ROWS, INNER)


@pytest.fixture
def right():
    """Return a matrix of 16 rows and 32 columns, 1024 bytes."""
    return tensor(INNER, COLUMNS)


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
def test_an_operation_reads_its_inputs_and_writes_its_outputs(left, right, function, moved_bytes):
    """Each tensor counts once, a view and an allocation not at all, and nothing counts that is not read."""
    with counting_work() as work:
        function(left, right)

    assert work.moved_bytes == moved_bytes


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda: tensor(ROWS, INNER) @ tensor(INNER, COLUMNS), "bfloat16"),
        (
            lambda: torch._int_mm(tensor(ROWS, INNER, dtype=torch.int8), tensor(INNER, COLUMNS, dtype=torch.int8)),
            "int8",
        ),
        (
            lambda: torch.ops.higher_order.out_dtype(
                torch.ops.aten.mm.default,
                torch.int32,
                tensor(ROWS, INNER, dtype=torch.int8),
                tensor(INNER, COLUMNS, dtype=torch.int8),
            ),
            "int8",
        ),
        (lambda: tensor(ROWS, INNER).float() @ tensor(INNER, COLUMNS).float(), "float32"),
    ],
)
def test_flops_are_counted_by_the_dtype_of_the_inputs(function, dtype):
    """A product is two operations for each row, column and inner element, in the arithmetic of its inputs."""
    with counting_work() as work:
        function()

    assert work.flops == {dtype: 2 * ROWS * INNER * COLUMNS}
