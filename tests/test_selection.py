"""Which pipelines and tests a command asks for, and what collecting them costs."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.pipelines import pipelines
from tests.suite import Suite, red

ROOT = Path(__file__).parents[1]

WITHOUT_COMPILE = """
import dataclasses

from fixtures.pipelines import pipelines

pipelines()["sd15"] = dataclasses.replace(pipelines()["sd15"], lacks={"compile": "it cannot be traced"})
"""


@pytest.fixture
def suite(pytester):
    return Suite(pytester)


def measured(suite):
    """The pipelines of which something was kept."""
    return {path.name.split("__")[0] for path in (suite.path / "results").glob("*.json")}


def test_sdxl_is_measured_unless_others_are_named(suite):
    """Without `--pipeline` the ladder of SDXL is what is measured."""
    suite.run("--stage=fp32", "-k", "recipe and not full")

    assert measured(suite) == {"sdxl-tiny"}


def test_all_takes_every_pipeline(suite):
    """`--pipeline all` measures each one, and every test of each is green."""
    result = suite.run("--pipeline=all", "--stage=fp32")

    assert red(result) == []
    assert measured(suite) == {f"{name}-tiny" for name in pipelines()}


def test_what_a_pipeline_lacks_is_skipped_with_what_builds_on_it(suite):
    """A stage that does not apply is not built, nor are those above it, and the reason is shown."""
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(WITHOUT_COMPILE)

    result = suite.run("--pipeline=sd15")

    assert red(result) == []
    assert suite.builds() == ["fp32", "bf16", "sdpa"]
    result.stdout.fnmatch_lines(["SKIPPED*sd15-tiny has no compile stage: it cannot be traced*"])


def test_skip_latency_judges_what_is_made_and_measures_nothing(suite):
    """Structure, compilation and parity are judged; no round is taken and no test that reads one is run."""
    result = suite.run("--stage=sdpa", "--skip-latency")

    assert red(result) == []
    assert suite.result("sdpa")["run"]["processes"] == []
    assert suite.result("sdpa")["run"]["parity"]["ssim"] > 0
    result.assert_outcomes(passed=3, skipped=1, deselected=7)


def test_skip_latency_does_not_take_the_baseline_for_lost(suite):
    """What was left out on purpose is not missed, even where a baseline holds it."""
    suite.record("--stage=fp32")
    (obtained,) = (suite.path / "baselines").glob("*/obtained.json")
    obtained.rename(obtained.with_name("0001_recorded.json"))

    assert red(suite.run("--skip-latency")) == []


def test_collecting_everything_builds_nothing(suite):
    """`--collect-only` starts no worker."""
    suite.run("--pipeline=all", "--collect-only")

    assert not (suite.path / "builds.log").exists()


def test_everything_is_collected_within_two_seconds():
    """Every case of every pipeline is listed at once: processor seconds, best of three, so that a busy machine does not count."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "bench",
        "--pipeline=all",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    took_s = []
    while len(took_s) < 3 and min(took_s, default=2.0) >= 2.0:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(took_s) < 2.0
    assert all(f"test_latency[{name}" in said for name in pipelines())
