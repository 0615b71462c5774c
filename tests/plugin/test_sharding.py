"""`--shard I/N`: the cases that a shard measures, the references that it builds, and its manifest."""

from __future__ import annotations

import json

import pytest

from fixtures import pipelines_page
from fixtures.plugin import built_pipelines, coverage_of_shard
from speedgate.cli import main
from speedgate.plugin import sharding
from speedgate.results.case_key import CaseKey

LADDER = ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]
KEYS = [f"sdxl-tiny/{stage}/32px-4steps-b1" for stage in LADDER]


@pytest.fixture
def halves(bench):
    """The ladder of SDXL in two shards, one after the other."""
    return [bench.run(f"--shard={number}/2") for number in (1, 2)]


def stages_with_verdicts(result):
    """Return the stages that a session has judged."""
    return {CaseKey.parse(key).stage for key, verdicts in result.session.outcome.verdicts.items() if verdicts}


def read_manifest(result):
    """Return the manifest of a session."""
    return json.loads((result.session.options.results / "manifest.json").read_text())


def test_each_case_is_judged_by_one_shard(halves):
    """The shards judge the ladder together and no stage twice; one builds fp32 as a reference only, without a verdict."""
    first, second = map(stages_with_verdicts, halves)
    (upper,) = [result for result in halves if "int8" in stages_with_verdicts(result)]

    assert [result.red for result in halves] == [[], []]
    assert (first | second, first & second) == (set(LADDER), set())
    assert upper.claims["test_parity[sdxl-tiny-int8]"] == "passed"
    assert upper.document("fp32")["verdicts"] == []


def test_the_manifest_has_the_selection_and_the_exit_status(halves):
    """Both manifests have the whole selection, each its own part and exit status, and the terminal the number of cases."""
    first, second = map(read_manifest, halves)
    lines = [sharding.pytest_report_collectionfinish(result.config)[0] for result in halves]

    assert first["selection"] == second["selection"] == KEYS
    assert sorted(first["part"] + second["part"]) == sorted(KEYS)
    assert [first["exit_status"], second["exit_status"]] == [0, 0]
    assert first["gpu_key"] == halves[0].session.machine.key
    pytest.LineMatcher(lines).fnmatch_lines([f"speedgate: shard {number}/2, * of 6 cases" for number in (1, 2)])


def test_the_shards_merge_into_one_verdict(halves, tmp_path, capsys):
    """The merged folder is like that of one session: its table has speed-ups across shards, and other readers accept it."""
    folders = [str(result.session.options.results) for result in halves]

    status = main(["merge", *folders, "--output", str(tmp_path / "merged")])

    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert status == 0
    assert [CaseKey.parse(row[0]).stage for row in table if row and row[0].startswith("sdxl-tiny/")] == LADDER
    assert "2.80x" in next(row for row in table if "/int8/" in row[0])  # 0.7 s and 0.25 s, from two sessions
    assert len(pipelines_page.read(tmp_path / "merged")) == len(LADDER)


def test_a_shard_that_was_killed_is_a_gap(bench, tmp_path, capsys):
    """The manifest is written before the first case, and without an exit status as long as the session has not ended."""
    loads = []

    def kill(operation):
        loads.append(operation)
        if loads.count("load") == 2:
            raise KeyboardInterrupt

    bench.on_call = kill
    with pytest.raises(KeyboardInterrupt):
        bench.run("--shard=1/1", "--stage=fp32,bf16", "--skip-latency")

    status = main(["merge", str(bench.path / "results-1"), "--output", str(tmp_path / "merged")])

    assert status == 2
    gap = "gap: shard 1/1 (*) did not end; sdxl-tiny/bf16/32px-4steps-b1 has no result; run it again into a new folder"
    pytest.LineMatcher(capsys.readouterr().err.splitlines()).fnmatch_lines([f"*{gap}"])


def test_a_shard_without_a_case_or_in_a_folder_with_results_is_refused(bench):
    """Both are usage errors before anything is built: results of an earlier session would be merged as the shard's."""
    with pytest.raises(pytest.UsageError, match="--shard 1/9: the selection has 6 cases: choose N of at most 6"):
        bench.run("--shard=1/9")
    bench.run("--stage=fp32", "--results=results", claims=("test_recipe",))
    with pytest.raises(pytest.UsageError, match=r"--results .*results: contains results already.*name a new folder"):
        bench.run("--shard=1/2", "--results=results")


def test_a_case_of_another_shard_is_not_missing(bench):
    """Only cases of the baseline that this shard measures are required of it."""
    bench.promoted()

    result = bench.run("--shard=1/2")

    required = coverage_of_shard(result.config, device="cpu").required_keys
    assert (result.red, result.claims["test_coverage"]) == ([], "passed")
    assert set() < required < set(KEYS)


def test_a_shard_resolves_only_the_weights_of_its_pipelines(bench):
    """Weights of other shards are not resolved: this machine may not reach their hub."""
    items = bench.collect("--shard=1/2", "--pipeline=sdxl,sd15", "--stage=fp32")

    assert built_pipelines(items) == ["sd15"]
