"""The gates that only a GPU has, on a machine that pretends to be the published A100, against the published file."""

import pytest

from tests.support.suite import Suite, red

ARGUMENTS = ("--weights=synthetic", "--benchmark-compare")


@pytest.fixture
def a100(pytester):
    suite = Suite(pytester)
    suite.pretend_a100()
    return suite


def test_the_published_ladder_passes_its_own_figures(a100):
    """A machine as fast as the published one passes every gate at full size, ladder and memory included, under enforce."""
    result = a100.run(*ARGUMENTS, "--gate=enforce")

    assert red(result) == []
    result.stdout.re_match_lines([r"sdxl/int8/1024px-30steps-b1 +2\.429 s .* 1\.04x +3\.03x .* 0001_published +PASS"])
    result.stdout.fnmatch_lines(["*speedgate on nvidia-a100-sxm4-80gb-400w, --gate enforce*"])


def test_a_stage_that_lost_its_gain_is_red_in_latency_and_ladder(a100):
    """A compile stage as slow as its parent fails its own latency, and the ladder says that it is not worth its place."""
    a100.misbehave(compile={"slower": 1.3})

    result = a100.run(*ARGUMENTS)

    assert red(result) == ["test_latency[sdxl-compile]", "test_ladder[sdxl-compile]"]
    result.stdout.re_match_lines([r"SLOWER sdxl/compile/\S+ ladder: 1\.005x over sdxl/sdpa/\S+, expected 1\.306x.*"])


def test_a_slower_ladder_of_the_right_shape_is_red_in_latency_alone(a100):
    """Everything 15 % slower: each latency is red, no ladder is."""
    a100.misbehave(**{stage: {"slower": 1.15} for stage in ("fp32", "bf16", "sdpa")})

    result = a100.run(*ARGUMENTS, "--stage=fp32,bf16,sdpa")

    assert red(result) == [f"test_latency[sdxl-{stage}]" for stage in ("fp32", "bf16", "sdpa")]


def test_a_peak_above_the_published_ceiling_is_one_red_test(a100):
    """Memory 5 % above the published peak fails the memory test and no other."""
    a100.misbehave(int8={"bigger": 7.866 * 1.05 / 7})

    result = a100.run(*ARGUMENTS)

    assert red(result) == ["test_memory[sdxl-int8]"]
    result.stdout.re_match_lines(
        [r"BIGGER sdxl/int8/\S+ memory: peak 8\.259 GiB against ceiling 7\.866 GiB .*\+5\.0%.*"]
    )


@pytest.mark.parametrize("wrong", [{"syncs": 1.0}, {"cudagraph_skips": 2}])
def test_a_synchronisation_or_a_skipped_cuda_graph_is_one_red_test(a100, wrong):
    """A host synchronisation inside a step, or a graph that CUDA did not capture, fails the compile test."""
    a100.misbehave(compile=wrong)

    assert red(a100.run(*ARGUMENTS)) == ["test_compile[sdxl-compile]"]


def test_a_throttled_gpu_is_invalid_and_no_figure(a100):
    """Every round void, by the hardware's own word: INVALID after a set number of tries, one red test, nothing judged."""
    a100.answer(nvmlDeviceGetCurrentClocksEventReasons=[0x40])

    result = a100.run(*ARGUMENTS, "--stage=int8", "--gate=enforce")

    assert red(result)[0] == "test_latency[sdxl-int8]"
    result.stdout.re_match_lines(
        [r"INVALID sdxl/int8/\S+ measurement: 6 rounds of one process were discarded, .*0x40.*"]
    )
    assert a100.result("int8")["run"]["processes"] == []


def test_one_hot_round_is_measured_again(a100):
    """A single void round costs one more round, and is told; the GPU's state is with the case's record."""
    a100.answer(nvmlDeviceGetCurrentClocksEventReasons=[0, 0, 0, 0x40, 0])

    result = a100.run(*ARGUMENTS, "--stage=fp32", "--rounds=4", "-k", "latency")

    process = a100.result("fp32")["run"]["processes"][0]
    assert red(result) == []
    assert (len(process["seconds"]), len(process["void"])) == (4, 1)
    assert process["health"]["sm_clock_median_mhz"] == 1410
    assert a100.result("fp32")["health"]["power_limit_w"] == 400
    result.stdout.fnmatch_lines(["1 discarded rounds of sdxl/fp32/* were measured again"])
