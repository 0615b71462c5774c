"""Describe the machine that a figure belongs to: its key and the versions that ran. Never creates a CUDA context."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from speedgate.measure.host_limits import cpu_conditions, cpu_quota, usable_cores
from speedgate.measure.nvml import NO_GPU, first_gpu

DEVICES = ("auto", "cuda", "cpu")
_PACKAGES = ("torch", "triton", "diffusers", "torchao", "transformers", "accelerate", "numpy")
_GPU_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Identify a machine; `key` names its folder of baselines and is made from the other fields.

    The key is finer than a GPU's name: it has memory and power limit, because two hosts that both reported "A100 80 GB" were
    16-19 % apart in the published data.
    """

    key: str
    device: str
    name: str
    memory_bytes: int
    power_limit_w: int | None = None
    driver: str | None = None


def resolve_machine(choice: str) -> Machine:
    """Return the machine for `--device`: `auto` is the first CUDA GPU or, without one, the CPU.

    Raises `ValueError` if `choice` is `cuda` and NVML reports no GPU.
    """
    gpu = _first_gpu_machine() if choice in ("auto", "cuda") else None
    if gpu is not None:
        return gpu
    if choice == "cuda":
        raise ValueError(NO_GPU)
    return _cpu_machine()


def gpu_key(*, name: str, memory_bytes: int, power_limit_w: int | None) -> str:
    """Join a GPU's name, memory and power limit to a folder name, such as `nvidia-a100-sxm4-80gb-400w`."""
    words = [slug(name)]
    if not re.search(r"\d+gb", words[0]):
        words.append(f"{round(memory_bytes / 2**30)}gb")
    if power_limit_w is not None:
        words.append(f"{power_limit_w}w")
    return "-".join(words)


def check_gpu_key(gpu_key: str) -> str:
    """Return the key if it is safe as the name of a folder or file; raise `ValueError` if it could lead out of its folder."""
    if not _GPU_KEY.fullmatch(gpu_key):
        raise ValueError(f"GPU key {gpu_key!r}: expected letters, digits, '.', '_', '+' and '-'")
    return gpu_key


def slug(text: str) -> str:
    """Reduce a name to lower-case words of letters and digits, joined by hyphens."""
    bare = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", " ", text.lower())
    return "-".join(re.findall(r"[a-z0-9]+", bare))


def installed_version(package: str) -> str | None:
    """Return the version of a package in this environment; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions() -> dict[str, Any]:
    """Return the versions of Python and of the packages that affect a figure, None for a missing one. Imports none of them."""
    return {"python": platform.python_version()} | {package: installed_version(package) for package in _PACKAGES}


def runtime_versions() -> dict[str, Any]:
    """Return `installed_versions` of the worker's interpreter, its limits on the CPU, and torch's facts if that is installed."""
    versions = {**installed_versions(), **cpu_conditions()}
    if versions["torch"] is not None:
        import torch

        versions["torch_git"] = torch.version.git_version
        versions["cuda"] = torch.version.cuda
        cudnn: Any = torch.backends.cudnn
        versions["cudnn"] = cudnn.version()
        versions["threads"] = torch.get_num_threads()
        versions["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    return versions


def _first_gpu_machine() -> Machine | None:
    with first_gpu() as gpu:
        if gpu is None:
            return None
        return Machine(
            key=gpu_key(name=gpu.name, memory_bytes=gpu.memory_bytes, power_limit_w=gpu.power_limit_w),
            device="cuda",
            name=gpu.name,
            memory_bytes=gpu.memory_bytes,
            power_limit_w=gpu.power_limit_w,
            driver=gpu.driver(),
        )


def _cpu_machine() -> Machine:
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    name = model.group(1).strip() if model else platform.machine()
    cores, quota = usable_cores(), cpu_quota()
    limit = f"-{quota:g}cpus" if quota is not None and quota < cores else ""
    return Machine(
        key=f"cpu-{slug(name)}-{cores}c{limit}",
        device="cpu",
        name=name,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
