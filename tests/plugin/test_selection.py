"""Which pipelines and tests a command asks for, and what collecting them costs."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.cases import Case
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import lineage
from speedgate.results.case_key import RESULT_FILES
from tests.support.suite import Suite, red

ROOT = Path(__file__).parents[2]

WITHOUT_INT8 = """
import dataclasses

from fixtures.cases import Case
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import lineage

pipelines()["sd15"] = dataclasses.replace(pipelines()["sd15"], unsupported={"int8": "it has no linear"})
"""


@pytest.fixture
def suite(pytester):
    return Suite(pytester)


def results(suite):
    """What was kept of each case, in the order of the names."""
    return sorted((suite.path / "results").glob(RESULT_FILES))


def measured(suite):
    """The pipelines of which something was kept."""
    return {path.name.split("__")[0] for path in results(suite)}


def test_sdxl_is_measured_unless_others_are_named(suite):
    """Without `--pipeline` the ladder of SDXL is what is measured."""
    suite.run("--stage=fp32", "-k", "recipe and not full")

    assert measured(suite) == {"sdxl-tiny"}


def test_all_takes_every_pipeline(suite):
    """`--pipeline all` measures each one, and every test of each is green."""
    result = suite.run("--pipeline=all", "--stage=fp32")

    assert red(result) == []
    assert measured(suite) == {f"{name}-tiny" for name in pipelines()}


def test_what_a_pipeline_lacks_is_skipped(suite):
    """A stage that does not apply is not built, and the reason is shown."""
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(WITHOUT_INT8)

    result = suite.run("--pipeline=sd15", "-k", "not full")

    assert red(result) == []
    assert suite.builds() == ["fp32", "bf16", "sdpa", "compile", "fused_qkv"]
    result.stdout.fnmatch_lines(["SKIPPED*sd15-tiny has no int8 stage: it has no linear*"])


def test_what_a_pipeline_lacks_is_left_out_of_what_builds_on_it(monkeypatch):
    """The stages above are built without it, expected without its facts, and compared with the one below it."""
    lacking = dataclasses.replace(pipelines()["sd15"], unsupported={"fused_qkv": "it has no Q, K and V"})
    monkeypatch.setitem(pipelines(), "sd15", lacking)

    case = Case(pipeline="sd15", size="tiny", stage="int8")

    assert [stage.name for stage in lineage("int8", without=lacking.unsupported)] == [
        "fp32",
        "bf16",
        "sdpa",
        "compile",
        "int8",
    ]
    assert case.parent.stage == "compile"
    assert case.expected_structure()["unet.fused_attention"] == 0


def test_the_throughput_suite_measures_batches_and_judges_no_picture(suite):
    """Eager and compiled fp16 at the published workloads; whose picture is judged at the ladder's workload, as is said."""
    result = suite.run("--suite=throughput", "--pipeline=sd15", "-k", "not full")

    assert red(result) == []
    batches = [workload.key for workload in pipelines()["sd15"].sizes["tiny"].throughput]
    assert [path.stem.split("__")[1:] for path in results(suite)] == [
        [stage, key] for stage in ("compile_reduce_overhead", "fp16") for key in batches
    ]
    result.stdout.fnmatch_lines(["SKIPPED*the image of fp16 is judged at the ladder's workload: --stage fp16*"])


def test_a_pipeline_without_published_figures_is_skipped_beside_one_that_has_some(suite):
    """A combination that does not exist is no silent pass."""
    result = suite.run("--suite=throughput", "--pipeline=sd15,pixart-alpha", "--collect-only", "-q")

    assert result.ret == 0
    assert "pixart-alpha-tiny-fp32" in result.stdout.str()
    assert "ssd-1b" not in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite=throughput", "--pipeline=pixart-alpha"], "pixart-alpha has no throughput case: none was published"),
        (["--suite=ladder", "--stage=fp16"], "--suite ladder --stage fp16: nothing is left to measure"),
        (
            ["--suite=variants", "--stage=int8", "--pipeline=sd15"],
            "--suite variants --pipeline sd15 --stage int8: nothing",
        ),
    ],
)
def test_nothing_left_is_no_pass(suite, arguments, said):
    """A choice that leaves nothing ends as where no test is collected, with what there is to choose from."""
    result = suite.run(*arguments)

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    everything = result.stdout.str() + result.stderr.str()
    assert said in everything
    assert "--suite throughput has: " in everything
    assert everything.count("nothing is left to measure") == 1
    assert "Exit" not in everything
    assert not (suite.path / "builds.log").exists()


def test_skip_latency_judges_what_is_made_and_measures_nothing(suite):
    """Structure, compilation and parity are judged; no round is taken and no test that reads one is run."""
    result = suite.run("--stage=sdpa", "--skip-latency")

    assert red(result) == []
    assert suite.result("sdpa")["run"]["processes"] == []
    assert suite.result("sdpa")["run"]["parity"]["ssim"] > 0
    result.assert_outcomes(passed=3, skipped=3, deselected=9)


def test_skip_latency_does_not_take_the_baseline_for_lost(suite):
    """What was left out on purpose is not missed, even where a baseline holds it."""
    suite.record("--stage=fp32")
    (obtained,) = (suite.path / "baselines").glob("*/obtained.json")
    obtained.rename(obtained.with_name("0001_recorded.json"))

    assert red(suite.run("--skip-latency")) == []


def test_collecting_everything_builds_nothing(suite):
    """`--collect-only` starts no worker."""
    suite.run("--suite=all", "--pipeline=all", "--collect-only")

    assert not (suite.path / "builds.log").exists()


def test_every_pipeline_is_collected():
    """One command lists every case of every pipeline and suite."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "bench",
        "--suite=all",
        "--pipeline=all",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    listed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    assert all(f"test_latency[{name}" in listed for name in pipelines())
