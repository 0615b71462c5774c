"""The machine of a figure: its key, the choice of the GPU, and the recorded versions."""

import functools
import importlib.metadata
import re
import sys
from types import SimpleNamespace

import pynvml
import pytest

from speedgate.baselines import store
from speedgate.measure import host_limits, machine
from speedgate.measure import nvml as nvml_module
from speedgate.measure.machine import gpu_key, resolve_machine, runtime_versions, slug
from speedgate.measure.nvml import GpuError
from speedgate.results.run import CPU_CONDITIONS
from tests.support.fake_nvml import FakeNvml, answers

A100_BYTES = 81920 * 2**20
H200_BYTES = 143771 * 2**20
POWER_LIMIT = "nvmlDeviceGetEnforcedPowerLimit"


@pytest.fixture
def nvml(monkeypatch):
    """Install a fake `pynvml` of two H200s, with `changed` answers; every GPU is visible."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    h200 = {"nvmlDeviceGetName": ["NVIDIA H200"], "nvmlDeviceGetMemoryInfo": [{"total": H200_BYTES}]}

    def install(**changed):
        fake = FakeNvml(answers("idle_h200") | h200 | changed)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install


@pytest.mark.parametrize(
    ("name", "memory_bytes", "power_limit_w", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", A100_BYTES, 400, "nvidia-a100-sxm4-80gb-400w"),
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
@pytest.mark.parametrize(
    ("power_limit", "key", "power_limit_w"),
    [(700_000, "nvidia-h200-140gb-700w", 700), ("NVML_ERROR_NOT_SUPPORTED", "nvidia-h200-140gb", None)],
)
def test_the_first_gpu_is_the_machine(nvml, choice, power_limit, key, power_limit_w):
    """Both choices take the first GPU with the facts in its key, a power limit if it has one, and shut NVML down."""
    fake = nvml(**{POWER_LIMIT: [power_limit]})

    machine = resolve_machine(choice)

    assert (machine.key, machine.device, machine.name) == (key, "cuda", "NVIDIA H200")
    assert (machine.memory_bytes, machine.power_limit_w, machine.driver) == (H200_BYTES, power_limit_w, "580.65.06")
    assert fake.open == 0


NO_MEMORY_INFO = {"nvmlDeviceGetMemoryInfo": ["NVML_ERROR_NO_PERMISSION"]}  # NVIDIA/nvidia-container-toolkit#842


@pytest.mark.parametrize("choice", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({POWER_LIMIT: ["NVML_ERROR_GPU_IS_LOST"]}, "restart the machine"),
        (NO_MEMORY_INFO, "give the container the whole GPU"),
        ({"nvmlDeviceGetName": ["NVML_ERROR_NOT_SUPPORTED"]}, "no GPU key"),
        ({"nvmlDeviceGetName": ["NVML_ERROR_UNKNOWN"]}, "`nvidia-smi`"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_no_cpu(nvml, choice, changed, remedy):
    """A GPU without permission, without its facts or lost is one line that says what to do, and never the CPU."""
    fake = nvml(**changed)

    with pytest.raises(GpuError, match=rf"^there is a GPU here .*{remedy}.* use --device cpu$"):
        resolve_machine(choice)
    assert fake.open == 0


def fail_to_start(fake, error):
    """Make NVML fail to start with this error."""

    def fails():
        raise pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{error}"))

    fake.nvmlInit = fails


@pytest.mark.parametrize(
    ("error", "files", "is_there"),
    [
        ("LIB_RM_VERSION_MISMATCH", {}, True),
        ("NO_PERMISSION", {}, True),
        ("LIBRARY_NOT_FOUND", {}, False),
        ("LIBRARY_NOT_FOUND", {"dev/nvidia0": ""}, True),
        ("LIBRARY_NOT_FOUND", {"vendor": "0x10de\n", "class": "0x030200\n"}, False),
        ("DRIVER_NOT_LOADED", {}, False),
        ("DRIVER_NOT_LOADED", {"vendor": "0x10de\n", "class": "0x030200\n"}, True),
        ("DRIVER_NOT_LOADED", {"vendor": "0x8086\n", "class": "0x030000\n"}, False),
        ("DRIVER_NOT_LOADED", {"vendor": "0x10de\n", "class": "0x040300\n"}, False),
    ],
)
def test_auto_takes_the_cpu_only_where_there_is_no_gpu(nvml, monkeypatch, tmp_path, error, files, is_there):
    """If NVML does not start, a device node, or a PCI device beside an installed driver, tells that a GPU is there."""
    for name, text in files.items():
        path = tmp_path / (name if "/" in name else f"sys/bus/pci/devices/0000:01:00.0/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    has_gpu = functools.partial(nvml_module._has_gpu, dev=tmp_path / "dev", sys=tmp_path / "sys")
    monkeypatch.setattr(nvml_module, "_has_gpu", has_gpu)
    fail_to_start(nvml(), error)

    if is_there:
        with pytest.raises(GpuError, match="there is a GPU here that cannot be used"):
            resolve_machine("auto")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # says that the CPU is wanted
    assert resolve_machine("auto").device == "cpu"


def test_texts_of_an_older_nvml_are_decoded(nvml):
    """A name that comes as bytes gives the same key, without a leading `b`."""
    fake = nvml(nvmlDeviceGetName=[b"NVIDIA H200"], nvmlSystemGetDriverVersion=[b"580.65.06"])

    machine = resolve_machine("auto")

    assert (machine.key, machine.name, machine.driver) == ("nvidia-h200-140gb-700w", "NVIDIA H200", "580.65.06")
    assert fake.open == 0


def test_a_divided_gpu_is_its_first_instance(nvml, monkeypatch):
    """With MIG the machine is the instance that torch would take; without an instance it is refused."""
    fake = nvml(nvmlDeviceGetMigMode=[[1, 1]])

    resolve_machine("auto")

    assert "gpu0 instance 1" in fake.handles
    monkeypatch.setattr(fake, "nvmlDeviceGetMaxMigDeviceCount", lambda handle: 0, raising=False)
    with pytest.raises(GpuError, match=r"is divided \(MIG\) and has no instance"):
        resolve_machine("auto")


@pytest.mark.parametrize(("visible", "handle"), [("1,0", "gpu1"), ("GPU-5,GPU-0", "gpu of GPU-5")])
def test_the_key_is_of_the_gpu_that_torch_would_take(nvml, monkeypatch, visible, handle):
    """CUDA_VISIBLE_DEVICES selects the GPU by its number or UUID, although NVML ignores it."""
    fake = nvml()
    fake.nvmlDeviceGetHandleByUUID = lambda uuid: f"gpu of {uuid}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert resolve_machine("auto").device == "cuda"
    assert fake.handles == {handle}


@pytest.mark.parametrize("hidden_by", ["no driver", "no device", "", "-1", "7"])
def test_without_a_gpu_auto_is_the_cpu_and_cuda_an_error(nvml, monkeypatch, hidden_by):
    """Without a driver, a GPU or a visible one the message names the options to use, and NVML is not left open."""
    fake = nvml()
    if hidden_by == "no driver":
        fail_to_start(fake, "DRIVER_NOT_LOADED")
    elif hidden_by == "no device":
        fake.nvmlDeviceGetCount = lambda: 0
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden_by)

    with pytest.raises(ValueError, match=r"^--device cuda: .* use --device cpu or --device auto$"):
        resolve_machine("cuda")

    assert resolve_machine("auto").device == "cpu"
    assert fake.open == 0


def test_a_cpu_key_is_stable_and_names_a_folder(nvml, tmp_path):
    """`--device cpu` gives the CPU even beside a GPU; the key is the same each time, and baselines accept it."""
    nvml()

    machine = resolve_machine("cpu")

    assert machine == resolve_machine("cpu")
    assert store.newest_baselines(tmp_path, machine.key) == {}
    assert re.fullmatch(r"cpu-[a-z0-9]+(-[a-z0-9]+)*-[0-9]+c", machine.key)


def test_runtime_versions_name_every_relevant_package(monkeypatch):
    """Every package that may change a figure has its version, None if it is missing, and torch its build facts."""
    torch = SimpleNamespace(
        version=SimpleNamespace(git_version="abc", cuda="13.0"),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91300)),
        get_num_threads=lambda: 8,
    )
    torch.backends.cpu = SimpleNamespace(get_cpu_capability=lambda: "AVX512")
    limits = host_limits.cpu_conditions()
    installed = {"torch", "diffusers", "torchao", "transformers", "accelerate", "numpy"}

    def version(package):
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return f"{package} 1.0"

    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(importlib.metadata, "version", version)

    versions = runtime_versions()
    assert versions.pop("python").startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    facts = {"triton": None, "torch_git": "abc", "cuda": "13.0", "cudnn": 91300, "threads": 8}
    facts |= {"cpu_capability": "AVX512", **limits}
    assert versions == facts | {package: f"{package} 1.0" for package in installed}
    assert set(CPU_CONDITIONS) <= set(versions)

    installed.clear()
    versions = {name for name, value in runtime_versions().items() if value is not None}
    assert versions - set(limits) == {"python"}


@pytest.mark.parametrize(("quota", "suffix"), [(None, "4c"), (1.5, "4c-1.5cpus"), (4.0, "4c"), (16.0, "4c")])
def test_a_quota_below_the_cores_is_part_of_a_cpu_key(monkeypatch, quota, suffix):
    """Two containers with another share of the same processor do not share a folder of baselines."""
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)

    assert resolve_machine("cpu").key.endswith(f"-{suffix}")
