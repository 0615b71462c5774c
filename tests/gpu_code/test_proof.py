"""The comparison of generated code with and without a GPU: what differs is named, and no GPU is no proof."""

import subprocess

import msgspec
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fixtures.cases import Case
from fixtures.gpu_code import generate, proof
from fixtures.gpu_code.proof import differences
from speedgate.gpu_code.lowering import Lowering, Observing, StubDoesNotFit, _NoModule, with_enough_rows
from speedgate.gpu_code.targets import TARGETS
from speedgate.results.json_io import read_json, to_json, write_json
from tests.gpu_code import toy
from tests.support.gpu_codes import make_code, make_kernel, make_module

KERNEL = make_kernel("d1", name="triton_0", launches=3)


def record(kernel=KERNEL, **fields):
    """Make a record of one module with one kernel."""
    return make_code(make_module(**{"kernels": (kernel,), "moved_bytes": 100, **fields}))


def test_equal_records_have_no_difference():
    """Two records whose processes took different times are equal."""
    assert list(differences(record(), msgspec.structs.replace(record(), processor_s=5.0))) == []


@pytest.mark.parametrize(
    ("real", "lines"),
    [
        (record(moved_bytes=101), ["denoiser.moved_bytes: stubs 100, cuda 101"]),
        (
            record(msgspec.structs.replace(KERNEL, registers=41)),
            ["denoiser.kernel d1 (triton_0): stubs (3, 40, 0, 0), cuda (3, 41, 0, 0)"],
        ),
        (
            record(msgspec.structs.replace(KERNEL, digest="d2")),
            [
                "denoiser.kernel d1 (triton_0): stubs (3, 40, 0, 0), cuda None",
                "denoiser.kernel d2 (triton_0): stubs None, cuda (3, 40, 0, 0)",
            ],
        ),
        (msgspec.structs.replace(record(), modules=(), unknown="out of memory"), ["cuda: unknown, out of memory"]),
    ],
    ids=["bytes", "registers", "source", "unknown"],
)
def test_each_difference_is_named(real, lines):
    """A count, a kernel's machine code or its source that differs is a line, and so is a side that is unknown."""
    assert list(differences(record(), real)) == lines


def test_without_the_gpu_of_a_target_nothing_is_compared(monkeypatch, capsys):
    """The command ends in one line that names the GPUs, before anything is generated."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(proof, "generate", None)

    with pytest.raises(SystemExit):
        proof.main([])

    assert "NVIDIA H100 80GB HBM3, NVIDIA GeForce RTX 4090; found no GPU that torch can use" in capsys.readouterr().err


@pytest.mark.parametrize(("red", "status"), [(False, 0), (True, 1)])
def test_the_command_compares_each_stage_with_and_without_the_gpu(monkeypatch, capsys, tmp_path, red, status):
    """Each compiled stage of the ladder is generated twice, and the exit status says whether all records are equal."""
    generated = []

    def generate(case, target, *, device, into):
        generated.append((case.stage, target, device))
        return record(moved_bytes=101 if red and device == "cuda" and case.stage == "int8" else 100)

    monkeypatch.setattr(proof, "this_target", lambda: "a100")
    monkeypatch.setattr(proof, "generate", generate)

    with pytest.raises(SystemExit) as ended:
        proof.main(["--into", str(tmp_path)])

    assert ended.value.code == status
    stages = ("compile", "fused_qkv", "int8")
    assert sorted(generated) == sorted((stage, "a100", device) for stage in stages for device in ("stubs", "cuda"))
    printed = capsys.readouterr().out
    assert printed.count("equal to the digit") == len(stages) - red
    assert (
        "int8/1024px-30steps-b1 on a100: 1 facts differ\n  denoiser.moved_bytes: stubs 100, cuda 101" in printed
    ) is red


def test_a_process_that_dies_leaves_the_other_stages_compared(monkeypatch, capsys, tmp_path):
    """A stage without a record is a difference of its own, and the next stage is compared as ever."""

    def generate(case, target, *, device, into):
        if case.stage == "compile":
            raise subprocess.CalledProcessError(-11, ["python"])
        return record()

    monkeypatch.setattr(proof, "this_target", lambda: "a100")
    monkeypatch.setattr(proof, "generate", generate)

    with pytest.raises(SystemExit, match="1"):
        proof.main(["--into", str(tmp_path), "--stage", "compile", "int8"])

    printed = capsys.readouterr().out
    assert "compile/1024px-30steps-b1 on a100: 1 facts differ\n  no record: Command '['python']' died with" in printed
    assert "int8/1024px-30steps-b1 on a100: equal to the digit" in printed


@pytest.mark.parametrize("device", ["none", "cuda"])
def test_each_side_compiles_its_own_kernels(monkeypatch, tmp_path, device):
    """Machine code that one side has stored is not read by the other side, which would compare it with itself."""
    folders = []
    monkeypatch.setattr(generate.gc, "set_threshold", lambda *_: None)
    monkeypatch.setenv("SYMPY_CACHE_SIZE", generate.REMEMBERED_EXPRESSIONS)
    monkeypatch.setattr(
        generate, "gpu_code", lambda *, cubins, is_real, **_: folders.append((is_real, cubins)) or record()
    )

    generate.main(["--device", device, "--into", str(tmp_path / "record.json")])

    folder = generate.MACHINE_CODE_OF_A_GPU if device == "cuda" else generate.MACHINE_CODE
    assert folders == [(device == "cuda", folder)]
    assert generate.MACHINE_CODE_OF_A_GPU != generate.MACHINE_CODE


def test_a_stage_of_which_nothing_is_known_ends_with_the_reason(monkeypatch, tmp_path):
    """The command fails with the reason as its last words, and the record that it writes has it too."""
    monkeypatch.setattr(generate.gc, "set_threshold", lambda *_: None)
    monkeypatch.setenv("SYMPY_CACHE_SIZE", generate.REMEMBERED_EXPRESSIONS)
    monkeypatch.setattr(generate, "gpu_code", lambda **_: make_code(unknown="a CPU build"))

    with pytest.raises(SystemExit, match=r"^a CPU build$"):
        generate.main(["--into", str(tmp_path / "record.json")])

    assert read_json(tmp_path / "record.json")["unknown"] == "a CPU build"


@pytest.mark.parametrize("written", [make_code(unknown="a CPU build"), make_code(), None])
def test_a_process_that_fails_is_a_reason_and_never_an_earlier_record(monkeypatch, tmp_path, written):
    """A failed process counts as its record if that says why, else it is an error; an earlier file is not read."""
    into = tmp_path / "record.json"
    write_json(into, to_json(make_code()))

    def run(command, **_):
        if written is not None:
            write_json(into, to_json(written))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(proof.subprocess, "run", run)
    case = Case(pipeline="sdxl", size="tiny", stage="compile")

    if written is not None and written.unknown:
        assert proof.generate(case, "a100", device="cuda", into=into) == written
    else:
        with pytest.raises(subprocess.CalledProcessError):
            proof.generate(case, "a100", device="cuda", into=into)


@pytest.mark.parametrize(("rows", "multiplied"), [(2, 17), (16, 17), (17, 17), (40, 40)])
@pytest.mark.parametrize("has_out", [False, True])
def test_an_int8_product_of_few_rows_is_computed(rows, multiplied, has_out):
    """cuBLAS refuses up to 16 rows, as a time embedding has, and without timing torch passes these products to it."""
    seen = []

    def int_mm(left, right, **keywords):
        seen.append(len(left))
        return torch._int_mm(left, right, **keywords)

    left, right = (torch.randint(-128, 128, shape, dtype=torch.int8) for shape in ((rows, 32), (32, 8)))
    out = {"out": torch.empty(rows, 8, dtype=torch.int32)} if has_out else {}

    product = with_enough_rows(int_mm)(left, right, **out)

    assert torch.equal(product, torch._int_mm(left, right))
    assert product.is_contiguous() and product is out.get("out", product)
    with FakeTensorMode():
        with_enough_rows(int_mm)(torch.empty(rows, 32, dtype=torch.int8), torch.empty(32, 8, dtype=torch.int8))
    assert seen == [multiplied, rows]  # a graph that is traced has its own number of rows


needs_cuda_build = pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch")


@pytest.mark.slow
@needs_cuda_build
def test_a_real_compilation_needs_the_targets_gpu():
    """Without that GPU nothing is known, in one line that names it."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")

    with pytest.raises(StubDoesNotFit, match="needs the GPU of the target, NVIDIA A100-SXM4-80GB; here is no GPU"):
        Observing(TARGETS["a100"])


@pytest.mark.slow
@needs_cuda_build
def test_the_code_that_is_taken_is_the_code_that_would_be_loaded(monkeypatch):
    """Taking the code before it is loaded, as on a GPU, gives the record of the stubs: torch loads what was recorded."""
    loaded = []

    class Rehearsal(Lowering):
        """Loads the code as on a GPU, but for the step that needs a GPU."""

        def _take(self, graph):
            self._compile_to_module = lambda graph: loaded.append(graph.codegen()) or _NoModule()
            self.is_fake = False
            try:
                return super()._take(graph)
            finally:
                self.is_fake = True

    stubbed = toy.generate()
    monkeypatch.setattr("speedgate.gpu_code.lowering.Lowering", Rehearsal)

    assert list(differences(stubbed, toy.generate())) == []
    assert len(loaded) == 1
