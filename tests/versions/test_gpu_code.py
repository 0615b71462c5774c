"""`speedgate bump --gpu-code` and `bisect --metric gpu-code`: the generated code of two versions decides, in one look."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from speedgate.gpu_code.compare import judge_work
from speedgate.results.case_key import CaseKey
from speedgate.results.gpu_code import GeneratedCode, GpuCode
from speedgate.results.json_io import to_json, write_json
from speedgate.results.run import Outcome
from speedgate.versions import suite_run
from speedgate.versions.suite_run import BisectOutcome
from tests.support.artifacts import result
from tests.support.desk import Desk, FakeRuns, stocked
from tests.support.gpu_codes import CASE, make_code, make_kernel, make_module

FUSED = make_module(kernels=(make_kernel("a"), make_kernel("bb")))
SPLIT = make_module(kernels=(make_kernel("a"), make_kernel("ccc"), make_kernel("dddd")), moved_bytes=5_000_000)
# The code of each version; the stable arm generates the fused one.
CODES = {
    "1.0": make_code(FUSED), "1.1": make_code(FUSED), "1.2": make_code(unknown="a stub does not fit", modules=()),
    "1.6": make_code(FUSED), "1.7": make_code(SPLIT), "1.8": make_code(SPLIT),
}  # fmt: skip


class CodeRuns(FakeRuns):
    """Stands for a suite that generates the code of each version; `arguments` are those of its last run."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: Sequence[str] = ()

    def run_suite(
        self, python: Path, *, against: str, results: Path, arguments: Sequence[str], log: Path | None = None
    ) -> int:
        """Write the result file that the tests of generated code leave."""
        version = python.parents[1].name
        self.versions.append(version)
        self.arguments = arguments
        document = make_document(CODES.get(version, make_code(FUSED)))
        write_json(results / CaseKey.parse(CASE).file_name, document)
        return int(document["verdicts"][0]["outcome"] == Outcome.MORE_WORK)


def page_of(desk: Desk) -> str:
    """Return the page of the bump, with references turned into characters."""
    return html.unescape((desk.path / "code" / "summary.md").read_text())


def make_document(code: GpuCode, other: GpuCode | None = None) -> dict[str, object]:
    """Make the result file of a case whose code was compared with that of the stable arm."""
    other = other or make_code(FUSED)
    verdict, lines = judge_work(code, other, label="the stable arm")
    generated = to_json(GeneratedCode(this=code, other=other))
    return result(CASE, run=None, verdicts=[to_json(verdict)], explanation=lines, gpu_code={"a100": generated})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return stocked(tmp_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> CodeRuns:
    """Neither pip nor the suite is run."""
    runs = CodeRuns()
    runs.replace(monkeypatch)
    return runs


def test_a_bump_that_loses_a_fusion_is_red(desk: Desk, runs: CodeRuns) -> None:
    """Nothing is measured; the page has the bytes of the code, the sentence in numbers, and the kernels that differ."""
    status, lines, _ = desk.run("bump", "stubkernel==1.8", "--gpu-code=a100", "--results=code", pytest_arguments=())

    page = page_of(desk)
    assert (status, lines[-1], list(runs.arguments)) == (1, "red (MORE_WORK)", ["--gpu-code=a100"])
    assert "| case | target | graphs | kernels / launches | moved | other arm | products | spilled | verdict |" in page
    assert "| 1 | 3 / 6 | 20 MB | +25.00% | <code>bfloat16 100</code> | 0 B | MORE_WORK |" in page
    assert "bytes moved 4 MB -> 5 MB (+25.00%)" in page
    assert "kernels vanished" not in page
    assert "kernels changed: triton_poi_fused_silu_3 ccc (20.0% of the bytes)" in page


def test_a_bump_with_equal_code_is_green(desk: Desk, runs: CodeRuns) -> None:
    """Equal code is green, and the sentence says that it is equal."""
    status, lines, _ = desk.run("bump", "stubkernel==1.0", "--gpu-code=a100", "--results=code", pytest_arguments=())

    assert (status, lines[-1]) == (0, "green (PASS)")
    assert "equal to the digit: denoiser 4 MB" in page_of(desk)


def test_a_bump_of_unknown_code_is_not_judged(desk: Desk, runs: CodeRuns) -> None:
    """If a version generates no code, a bump is neither green nor red, and a bisect steps over it."""
    status, _, err = desk.run("bump", "stubkernel==1.2", "--gpu-code=a100", "--results=code", pytest_arguments=())
    trial = suite_run.judge_metric("gpu-code", [make_document(CODES["1.2"])])

    assert (status, json.loads((desk.path / "code" / "verdict.json").read_text())["judged"]) == (2, False)
    assert "not judged" in err
    assert trial.outcome is BisectOutcome.SKIP and "this arm is unknown: a stub does not fit" in trial.reason


def test_a_bisect_by_generated_code_takes_one_look_a_version(desk: Desk, runs: CodeRuns) -> None:
    """A version with more work is bad, for the figure that its line names; one without code is skipped; each is run once."""
    status, lines, err = desk.run(
        "bisect", "stubkernel", "--good=1.0", "--bad=1.8", "--metric=gpu-code", pytest_arguments=()
    )

    assert (status, err) == (0, "")
    assert "the first bad stubkernel is 1.7; the last good one is 1.6" in lines
    reason = f"  1.7: MORE_WORK {CASE} gpu work on a100: denoiser: bytes moved 4 MB -> 5 MB (+25.00%)"
    assert any(line.startswith(reason) for line in lines)
    assert not any(" ratio of " in line for line in lines)
    assert len(runs.versions) == len(set(runs.versions))
    assert list(runs.arguments) == ["--gpu-code=a100", "-k", "test_gpu_code or test_gpu_work"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("bump stubkernel==1.8 --gpu-code=b200", "--gpu-code: 'b200' is no GPU that code can be generated for; "),
        (
            "bisect stubkernel --good=1.0 --bad=1.8 --gpu-code=a100",
            "--gpu-code a100: only with --metric gpu-code; the metric is latency",
        ),
    ],
)
def test_a_wrong_target_is_one_line(desk: Desk, runs: CodeRuns, command: str, message: str) -> None:
    """An unknown GPU, and a GPU for a metric that needs none, are refused before anything is built."""
    status, _, err = desk.run(*command.split(), pytest_arguments=())

    assert (status, runs.overlays, err.count("\n")) == (2, [], 1)
    assert err.startswith(f"speedgate: {message}")
