"""The untimed pass of a worker: kernels by their own seconds, attention by name, and a digest that only other code changes."""

import subprocess
import sys

import pytest

from fixtures import generated, profiles
from fixtures.torch_state import compiler_counts, generated_sources
from tests.suite import ROOT

# Called as is, without a C++ compiler: what inductor makes of it is a call of a matrix product.
COMPILED = """
import torch
from fixtures.generated import digest
from fixtures.torch_state import generated_sources

torch.compile(lambda x, y: x @ y)(torch.ones(4, 8), torch.ones(8, 2))
print(digest(generated_sources()))
"""

SOURCE = """# AOT ID: ['0_inference']
import torch
kernel = async_compile.cpp_pybinding(['float*'], r'''
#include "/var/torchinductor_a/c5/cc5f.h"
#pragma omp parallel
// Source node: /home/a/unet.py:12
    auto tmp0 = in_ptr0[0];
''')
meta = {'backend_hash': '1A2B', 'where': '<function at 0x7f00deadbeef>'}
if __name__ == "__main__":
    benchmark(seed=1)
"""


def event(name, ts, dur, *, cat="cpu_op", tid=1):
    """A complete event of a trace, in microseconds."""
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur}


def test_an_operator_counts_for_what_it_does_itself():
    """The seconds of what it calls are the callee's; threads are apart; equal names are added up."""
    events = [
        event("linear", 0, 100),
        event("addmm", 10, 60),
        event("copy", 20, 10),
        event("copy", 80, 5),
        event("copy", 15, 7, tid=2),
    ]

    rows = {name: (count, pytest.approx(seconds)) for name, count, seconds in profiles.kernel_rows(events)}

    assert rows == {"linear": (1, 35e-6), "addmm": (1, 50e-6), "copy": (3, 22e-6)}


def test_kernels_of_a_device_are_the_table_where_there_are_any():
    """What the host does to launch them is no part of it."""
    events = [event("aten::mm", 0, 50), event("gemm", 20, 30, cat="kernel"), event("Memcpy", 60, 4, cat="gpu_memcpy")]

    assert [name for name, _, _ in profiles.kernel_rows(events)] == ["gemm", "Memcpy"]


def test_graphs_are_not_told_by_their_cache_key():
    """The key changes with the build of torch, and a graph that was generated anew is no kernel that appeared."""
    events = [
        event(f"## Call CompiledFxGraph {key} ##", at, 5, cat="user_annotation") for at, key in ((0, "fab"), (9, "fcd"))
    ]

    assert profiles.kernel_rows(events) == [("a graph of inductor", 2, pytest.approx(10e-6))]


@pytest.mark.parametrize(
    ("cat", "name", "expected"),
    [
        ("cpu_op", "aten::_scaled_dot_product_flash_attention_for_cpu", {"flash": 1}),
        ("cpu_op", "aten::_scaled_dot_product_ring_attention", {"ring_attention": 1}),
        ("cpu_op", "aten::scaled_dot_product_attention", {}),
        ("kernel", "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>", {"flash": 1}),
        (
            "kernel",
            "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel)",
            {"efficient": 1},
        ),
        ("kernel", "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128", {"cudnn": 1}),
        ("kernel", "ampere_bf16_s16816gemm_bf16_128x64", {}),
    ],
)
def test_attention_is_told_by_operator_or_kernel(cat, name, expected):
    """An operator says which kernel it stands for; where none was seen, as in a CUDA graph, the kernel's name says it."""
    assert profiles.attention_rows([event(name, 0, 1, cat=cat)]) == expected


def test_the_digest_is_of_the_code():
    """Comments, folders, addresses, the build and the benchmark at the end may differ; a line of code may not."""
    same = (
        SOURCE.replace("0_inference", "1_inference")
        .replace("/var/torchinductor_a/c5/cc5f.h", "/var/other/zz/other.h")
        .replace("/home/a", "/b")
        .replace("1A2B", "3C4D")
        .replace("0x7f00deadbeef", "0x7f11feedface")
        .replace("seed=1", "seed=2")
    )

    assert generated.digest([SOURCE, "import a"]) == generated.digest(["import a", same])
    for code in ("auto tmp0", "#pragma omp", "float*"):
        assert generated.digest([SOURCE.replace(code, "other")]) != generated.digest([SOURCE])


def test_nothing_compiled_has_no_digest():
    """An eager stage has no generated code, and no digest of nothing that would be equal everywhere."""
    assert generated.digest([]) is None


def test_generated_code_is_still_found():
    """`PyCodeCache` is private: what inductor has just compiled stands there with its source."""
    import torch
    from torch._inductor.utils import fresh_cache

    before = generated_sources()
    torch.compiler.reset()
    with fresh_cache():
        torch.compile(lambda x, y: x @ y)(torch.ones(3, 7), torch.ones(7, 2))
        found = generated_sources()
    torch.compiler.reset()

    assert len(found) == len(before) + 1
    assert "extern_kernels.mm" in found[-1]


def test_two_processes_of_one_build_have_one_digest(tmp_path):
    """Folders, caches and addresses of a process are no part of the digest."""
    digests = [compiled(tmp_path / name) for name in ("one", "other")]

    assert len(digests[0]) == 16
    assert digests[0] == digests[1]


def compiled(folder):
    """The digest of a fresh process with a cache of its own."""
    folder.mkdir()
    (folder / "compiled.py").write_text(COMPILED)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "compiled.py"],
        cwd=folder,
        env=environment | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_pass_leaves_the_case_as_it_was(build):
    """The next round is made and timed as before, and nothing was compiled for the pass."""
    case = build("sdpa")
    before = compiler_counts()

    found = case.attribute()

    assert {name for name, _, _ in found["kernels"]} >= {"aten::addmm", "aten::mkldnn_convolution"}
    assert (found["attention_kernels"].keys(), compiler_counts()) == ({"flash"}, before)
    assert case.generate()["components"]["denoiser"]


def test_timing_and_profiling_a_compiled_case_compiles_nothing(build):
    """Marks stand outside of compiled callables: two graphs after the first image, two after rounds and a pass, no break."""
    import torch

    from fixtures.steps import compile_whole

    case = build("sdpa")
    torch.compiler.reset()
    compile_whole(case.pipe, case.pipeline.parts[0], {"backend": "eager"})
    before = compiler_counts()
    case.first_image()
    first = compiler_counts()
    rounds = [case.generate(), case.generate()]
    case.attribute()
    last = compiler_counts()
    torch.compiler.reset()

    assert first["graphs"] - before["graphs"] == 2
    assert last == first
    assert {len(round_["components"]["vae_decode"]) for round_ in rounds} == {1}
