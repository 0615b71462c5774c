"""The wheelhouse: what is in it, what is refused, and an installation from it beside a torch that is there."""

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
import zipfile

import pytest

from speedgate import wheelhouse
from speedgate.wheelhouse import main, there
from tests.stub_index import Index

HAVE = ("numpy", "scipy", "scikit-image", "transformers", "tokenizers", "huggingface-hub", "pillow")
TORCH = "2.11.0+cu130"
PYTHON = f"3.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def had():
    """What the machine has: a torch for CUDA that is older than our pin, and some of what is large."""
    return {"torch": TORCH} | {name: importlib.metadata.version(name) for name in HAVE}


@pytest.fixture(scope="module")
def house(had, tmp_path_factory):
    """A real wheelhouse for this Python."""
    folder = tmp_path_factory.mktemp("house") / "wheelhouse"
    packages = [f"{name}=={version}" for name, version in had.items()]
    command = [
        sys.executable,
        "-m",
        "speedgate.wheelhouse",
        str(folder),
        f"--python-version={PYTHON}",
        "--have",
        *packages,
    ]
    environment = {**os.environ, "PYTHONPATH": str(wheelhouse.ROOT / "src"), "PIP_RETRIES": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"pip cannot reach an index here: {done.stderr[-300:]}")
    return folder


def test_the_wheelhouse_is_small_and_without_torch(house):
    """It has our wheel and what we need, no torch, no CUDA, nothing that is there already, and 60 MB at most."""
    names = {path.name.partition("-")[0].lower() for path in house.iterdir()}

    assert {"speedgate", "diffusers", "torchao", "pytest_benchmark", "execnet", "nvidia_ml_py", "accelerate"} <= names
    assert not [
        name for name in names if re.match(r"(torch|triton|nvidia_(?!ml_py)\w+|numpy|scipy|transformers)$", name)
    ]
    assert not list(house.glob("*+there*"))
    assert sum(path.stat().st_size for path in house.iterdir()) <= wheelhouse.MOST_MB * 1e6


def test_the_documented_line_installs_beside_the_torch_that_is_there(house, had, tmp_path):
    """Without an index pip installs speedgate, and torch stays the one that was there."""
    venv.create(tmp_path / "machine", with_pip=True)
    python = tmp_path / "machine" / "bin" / "python"
    index = Index(tmp_path / "there")
    wheels = [index.add(name.replace("-", "_"), version) for name, version in had.items()]
    install = [python, "-m", "pip", "install", "--quiet", "--no-index"]
    subprocess.run([*install, "--no-deps", *wheels], check=True)

    subprocess.run([*install, "--find-links", house, "speedgate"], check=True)

    said = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True)
    assert f"torch=={TORCH}" in said.stdout.splitlines()
    subprocess.run([python, "-m", "speedgate.cli", "--help"], capture_output=True, cwd=tmp_path, check=True)


@pytest.mark.parametrize("said", ["torch", "torch>=2.11", "torch==2.11.0,<3", "torch @ file:///x", "==2", "torch==new"])
def test_what_is_there_has_a_version(said, capsys, tmp_path):
    """Anything but NAME==VERSION is one line that says what is expected, and nothing is written."""
    assert main([str(tmp_path / "house"), "--have", said]) == 2
    assert capsys.readouterr().err.startswith(f"speedgate: --have {said}: expected NAME==VERSION")
    assert not (tmp_path / "house").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path, capsys):
    """What lies there would be installed too."""
    (tmp_path / "old-1-py3-none-any.whl").touch()

    assert main([str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_pins_give_way_to_what_is_there():
    """What is there is held to its stand-in, local version or not; the pins of everything else stay."""
    lines = wheelhouse.constraining("# pins\ntorch==2.13.0\ntorchao==0.18.0\n", there(["Torch==2.11.0+cu130", "x==1"]))

    assert lines == ["torchao==0.18.0", "torch===2.11.0+there", "x===1+there"]


def test_too_much_is_refused_by_name(tmp_path):
    """The error names the largest and the way out."""
    (tmp_path / "scipy-1-cp312-cp312-any.whl").write_bytes(b"0" * 2000)

    with pytest.raises(ValueError, match=r"0\.0 MB of wheels, of which scipy 0\.0 MB, .* say with --have"):
        wheelhouse.check_size([tmp_path / "scipy-1-cp312-cp312-any.whl"], most_bytes=1000)


def test_what_that_python_needs_besides_is_missed(tmp_path):
    """A requirement that applies on the machine's Python alone does not get lost, and one that is there is no loss."""
    marked = 'backport; python_version >= "3.99"'
    wheel = Index(tmp_path).add("package", "1", requires=[marked, "numpy", 'tests; extra == "test"'])

    wheelhouse.check_complete([wheel], have=there(["numpy==2"]), python="3.98")
    with pytest.raises(ValueError, match=r"for Python 3\.99: package needs backport"):
        wheelhouse.check_complete([wheel], have=there(["numpy==2"]), python="3.99")


def test_a_stand_in_is_a_wheel_that_needs_nothing(tmp_path):
    """pip takes it for the package and looks no further."""
    (package,) = there(["torch==2.12.0+cu130"])
    path = wheelhouse.stand_in(tmp_path, package)

    assert path.name == "torch-2.12.0+there-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        assert b"Requires-Dist" not in wheel.read("torch-2.12.0+there.dist-info/METADATA")


def test_a_conflict_is_told_by_its_versions(tmp_path):
    """Which package needs what stands in the one line, and not only that something conflicts."""
    index = Index(tmp_path)
    index.add("needed", "1")
    index.add("needed", "2")
    index.add("one", "1", requires=["needed==1"])
    index.add("other", "1", requires=["needed==2"])
    arguments = ["--no-index", *(f"--find-links={folder}" for folder in sorted(tmp_path.iterdir()))]

    with pytest.raises(
        ValueError, match=r"Cannot install .*: one 1 depends on needed==1; other 1 depends on needed==2$"
    ):
        wheelhouse._pip("download", "--dest", str(tmp_path / "got"), *arguments, "one", "other")
