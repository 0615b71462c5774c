"""Each reach into torch and Triton is looked for first, and what does not fit is unknown, never a pass."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from speedgate.gpu_code import lowering
from speedgate.gpu_code.lowering import REACHES, Lowering, StubDoesNotFit
from speedgate.gpu_code.targets import TARGETS


def modules_without(absent: Any = None) -> Any:
    """Return a function that imports fake modules with every reach but one."""
    modules: dict[str, Any] = {}
    for reach in REACHES:
        owner = modules.setdefault(reach.module, types.SimpleNamespace())
        *path, name = reach.attribute.split(".")
        for step in path:
            if not hasattr(owner, step):
                setattr(owner, step, types.SimpleNamespace())
            owner = getattr(owner, step)
        if reach != absent and not hasattr(owner, name):
            setattr(owner, name, types.SimpleNamespace())
    return modules.__getitem__


def test_all_reaches_are_enough() -> None:
    """Nothing is missing where every reach is there."""
    lowering.check(modules_without())


@pytest.mark.parametrize("reach", REACHES, ids=lambda reach: f"{reach.module}.{reach.attribute}")
def test_a_missing_reach_is_named(reach: Any) -> None:
    """A version of torch or Triton without one of the reaches is refused, with its name, before anything is replaced."""
    with pytest.raises(StubDoesNotFit, match=rf"{reach.module}\.{reach.attribute} is missing"):
        lowering.check(modules_without(reach))


def test_a_missing_module_is_named() -> None:
    """A private module that was moved is refused like an attribute that was renamed."""

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    with pytest.raises(StubDoesNotFit, match=r"torch\.cuda\.get_device_properties is missing"):
        lowering.check(absent)


def test_a_cpu_build_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU build of torch gets one line that says which build is needed."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")

    with pytest.raises(StubDoesNotFit, match=r"^--gpu-code needs torch built for CUDA .* this is torch 2\.13\.0\+cpu$"):
        Lowering(TARGETS["a100"])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("extern_kernels.addmm", ("external", "addmm")),
        ("extern_kernels._int_mm", ("external", "_int_mm")),
        ("torch.ops.aten._scaled_dot_product_flash_attention.default", ("external", "flash_attention")),
        ("torch.ops.aten.convolution.default", ("external", "convolution")),
        ("torch.ops.aten.sort.stable", ("fallback", "aten.sort")),
        ("aten.index_put_", ("fallback", "aten.index_put_")),
    ],
)
def test_a_fallback_is_told_from_an_external_kernel(function: str, expected: tuple[str, str]) -> None:
    """Products, convolutions and attention are external kernels by design; every other aten operator is a fallback."""
    assert lowering._operation(function) == expected


PTXAS = """ptxas info    : Compiling entry function 'kernel' for 'sm_80'
ptxas info    : Function properties for kernel
    32 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 32 bytes cumulative stack size, 400 bytes cmem[0]
"""


def test_spills_are_told_from_the_stack() -> None:
    """A stack frame is no spill, and what ptxas does not print is not taken for zero."""
    assert lowering.read_ptxas(PTXAS) == (40, 20)
    with pytest.raises(StubDoesNotFit, match="no registers and spills"):
        lowering.read_ptxas("ptxas info    : Used 40 registers")


def needs_cuda_build(function: Any) -> Any:
    """Mark a test that generates code: slow, and skipped on a CPU build of torch."""
    torch = pytest.importorskip("torch")
    skipped = pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch")
    return pytest.mark.slow(skipped(function))


@needs_cuda_build
def test_everything_replaced_is_listed_and_put_back() -> None:
    """No attribute is replaced that `REACHES` does not list, and each is the same object again after the block."""
    lowering.check()
    lowered = Lowering(TARGETS["a100"])
    replaced = [(owner, name) for owner, name, _ in lowered._replacements()]
    before = [getattr(owner, name, None) for owner, name in replaced]
    listed = {reach.attribute.rpartition(".")[2] for reach in REACHES}

    with lowered:
        assert all(getattr(owner, name) is not was for (owner, name), was in zip(replaced, before, strict=True))

    assert [getattr(owner, name, None) for owner, name in replaced] == before
    assert {name for _, name in replaced} - listed == {"_get_device_properties"}  # not there before CUDA is initialised


@needs_cuda_build
def test_equal_code_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel's registers are read from ptxas once for each digest, target and version, and then from the folder."""
    import torch

    with Lowering(TARGETS["a100"]) as low:
        with low.mode, torch.no_grad():
            torch.compile(torch.nn.functional.silu)(torch.empty(64, device="cuda"))
        code = low.graphs[0].code
        sources = {digest: code.kernels[name] for name, digest in lowering.digests(code).items()}
        facts = lowering.machine_code(sources, low.target, tmp_path)
        monkeypatch.setattr(lowering, "_compile_kernel", None)
        assert lowering.machine_code(sources, low.target, tmp_path) == facts
    (fact,) = facts.values()
    assert 0 < fact.registers < 255
    assert fact.spilled_bytes == fact.shared_bytes == 0
