"""The machine that a figure belongs to: its GPU key, and the versions that ran. Never creates a CUDA context."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

DEVICES = ("auto", "cuda", "cpu")
_PACKAGES = ("torch", "triton", "diffusers", "torchao", "transformers", "accelerate", "numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What a baseline's folder is named after, and what the name was made from.

    `key` is finer than a GPU's name: SKU, memory and power limit, because two hosts that both said "A100 80 GB" were
    16-19 % apart in the published data.
    """

    key: str
    device: str
    name: str
    memory_bytes: int
    power_limit_w: int | None = None
    driver: str | None = None


def resolve_machine(choice: str) -> Machine:
    """The machine for `--device`: `auto` takes the first CUDA GPU and falls back to the CPU.

    A `ValueError` where `cuda` is asked for and NVML reports no GPU.
    """
    gpu = _first_gpu() if choice in ("auto", "cuda") else None
    if gpu is not None:
        return gpu
    if choice == "cuda":
        raise ValueError("--device cuda: the NVIDIA driver reports no GPU here; use --device cpu or --device auto")
    return _cpu()


def gpu_key(*, name: str, memory_bytes: int, power_limit_w: int | None) -> str:
    """SKU, memory and power limit as a folder name, such as `nvidia-a100-sxm4-80gb-400w`."""
    words = [slug(name)]
    if not re.search(r"\d+gb", words[0]):
        words.append(f"{round(memory_bytes / 2**30)}gb")
    if power_limit_w is not None:
        words.append(f"{power_limit_w}w")
    return "-".join(words)


def slug(text: str) -> str:
    """Lower-case words of letters and digits, joined by hyphens."""
    bare = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", " ", text.lower())
    return "-".join(re.findall(r"[a-z0-9]+", bare))


def installed() -> dict[str, Any]:
    """Versions of Python and the packages that matter, None for one that is not there; imports none of them."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def versions() -> dict[str, Any]:
    """Versions of what ran, read in the worker's interpreter; torch's own build facts where torch is there."""
    found = installed()
    if found["torch"] is not None:
        import torch

        found["torch_git"] = torch.version.git_version
        found["cuda"] = torch.version.cuda
        cudnn: Any = torch.backends.cudnn
        found["cudnn"] = cudnn.version()
        found["threads"] = torch.get_num_threads()
    return found


def _first_gpu() -> Machine | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver on this machine: a fact, not a fault
        return None
    try:
        handle = visible_handle(pynvml)
        if handle is None:
            return None
        name = str(pynvml.nvmlDeviceGetName(handle))
        memory_bytes = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        power_limit_w = _power_limit_w(pynvml, handle)
        return Machine(
            key=gpu_key(name=name, memory_bytes=memory_bytes, power_limit_w=power_limit_w),
            device="cuda",
            name=name,
            memory_bytes=memory_bytes,
            power_limit_w=power_limit_w,
            driver=str(pynvml.nvmlSystemGetDriverVersion()),
        )
    finally:
        pynvml.nvmlShutdown()


def compute_capability() -> tuple[int, int] | None:
    """CUDA's compute capability of torch's first GPU, as major and minor; None where there is none or NVML does not tell."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver on this machine: a fact, not a fault
        return None
    try:
        handle = visible_handle(pynvml)
        if handle is None:
            return None
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return int(major), int(minor)
    except pynvml.NVMLError_NotSupported:
        return None
    finally:
        pynvml.nvmlShutdown()


def visible_handle(pynvml: Any) -> Any:
    """NVML's handle of torch's device 0, None where CUDA_VISIBLE_DEVICES, which NVML does not read, hides them all.

    A number counts in NVML's order, which is CUDA's where CUDA_DEVICE_ORDER=PCI_BUS_ID or the GPUs are alike.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(first)
    if not first.isdecimal() or int(first) >= pynvml.nvmlDeviceGetCount():
        return None
    return pynvml.nvmlDeviceGetHandleByIndex(int(first))


def _power_limit_w(pynvml: Any, handle: Any) -> int | None:
    try:
        return round(int(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000)
    except pynvml.NVMLError_NotSupported:
        return None


def _cpu() -> Machine:
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    name = model.group(1).strip() if model else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return Machine(
        key=f"cpu-{slug(name)}-{cores}c",
        device="cpu",
        name=name,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
