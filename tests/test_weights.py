"""Weights: a seed that gives the same pipeline twice, a folder that gives it back, and the ways out where there are none."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.pipelines import pipelines
from fixtures.weights import WeightsError, load, resolve

SDXL = pipelines()["sdxl"]
TINY = SDXL.sizes["tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny pipeline as `save_pretrained` writes it."""
    path = tmp_path_factory.mktemp("weights") / "tiny"
    load(resolve("synthetic", SDXL), SDXL, TINY, dtype="float32", device="cpu").save_pretrained(path)
    return path


def test_the_same_seed_gives_the_same_weights():
    """Two synthetic pipelines are equal in every tensor, calibration included."""
    import torch

    first, second = (load(resolve("synthetic", SDXL), SDXL, TINY, dtype="float32", device="cpu") for _ in range(2))

    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        one, other = (getattr(pipe, name).state_dict() for pipe in (first, second))
        assert all(torch.equal(one[key], other[key]) for key in one), name


def test_making_weights_leaves_the_random_state_alone():
    """The process's random numbers go on as if nothing had been drawn."""
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load(resolve("synthetic", SDXL), SDXL, TINY, dtype="float32", device="cpu")

    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("stage", ["fp32", "sdpa"])
def test_a_folder_gives_back_the_same_image(build, look, folder, stage):
    """Saved and loaded through the code that loads hub snapshots, a stage makes the image that it made from the seed."""
    import dataclasses

    loaded = build(stage, weights=dataclasses.asdict(resolve(str(folder), SDXL)))

    assert np.array_equal(look(loaded).image, look(build(stage)).image)


def test_only_safetensors_are_loaded(folder, tmp_path):
    """A folder whose UNet lies there as a pickle is refused, naming the ways out."""
    import shutil

    copy = tmp_path / "pickled"
    shutil.copytree(folder, copy)
    tensors = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors.rename(tensors.with_suffix(".bin"))

    with pytest.raises(WeightsError, match=r"--weights synthetic"):
        load(resolve(str(copy), SDXL), SDXL, TINY, dtype="float32", device="cpu")


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    """The message names the folder and the ways out."""
    with pytest.raises(WeightsError, match=r"no model_index\.json.*--weights synthetic, or --weights FOLDER"):
        resolve(str(tmp_path), SDXL)


def test_an_unreachable_hub_is_one_line_with_the_ways_out(monkeypatch, tmp_path):
    """Offline and with an empty cache, loading from the hub names the repository, the seed and a folder."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(WeightsError, match=r"stable-diffusion-xl-base-1\.0.*--weights synthetic") as error:
        resolve("hub", SDXL)

    assert "\n" not in str(error.value)


def test_without_a_network_nothing_is_tried_again(monkeypatch, tmp_path, caplog):
    """A hub that does not answer is asked once, in silence, and the one line says why."""
    import time

    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    started_s = time.monotonic()

    with pytest.raises(
        WeightsError, match=r"cannot load .*: the hub cannot be reached \(.*\), and no complete copy is cached;"
    ):
        resolve("hub", SDXL)

    assert time.monotonic() - started_s < 10  # five tries take 23 s
    assert not caplog.records


def test_a_copy_in_the_cache_needs_no_network(monkeypatch, tmp_path):
    """Where the hub cannot be reached, what was downloaded before is taken."""
    import huggingface_hub

    def unreachable(*_, **__):
        raise RuntimeError("[Errno -2] Name or service not known")

    def cached(name, *, local_files_only, **_):
        assert local_files_only
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)

    assert resolve("hub", SDXL).source == "hub"


def index_of(path, **changes):
    """A folder as `save_pretrained` leaves that of SDXL, without what is in its components, and its index changed."""
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "feature_extractor": [None, None],
    }
    index |= {
        name: ["diffusers", "X"] for name in ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler")
    } | changes
    for name, value in index.items():
        if isinstance(value, list) and value != [None, None]:
            (path / name).mkdir()
    (path / "model_index.json").write_text(json.dumps(index))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_class_name": "FluxPipeline"}, "holds 'FluxPipeline', sdxl takes StableDiffusionXLPipeline"),
        ({"_class_name": ["\x1b[2J"]}, r"holds \['\\x1b"),
        ({"unet": [None, None]}, "lacks 'unet'"),
    ],
)
def test_a_folder_of_another_pipeline_is_refused_up_front(tmp_path, changes, said):
    """One line says what was expected and found, before a worker is started."""
    with pytest.raises(WeightsError, match=said) as error:
        resolve(str(index_of(tmp_path, **changes)), SDXL)

    assert "--weights synthetic" in str(error.value)


def test_a_folder_without_one_of_its_parts_is_refused_up_front(tmp_path):
    """Each component that the index names has a folder."""
    (index_of(tmp_path) / "text_encoder_2").rmdir()

    with pytest.raises(WeightsError, match="lacks 'text_encoder_2'"):
        resolve(str(tmp_path), SDXL)


@pytest.mark.parametrize("text", ['{"_class_name": ', "[]", "\udcff", "[" * 100_000])
def test_a_broken_index_is_one_line(tmp_path, text):
    """What is no JSON object is refused as what it is."""
    (tmp_path / "model_index.json").write_text(text, errors="surrogateescape")

    with pytest.raises(WeightsError, match=r"cannot be read as JSON|holds None") as error:
        resolve(str(tmp_path), SDXL)

    assert "\n" not in str(error.value)


def test_image_to_image_takes_the_weights_of_text_to_image(tmp_path):
    """Both load the same repository of the hub, so a folder of either does."""
    folder = index_of(tmp_path, _class_name="StableDiffusionPipeline")

    assert resolve(str(folder), pipelines()["sd15-img2img"]).source == "folder"


def test_a_gated_repository_is_one_line_with_its_licence(monkeypatch):
    """Where the hub asks for a licence to be accepted, the message says where and how, and the ways out."""
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    def refuse(name, **_):
        response = SimpleNamespace(headers={}, request=None)  # of whichever HTTP library the hub's own uses
        raise GatedRepoError(f"403: {name}\nAccess is restricted.", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *_, **__: None)

    with pytest.raises(WeightsError, match=r"IF-I-M-v1\.0 is gated.*/DeepFloyd/IF-I-M-v1\.0.*hf auth login") as error:
        resolve("hub", pipelines()["deepfloyd-if"])

    assert "\n" not in str(error.value)
    assert "--weights synthetic" in str(error.value)


def test_the_hub_is_asked_for_pinned_commits_and_safetensors_only(monkeypatch, tmp_path):
    """Each repository is downloaded at its pinned revision, without a pattern that a pickle matches."""
    import fnmatch

    import huggingface_hub

    asked = []

    def download(name, *, revision, allow_patterns, local_files_only):
        assert not local_files_only
        asked.append((name, revision, allow_patterns))
        return str(tmp_path / revision)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *_, **__: None)
    weights = resolve("hub", SDXL)

    assert weights.revisions == {name: revision for name, revision, _ in asked}
    assert all(len(revision) == 40 for _, revision, _ in asked)
    pickles = ["unet/diffusion_pytorch_model.bin", "model.ckpt", "text_encoder/pytorch_model.bin", "x.pt", "x.py"]
    patterns = [pattern for _, _, allowed in asked for pattern in allowed]
    assert not [name for name in pickles for pattern in patterns if fnmatch.fnmatch(name, pattern)]


def test_calibrated_attention_is_not_uniform():
    """The logits of an attention row have standard deviation 1 and the prediction has one too."""
    import torch

    pipe = load(resolve("synthetic", SDXL), SDXL, TINY, dtype="float32", device="cpu")
    seen = {}

    def keep(module, inputs, keywords):
        hidden = inputs[0] if inputs else keywords["hidden_states"]
        q, k = (layer(hidden).unflatten(-1, (module.heads, -1)).transpose(1, 2) for layer in (module.to_q, module.to_k))
        seen["std"] = (q @ k.transpose(-1, -2) * module.scale).std(dim=-1).mean().item()

    attention = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    handle = attention.register_forward_pre_hook(keep, with_kwargs=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    pipe(TINY.workload.prompt, num_inference_steps=1, latents=noise, output_type="latent")
    handle.remove()

    assert seen["std"] == pytest.approx(1.0, rel=0.2)
