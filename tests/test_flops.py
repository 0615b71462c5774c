"""What an image takes, against hand counts from the architecture and a published figure."""

import dataclasses

import pytest

from fixtures.flops import KINDS
from fixtures.pipelines import pipelines
from fixtures.skeletons import Skeletons


@pytest.fixture(scope="module")
def counted():
    """FLOPs of one image by component and kind; each pipeline is made once."""
    known = {}

    def count(pipeline, size="full", **changes):
        key = pipeline, size, *changes.items()
        if key not in known:
            workload = dataclasses.replace(pipelines()[pipeline].sizes[size].workload, **changes)
            known[key] = Skeletons().flops(pipeline=pipeline, size=size, workload=dataclasses.asdict(workload))
        return known[key]

    return count


def attention(*, tokens, keys, channels):
    """Scores and their product with the values: 2 FLOPs a multiplication each."""
    return 2 * 2 * tokens * keys * channels


# Transformer blocks of a UNet: channels, how many blocks, and the tokens that each sees.
BLOCKS = {
    "sdxl": [(640, 10, 64**2), (1280, 60, 32**2)],
    "sd15": [(320, 5, 64**2), (640, 5, 32**2), (1280, 5, 16**2), (1280, 1, 8**2)],
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_attention_is_what_the_blocks_say(counted, name):
    """Over themselves and over 77 tokens, for two images in each step."""
    by_hand = sum(
        blocks * attention(tokens=tokens, keys=keys, channels=channels)
        for channels, blocks, tokens in BLOCKS[name]
        for keys in (tokens, 77)
    )

    steps = pipelines()[name].sizes["full"].workload.steps
    assert counted(name)["denoiser"]["flops"]["attention"] == 2 * steps * by_hand


def test_the_unet_of_sd15_has_the_published_macs(counted):
    """339 G multiply-accumulates a step at 512 px, without products of activations (BK-SDM, arXiv 2305.15798, table 1)."""
    flops = counted("sd15")["denoiser"]["flops"]

    macs = (sum(flops.values()) - flops["attention"]) / 2 / (2 * pipelines()["sd15"].sizes["full"].workload.steps)

    assert macs == pytest.approx(339e9, rel=0.005)


def test_the_text_encoders_of_sdxl_are_what_their_layers_say(counted):
    """12 layers of width 768 and 32 of 1280, each 12 width^2 a token, and the second one's projection; the prompt alone, for
    what stands for an empty one are zeros.
    """
    layers = 12 * 12 * 768**2 + 32 * 12 * 1280**2
    by_hand = 2 * (77 * layers + 1280**2)

    assert counted("sdxl")["text_encoders"]["flops"]["linears"] == by_hand


def test_the_parameters_of_the_unet_are_read_in_every_step(counted):
    """2,567,463,684 of them, as its model card says, thirty times."""
    assert counted("sdxl")["denoiser"]["parameters_read"] == 30 * 2_567_463_684


@pytest.mark.parametrize("name", pipelines())
def test_every_pipeline_is_counted(counted, name):
    """Each part and helper of each pipeline takes operations of kinds that are known, and no fewer than none."""
    found = counted(name, size="tiny")

    spec = pipelines()[name]
    expected = {part.prefixed(it) for part in spec.parts for it in ("denoiser", *part.helpers)}
    expected |= {part.prefixed("vae_decode") for part in spec.parts if part.vae}
    assert expected <= set(found)
    assert all(set(one["flops"]) <= set(KINDS) and min(one["flops"].values()) >= 0 for one in found.values())


def test_a_batch_takes_as_many_times_the_operations(counted):
    """Of denoiser and decoder: the prompt is encoded once."""
    one, three = counted("sd15", size="tiny"), counted("sd15", size="tiny", batch=3)

    for component in ("denoiser", "vae_decode"):
        assert three[component]["flops"] == {kind: 3 * count for kind, count in one[component]["flops"].items()}
    assert three["text_encoders"] == one["text_encoders"]


def test_steps_and_guidance_count(counted):
    """Twice the steps take twice the denoiser's operations; without guidance there is no empty prompt beside the other."""
    one = counted("sdxl", size="tiny")["denoiser"]["flops"]

    assert counted("sdxl", size="tiny", steps=8)["denoiser"]["flops"] == {kind: 2 * n for kind, n in one.items()}
    assert counted("sdxl", size="tiny", guidance=1.0)["denoiser"]["flops"] == {kind: n // 2 for kind, n in one.items()}
