"""The gates that only a GPU has, on a machine that pretends to be the published A100, against the published file."""

import pytest

from tests.suite import Suite, red

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
