"""The whole suite with fake workers: what is built, kept and shown."""

import json

import pytest

from tests.support.suite import Suite, red

LADDER = ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]


@pytest.fixture
def suite(pytester):
    return Suite(pytester)


def test_every_stage_is_built_once_in_ladder_order(suite):
    """Six stages, six workers, in the order of the ladder, and every test green."""
    result = suite.run()

    assert red(result) == []
    assert suite.builds() == LADDER
    assert suite.results() == sorted(LADDER)


def test_rounds_are_spread_over_fresh_processes(suite):
    """`--processes 3` builds three workers of a stage and keeps their rounds apart."""
    suite.run("--stage=sdpa", "--processes=3", "--rounds=4", "-k", "latency")

    processes = suite.result("sdpa")["run"]["processes"]

    assert suite.builds() == ["sdpa"] * 3
    assert [len(process["seconds"]) for process in processes] == [4, 4, 4]


def test_pytest_benchmark_sees_the_seconds_that_the_worker_measured(suite):
    """pytest-benchmark's own JSON holds the worker's seconds as its data and our record in `extra_info`."""
    suite.run("--stage=bf16", "--rounds=3", "--benchmark-json=out.json")

    benchmark = json.loads((suite.path / "out.json").read_text())["benchmarks"][0]

    assert benchmark["stats"]["data"] == pytest.approx([0.501, 0.499, 0.501], rel=1e-9)
    assert benchmark["extra_info"]["speedgate"]["run"]["case_key"] == "sdxl-tiny/bf16/64px-4steps-b1"
    assert benchmark["extra_info"]["speedgate"]["run"]["parity"]["ssim"] == pytest.approx(1.0)


def test_parity_alone_builds_the_references_and_measures_nothing(suite):
    """`-k parity` for one stage builds that stage and the two references, once each, without a round."""
    result = suite.run("--stage=int8", "-k", "parity")

    assert red(result) == []
    assert sorted(suite.builds()) == ["bf16", "fp32", "int8"]
    assert suite.result("int8")["run"]["processes"] == []


def test_images_and_differences_are_saved(suite):
    """`--images DIR` leaves a PNG of each stage and of its difference from bf16."""
    suite.run("--images=shown", "-k", "recipe and not full")

    names = sorted(path.name for path in (suite.path / "shown").iterdir())

    assert len(names) == 12
    assert "sdxl-tiny-int8.png" in names
    assert "sdxl-tiny-int8-difference-x10.png" in names


def test_the_report_says_what_was_measured_and_what_has_no_baseline(suite):
    """One line a case, with speed-ups over the parent and over fp32, and one line for what is not judged."""
    result = suite.run("--stage=fp32,bf16")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.re_match_lines(
        [
            r"case +latency +it/s +spread +vs parent +vs first +SSIM +peak +cold start +baseline +verdict",
            r"sdxl-tiny/bf16/\S+ +0.5 s +10 +1 proc\. +1\.40x +1\.40x +1\.0000 .* NO_BASELINE",
            r"NO_BASELINE for 2 of 2 cases on cpu-.*--gate record",
        ]
    )


def test_progress_is_shown_while_output_is_captured(suite):
    """Each activity is announced with its seconds though pytest captures; `-q` keeps quiet."""
    loud, quiet = (suite.run("--stage=fp32", *option) for option in ((), ("-q",)))

    loud.stdout.re_match_lines(
        [r"  sdxl-tiny-fp32: load and apply \.\.\. \d+\.\d s.*", r"  sdxl-tiny-fp32: first image \.\.\. \d+\.\d s.*"]
    )
    assert "load and apply" not in quiet.stdout.str()


def test_isolation_none_builds_in_this_process(suite):
    """`--isolation none` starts no worker: the target lives in pytest's own process."""
    result = suite.run("--isolation=none", "--stage=fp32,bf16")

    pids = {line.split()[1] for line in (suite.path / "builds.log").read_text().splitlines()}

    assert red(result) == []
    assert len(pids) == 1
