"""What turns red, and that nothing else does: one fault, one test."""

import json
import shutil

import pytest

from speedgate.baselines.promote import promote
from tests.support.suite import Suite, red

QUICK = ("--processes=2", "--rounds=4")


@pytest.fixture
def suite(pytester):
    return Suite(pytester)


@pytest.fixture(scope="module")
def kept_baselines(tmp_path_factory):
    """Where the first test that needs them keeps the baselines that it recorded."""
    return tmp_path_factory.mktemp("kept") / "baselines"


@pytest.fixture
def promoted(suite, kept_baselines):
    """A suite whose machine has a recorded baseline of every stage."""
    if not kept_baselines.exists():
        assert red(suite.record()) == []
        promote(suite.path / "baselines", suite.machine.key)
        shutil.copytree(suite.path / "baselines", kept_baselines)
    shutil.copytree(kept_baselines, suite.path / "baselines", dirs_exist_ok=True)
    (suite.path / "builds.log").unlink(missing_ok=True)
    return suite


def test_an_unchanged_ladder_passes_its_own_baseline(promoted):
    """Recorded, promoted, measured again: every case says PASS."""
    result = promoted.run(*QUICK, "--gate=enforce", "--benchmark-compare")

    assert red(result) == []
    assert result.stdout.str().count(" PASS\n") == 6


def test_ten_percent_slower_is_one_red_test(promoted):
    """A stage that takes 10 % longer fails its latency test, in numbers, and no other test."""
    promoted.misbehave(sdpa={"slower": 1.10})

    result = promoted.run(*QUICK)

    assert red(result) == ["test_latency[sdxl-tiny-sdpa]"]
    result.stdout.re_match_lines(
        [r"SLOWER sdxl-tiny/sdpa/\S+ latency: 0\.44 s against 0\.4 s in 0001_recorded: \+10\.0% \(.*"]
    )


def test_skipped_quantisation_is_one_red_test(promoted):
    """An int8 stage without int8 modules fails its recipe test and no other: what it measured is not judged as int8's."""
    promoted.misbehave(int8={"lacks_int8": True})

    result = promoted.run(*QUICK)

    assert red(result) == ["test_recipe[sdxl-tiny-int8]"]
    result.stdout.re_match_lines([r"NOT_APPLIED sdxl-tiny/int8/\S+ recipe: unet\.int8_linears is 0, expected 117"])


def test_a_different_image_is_one_red_test(promoted):
    """A stage whose output drifts fails its parity test and no other."""
    promoted.misbehave(compile={"noise": 20})

    assert red(promoted.run(*QUICK)) == ["test_parity[sdxl-tiny-compile]"]


def test_a_nan_image_is_one_red_test_and_keeps_its_record(suite):
    """An image that is not finite is DIFFERENT, with a record on disk in which the figure is null."""
    suite.misbehave(sdpa={"noise": float("nan")})

    result = suite.run("--stage=sdpa")

    assert red(result) == ["test_parity[sdxl-tiny-sdpa]"]
    assert suite.result("sdpa")["run"]["parity"]["ssim"] is None
    result.stdout.re_match_lines([r"sdxl-tiny/sdpa/.* NaN .* DIFFERENT"])


def test_another_compiler_is_one_red_test(suite):
    """Graphs that inductor never saw fail the compile test: the stage would be there and its speed would not."""
    suite.misbehave(compile={"inductor_graphs": 0})

    assert red(suite.run()) == ["test_compile[sdxl-tiny-compile]"]


def test_a_case_that_nobody_judged_is_not_promoted(suite):
    """A recording of the latency alone cannot become a baseline, and says what was left out."""
    suite.record("--stage=sdpa", "-k", "latency")

    with pytest.raises(ValueError, match=r"not judged: compile, parity, recipe"):
        promote(suite.path / "baselines", suite.machine.key)


def test_a_recording_says_on_what_and_of_which_commit(suite):
    """The recorded file names the machine and has pytest-benchmark's commit facts."""
    suite.record("--stage=sdpa")

    document = json.loads((suite.path / "baselines" / suite.machine.key / "obtained.json").read_text())

    assert document["machine_info"]["host"]["name"] == suite.machine.name
    assert "id" in document["commit_info"]


def test_a_recording_does_not_ask_to_be_recorded(suite):
    """In record mode a missing baseline is no news."""
    assert "record them" not in suite.record("--stage=sdpa").stdout.str()


def test_a_recompile_is_one_red_test(suite):
    """A second prompt that compiles again fails the compile test."""
    suite.misbehave(compile={"recompiles": 1})

    assert red(suite.run()) == ["test_compile[sdxl-tiny-compile]"]


def test_a_dying_worker_is_one_red_test(suite):
    """A worker that aborts is its case's failure, with the signal and its last words; the others are green."""
    suite.misbehave(sdpa={"abort": "generate"})

    result = suite.run()

    assert red(result) == ["test_latency[sdxl-tiny-sdpa]"]
    result.stdout.fnmatch_lines(["*died during 'generate' (SIGABRT)*", "*the last words of a worker*"])
    assert suite.builds() == ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]


def test_a_reference_that_dies_does_not_redden_the_stages_that_need_it(suite):
    """With bf16's worker dead, its own test is red and the parity of the others is skipped, saying why."""
    suite.misbehave(bf16={"abort": "first_image"})

    result = suite.run()

    assert red(result) == ["test_latency[sdxl-tiny-bf16]"]
    result.stdout.fnmatch_lines(
        [
            "sdxl-tiny/bf16/64px-4steps-b1 * INVALID",
            "INVALID sdxl-tiny/bf16/64px-4steps-b1 worker: the worker died during 'first_image' (SIGABRT)*",
            "*SKIPPED*sdxl-tiny/bf16/64px-4steps-b1 failed before*",
        ]
    )


def test_a_hung_worker_is_one_red_test(suite):
    """A worker that does not answer is killed at `--worker-timeout` and is its case's failure."""
    suite.misbehave(compile={"hang": "count"})

    result = suite.run("--worker-timeout=3")

    assert red(result) == ["test_compile[sdxl-tiny-compile]"]
    result.stdout.fnmatch_lines(["*did not answer 'count' within 3 s and was killed*"])


def test_out_of_memory_is_one_red_test(suite):
    """An exception in a worker is its case's failure, with its type and message."""
    suite.misbehave(fp32={"raise": "generate"})

    result = suite.run("--stage=fp32,sdpa", "-k", "not parity and not full_recipe and not roofline")

    assert red(result) == ["test_latency[sdxl-tiny-fp32]"]
    result.stdout.fnmatch_lines(["*raised MemoryError: CUDA out of memory*"])


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_impossible_seconds_are_never_a_pass(suite, seconds):
    """A round of zero, negative or undefined length fails instead of being judged."""
    suite.misbehave(fp32={"seconds": seconds})

    assert red(suite.run("--stage=fp32", "-k", "latency")) == ["test_latency[sdxl-tiny-fp32]"]


def test_enforce_is_red_where_nothing_is_recorded(suite):
    """`--gate enforce` fails on NO_BASELINE; `auto` does not."""
    enforced, auto = (suite.run("--stage=fp32", "-k", "latency", f"--gate={mode}") for mode in ("enforce", "auto"))

    assert red(enforced) == ["test_latency[sdxl-tiny-fp32]"]
    assert red(auto) == []


def test_report_is_never_red(promoted):
    """`--gate report` says what is wrong and stays green."""
    promoted.misbehave(sdpa={"slower": 1.5}, int8={"lacks_int8": True}, compile={"noise": 20})

    result = promoted.run(*QUICK, "--gate=report")

    assert red(result) == []
    result.stdout.re_match_lines(["NOT_APPLIED .*", "DIFFERENT .*", "SLOWER .*"])


def test_a_failing_run_is_not_promoted(suite):
    """What a red session recorded cannot become a baseline."""
    suite.misbehave(int8={"lacks_int8": True})
    suite.record("--stage=int8")

    with pytest.raises(ValueError, match=r"sdxl-tiny/int8"):
        promote(suite.path / "baselines", suite.machine.key)
