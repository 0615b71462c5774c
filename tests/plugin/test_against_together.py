"""Two live arms on one machine: one that fails, both at once or in turn, and the one that waits."""

import os
import time
from pathlib import Path

import pytest

from speedgate.measure.worker import Worker
from tests.support.suite import ROOT, Folder, Suite, red

ONE_PAIR = ("--rounds=4", "--processes=1", "--max-processes=1")


@pytest.fixture
def suite(tmp_path):
    return Suite(Folder(tmp_path))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Three ways in which the other arm's worker fails, the first of them in its second pair."""
    suite = Suite(Folder(tmp_path_factory.mktemp("broken")))
    other = suite.against(fp32={"abort": "generate", "from": 2}, bf16={"fail": "inspect"}, sdpa={"hang": "first_image"})
    return suite, suite.run(other, "--rounds=4", "--processes=2", "--worker-timeout=3", "--stage=fp32,bf16,sdpa")


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("fp32", "the worker of the other arm (the same versions) died during 'generate' (SIGABRT)"),
        (
            "bf16",
            "'inspect' of the worker of the other arm (the same versions) raised RuntimeError: no kernel image is"
            " available for execution on the device",
        ),
        ("sdpa", "the worker of the other arm (the same versions) did not answer 'first_image' within 3 s"),
    ],
)
def test_a_broken_other_arm_is_one_red_test_that_names_it(broken, stage, said):
    """Its death, its exception or its silence fails the latency test of the case; what needs the pairs is skipped."""
    suite, result = broken
    key = f"sdxl-tiny/{stage}/64px-4steps-b1"

    assert red(result) == [f"test_latency[sdxl-tiny-{name}]" for name in ("fp32", "bf16", "sdpa")]
    assert {verdict["claim"] for verdict in suite.result(stage)["verdicts"]}.isdisjoint({"latency", "memory"})
    assert any(line.startswith(f"{key}: {said}") for line in result.outlines)
    assert any(line.startswith("SKIPPED") and f"{key} failed before: {said}" in line for line in result.outlines)


def test_arms_that_do_not_fit_at_once_are_measured_process_by_process(suite):
    """Out of memory with both alive, in a later pair or in an inspection, is no failure; the verdict says how it was measured."""
    suite.misbehave(fp32={"crowded": "load", "from": 2}, bf16={"crowded": "inspect"})
    given_up = {"fp32": ["this", "other", "other", "this"], "bf16": ["this", "other"]}

    result = suite.run(
        suite.against(),
        "--rounds=4",
        "--processes=2",
        "--max-processes=2",
        "--stage=fp32,bf16",
        "-k",
        "latency or same",
    )

    assert red(result) == []
    for stage in ("fp32", "bf16"):
        against = suite.result(stage)["against"]
        assert suite.arms(stage) == [*given_up[stage], "this", "other", "other", "this"]
        assert (against["turns"], len(against["log_ratios"])) == ("processes", 2)
        assert "turns process by process, because both do not fit at once" in suite.latency(stage).sentence


def test_a_void_round_of_either_arm_is_measured_again(suite):
    """Both arms keep as many rounds as planned, for the memory test alone too, and the report tells of the one dropped."""
    suite.pretend_a100()
    suite.answer(nvmlDeviceGetCurrentClocksEventReasons=[0, 0, 0, 0x40, 0])

    result = suite.run(suite.against(), *ONE_PAIR, "--weights=synthetic", "--stage=fp32", "-k", "memory")

    document = suite.result("fp32")
    processes = [side["processes"][0] for side in (document["run"], document["against"]["other"])]
    assert (red(result), [verdict["claim"] for verdict in document["verdicts"]]) == ([], ["memory"])
    assert [len(process["seconds"]) for process in processes] == [4, 4]
    assert sorted(len(process["void"]) for process in processes) == [0, 1]
    result.stdout.fnmatch_lines(["1 discarded rounds of sdxl/fp32/* were measured again"])


def test_a_case_that_fits_is_measured_in_turns_after_one_that_did_not(suite):
    """Two processes on the GPU are one too many for the case that does not fit, and both ours for the next one."""
    suite.pretend_a100()
    suite.answer(nvmlDeviceGetComputeRunningProcesses_v3=[*[[{}]] * 24, [{}, {}]])

    result = suite.run(
        suite.against(fp32={"crowded": "load"}), *ONE_PAIR, "--weights=synthetic", "--stage=fp32,bf16", "-k", "latency"
    )

    assert red(result) == []
    assert [suite.result(stage)["against"]["turns"] for stage in ("fp32", "bf16")] == ["processes", "rounds"]


def test_an_idle_worker_leaves_the_processor_to_the_other_arm(tmp_path, monkeypatch):
    """Between its turns a worker's threads use less than 5 % of a core, though the shell tells threads to spin."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    paths = [str(ROOT), str(ROOT / "src")]
    worker = Worker("tests.support.targets:Target", arguments={}, paths=paths, log=tmp_path / "log", timeout_s=60.0)
    pid = worker.call("pid")
    worker.call("multiply", seconds=0.2)

    before_s = processor_seconds(pid)
    time.sleep(0.5)
    used_s = processor_seconds(pid) - before_s
    worker.close()

    assert used_s < 0.05 * 0.5


def processor_seconds(pid):
    """What a process has used so far, in user and in kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
