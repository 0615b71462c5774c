"""A live comparison of two arms, each with workers of its own: what it says, how it fails, what it leaves."""

import os
import shutil
import time
from pathlib import Path

import pytest

from speedgate import against, options
from speedgate.policy import Mode, Policy
from speedgate.records import Outcome, Verdict
from speedgate.worker import Worker
from tests.suite import ROOT, Folder, Suite, red

PAIRS = ("--rounds=4", "--processes=3", "--max-processes=3")
ONE_PAIR = ("--rounds=4", "--processes=1", "--max-processes=1")


@pytest.fixture
def suite(tmp_path):
    return Suite(Folder(tmp_path))


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Three stages: the same in both arms but for who is opened first, slower in this arm, slower in the other one."""
    suite = Suite(Folder(tmp_path_factory.mktemp("judged")))
    stored = suite.path / "baselines" / suite.machine.key / "0001_recorded.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("no baseline is read")
    suite.misbehave(fp32={"order": 0.02}, bf16={"slower": 1.06}, versions={"diffusers": "0.42.1"})
    other = suite.against(fp32={"order": 0.02}, sdpa={"slower": 1.06}, versions={"diffusers": "0.41.0"})
    return suite, suite.run(other, *PAIRS, "--stage=fp32,bf16,sdpa")


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Three ways in which the other arm's worker fails, the first of them in its second pair."""
    suite = Suite(Folder(tmp_path_factory.mktemp("broken")))
    other = suite.against(fp32={"abort": "generate", "from": 2}, bf16={"fail": "inspect"}, sdpa={"hang": "first_image"})
    return suite, suite.run(other, "--rounds=4", "--processes=2", "--worker-timeout=3", "--stage=fp32,bf16,sdpa")


def latency(suite, stage):
    """The latency verdict that was left on disk."""
    (verdict,) = [one for one in suite.result(stage)["verdicts"] if one["claim"] == "latency"]
    return Verdict(**verdict | {"outcome": Outcome(verdict["outcome"])})


def arms(suite, stage):
    """Which arm's workers were built of a stage, in order."""
    lines = [line.split() for line in (suite.path / "builds.log").read_text().splitlines()]
    return [arm for name, _, arm in lines if name == stage]


def test_two_equal_arms_pass_though_the_first_process_is_slower(judged):
    """What the order of starting costs is no difference between the arms: PASS, exactly 0 %."""
    verdict = latency(judged[0], "fp32")

    assert verdict.outcome is Outcome.PASS
    assert "+0.0% (99% interval +0.0% to +0.0% from 3 pairs, taking turns round by round)" in verdict.sentence


def test_six_percent_slower_than_the_other_arm_is_one_red_test(judged):
    """This arm's slowdown fails its latency test alone; the other arm's makes this one FASTER, which is green."""
    suite, result = judged

    assert red(result) == ["test_latency[sdxl-tiny-bf16]"]
    assert "0.53 s against 0.5 s of the other arm (diffusers 0.41.0): +6.0%" in latency(suite, "bf16").sentence
    assert latency(suite, "sdpa").outcome is Outcome.FASTER


def test_a_result_holds_both_arms(judged):
    """Rounds, versions and the order of the pairs of either arm lie in the case's file."""
    document = judged[0].result("sdpa")
    run, other = document["run"], document["against"]["other"]

    assert [len(process["seconds"]) for side in (run, other) for process in side["processes"]] == [4] * 6
    assert [side["environment"]["diffusers"] for side in (run, other)] == ["0.42.1", "0.41.0"]
    assert document["against"]["own_first"] == [True, False, True]
    assert arms(judged[0], "sdpa") == ["this", "other", "other", "this", "this", "other"]


def test_the_report_shows_both_arms(judged):
    """Its table says what was compared with, and its last lines the versions side by side."""
    lines = judged[1].stdout

    lines.re_match_lines([r"sdxl-tiny/fp32/.* other arm +PASS"])
    lines.re_match_lines([r" +this arm +other arm", r"diffusers +0\.42\.1 +0\.41\.0"])


def test_stored_baselines_are_neither_read_nor_judged_by(judged):
    """A broken file among the baselines does not matter, and no verdict speaks of one."""
    said = judged[1].stdout.str()

    assert judged[1].ret == pytest.ExitCode.TESTS_FAILED
    assert "0001_recorded" not in said
    assert "NO_BASELINE" not in said


def test_each_difference_but_speed_is_one_red_test(suite):
    """Another structure, another picture and more memory each fail the one test that owns them."""
    suite.misbehave(int8={"bigger": 1.25})
    other = suite.against(compile={"structure": {"unet.int8_linears": 1}}, fused_qkv={"noise": 20})

    result = suite.run(other, *ONE_PAIR, "--stage=compile,fused_qkv,int8")

    assert sorted(red(result)) == [
        "test_memory[sdxl-tiny-int8]",
        "test_same_picture[sdxl-tiny-fused_qkv]",
        "test_same_structure[sdxl-tiny-compile]",
    ]
    result.stdout.re_match_lines([r"BIGGER sdxl-tiny/int8/\S+ memory: peak 8\.750 GiB against 7\.000 GiB of the other"])


def test_pairs_are_added_while_nothing_is_decided(suite):
    """Noise is UNDECIDED after the last pair, green under auto and red under enforce; what is decided gets no more pairs."""
    suite.misbehave(fp32={"spread": 0.2})

    result = suite.run(suite.against(), "--rounds=4", "--processes=2", "--max-processes=4", "--stage=fp32,bf16")

    noisy, quiet = latency(suite, "fp32"), latency(suite, "bf16")
    assert (red(result), noisy.outcome, quiet.outcome) == ([], Outcome.UNDECIDED, Outcome.PASS)
    assert not Policy(mode=Mode.ENFORCE).accepts(noisy)
    assert [len(suite.result(stage)["against"]["log_ratios"]) for stage in ("fp32", "bf16")] == [4, 3]


def test_without_other_options_six_to_twelve_pairs_are_measured(pytestconfig, monkeypatch):
    """Verdicts are tried after 6, 9 and 12 pairs, of rounds that fill three seconds."""
    monkeypatch.setattr(pytestconfig.option, "against", "python")

    assert options.policy(pytestconfig).looks.counts == (6, 9, 12)
    assert options.plan(pytestconfig).least_s == 3.0


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
    assert any(
        line.startswith("SKIPPED") and f"{key} has no worker any more: {said}" in line for line in result.outlines
    )


def test_arms_that_do_not_fit_at_once_are_measured_process_by_process(suite):
    """Out of memory with both alive, at the start or in the inspection, is no failure; the verdict says how it was measured."""
    suite.misbehave(bf16={"crowded": "inspect"})
    other = suite.against(fp32={"crowded": "load"})

    result = suite.run(
        other, "--rounds=4", "--processes=2", "--max-processes=2", "--stage=fp32,bf16", "-k", "latency or same"
    )

    assert red(result) == []
    for stage in ("fp32", "bf16"):
        assert arms(suite, stage) == ["this", "other", "this", "other", "other", "this"]
        assert suite.result(stage)["against"]["turns"] == "processes"
        assert "turns process by process, because both do not fit at once" in latency(suite, stage).sentence


def test_another_checkout_is_an_arm(suite, tmp_path):
    """With `--against-rootdir` the other arm's workers are built by that checkout, whose path the verdict names."""
    checkout = tmp_path / "before"
    for place in ("fixtures", "src/speedgate"):
        shutil.copytree(ROOT / place, checkout / place, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "tests").mkdir()
    (checkout / "tests" / "__init__.py").touch()
    code = (ROOT / "tests" / "fake_case.py").read_text()
    (checkout / "tests" / "fake_case.py").write_text(code.replace('"fp32": 0.7,', '"fp32": 0.77,'))
    suite.against()

    result = suite.run(f"--against-rootdir={checkout}", *PAIRS, "--stage=fp32", "-k", "latency")

    assert red(result) == []
    result.stdout.re_match_lines([rf"FASTER .* of the other arm \(checkout {checkout}, the same versions\): -9\.1%"])


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
    result.stdout.fnmatch_lines(["1 void rounds of sdxl/fp32/* were measured again"])


def test_a_case_that_fits_is_measured_in_turns_after_one_that_did_not(suite):
    """Two processes on the GPU are one too many for the case that does not fit, and both ours for the next one."""
    suite.pretend_a100()
    suite.answer(nvmlDeviceGetComputeRunningProcesses_v3=[*[[{}]] * 24, [{}, {}]])

    result = suite.run(
        suite.against(fp32={"crowded": "load"}), *ONE_PAIR, "--weights=synthetic", "--stage=fp32,bf16", "-k", "latency"
    )

    assert red(result) == []
    assert [suite.result(stage)["against"]["turns"] for stage in ("fp32", "bf16")] == ["processes", "rounds"]


def test_claims_of_the_arms_alone_measure_no_round(suite):
    """Structure and picture are compared with a worker of the other arm, and of this one as for any claim of its kind."""
    result = suite.run(suite.against(), "--stage=fp32", "-k", "same")

    assert (red(result), arms(suite, "fp32")) == ([], ["other", "this", "this"])
    assert suite.result("fp32")["run"]["processes"] == []


def test_claims_of_two_arms_are_left_out_where_there_is_one(suite):
    """Without a live comparison nothing is asked of an other arm."""
    result = suite.run("--collect-only", "-q", "--stage=fp32")

    assert "test_latency" in result.stdout.str()
    assert "test_same" not in result.stdout.str()


def test_a_package_folder_is_narrowed_to_our_packages(tmp_path):
    """Of a place that holds torch as well, the other interpreter gets ours alone."""
    for name in ("torch", "speedgate", "fixtures", "numpy"):
        (tmp_path / "site-packages" / name).mkdir(parents=True)
    paths = (str(ROOT), str(tmp_path / "site-packages"))

    kept, links = against.isolated(paths, scratch=tmp_path)

    assert kept == str(ROOT)
    assert sorted(path.name for path in Path(links).iterdir()) == ["fixtures", "speedgate"]


def test_an_idle_worker_leaves_the_processor_to_the_other_arm(tmp_path, monkeypatch):
    """Between its turns a worker's threads use less than 5 % of a core, though the shell tells threads to spin."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    paths = [str(ROOT), str(ROOT / "src")]
    worker = Worker("tests.targets:Target", arguments={}, paths=paths, log=tmp_path / "log", timeout_s=60.0)
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
