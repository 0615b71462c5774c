"""Faults of the structure: the stage is not what it claims to be, whatever its picture and its seconds are."""

from __future__ import annotations

from speedgate.results.run import Outcome
from tests.faults.parts import block, linears
from tests.faults.registry import edits, fakes


@edits("recipe", "int8", because="unet.int8_linears is 116, expected 117")
def layer_not_quantised(case):
    """One linear keeps its bf16 weights."""
    import torch

    linear = linears(case, int8=True)[5]
    linear.weight = torch.nn.Parameter(linear.weight.dequantize(), requires_grad=False)


@edits("recipe", "int8", because="unet.int8_linears is 0, expected 117")
def weights_quantised_alone(case):
    """Activations stay in bf16: int8 weights, and none of the int8 matmul's speed."""
    for linear in linears(case, int8=True):
        linear.weight.act_quant_kwargs = None


@edits("recipe", "int8", because="unet.int8_linears is 0, expected 117")
def scales_of_activations_per_tensor(case):
    """Activations have one scale a tensor: faster, and not what the stage says."""
    from torchao.quantization import PerTensor

    for linear in linears(case, int8=True):
        linear.weight.act_quant_kwargs.granularity = PerTensor()


@edits("recipe", "sdpa", because="unet.attention is {'AttnProcessor': 16}")
def processors_reset(case):
    """The denoiser is back at the default attention, as after loading an adapter."""
    case.pipeline.unet.set_default_attn_processor()


@edits("recipe", "sdpa", because="'AttnProcessor': 1")
def one_processor_reset(case):
    """One attention of 16 is back at the default."""
    from diffusers.models.attention_processor import AttnProcessor

    block(case).attn1.set_processor(AttnProcessor())


@edits("recipe", "fused_qkv", because="unet.attention is {'AttnProcessor2_0': 16}")
def projections_unfused(case):
    """Q, K and V are three projections again."""
    case.pipeline.unet.unfuse_qkv_projections()


@edits("recipe", "compile", "int8", because="unet.channels_last is False")
def channels_last_lost(case):
    """The denoiser's convolutions are contiguous again."""
    import torch

    case.pipeline.unet.to(memory_format=torch.contiguous_format)


@edits("recipe", "compile", because="vae.channels_last is False")
def channels_last_lost_in_one_layer(case):
    """One convolution of the VAE was replaced, in the default layout."""
    import torch

    weight = case.pipeline.vae.decoder.conv_in.weight
    weight.data = weight.data.contiguous(memory_format=torch.contiguous_format)


@edits("recipe", "compile", because="vae.swapped_convolutions is 1, expected 2")
def convolutions_not_swapped(case):
    """A 1x1 convolution is still one."""
    import torch

    vae = case.pipeline.vae
    name = next(name for name, module in vae.named_modules() if type(module).__name__ == "PermuteSandwich")
    vae.set_submodule(name, torch.nn.Conv2d(128, 128, 1, dtype=torch.bfloat16).to(memory_format=torch.channels_last))


@edits("recipe", "compile", because="unet.compiled is False")
def denoiser_not_compiled(case):
    """The denoiser runs eagerly."""
    case.pipeline.unet = case.pipeline.unet._orig_mod


@edits("recipe", "compile", because="vae.compiled is False")
def decoder_not_compiled(case):
    """The VAE decodes eagerly."""
    del case.pipeline.vae.decode


@edits("recipe", "bf16", because="vae.dtypes is ['float32']")
def vae_upcast(case):
    """The VAE is back in fp32, as for checkpoints that overflow in fp16."""
    case.pipeline.vae.float()


@edits("recipe", "bf16", because="text_encoders.dtypes is ['bfloat16', 'float32']")
def text_encoder_in_fp32(case):
    """The second text encoder was loaded in fp32."""
    case.pipeline.text_encoder_2.float()


@edits("recipe", "sdpa", because="unet.parameters is")
def extra_parameters(case):
    """An adapter of rank 4 hangs on one projection."""
    import torch

    linear = block(case).attn1.to_q
    linear.adapter = torch.nn.Linear(linear.in_features, 4, dtype=torch.bfloat16)


@edits("compile", "sdpa", because="graph_breaks is 1, expected 0")
def graph_break(case):
    """A tensor's value is read inside the compiled part."""

    def check(_, inputs):
        assert inputs[0].abs().max().item() < 1e9

    block(case).register_forward_pre_hook(check)


@edits("compile", "sdpa", because="recompiles is 1, expected 0")
def recompile_every_image(case):
    """A number that changes from image to image is compiled in."""
    part, encode = block(case), case.pipeline.encode_prompt
    part.images = 0

    def counting(**keywords):
        part.images += 1
        return encode(**keywords)

    case.pipeline.encode_prompt = counting
    part.register_forward_hook(lambda module, _, output: output + 0 * module.images)


@edits("compile", "sdpa", because="recompiles is 1, expected 0")
def recompile_for_another_prompt(case):
    """Prompts are not padded, so that one of another length has other shapes."""
    encode = case.pipeline.encode_prompt

    def unpadded(*, prompt, **keywords):
        tokens, negative, *pooled = encode(prompt=prompt, **keywords)
        return tokens[:, : len(prompt)], negative[:, : len(prompt)], *pooled

    case.pipeline.encode_prompt = unpadded


@edits("compile", "sdpa", because="denoiser_calls is 3, expected 4")
def step_left_out(case):
    """The scheduler makes one step less than asked for."""
    set_timesteps = case.pipeline.scheduler.set_timesteps
    case.pipeline.scheduler.set_timesteps = lambda steps, **keywords: set_timesteps(steps - 1, **keywords)


@fakes("compile", Outcome.NOT_APPLIED, "compile", because="cudagraph_skips is 2, expected 0")
def cuda_graph_skipped():
    """Inductor captures no CUDA graph, because of a tensor on the CPU, say."""
    return {"cudagraph_skips": 2}


@fakes("compile", Outcome.NOT_APPLIED, "fused_qkv", because="syncs_per_step is 1.0, expected 0.0")
def hidden_synchronisation():
    """The host waits for the device once in each step."""
    return {"syncs": 1.0}


@fakes("compile", Outcome.NOT_APPLIED, "int8", because="inductor_graphs is 0, expected 2")
def another_backend():
    """The graphs were compiled, by something other than inductor."""
    return {"inductor_graphs": 0}


@fakes("latency", Outcome.STALE, "int8", because="was recorded for recipe")
def another_recipe():
    """An inductor option was dropped, so that the baseline is of something else."""
    return {"recipe": {"inductor": {"epilogue_fusion": True}}}
