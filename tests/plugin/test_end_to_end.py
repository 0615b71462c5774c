"""The whole suite with fake workers: what is built, stored on disk and printed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speedgate.baselines.promote import promote
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
    """`--processes 3` builds three workers of a stage and stores the rounds of each."""
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
    """`--images DIR` saves a PNG of each stage and of its difference from bf16."""
    suite.run("--images=images", "-k", "recipe and not full")

    names = sorted(path.name for path in (suite.path / "images").iterdir())

    assert len(names) == 12
    assert "sdxl-tiny-int8.png" in names
    assert "sdxl-tiny-int8-difference-x10.png" in names


def test_the_terminal_section_lists_each_case_and_those_without_a_baseline(suite):
    """One line for each case, with speed-ups over the parent and fp32, and one line for cases without a baseline."""
    result = suite.run("--stage=fp32,bf16")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.re_match_lines(
        [
            r"case +latency +it/s +spread +vs parent +vs first +SSIM +peak +cold start",
            r"sdxl-tiny/bf16/\S+ +0.5 s +10 +1 proc\. +1\.40x +1\.40x +1\.0000 .*",
            r"No baseline of this machine\. Next: pytest bench --gate record, then speedgate promote cpu-.*",
            r"PASS compile, recipe, parity of 2 cases",
            r"not judged here: .*memory, ladder \(CPU\).*",
        ]
    )


def test_progress_is_shown_while_output_is_captured(suite):
    """Each activity has a line with its seconds although pytest captures output, after an estimate; `-q` writes none."""
    quiet, normal = (suite.run("--stage=fp32", *option) for option in (("-q",), ()))

    normal.stdout.re_match_lines(
        [
            r"  speedgate: about 0:\d\d for 1 case, by the last time that each was measured",
            r"  \[0:\d\d of about 0:\d\d\] sdxl-tiny-fp32: load and apply \.\.\. \d+\.\d s",
            r"  \[0:\d\d of about 0:\d\d\] sdxl-tiny-fp32: first image \.\.\. \d+\.\d s",
        ]
    )
    assert "load and apply" not in quiet.stdout.str()


def test_isolation_none_builds_in_this_process(suite):
    """`--isolation none` starts no worker: the target lives in pytest's own process."""
    result = suite.run("--isolation=none", "--stage=fp32,bf16")

    pids = {line.split()[1] for line in (suite.path / "builds.log").read_text().splitlines()}

    assert red(result) == []
    assert len(pids) == 1


def test_a_second_recording_does_not_replace_the_first_baseline(suite):
    """Recording and promoting again adds a numbered file beside the first."""
    suite.record("--stage=fp32")
    first = promote(suite.path / "baselines", suite.machine.key)
    before = first.read_bytes()
    suite.record("--stage=fp32")

    second = promote(suite.path / "baselines", suite.machine.key)

    assert (first.name, second.name) == ("0001_recorded.json", "0002_recorded.json")
    assert first.read_bytes() == before


def test_saving_a_slower_run_does_not_make_it_the_baseline(suite, monkeypatch):
    """A bare compare takes the promoted baseline, not the slower run that was autosaved after it.

    In a job of GitHub Actions, pytest's own line on the red test begins with the verdict, and the verdict is an annotation.
    """
    suite.record("--stage=sdpa")
    promote(suite.path / "baselines", suite.machine.key)
    suite.misbehave(sdpa={"slower": 1.5})
    suite.run("--benchmark-autosave", "--stage=sdpa")

    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("CI", "true")

    result = suite.run("--benchmark-compare", "--stage=sdpa", "--processes=2")

    assert red(result) == ["test_latency[sdxl-tiny-sdpa]"]
    verdict = r"SLOWER sdxl-tiny/sdpa/64px-4steps-b1 latency"
    result.stdout.re_match_lines([rf"::error title={verdict}::.*", rf"FAILED \S+ - {verdict}: .*"])
    result.stdout.fnmatch_lines(["*test_latency?sdxl-tiny-sdpa? (baselines/*/0001_recorde*"])


def test_ctrl_c_ends_the_worker_and_leaves_finished_cases_on_disk(suite):
    """After an interrupt the first case is complete on disk, and no worker is left."""
    suite.misbehave(bf16={"hang": "generate"})
    command = [sys.executable, "-m", "pytest", *suite.arguments("--stage=fp32,bf16")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0) as process:
        workers = _wait_for_builds(suite.path / "builds.log", count=2)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)

    assert process.returncode == pytest.ExitCode.INTERRUPTED, output.decode()
    assert len(suite.result("fp32")["run"]["processes"][0]["seconds"]) == 10
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def _wait_for_builds(log: Path, *, count: int) -> list[str]:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        lines = log.read_text().splitlines() if log.exists() else []
        if len(lines) >= count:
            time.sleep(0.5)  # the worker has written its line, and is about to hang
            return [line.split()[1] for line in lines]
        time.sleep(0.05)
    raise AssertionError(f"{count} workers did not start within 30 s")


def test_only_complete_result_files_are_left(suite):
    """The folder of the results holds the manifest, valid JSON for each case and the log of seconds, and no temporary file."""
    suite.run("--stage=fp32", "-k", "latency")

    files = sorted((suite.path / "results").iterdir())

    assert [path.name for path in files] == ["manifest.json", "sdxl-tiny__fp32__64px-4steps-b1.json", "times.jsonl"]
    assert {json.loads(path.read_text())["gpu_key"] for path in files[:2]} == {suite.machine.key}
