"""The machine that a figure belongs to: its key, and what is said where there is no GPU."""

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
    """What every NVML call may raise."""


class NotSupportedError(NVMLError):
    """What a query raises that the GPU does not answer."""


NO_ANSWER = ("NotSupported", "NoPermission", "FunctionNotFound", "ArgumentVersionMismatch", "Deprecated")


def fake_nvml(*gpus, driver=True):
    """`pynvml` on a machine with these GPUs: (name, power limit in milliwatts, or None where it is not supported)."""

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
    """Put a fake `pynvml` in place, with every GPU visible."""
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
    """The memory is added where the name does not hold it, the power limit where the driver tells it."""
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
    """Trademarks and the nominal frequency are no part of a key."""
    assert slug(text) == expected


@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_the_first_gpu_is_the_machine(install, choice):
    """Both choices take the first GPU, with the facts that its key was made from, and let go of NVML."""
    fake = install(("NVIDIA H200", 700_000), ("NVIDIA T4", 70_000))

    machine = resolve_machine(choice)

    assert (machine.key, machine.device, machine.name) == ("nvidia-h200-140gb-700w", "cuda", "NVIDIA H200")
    assert (machine.memory_bytes, machine.power_limit_w, machine.driver) == (H200_BYTES, 700, "580.65.06")
    assert fake.open == 0


def test_a_gpu_without_a_power_limit_has_a_key(install):
    """A virtual GPU that does not tell its limit is named without it."""
    install(("NVIDIA H200", None))

    machine = resolve_machine("auto")

    assert (machine.key, machine.power_limit_w) == ("nvidia-h200-140gb", None)


@pytest.mark.parametrize(
    ("visible", "key"),
    [("1", "nvidia-t4-140gb-70w"), ("1,0", "nvidia-t4-140gb-70w"), ("0", "nvidia-h200-140gb-700w")],
)
def test_the_key_is_of_the_gpu_that_torch_would_take(install, monkeypatch, visible, key):
    """CUDA_VISIBLE_DEVICES counts, though NVML does not read it."""
    install(("NVIDIA H200", 700_000), ("NVIDIA T4", 70_000))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert resolve_machine("auto").key == key


@pytest.mark.parametrize("visible", ["", "-1", "7"])
def test_a_hidden_gpu_is_not_the_machine(install, monkeypatch, visible):
    """Where CUDA_VISIBLE_DEVICES leaves torch no GPU, the machine is its CPU."""
    install(("NVIDIA H200", 700_000))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert resolve_machine("auto").device == "cpu"


@pytest.mark.parametrize("options", [{"driver": False}, {}], ids=["no driver", "no GPU"])
def test_without_a_gpu_auto_is_the_cpu_and_cuda_an_error(install, options):
    """The message names the ways out, and NVML is not left open."""
    fake = install(**options)

    with pytest.raises(ValueError, match=r"^--device cuda: .* use --device cpu or --device auto$"):
        resolve_machine("cuda")

    assert resolve_machine("auto").device == "cpu"
    assert fake.open == 0


def test_the_cpu_can_be_chosen_where_there_is_a_gpu(install):
    """`--device cpu` does not even ask NVML."""
    install(("NVIDIA H200", 700_000))

    assert resolve_machine("cpu").device == "cpu"


def test_a_cpu_key_is_stable_and_names_a_folder(tmp_path):
    """The same machine has the same key each time, and baselines accept it."""
    machine = resolve_machine("cpu")

    assert machine == resolve_machine("cpu")
    assert store.newest_baselines(tmp_path, machine.key) == {}
    assert re.fullmatch(r"cpu-[a-z0-9]+(-[a-z0-9]+)*-[0-9]+c", machine.key)


def test_versions_are_those_of_what_ran(monkeypatch):
    """Every package that may change a figure is named, with torch's build facts."""
    torch = SimpleNamespace(
        version=SimpleNamespace(git_version="abc", cuda="13.0"),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91300)),
        get_num_threads=lambda: 8,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(importlib.metadata, "version", lambda package: f"{package} 1.0")
    packages = ("torch", "triton", "diffusers", "torchao", "transformers", "accelerate", "numpy")

    found = runtime_versions()

    assert found.pop("python").startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert [found.pop(package) for package in packages] == [f"{package} 1.0" for package in packages]
    assert found == {"torch_git": "abc", "cuda": "13.0", "cudnn": 91300, "threads": 8}


def test_versions_without_torch_say_none(monkeypatch):
    """A package that is not there is None, and torch's build facts are left out."""

    def absent(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", absent)

    found = runtime_versions()

    assert found["torch"] is None
    assert "cuda" not in found


def test_a_gpu_named_by_its_uuid_is_that_gpu(install, monkeypatch):
    """CUDA_VISIBLE_DEVICES may hold a UUID; the key is that GPU's, not the first one's."""
    install(("NVIDIA L4", 72_000), ("NVIDIA H200", 700_000))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-0")

    assert resolve_machine("cuda").name == "NVIDIA H200"
