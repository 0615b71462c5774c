"""The generated wrapper is read as it is: kernels, launches, external calls, and digests that ignore names."""

from __future__ import annotations

import pytest

from speedgate.gpu_code.wrapper import ExternalCall, kernel_digest, read_wrapper

KERNEL = """
import triton
from torch._inductor.runtime import triton_heuristics

@triton_heuristics.pointwise(
    size_hints={'x': 512},
    triton_meta={'signature': {'in_ptr0': '*bf16', 'out_ptr0': '*bf16', 'xnumel': 'i32', 'XBLOCK': 'constexpr'}, 'device': 0},
    inductor_meta={'kernel_name': 'triton_poi_fused_silu_3', 'backend_hash': 'A1'},
)
@triton.jit
def triton_poi_fused_silu_3(in_ptr0, out_ptr0, xnumel, XBLOCK : tl.constexpr):
    xnumel = 512
    x3 = xindex % 4
    tmp4 = tl.load(in_ptr0 + (x3), xmask)  # a comment
    tmp7 = tmp4 + tmp4
    tl.store(out_ptr0 + (x3), tmp7, xmask)
"""

WRAPPER = f"""
triton_poi_fused_silu_3 = async_compile.triton('triton_poi_fused_silu_3', '''{KERNEL}''', device_str='cuda')

async_compile.wait(globals())

def call(args):
    arg0_1, arg1_1 = args
    with torch.cuda._DeviceGuard(0):
        buf0 = empty_strided_cuda((2, 4), (4, 1), torch.bfloat16)
        triton_poi_fused_silu_3.run(arg0_1, buf0, 512, stream=stream0)
        buf1 = empty_strided_cuda((2, 4), (4, 1), torch.bfloat16)
        extern_kernels.addmm(arg1_1, buf0, arg1_1, alpha=1, beta=1, out=reinterpret_tensor(buf1, (2, 4), (4, 1), 0))
        buf2 = extern_kernels.convolution(buf1, arg1_1, stride=(1, 1))
        buf3 = torch.ops.aten._scaled_dot_product_flash_attention.default(buf0, buf0, buf0)
        triton_poi_fused_silu_3.run(buf1, buf0, arg2_1.item(), stream=stream0)
    return (buf0, )
"""


def test_a_wrapper_is_taken_apart():
    """Each kernel is counted as often as it is launched, each external call with its buffer, and a number is no address."""
    wrapper = read_wrapper(WRAPPER)
    assert dict(wrapper.kernels) == {"triton_poi_fused_silu_3": KERNEL}
    assert dict(wrapper.launches) == {"triton_poi_fused_silu_3": 2}
    assert (wrapper.partitions, wrapper.by_value) == (0, {"arg2_1"})
    assert set(wrapper.external) == {
        ExternalCall(function="extern_kernels.addmm", output="buf1"),
        ExternalCall(function="extern_kernels.convolution", output="buf2"),
        ExternalCall(function="torch.ops.aten._scaled_dot_product_flash_attention.default", output="buf3"),
    }


def test_partitions_are_counted():
    """Each function that would become a CUDA graph of its own is counted, and so is what it launches."""
    split = WRAPPER.replace("def call(args)", "def partition_0(args)") + "\ndef partition_1(args):\n    pass\n"
    wrapper = read_wrapper(split)
    assert wrapper.partitions == 2
    assert wrapper.launches == read_wrapper(WRAPPER).launches


@pytest.mark.parametrize(
    "old, new",
    [
        ("triton_poi_fused_silu_3", "triton_poi_fused_mul_silu_11"),
        ("x3", "x0"),
        ("tmp7", "tmp5"),
        ("# a comment", ""),
        ("'backend_hash': 'A1'", "'backend_hash': 'B2', 'deterministic': True"),
    ],
)
def test_names_and_notes_do_not_change_a_digest(old, new):
    """Two kernels that do the same have one digest, whatever they are called and whatever inductor notes beside them."""
    assert kernel_digest(KERNEL.replace(old, new)) == kernel_digest(KERNEL)


@pytest.mark.parametrize(
    "old, new",
    [
        ("tmp4 + tmp4", "tmp4 * tmp4"),
        ("tmp4 + tmp4", "tmp4.to(tl.float32)"),
        ("'in_ptr0': '*bf16'", "'in_ptr0': '*fp32'"),
        ("{'x': 512}", "{'x': 1024}"),
        ("% 4", "% 8"),
        ("triton_heuristics.pointwise", "triton_heuristics.reduction"),
    ],
)
def test_other_work_changes_a_digest(old, new):
    """A kernel that computes, reads or is launched in another way has another digest."""
    assert old in KERNEL
    assert kernel_digest(KERNEL.replace(old, new)) != kernel_digest(KERNEL)
