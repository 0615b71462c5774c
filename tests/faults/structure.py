"""Faults of the structure: the stage is not built as it promises, whatever its image and its seconds are."""

from __future__ import annotations

from speedgate.results.run import Outcome
from tests.faults.modules import block, linears
from tests.faults.registry import case_fault, session_fault


@case_fault("recipe", "int8", reason="unet.int8_linears is 116, expected 117")
def layer_not_quantised(case):
    """One linear layer keeps its bf16 weights."""
    import torch

    linear = linears(case, int8=True)[5]
    linear.weight = torch.nn.Parameter(linear.weight.dequantize(), requires_grad=False)


@case_fault("recipe", "int8", reason="unet.int8_linears is 0, expected 117")
def weights_quantised_alone(case):
    """Only the weights are int8; activations stay in bf16, so the fast int8 matmul is not used."""
    for linear in linears(case, int8=True):
        linear.weight.act_quant_kwargs = None


@case_fault("recipe", "int8", reason="unet.int8_linears is 0, expected 117")
def scales_of_activations_per_tensor(case):
    """Activations have one scale per tensor, which is faster but not what the stage promises."""
    from torchao.quantization import PerTensor

    for linear in linears(case, int8=True):
        linear.weight.act_quant_kwargs.granularity = PerTensor()


@case_fault("recipe", "sdpa", reason="unet.attention is {'AttnProcessor': 16}")
def processors_reset(case):
    """The denoiser has the default attention again, as after loading an adapter."""
    case.pipeline.unet.set_default_attn_processor()


@case_fault("recipe", "sdpa", reason="'AttnProcessor': 1")
def one_processor_reset(case):
    """One of 16 attentions has the default processor again."""
    from diffusers.models.attention_processor import AttnProcessor

    block(case).attn1.set_processor(AttnProcessor())


@case_fault("recipe", "fused_qkv", reason="unet.attention is {'AttnProcessor2_0': 16}")
def projections_unfused(case):
    """Q, K and V are three projections again."""
    case.pipeline.unet.unfuse_qkv_projections()


@case_fault("recipe", "compile", "int8", reason="unet.channels_last is False")
def channels_last_lost(case):
    """The denoiser's convolutions are contiguous again."""
    import torch

    case.pipeline.unet.to(memory_format=torch.contiguous_format)


@case_fault("recipe", "compile", reason="vae.channels_last is False")
def channels_last_lost_in_one_layer(case):
    """One convolution of the VAE was replaced, in the default layout."""
    import torch

    weight = case.pipeline.vae.decoder.conv_in.weight
    weight.data = weight.data.contiguous(memory_format=torch.contiguous_format)


@case_fault("recipe", "compile", reason="vae.swapped_convolutions is 1, expected 2")
def convolutions_not_swapped(case):
    """A 1x1 convolution was not replaced by a linear layer."""
    import torch

    vae = case.pipeline.vae
    name = next(name for name, module in vae.named_modules() if type(module).__name__ == "PermuteSandwich")
    vae.set_submodule(name, torch.nn.Conv2d(128, 128, 1, dtype=torch.bfloat16).to(memory_format=torch.channels_last))


@case_fault("recipe", "compile", reason="unet.compiled is False")
def denoiser_not_compiled(case):
    """The denoiser runs eagerly."""
    case.pipeline.unet = case.pipeline.unet._orig_mod


@case_fault("recipe", "compile", reason="vae.compiled is False")
def decoder_not_compiled(case):
    """The VAE decodes eagerly."""
    del case.pipeline.vae.decode


@case_fault("recipe", "bf16", reason="vae.dtypes is ['float32']")
def vae_upcast(case):
    """The VAE is back in fp32, as for checkpoints that overflow in fp16."""
    case.pipeline.vae.float()


@case_fault("recipe", "bf16", reason="text_encoders.dtypes is ['bfloat16', 'float32']")
def text_encoder_in_fp32(case):
    """The second text encoder was loaded in fp32."""
    case.pipeline.text_encoder_2.float()


@case_fault("recipe", "sdpa", reason="unet.parameters is")
def extra_parameters(case):
    """One projection has an additional adapter of rank 4."""
    import torch

    linear = block(case).attn1.to_q
    linear.adapter = torch.nn.Linear(linear.in_features, 4, dtype=torch.bfloat16)


@case_fault("compile", "sdpa", reason="graph_breaks is 1, expected 0")
def graph_break(case):
    """A tensor's value is read inside the compiled part."""

    def check(_, inputs):
        assert inputs[0].abs().max().item() < 1e9

    block(case).register_forward_pre_hook(check)


@case_fault("compile", "sdpa", reason="recompiles is 1, expected 0")
def recompile_every_image(case):
    """A number that changes with each image is compiled into the graph."""
    part, encode = block(case), case.pipeline.encode_prompt
    part.images = 0

    def counting(**keywords):
        part.images += 1
        return encode(**keywords)

    case.pipeline.encode_prompt = counting
    part.register_forward_hook(lambda module, _, output: output + 0 * module.images)


@case_fault("compile", "sdpa", reason="recompiles is 1, expected 0")
def recompile_for_another_prompt(case):
    """Prompts are not padded, so a prompt of another length has other shapes."""
    encode = case.pipeline.encode_prompt

    def unpadded(*, prompt, **keywords):
        tokens, negative, *pooled = encode(prompt=prompt, **keywords)
        return tokens[:, : len(prompt)], negative[:, : len(prompt)], *pooled

    case.pipeline.encode_prompt = unpadded


@case_fault("compile", "sdpa", reason="denoiser_calls is 3, expected 4")
def step_left_out(case):
    """The scheduler makes one step too few."""
    set_timesteps = case.pipeline.scheduler.set_timesteps
    case.pipeline.scheduler.set_timesteps = lambda steps, **keywords: set_timesteps(steps - 1, **keywords)


@session_fault("compile", Outcome.NOT_APPLIED, "compile", reason="cudagraph_skips is 2, expected 0")
def cuda_graph_skipped():
    """Inductor captures no CUDA graph, for example because of a tensor on the CPU."""
    return {"cudagraph_skips": 2}


@session_fault("compile", Outcome.NOT_APPLIED, "fused_qkv", reason="syncs_per_step is 1.0, expected 0.0")
def hidden_synchronisation():
    """The host waits for the device once in each step."""
    return {"syncs": 1.0}


@session_fault("compile", Outcome.NOT_APPLIED, "int8", reason="inductor_graphs is 0, expected 2")
def another_backend():
    """The graphs were compiled by another backend than inductor."""
    return {"inductor_graphs": 0}


@session_fault("latency", Outcome.STALE, "int8", reason="was recorded for recipe")
def another_recipe():
    """An inductor option was dropped, so the baseline belongs to another recipe."""
    return {"recipe": {"inductor": {"epilogue_fusion": True}}}
