"""A live comparison of two arms, each with workers of its own: what it says, how it fails, what it leaves."""

import shutil
from pathlib import Path

import pytest

from speedgate.gate.policy import Mode, Policy
from speedgate.measure import other_arm
from speedgate.plugin import options
from speedgate.results.run import Outcome
from tests.support.suite import ROOT, Folder, Suite, red

PAIRS = ("--rounds=4", "--processes=3", "--max-processes=3")


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


def test_two_equal_arms_pass_though_the_first_process_is_slower(judged):
    """What the order of starting costs is no difference between the arms: PASS, exactly 0 %."""
    verdict = judged[0].latency("fp32")

    assert verdict.outcome is Outcome.PASS
    assert "+0.0% (99% interval +0.0% to +0.0% from 3 pairs, taking turns round by round)" in verdict.sentence


def test_six_percent_slower_than_the_other_arm_is_one_red_test(judged):
    """This arm's slowdown fails its latency test alone; the other arm's makes this one FASTER, which is green."""
    suite, result = judged

    assert red(result) == ["test_latency[sdxl-tiny-bf16]"]
    assert "0.53 s against 0.5 s of the other arm (diffusers 0.41.0): +6.0%" in suite.latency("bf16").sentence
    assert suite.latency("sdpa").outcome is Outcome.FASTER


def test_a_result_holds_both_arms(judged):
    """Rounds, versions and the order of the pairs of either arm lie in the case's file."""
    document = judged[0].result("sdpa")
    run, other = document["run"], document["against"]["other"]

    assert [len(process["seconds"]) for side in (run, other) for process in side["processes"]] == [4] * 6
    assert [side["environment"]["diffusers"] for side in (run, other)] == ["0.42.1", "0.41.0"]
    assert document["against"]["own_first"] == [True, False, True]
    assert judged[0].arms("sdpa") == ["this", "other", "other", "this", "this", "other"]


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
    """Another structure, another picture and more memory each fail the one test that owns them, and the latency is a PASS."""
    suite.misbehave(int8={"bigger": 1.25})
    other = suite.against(compile={"structure": {"unet.int8_linears": 1}}, fused_qkv={"noise": 20})

    result = suite.run(other, *PAIRS, "--stage=compile,fused_qkv,int8")

    assert sorted(red(result)) == [
        "test_memory[sdxl-tiny-int8]",
        "test_same_picture[sdxl-tiny-fused_qkv]",
        "test_same_structure[sdxl-tiny-compile]",
    ]
    assert {suite.latency(stage).outcome for stage in ("compile", "fused_qkv", "int8")} == {Outcome.PASS}
    result.stdout.re_match_lines([r"BIGGER sdxl-tiny/int8/\S+ memory: peak 8\.750 GiB against 7\.000 GiB of the other"])


def test_pairs_are_added_while_nothing_is_decided(suite):
    """Noise is UNDECIDED after the last pair, green under auto and red under enforce; what is decided gets no more pairs."""
    suite.misbehave(fp32={"spread": 0.2})

    result = suite.run(suite.against(), "--rounds=4", "--processes=2", "--max-processes=4", "--stage=fp32,bf16")

    noisy, quiet = suite.latency("fp32"), suite.latency("bf16")
    assert (red(result), noisy.outcome, quiet.outcome) == ([], Outcome.UNDECIDED, Outcome.PASS)
    assert not Policy(mode=Mode.ENFORCE).accepts(noisy)
    assert [len(suite.result(stage)["against"]["log_ratios"]) for stage in ("fp32", "bf16")] == [4, 3]


def test_without_other_options_six_to_twelve_pairs_are_measured(pytestconfig, monkeypatch):
    """Verdicts are tried after 6, 9 and 12 pairs, of rounds that fill three seconds."""
    monkeypatch.setattr(pytestconfig.option, "against", "python")

    assert options.gate_policy(pytestconfig).looks.counts == (6, 9, 12)
    assert options.measurement_plan(pytestconfig).min_total_s == 3.0


def test_another_checkout_is_an_arm(suite, tmp_path):
    """With `--against-rootdir` the other arm's workers are built by that checkout, whose path the verdict names."""
    checkout = tmp_path / "before"
    for place in ("fixtures", "src/speedgate", "tests/support"):
        shutil.copytree(ROOT / place, checkout / place, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "tests" / "__init__.py").touch()
    code = (ROOT / "tests" / "support" / "fake_case.py").read_text()
    (checkout / "tests" / "support" / "fake_case.py").write_text(code.replace('"fp32": 0.7,', '"fp32": 0.77,'))
    suite.against()

    result = suite.run(f"--against-rootdir={checkout}", *PAIRS, "--stage=fp32", "-k", "latency")

    assert red(result) == []
    result.stdout.re_match_lines([rf"FASTER .* of the other arm \(checkout {checkout}, the same versions\): -9\.1%"])


def test_claims_of_the_arms_alone_measure_no_round(suite):
    """Structure and picture are compared with a worker of the other arm, and of this one as for any claim of its kind."""
    result = suite.run(suite.against(), "--stage=fp32", "-k", "same")

    assert (red(result), suite.arms("fp32")) == ([], ["other", "this", "this"])
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

    kept, links = other_arm.isolate_packages(paths, scratch=tmp_path)

    assert kept == str(ROOT)
    assert sorted(path.name for path in Path(links).iterdir()) == ["fixtures", "speedgate"]
