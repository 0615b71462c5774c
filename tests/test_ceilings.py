"""The measurement of a machine's ceilings: every arithmetic works, and counts what it says. On a CPU, small: no figure."""

import pytest
import torch

from fixtures.ceilings import _PRODUCTS, Ceilings
from fixtures.rooflines import PARAMETER_BYTES, parameter_bytes
from fixtures.stages import STAGES, arithmetic_of


@pytest.fixture(scope="module")
def small():
    return Ceilings(device="cpu", side=64, copy_bytes=2**20, least_s=0.01)


def test_every_arithmetic_of_a_stage_can_be_measured():
    """No stage is held to a ceiling that nobody measures, or whose parameters nobody knows the size of."""
    wanted = {name for stage in STAGES for name in arithmetic_of(stage).values()}

    assert wanted == set(_PRODUCTS) == set(PARAMETER_BYTES)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_its_arithmetic(stage):
    """Each has one for the operations that it does not name."""
    assert arithmetic_of(stage)[""] in _PRODUCTS


def test_what_a_stage_inherits():
    """int8 multiplies its quantised linears in int8, and all else as its ancestors do; int8 weights alone change nothing."""
    assert arithmetic_of("int8") == {"": "bf16", "quantised_linears": "int8"}
    assert arithmetic_of("int8_weight_only") == {"": "bf16"}
    assert (parameter_bytes("fp32"), parameter_bytes("compile"), parameter_bytes("int8")) == (4, 2, 1)


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16", "fp16"])
def test_a_product_is_of_two_whole_matrices(small, name):
    """[side, side] by [side, side], in its own dtype."""
    _, act = _PRODUCTS[name](small)

    assert act().shape == (64, 64)
    assert act().dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32)


def test_int8_matrices_are_multiplied_in_int32(small):
    """torch._int_mm, which nothing documents, is there and multiplies as an int32 product does."""
    _, act = _PRODUCTS["int8"](small)
    left, right = (cell.cell_contents for cell in act.__closure__ if isinstance(cell.cell_contents, torch.Tensor))
    pair = (left, right) if left.is_contiguous() else (right, left)

    assert torch.equal(act(), pair[0].int() @ pair[1].int())


def test_the_fewest_seconds_count(small, monkeypatch):
    """Of several batches the fastest one tells what the device can do, by a product: warm-up and count are not in it."""
    batches = iter([9.0, 0.001, *[0.5] * 9, 0.2])
    monkeypatch.setattr(small, "_batch_s", lambda act, count: next(batches))

    seconds = small._least_s(*_PRODUCTS["bf16"](small))

    assert seconds == pytest.approx(0.2)


def test_both_directions_of_a_copy_count():
    """Bytes a second are read and written: a copy of n bytes moves 2 n."""
    scripted = Ceilings(device="cpu", side=64, copy_bytes=1000, least_s=0.01)
    scripted._least_s = lambda context, act: 0.5

    assert scripted.measure(arithmetic=["bf16"]) == {"flops_per_s": {"bf16": 2 * 64**3 / 0.5}, "bytes_per_s": 4000.0}


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16", "fp16", "int8"])
def test_a_measurement_ends_with_a_rate(small, name):
    """The whole of it runs where no GPU is."""
    found = small.measure(arithmetic=[name])

    assert found["flops_per_s"][name] > 0
    assert found["bytes_per_s"] > 0
