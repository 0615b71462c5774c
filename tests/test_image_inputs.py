"""The pipelines that start from an image: what they are given is the same everywhere, and parity sees what ignores it."""

import numpy as np
import pytest

from fixtures.pictures import batch_of, edges, mask, picture
from fixtures.pipelines import pipelines
from speedgate.records import Outcome
from tests.faults import numerics
from tests.faults.parts import silence


def ignored_image(case):
    """The input image is grey, whatever was given."""
    preprocess = case.pipe.image_processor.preprocess
    case.pipe.image_processor.preprocess = lambda image, **keywords: 0 * preprocess(image, **keywords)


def swapped_colours(case):
    """Red and blue of the input image change places."""
    preprocess = case.pipe.image_processor.preprocess
    case.pipe.image_processor.preprocess = lambda image, **keywords: preprocess(image.flip(1), **keywords)


def dropped_encoder_attention(case):
    """The attention of the VAE's encoder adds nothing."""
    silence(case.pipe.vae.encoder.mid_block.attentions[0])


def ignored_mask(case):
    """Everything is painted anew."""
    preprocess = case.pipe.mask_processor.preprocess
    case.pipe.mask_processor.preprocess = lambda mask, **keywords: 0 * preprocess(mask, **keywords) + 1


def inverted_mask(case):
    """What was to be kept is painted anew, and the other way round."""
    preprocess = case.pipe.mask_processor.preprocess
    case.pipe.mask_processor.preprocess = lambda mask, **keywords: 1 - preprocess(mask, **keywords)


def dropped_controlnet(case):
    """The ControlNet's residuals are multiplied by 0."""
    controlnet = case.pipe.controlnet.forward
    case.pipe.controlnet.forward = lambda *inputs, **keywords: controlnet(
        *inputs, **{**keywords, "conditioning_scale": 0.0}
    )


def blank_control_image(case):
    """The ControlNet is given a picture without an outline."""
    prepare = case.pipe.prepare_image
    case.pipe.prepare_image = lambda **keywords: 0 * prepare(**keywords)


def mirrored_control_image(case):
    """The ControlNet is given the outlines of the mirrored picture."""
    prepare = case.pipe.prepare_image
    case.pipe.prepare_image = lambda **keywords: prepare(**keywords).flip(-1)


def dropped_controlnet_attention(case):
    """One self-attention of the ControlNet adds nothing."""
    silence(case.pipe.controlnet.down_blocks[0].attentions[0].transformer_blocks[0].attn1)


FAULTS = [
    ("sd15-img2img", "sdpa", ignored_image),
    ("sd15-img2img", "sdpa", swapped_colours),
    ("sd15-img2img", "sdpa", numerics.seed_drift),
    ("sd15-img2img", "sdpa", dropped_encoder_attention),
    ("sd15-inpaint", "sdpa", ignored_image),
    ("sd15-inpaint", "sdpa", swapped_colours),
    ("sd15-inpaint", "sdpa", ignored_mask),
    ("sd15-inpaint", "sdpa", inverted_mask),
    ("sd15-inpaint", "sdpa", dropped_encoder_attention),
    ("sd15-controlnet", "sdpa", dropped_controlnet),
    ("sd15-controlnet", "sdpa", blank_control_image),
    ("sd15-controlnet", "sdpa", mirrored_control_image),
    ("sd15-controlnet", "sdpa", dropped_controlnet_attention),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("pipeline", "stage", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_of_the_input_is_caught(judge, pipeline, stage, fault):
    """Parity says DIFFERENT where what was given is ignored or changed on its way."""
    verdict = judge(stage, fault, pipeline=pipeline)

    assert verdict.outcome is Outcome.DIFFERENT, verdict.sentence


def test_a_picture_is_the_same_at_every_resolution():
    """A pixel of the small picture is the mean of those that it stands for, and both have outlines and a mask."""
    wide, small = picture(512), picture(64)

    assert small.shape == (3, 64, 64)
    assert np.abs(wide.reshape(3, 64, 8, 64, 8).mean(axis=(2, 4)) - small).mean() < 0.01
    assert [mask(side).mean() for side in (64, 512)] == pytest.approx([0.246, 0.246], abs=0.003)
    assert all(0 < edges(side).mean() < 0.1 for side in (64, 512))


def test_the_encoder_keeps_the_picture(build):
    """Scaled latents have a standard deviation of 1 that is the picture's, and not the encoder's own noise."""
    import torch

    vae = build("fp32", pipeline="sd15-img2img").pipe.vae
    with torch.no_grad():
        latents = vae.encode(2 * batch_of(picture(64)) - 1).latent_dist

    assert 0.8 < float(latents.mean.std()) * vae.config.scaling_factor < 1.25
    assert float(latents.std.max()) < 1e-3


@pytest.mark.parametrize(
    ("pipeline", "component"),
    [("sd15-img2img", "vae_encode"), ("sd15-inpaint", "vae_encode"), ("sd15-controlnet", "controlnet")],
)
def test_what_an_image_costs_is_told_apart(build, pipeline, component):
    """The seconds of the model that reads the image stand beside the others'."""
    components = build("fp32", pipeline=pipeline).generate()["components"]

    assert set(components) == {"text_encoders", "denoiser", "scheduler", "host_gap", "vae_decode", component}


def test_a_controlnet_does_not_fuse_itself():
    """diffusers' own method leaves a ControlNet as it was: when that changes, `_fuse_attentions` may go."""
    import torch

    with torch.device("meta"):
        controlnet = pipelines()["sd15-controlnet"].sizes["tiny"].skeleton().controlnet
    controlnet.fuse_qkv_projections()

    assert not any(getattr(module, "fused_projections", False) for module in controlnet.modules())


def test_a_repository_of_a_variant_is_loaded(build, tmp_path):
    """Weights whose files are named after a variant come back from the hub's folder in the dtype that was asked for."""
    import torch

    case = build("fp32", pipeline="sd15-inpaint")
    case.pipe.save_pretrained(tmp_path, variant="fp16")

    weights = {"source": "hub", "folders": {"pipeline": str(tmp_path)}}
    loaded = build("fp32", pipeline="sd15-inpaint", weights=weights)

    assert list(tmp_path.glob("unet/*.fp16.safetensors"))
    assert torch.equal(loaded.pipe.unet.conv_in.weight, case.pipe.unet.conv_in.weight)


@pytest.mark.parametrize("spec", pipelines().values(), ids=lambda spec: spec.name)
def test_no_throughput_workload_is_the_ladders(spec):
    """Each workload of a size has a key of its own, or two cases would share a record."""
    for size in spec.sizes.values():
        keys = [workload.key for workload in (size.workload, *size.throughput)]

        assert len(set(keys)) == len(keys)
