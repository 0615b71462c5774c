"""`--gpu-code` selects its tests alone, and each of them turns red by the code that was generated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bench import test_gpu_code as claims_of_bench
from fixtures.cases import Case
from fixtures.gpu_code import pytest_fixtures
from fixtures.gpu_code.pytest_fixtures import Generated, GeneratedCase
from speedgate.gate.policy import Mode, Policy
from speedgate.gpu_code.claims import Promise, counts_of
from speedgate.gpu_code.jobs import Arm, Job
from speedgate.plugin import after
from speedgate.plugin.judgement import Gate
from speedgate.report import markdown, terminal
from speedgate.results.folder import read_folder
from speedgate.results.gpu_code import GpuCode
from speedgate.results.run import Outcome
from tests.support.gpu_codes import CASE, make_code, make_module
from tests.support.sessions import make_session

COMPILE = GeneratedCase(Case(pipeline="sdxl", size="tiny", stage="compile"), "a100")
PROMISE = Promise(graphs=1, whole_modules=True, cuda_graphs=True, attentions=16)
TESTS = [test for name, test in vars(claims_of_bench).items() if name.startswith("test_")]


class FakeGenerator:
    """Stands for the processes: returns the record of each arm."""

    def __init__(self, records: dict[str, GpuCode]) -> None:
        self.records = records

    def record(self, arm: Arm, job: Job) -> GpuCode:
        """Return the record of the arm, which is named by its interpreter."""
        assert job.case_key == CASE
        return self.records[arm.python]


def arm(name: str) -> Arm:
    """Make an arm that is called by the name of its interpreter."""
    return Arm(python=name, paths=(), versions={"torch": "2.14.1+cu130"})


def judge(
    folder: Path,
    code: GpuCode,
    *,
    other: GpuCode | None = None,
    mode: Mode = Mode.AUTO,
    stored: dict[str, Any] | None = None,
) -> tuple[dict[str, str], Gate]:
    """Call each test of `bench/test_gpu_code.py`; return "passed", "skipped" or "failed" by its name, and the gate."""
    inputs = {"other_arm": "the other arm (torch 2.12.1)"} if other else {}
    gate = Gate(make_session(folder, policy=Policy(mode=mode), **inputs))
    records = {"this": code, **({"other": other} if other else {})}
    generated = Generated(
        COMPILE, FakeGenerator(records), arm("this"), arm("other") if other else None, "the other arm (torch 2.12.1)", gate,
    )  # fmt: skip
    outcomes = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Generated, "promise", PROMISE)
        patch.setattr("fixtures.gpu_code.counts.expected_counts", lambda case, target, version: stored)
        for test in TESTS:
            if other is None and test.__name__ == "test_gpu_work":
                continue
            outcomes[test.__name__] = "passed"
            try:
                test(generated, gate)
            except (pytest.skip.Exception, pytest.fail.Exception) as end:
                outcomes[test.__name__] = "failed" if isinstance(end, pytest.fail.Exception) else "skipped"
    return outcomes, gate


def lines_of(gate: Gate) -> list[str]:
    """Return the lines of the terminal section."""
    view = after.terminal_view(gate.session)
    return [*terminal.section(view), *terminal.remarks(view)]


def test_code_that_keeps_its_promises_is_green_and_shown(tmp_path: Path) -> None:
    """With stored counts every claim passes under enforce; the terminal and the summary show the table of the code."""
    outcomes, gate = judge(tmp_path, make_code(), mode=Mode.ENFORCE, stored=counts_of(make_code()))

    assert [name for name, outcome in outcomes.items() if outcome == "failed"] == []
    assert lines_of(gate)[:4] == [
        "case                              target  graphs  kernels / launches  moved  products      spilled  verdict",
        "sdxl-tiny/compile/32px-4steps-b1  a100    1       2 / 4               16 MB  bfloat16 100  0 B      PASS",
        "",
        "Every verdict is PASS.",
    ]
    page = markdown.render(read_folder(gate.session.options.results))
    assert "| <code>a100</code> | 1 | 2 / 4 | 16 MB | <code>bfloat16 100</code> | 0 B | PASS |" in page
    assert "| latency |" not in page


@pytest.mark.parametrize(("mode", "expected"), [(Mode.AUTO, "passed"), (Mode.ENFORCE, "failed")])
def test_a_version_without_stored_counts_is_one_line(tmp_path: Path, mode: Mode, expected: str) -> None:
    """Counts that are not stored are NO_BASELINE: one line of the terminal, red under enforce alone."""
    outcomes, gate = judge(tmp_path, make_code(), mode=mode)

    lines = [line for line in lines_of(gate) if "no counts are stored" in line]
    assert outcomes["test_gpu_counts"] == expected
    assert lines == [
        "gpu counts on a100, 1 case: no counts are stored for torch 2.14.1+cu130: --regen-expected writes them"
    ]
    assert not any("--gate record" in line for line in lines_of(gate))


@pytest.mark.parametrize(("mode", "expected"), [(Mode.AUTO, "passed"), (Mode.ENFORCE, "failed")])
def test_unknown_code_is_one_verdict(tmp_path: Path, mode: Mode, expected: str) -> None:
    """Unknown code is judged once, red under enforce, and no other claim is judged."""
    outcomes, gate = judge(tmp_path, make_code(unknown="a stub does not fit", modules=()), mode=mode)

    assert outcomes.pop("test_gpu_code") == expected
    assert set(outcomes.values()) == {"skipped"}
    assert [(v.outcome, v.sentence) for v in gate.session.outcome.verdicts[CASE]] == [
        (Outcome.UNKNOWN, "a stub does not fit")
    ]


def test_another_arm_is_compared_and_counts_are_not(tmp_path: Path) -> None:
    """In a live comparison more work is red with the kernels that differ below it, and stored counts are not used."""
    worse = make_code(make_module(moved_bytes=5_000_000, kernels=()))

    outcomes, gate = judge(tmp_path, worse, other=make_code())

    assert (outcomes["test_gpu_work"], outcomes["test_gpu_counts"]) == ("failed", "skipped")
    lines = lines_of(gate)
    work = next(number for number, line in enumerate(lines) if line.startswith("MORE_WORK"))
    assert "gpu work on a100: denoiser: bytes moved 4 MB -> 5 MB (+25.00%); against the other arm" in lines[work]
    assert lines[work + 1].startswith(
        "  a100 denoiser: kernels vanished: triton_poi_fused_silu_1 a (25.0% of the bytes)"
    )
    assert "20 MB  +25.00%    bfloat16 100" in lines[1]


def test_equal_code_says_so(tmp_path: Path) -> None:
    """The sentence of a comparison is shown though it passed."""
    _, gate = judge(tmp_path, make_code(), other=make_code())

    assert any("equal to the digit: denoiser 4 MB and 120 launches a call" in line for line in lines_of(gate))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), set()),
        (("--gpu-code=a100",), {"compile-a100", "fused_qkv-a100", "int8-a100"}),
        (("--gpu-code=a100,h100", "--stage=compile,fp32"), {"compile-a100", "compile-h100"}),
    ],
)
def test_the_option_selects_its_tests_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], expected: set[str]
) -> None:
    """Without the option no test of generated code is left, with it no other: those of the stages that compile, per target."""
    config = configure(pytester, monkeypatch, *options)

    selected = {chosen.id.removeprefix("sdxl-tiny-") for chosen in pytest_fixtures.selected_codes(config)}
    items = [Item("generated"), Item("case")]
    config.pluginmanager.unregister(name="terminalreporter")  # it belongs to a session
    config.hook.pytest_collection_modifyitems(session=None, config=config, items=items)

    assert selected == expected
    assert [item.fixturenames for item in items] == [["generated"] if options else ["case"]]


@dataclasses.dataclass
class Item:
    """A collected test that takes one fixture."""

    name: str

    @property
    def fixturenames(self) -> list[str]:
        return [self.name]

    def get_closest_marker(self, name: str) -> None:
        """Return no mark."""


def configure(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *options: str) -> pytest.Config:
    """Configure pytest with the plugins of the suite, on a CPU."""
    from fixtures import plugin as suite_plugin
    from speedgate.plugin import hooks

    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.plugins += [hooks, suite_plugin]
    return pytester.parseconfigure("-p", "benchmark", "-p", "no:cacheprovider", "--device=cpu", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu-code=b200"], "--gpu-code: 'b200' is no GPU that code can be generated for; there are: a100, h100"),
        (["--gpu-code=a100", "--gate=record"], "--gpu-code: cannot be used with --gate record, because --gpu-code measures"),
        (["--gpu-code=a100", "--quick"], "--gpu-code: cannot be used with --quick"),
        (["--gpu-code=a100", "--history"], "--gpu-code: cannot be used with --history"),
        (["--gpu-code=a100", "--stage=fp32"], "--gpu-code: no code can be generated: no selected stage compiles"),
        (["--gpu-code=a100", "--stage=fp8"], "--gpu-code: no code can be generated: fp8: float8 matrix multiplication needs"),
        (["--gpu-code=a100", "--gpu-code-processes=0"], "--gpu-code-processes 0: expected a whole number, 1 or more"),
        (["--gpu-code-processes=2"], "--gpu-code-processes: only with --gpu-code TARGET"),
    ],
)  # fmt: skip
def test_what_contradicts_the_option_is_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    """An unknown GPU, and an option that needs a measurement, are refused before anything is generated."""
    with pytest.raises(pytest.UsageError) as error:
        configure(pytester, monkeypatch, *options)

    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_build_for_cpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch without CUDA ends in one line that says which build is needed."""
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)

    with pytest.raises(pytest.UsageError, match="needs torch built for CUDA"):
        pytest_fixtures.check_build()


def test_a_stage_that_the_target_lacks_is_skipped() -> None:
    """float8 is skipped for an A100, and not for an H100."""
    fp8 = Case(pipeline="sdxl", size="tiny", stage="fp8")
    parameters = {target: pytest_fixtures._parameter(GeneratedCase(fp8, target)) for target in ("a100", "h100")}
    marks = {target: [mark.name for mark in parameter.marks] for target, parameter in parameters.items()}

    assert marks == {"a100": ["skip"], "h100": ["shard"]}
