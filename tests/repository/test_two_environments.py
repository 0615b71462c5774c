"""The real thing: the tiny pipeline on a CPU, live, against another environment that holds another diffusers."""

import json
import os
import subprocess
import sys

import pytest

from speedgate.results.case_key import RESULT_FILES
from tests.support.suite import ROOT, environment, red

pytestmark = pytest.mark.slow
PIN = ROOT / ".github" / "pins" / "against.txt"
PAIRS = ("--rounds=4", "--processes=1", "--max-processes=1")  # one alone: a worker takes 4 s to start
INSTALL = ("-m", "pip", "install", "--no-deps", "--quiet", "--retries=1", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """An interpreter with this environment's packages, but for those that are pinned for it."""
    prefix = tmp_path_factory.mktemp("environments") / "other"
    python = environment(prefix)
    (packages,) = prefix.glob("lib/python*/site-packages")
    command = [sys.executable, *INSTALL, f"--target={packages}", f"--requirement={PIN}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = f"pip cannot install {PIN.name} here: {' '.join(done.stderr.split())[-300:]}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return python


@pytest.fixture(scope="module")
def compared(other, tmp_path_factory):
    """What `pytest bench --against` said, and what it left on disk of its one case."""
    results = tmp_path_factory.mktemp("results")
    claims = "latency or same or recipe and not full_recipe"
    options = ("--stage=fp32", f"--against={other}", *PAIRS, f"--results={results}", "-k", claims)
    pytest_bench = [*("-m", "pytest", "bench"), "--device=cpu", "--allow-busy", "-ra", "-p", "no:cacheprovider"]
    command = [sys.executable, *pytest_bench, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    outcome = pytest.RunResult(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), 0.0)
    (path,) = results.glob(RESULT_FILES)
    return outcome, json.loads(path.read_text())


def test_both_versions_build_the_same_thing(compared):
    """Structure and picture are the same in both, and nothing is red."""
    outcome, document = compared

    assert (outcome.ret, red(outcome)) == (pytest.ExitCode.OK, [])
    outcomes = {verdict["claim"]: verdict["outcome"] for verdict in document["verdicts"]}
    assert [outcomes[claim] for claim in ("same structure", "same picture", "recipe")] == ["PASS"] * 3


def test_each_arm_runs_its_own_version(compared):
    """Either arm's workers say what they ran on: the pinned diffusers there, this environment's here, torch the same."""
    _, document = compared
    here, there = document["run"]["environment"], document["against"]["other"]["environment"]

    assert f"diffusers=={there['diffusers']}" in PIN.read_text()
    assert here["diffusers"] != there["diffusers"]
    assert {name for name in here if here[name] != there[name]} == {"diffusers"}


def test_the_verdict_names_the_versions(compared):
    """The sentence says against what, and the report shows both side by side."""
    outcome, document = compared
    here, there = (side["environment"]["diffusers"] for side in (document["run"], document["against"]["other"]))

    assert document["against"]["label"] == f"the other arm (diffusers {there})"
    outcome.stdout.re_match_lines(
        [rf"UNDECIDED sdxl-tiny/fp32/.* s of the other arm \(diffusers {there}\): .* 1 pair,.*"]
    )
    outcome.stdout.re_match_lines([rf"diffusers +{here} +{there}"])
