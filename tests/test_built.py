"""A built case: what it measures, what it shows of itself, and what it puts back."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def sdpa(build):
    return build("sdpa")


def test_a_round_is_timed_and_has_a_peak(sdpa):
    """Seconds and bytes of one generation are there, as numbers above zero."""
    round_ = sdpa.generate()

    assert 0 < round_["seconds"] < 60
    assert round_["peak_bytes"] > 10**7


def test_the_same_case_makes_the_same_image(sdpa, look):
    """Seed and noise are fixed: two inspections agree to the last bit."""
    first, second = look(sdpa), look(sdpa)

    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.steps, second.steps)


def test_an_inspection_shows_image_and_steps(sdpa):
    """The shapes are those that parity expects."""
    seen = sdpa.inspect()

    assert seen["image_shape"] == [64, 64, 3]
    assert seen["step_shapes"] == [[16, 2, 4, 8, 8]]
    assert seen["decoded_shape"] == [1, 3, 64, 64]


def test_the_probes_differ_from_one_another(sdpa, look):
    """Sixteen probes are sixteen noises and prompts, not one of them sixteen times."""
    (steps,) = look(sdpa).steps

    assert all(not np.array_equal(steps[0], step) for step in steps[1:])


def test_watching_leaves_the_pipeline_as_it_was(sdpa):
    """The wrappers of an inspection are gone when it ends."""
    before = set(vars(sdpa.pipe.unet)), set(vars(sdpa.pipe.vae)), set(vars(sdpa.pipe))
    sdpa.inspect()

    assert (set(vars(sdpa.pipe.unet)), set(vars(sdpa.pipe.vae)), set(vars(sdpa.pipe))) == before


def test_the_image_is_a_picture(sdpa, look):
    """Calibrated weights fill the range without clipping most of it: a flat image would blind SSIM."""
    image = look(sdpa).image

    assert image.std() > 0.1
    assert np.mean((image <= 0) | (image >= 1)) < 0.2


def test_the_one_step_reference_is_computed_without_tf32(build):
    """`precise` sets full float32 precision while it looks, and puts back what was there."""
    import torch

    case, seen = build("fp32"), []
    image = case._image
    case._image = lambda **keywords: seen.append(torch.get_float32_matmul_precision()) or image(**keywords)
    case.inspect(precise=True)

    assert set(seen) == {"highest"}
    assert torch.get_float32_matmul_precision() == "high"


def test_full_precision_leaves_cudnn_on():
    """TF32 is switched off in convolutions too, and nothing else of cuDNN is."""
    import torch

    from fixtures.torch_state import full_precision

    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark
    with full_precision():
        within = cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark

    assert within == (before[0], False, before[2])
    assert (cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark) == before


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        ("called a synchronizing CUDA operation (Triggered internally at ...)", True),
        (
            "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations",
            False,
        ),
    ],
)
def test_only_a_synchronisation_counts_as_one(message, counts):
    """The debug mode's announcement of itself is not one."""
    from fixtures.torch_state import is_sync_warning

    assert is_sync_warning(message) is counts


def test_closing_puts_the_matmul_precision_back():
    """What the build set for the process is undone at the end."""
    import torch

    from fixtures.torch_state import published_precision

    before = torch.get_float32_matmul_precision()
    with published_precision():
        assert torch.get_float32_matmul_precision() == "high"

    assert torch.get_float32_matmul_precision() == before


def test_the_compiler_counters_still_have_their_names():
    """`torch._dynamo.utils.counters` is private: one graph, one break and one recompile are counted as such."""
    import torch

    from fixtures.torch_state import compiler_counts

    def broken(x):
        torch._dynamo.graph_break()
        return x + 1

    torch.compiler.reset()
    before = compiler_counts()
    torch.compile(lambda x: x * 2, backend="eager")(torch.ones(2))
    one = compiler_counts()
    torch.compile(broken, backend="eager")(torch.ones(2))
    two = compiler_counts()
    torch.compiler.reset()

    assert one["graphs"] - before["graphs"] == 1
    assert one["graph_breaks"] == before["graph_breaks"]
    assert two["graph_breaks"] - one["graph_breaks"] == 1


def test_the_graph_cache_counters_still_have_their_names(tmp_path, monkeypatch):
    """A first compilation is a miss of inductor's graph cache, the same again in a clean process state a hit."""
    import torch
    from torch._inductor.utils import fresh_cache

    from fixtures.torch_state import compiler_counts

    def compiled():
        torch.compiler.reset()
        torch.compile(lambda x: torch.sin(x) * 3)(torch.ones(4))
        return compiler_counts()

    with fresh_cache():
        before = compiler_counts()
        first, second = compiled(), compiled()
    torch.compiler.reset()

    assert first["cache_misses"] - before["cache_misses"] == 1
    assert second["cache_hits"] - first["cache_hits"] == 1
