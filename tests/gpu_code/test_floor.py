"""The least seconds of a stage, against figures that are computed by hand."""

import pytest

from speedgate.gpu_code.floor import compute_floor
from speedgate.gpu_code.targets import TARGETS
from tests.support.gpu_codes import make_code, make_module

A100 = TARGETS["a100"]


def module(name="denoiser", *, calls=1, moved_bytes=0, flops=None):
    """Make the record of a module with this work."""
    return make_module(name, calls_per_image=calls, moved_bytes=moved_bytes, flops=flops or {})


def test_a_module_takes_the_larger_of_bytes_and_flops():
    """34.8 GB are 17 ms of an A100 and 13.5 TFLOP are 43 ms, so thirty calls take at least 30 times 43 ms."""
    floor = compute_floor(
        make_code(module(calls=30, moved_bytes=34_800_000_000, flops={"bfloat16": 13_500_000_000_000})), A100
    )

    (denoiser,) = floor.modules
    assert denoiser.moving_s == pytest.approx(30 * 34.8 / 2039)
    assert denoiser.computing_s == pytest.approx(30 * 13.5 / 312)
    assert floor.least_s == denoiser.computing_s


def test_modules_run_one_after_the_other():
    """The VAE's least seconds are added to the denoiser's, each limited by what limits it."""
    moving = module("denoiser", calls=2, moved_bytes=2039 * 10**9)
    computing = module("vae_decode", flops={"int8": 624 * 10**12, "bfloat16": 312 * 10**12})

    floor = compute_floor(make_code(moving, computing), A100)

    assert floor.least_s == pytest.approx(2 + 2)
    assert (floor.moved_bytes, floor.flops) == (2 * 2039 * 10**9, 936 * 10**12)


@pytest.mark.parametrize(("float32", "seconds"), [("tf32", 1 / 156), ("fp32", 1 / 19.5)])
def test_float32_is_counted_in_the_arithmetic_of_the_stage(float32, seconds):
    """A stage that forbids TF32 is held to the far lower peak of plain float32."""
    floor = compute_floor(make_code(module(flops={"float32": 10**12})), A100, float32=float32)

    assert floor.least_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (make_code(module(flops={"float8_e4m3fn": 1})), "a100 has no published peak for products of float8_e4m3fn"),
        (make_code(unknown="a stub does not fit"), "the generated code is unknown [(]a stub does not fit[)]"),
    ],
)
def test_no_figure_is_made_up(code, message):
    """Without a published peak, or without a record, there is an error and no number."""
    with pytest.raises(ValueError, match=message):
        compute_floor(code, A100)
