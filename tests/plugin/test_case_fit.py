"""Running out of memory: when it is red, when it was known, and what is said of a case that has come to fit."""

from __future__ import annotations

import shutil

import pytest

from speedgate.results.case_key import CaseKey
from speedgate.results.family_figure import FamilyFigure
from tests.support.baseline_samples import publish_throughput
from tests.support.suite import Suite, red

FP32 = "sdxl/fp32/1024px-30steps-b1"
BF16 = "sdxl/bf16/1024px-30steps-b1"
PUBLISHED = "what was published for a100 (torch 2.0, torch nightly)"
NEIGHBOUR = {"pid": 815, "usedGpuMemory": 2**33, "gpuInstanceId": 2**32 - 1, "computeInstanceId": 2**32 - 1}
ONE = ("--weights=synthetic", "--stage=fp32", "-k", "not parity and not full_recipe and not roofline")


def cell(outcome: str, build: str = "2.0", *, case_key: str = FP32) -> FamilyFigure:
    """What was published of a case with one build of torch."""
    rate, stage = 20.0 if outcome == "ok" else None, CaseKey.parse(case_key).stage
    return FamilyFigure(
        family="a100", case_key=case_key, build=build, mode=stage, outcome=outcome, iterations_per_s=rate
    )


def publish(suite: Suite, *outcomes: str) -> None:
    """Leave the machine without a baseline, and let its family's figures of fp32 say this of each build of torch."""
    shutil.rmtree(suite.path / "baselines")
    figures = [cell(outcome, build) for outcome, build in zip(outcomes, ("2.0", "nightly"), strict=True)]
    publish_throughput(suite.path / "baselines", *figures, cell("ok", case_key=BF16))


@pytest.mark.parametrize("operation", ["load", "first_image", "generate"])
def test_a_case_that_no_longer_fits_is_one_red_test(a100: Suite, operation: str) -> None:
    """Wherever it runs out of memory, the test in which it does is red, with the worker's words; its others are skipped."""
    a100.misbehave(fp32={"raise": operation})

    result = a100.run(*ONE)

    assert red(result) == ["test_latency[sdxl-fp32]"]
    result.stdout.re_match_lines(
        [
            rf"BIGGER {FP32} fit: out of memory on 80\.0 GiB, fitted in 0001_published",
            f"'{operation}' of .* MemoryError",
        ],
        consecutive=False,
    )
    assert "bench/test_fit.py s" in result.stdout.str()


def test_a_case_that_fits_as_before_passes(a100: Suite) -> None:
    """The claim is asked of every case with a baseline, and says nothing where all is well."""
    result = a100.run(*ONE, "-v")

    assert red(result) == []
    result.stdout.re_match_lines([r".*test_fit\[sdxl-fp32\] PASSED"])
    assert " fit: " not in result.stdout.str()


def test_one_claim_alone_is_red_as_well(a100: Suite) -> None:
    """Left to itself the claim runs the case, and owns what becomes of it."""
    a100.misbehave(fp32={"raise": "generate"})

    assert red(a100.run(*ONE[:2], "-k", "test_fit")) == ["test_fit[sdxl-fp32]"]


@pytest.mark.parametrize(
    ("way", "said"),
    [("fail", "no kernel image"), ("abort", "SIGABRT"), ("kill", "SIGKILL, often the out-of-memory killer")],
)
def test_a_case_that_was_lost_otherwise_is_not_judged(a100: Suite, way: str, said: str) -> None:
    """A worker that dies, fails for another reason, or was killed by who knows whom, is as lost as without a figure."""
    publish(a100, "oom", "oom")
    a100.misbehave(fp32={way: "generate"})

    result = a100.run(*ONE)

    assert red(result) == ["test_latency[sdxl-fp32]"]
    result.stdout.re_match_lines([f"INVALID {FP32} worker: .*{said}"])


def test_a_case_that_fits_and_then_does_not_is_no_pass(a100: Suite) -> None:
    """Where it was expected to be out of memory, one process that fitted shows that this is not how things stand."""
    publish(a100, "oom", "oom")
    a100.misbehave(fp32={"raise": "generate", "from": 2})

    result = a100.run(*ONE, "--processes=3")

    assert len(red(result)) == 1
    result.stdout.re_match_lines([f"INVALID {FP32} worker: .* MemoryError"])


def test_out_of_memory_beside_others_proves_nothing(a100: Suite) -> None:
    """With another process on the GPU it is INVALID, which is red, whatever was expected."""
    publish(a100, "oom", "oom")
    a100.answer(nvmlDeviceGetComputeRunningProcesses_v3=[[], [NEIGHBOUR]])
    a100.misbehave(fp32={"raise": "load"})

    result = a100.run(*ONE)

    assert red(result) == ["test_latency[sdxl-fp32]"]
    result.stdout.re_match_lines([f"INVALID {FP32} fit: .* of which other processes hold a part: .*"])


def test_what_the_family_cannot_is_no_failure(a100: Suite) -> None:
    """Out of memory with both builds of torch, and here: a PASS that says so, and the other tests skipped for it."""
    publish(a100, "oom_after_warmup", "oom")
    a100.misbehave(fp32={"raise": "generate"})
    sentence = f"PASS {FP32} fit: out of memory on 80.0 GiB, out of memory in {PUBLISHED}"

    result = a100.run(*ONE, "--gate=enforce", "-v")

    assert red(result) == []
    result.stdout.fnmatch_lines(
        [
            "*test_fit?sdxl-fp32? PASSED*",
            f"{FP32} *PASS",
            sentence,
            f"SKIPPED *{sentence}",
        ]
    )


def test_the_claim_alone_passes_where_the_family_cannot(a100: Suite) -> None:
    """It need not be told of by another test first."""
    publish(a100, "oom", "oom")
    a100.misbehave(fp32={"raise": "load"})

    result = a100.run(*ONE[:2], "-k", "test_fit")

    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([rf"{FP32} .* PASS$"])


@pytest.mark.parametrize("published", [("oom", "ok"), ("oom", "not_published"), ("oom", "unsupported"), ("ok", "ok")])
def test_without_both_builds_there_is_no_expectation(a100: Suite, published: tuple[str, str]) -> None:
    """An out-of-memory that nothing announced stays the lost worker that it is."""
    publish(a100, *published)
    a100.misbehave(fp32={"raise": "generate"})

    result = a100.run(*ONE)

    assert red(result) == ["test_latency[sdxl-fp32]"]
    result.stdout.re_match_lines([f"INVALID {FP32} worker: .* MemoryError"])


def test_what_has_come_to_fit_is_told_and_never_red(a100: Suite) -> None:
    """FASTER than the family's figures, which gate nothing: green even where improvements are red."""
    publish(a100, "oom", "oom")

    result = a100.run(*ONE, "--strict-improvement")

    assert red(result) == []
    result.stdout.fnmatch_lines([f"FASTER {FP32} fit: fits into 80.0 GiB, out of memory in {PUBLISHED}: *"])


def test_a_machine_of_no_family_knows_nothing(pytester: pytest.Pytester) -> None:
    """Without a baseline or a figure the claim is skipped, and says why."""
    result = Suite(pytester).run("--stage=fp32", "-k", "fit")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED *no baseline and no published figure says if sdxl-tiny/fp32/64px-4steps-b1 fits*"]
    )
