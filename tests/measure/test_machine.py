"""The machine of a figure: its key, the choice of the GPU, and the recorded versions."""

import importlib.metadata
import re
import sys
from types import SimpleNamespace

import pytest

from speedgate.baselines import store
from speedgate.measure.machine import gpu_key, resolve_machine, runtime_versions, slug

A100_BYTES = 81920 * 2**20
H200_BYTES = 143771 * 2**20


class NVMLError(Exception):
    """The base class of NVML's errors."""


class NotSupportedError(NVMLError):
    """The error of a query that the GPU does not support."""


NO_ANSWER = ("NotSupported", "NoPermission", "FunctionNotFound", "ArgumentVersionMismatch", "Deprecated")


def fake_nvml(*gpus, driver=True):
    """Fake `pynvml` for GPUs of (name, power limit in milliwatts); None means that the limit is not supported."""

    def init():
        if not driver:
            raise NVMLError("Driver Not Loaded")
        fake.open += 1

    def shutdown():
        fake.open -= 1

    def power_limit(handle):
        if handle[1] is None:
            raise NotSupportedError("Not Supported")
        return handle[1]

    fake = SimpleNamespace(
        NVMLError=NVMLError,
        **{f"NVMLError_{reason}": NotSupportedError for reason in NO_ANSWER},
        nvmlInit=init,
        nvmlShutdown=shutdown,
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: gpus[index],
        nvmlDeviceGetHandleByUUID=lambda uuid: {f"GPU-{index}": gpu for index, gpu in enumerate(gpus)}[uuid],
        nvmlDeviceGetName=lambda handle: handle[0],
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(total=H200_BYTES),
        nvmlDeviceGetEnforcedPowerLimit=power_limit,
        nvmlSystemGetDriverVersion=lambda: "580.65.06",
        open=0,
    )
    return fake


@pytest.fixture
def install(monkeypatch):
    """Install a fake `pynvml`, with every GPU visible."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def put(*gpus, **options):
        fake = fake_nvml(*gpus, **options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return put


@pytest.mark.parametrize(
    ("name", "memory_bytes", "power_limit_w", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", A100_BYTES, 400, "nvidia-a100-sxm4-80gb-400w"),
        ("NVIDIA A100-SXM4-80GB", A100_BYTES, 275, "nvidia-a100-sxm4-80gb-275w"),
        ("NVIDIA H100 80GB HBM3", A100_BYTES, 700, "nvidia-h100-80gb-hbm3-700w"),
        ("NVIDIA H200", H200_BYTES, 700, "nvidia-h200-140gb-700w"),
        ("NVIDIA H200", H200_BYTES, None, "nvidia-h200-140gb"),
        ("Tesla T4", 15360 * 2**20, 70, "tesla-t4-15gb-70w"),
        ("../../etc", 2**30, 1, "etc-1gb-1w"),
    ],
)
def test_a_gpu_key_names_sku_memory_and_power_limit(name, memory_bytes, power_limit_w, key):
    """The key has the memory if the name lacks it, and the power limit if the driver reports it."""
    assert gpu_key(name=name, memory_bytes=memory_bytes, power_limit_w=power_limit_w) == key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon"),
        ("AMD EPYC 7763 64-Core Processor", "amd-epyc-7763-64-core-processor"),
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", "intel-core-i7-8700k"),
    ],
)
def test_a_processor_is_named_without_marks_and_clock(text, expected):
    """Trademarks and the nominal frequency are not part of a key."""
    assert slug(text) == expected


@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_the_first_gpu_is_the_machine(install, choice):
    """Both choices take the first GPU, with the facts in its key, and shut NVML down."""
    fake = install(("NVIDIA H200", 700_000), ("NVIDIA T4", 70_000))

    machine = resolve_machine(choice)

    assert (machine.key, machine.device, machine.name) == ("nvidia-h200-140gb-700w", "cuda", "NVIDIA H200")
    assert (machine.memory_bytes, machine.power_limit_w, machine.driver) == (H200_BYTES, 700, "580.65.06")
    assert fake.open == 0


def test_a_gpu_without_a_power_limit_has_a_key(install):
    """The key of a virtual GPU that does not report a limit lacks the limit."""
    install(("NVIDIA H200", None))

    machine = resolve_machine("auto")

    assert (machine.key, machine.power_limit_w) == ("nvidia-h200-140gb", None)


@pytest.mark.parametrize(
    ("visible", "key"),
    [("1", "nvidia-t4-140gb-70w"), ("1,0", "nvidia-t4-140gb-70w"), ("0", "nvidia-h200-140gb-700w")],
)
def test_the_key_is_of_the_gpu_that_torch_would_take(install, monkeypatch, visible, key):
    """CUDA_VISIBLE_DEVICES selects the GPU, although NVML ignores it."""
    install(("NVIDIA H200", 700_000), ("NVIDIA T4", 70_000))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert resolve_machine("auto").key == key


@pytest.mark.parametrize("visible", ["", "-1", "7"])
def test_a_hidden_gpu_is_not_the_machine(install, monkeypatch, visible):
    """If CUDA_VISIBLE_DEVICES hides every GPU, the machine is its CPU."""
    install(("NVIDIA H200", 700_000))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert resolve_machine("auto").device == "cpu"


@pytest.mark.parametrize("options", [{"driver": False}, {}], ids=["no driver", "no GPU"])
def test_without_a_gpu_auto_is_the_cpu_and_cuda_an_error(install, options):
    """The message names the options to use, and NVML is not left open."""
    fake = install(**options)

    with pytest.raises(ValueError, match=r"^--device cuda: .* use --device cpu or --device auto$"):
        resolve_machine("cuda")

    assert resolve_machine("auto").device == "cpu"
    assert fake.open == 0


def test_the_cpu_can_be_chosen_where_there_is_a_gpu(install):
    """`--device cpu` gives the CPU, even on a machine with a GPU."""
    install(("NVIDIA H200", 700_000))

    assert resolve_machine("cpu").device == "cpu"


def test_a_cpu_key_is_stable_and_names_a_folder(tmp_path):
    """The key is the same each time, and baselines accept it."""
    machine = resolve_machine("cpu")

    assert machine == resolve_machine("cpu")
    assert store.newest_baselines(tmp_path, machine.key) == {}
    assert re.fullmatch(r"cpu-[a-z0-9]+(-[a-z0-9]+)*-[0-9]+c", machine.key)


def test_runtime_versions_name_every_relevant_package(monkeypatch):
    """Every package that may change a figure has its version, and torch its build facts."""
    torch = SimpleNamespace(
        version=SimpleNamespace(git_version="abc", cuda="13.0"),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91300)),
        get_num_threads=lambda: 8,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(importlib.metadata, "version", lambda package: f"{package} 1.0")
    packages = ("torch", "triton", "diffusers", "torchao", "transformers", "accelerate", "numpy")

    versions = runtime_versions()

    assert versions.pop("python").startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert [versions.pop(package) for package in packages] == [f"{package} 1.0" for package in packages]
    assert versions == {"torch_git": "abc", "cuda": "13.0", "cudnn": 91300, "threads": 8}


def test_versions_of_missing_packages_are_none(monkeypatch):
    """A package that is not installed is None, and without torch its build facts are left out."""

    def absent(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", absent)

    versions = runtime_versions()

    assert versions["torch"] is None
    assert "cuda" not in versions


def test_a_gpu_named_by_its_uuid_is_that_gpu(install, monkeypatch):
    """CUDA_VISIBLE_DEVICES may name a UUID; the key is that of this GPU, not of the first one."""
    install(("NVIDIA L4", 72_000), ("NVIDIA H200", 700_000))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-0")

    assert resolve_machine("cuda").name == "NVIDIA H200"
