"""`--shard I/N` in a session: the cases that are measured, the references that they need, and the manifest."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fixtures import coverage_table
from speedgate.cli import main
from speedgate.results.case_key import RESULT_FILES, CaseKey
from tests.support.suite import Folder, Suite, red

STAGES = ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """The ladder of SDXL in two shards, one after the other: the suite, and the result of each session."""
    suite = Suite(Folder(tmp_path_factory.mktemp("halves")))
    first, second = (suite.run(f"--shard={number}/2", f"--results=half{number}") for number in (1, 2))
    return suite, [first, second]


def manifest(suite, folder):
    return json.loads((suite.path / folder / "manifest.json").read_text())


def judged(suite, folder):
    """Return the stages that have a verdict."""
    documents = [json.loads(path.read_text()) for path in sorted((suite.path / folder).glob(RESULT_FILES))]
    return {CaseKey.parse(document["run"]["case_key"]).stage for document in documents if document["verdicts"]}


def test_each_case_is_judged_by_one_shard(halves):
    """Together the shards judge the whole ladder, and no stage twice."""
    suite, results = halves

    assert [red(result) for result in results] == [[], []]
    assert judged(suite, "half1") | judged(suite, "half2") == set(STAGES)
    assert judged(suite, "half1") & judged(suite, "half2") == set()


def test_a_shard_builds_the_references_of_its_cases(halves):
    """The shard without fp32 and bf16 judges parity too: it builds them as references, without a verdict on them."""
    suite, _ = halves
    (folder,) = [name for name in ("half1", "half2") if "int8" in judged(suite, name)]

    claims = {v["claim"] for v in json.loads(next((suite.path / folder).glob("*int8*")).read_text())["verdicts"]}
    reference = json.loads(next((suite.path / folder).glob("*__fp32__*")).read_text())

    assert "parity" in claims
    assert reference["verdicts"] == []


def test_the_manifest_has_the_selection_and_the_exit_status(halves):
    """Both manifests have the whole selection and the machine; each has its own part and exit status."""
    suite, _ = halves

    first, second = manifest(suite, "half1"), manifest(suite, "half2")

    assert first["selection"] == second["selection"] == [f"sdxl-tiny/{stage}/64px-4steps-b1" for stage in STAGES]
    assert sorted(first["part"] + second["part"]) == sorted(first["selection"])
    assert [first["exit_status"], second["exit_status"]] == [0, 0]
    assert first["gpu_key"] == suite.machine.key


def test_the_number_of_cases_of_a_shard_is_shown(halves):
    """The collection ends with a line that has the number of this shard's cases and of all."""
    _, results = halves

    for number, result in enumerate(results, start=1):
        result.stdout.fnmatch_lines([f"speedgate: shard {number}/2, * of 6 cases"])


def test_the_shards_merge_into_one_verdict(halves, capsys):
    """The merged folder is like that of one session: its table has speed-ups across shards, and other readers accept it."""
    suite, _ = halves
    merged = suite.path / "merged"

    status = main(["merge", *(str(suite.path / f"half{number}") for number in (1, 2)), "--output", str(merged)])

    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert status == 0
    assert [CaseKey.parse(row[0]).stage for row in table if row and row[0].startswith("sdxl-tiny/")] == STAGES
    assert "2.80x" in next(row for row in table if "/int8/" in row[0])  # 0.7 s and 0.25 s, from two sessions
    assert len(coverage_table.read(merged)) == len(STAGES)


def test_a_shard_that_was_killed_is_a_gap(pytester, capsys):
    """The manifest is written before the first case, and without an exit status as long as the session has not ended."""
    suite = Suite(pytester)
    suite.misbehave(bf16={"hang": "first_image"})
    command = [sys.executable, "-m", "pytest", *suite.arguments("--shard=1/1", "--stage=fp32,bf16", "--skip-latency")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0) as process:
        deadline_s = time.monotonic() + 60
        while suite.results() != ["fp32"]:
            assert time.monotonic() < deadline_s, "the first case was not judged"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)

    status = main(["merge", str(suite.path / "results"), "--output", str(suite.path / "merged")])

    assert status == 2
    gap = "gap: shard 1/1 (*) did not end; sdxl-tiny/bf16/64px-4steps-b1 has no result; run it again into a new folder"
    pytest.LineMatcher(capsys.readouterr().err.splitlines()).fnmatch_lines([f"*{gap}"])


def test_more_shards_than_cases_are_refused(pytester):
    """A shard without a case is a usage error, before anything is built."""
    suite = Suite(pytester)

    result = suite.run("--shard=1/9")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--shard 1/9: the selection has 6 cases: choose N of at most 6"])
    assert not (suite.path / "builds.log").exists()


def test_a_folder_of_other_results_is_refused(pytester):
    """The results of an earlier session would be merged as if they were the shard's."""
    suite = Suite(pytester)
    suite.run("--stage=fp32", "-k", "test_recipe and not full")

    result = suite.run("--shard=1/2")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--results *results: contains results already*name a new folder"])


def test_a_case_of_another_shard_is_not_missing(pytester):
    """A shard does not report cases of the baseline that other shards measure."""
    suite = Suite(pytester)
    suite.record()
    (obtained,) = (suite.path / "baselines").glob("*/obtained.json")
    obtained.rename(obtained.with_name("0001_recorded.json"))

    result = suite.run("--shard=1/2", "--results=half", "-k", "test_coverage or test_recipe and not full")

    assert red(result) == []


def test_a_shard_resolves_only_the_weights_of_its_pipelines(pytester):
    """Weights of other shards are not resolved: this machine may not reach their hub."""
    suite = Suite(pytester)
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(
            "import fixtures.plugin\n\n\ndef resolve(choice, pipe):\n    print('resolves', pipe.name)\n"
            "    return fixtures.weights.load.resolve(choice, pipe)\n\n\nfixtures.plugin.resolve = resolve\n"
        )

    result = suite.run("--shard=1/2", "--pipeline=sdxl,sd15", "--stage=fp32", "-k", "test_recipe and not full", "-s")

    assert [line for line in result.outlines if line.startswith("resolves ")] == ["resolves sd15"]
