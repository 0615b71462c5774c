"""A recording keeps that a case is out of memory: what is kept, what is lost, and what a later run makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from speedgate.baselines import promote, store
from tests.support.baseline_samples import KEY, make_run, obtain
from tests.support.suite import Suite, red

FP32, BF16, SDPA = (f"sdxl/{stage}/1024px-30steps-b1" for stage in ("fp32", "bf16", "sdpa"))
RECORD = ("--gate=record", "--weights=synthetic", "--processes=5", "--rounds=4", "--stage=fp32,bf16,sdpa")


def obtained(suite: Suite) -> Path:
    """What a recording has left."""
    return suite.path / "baselines" / KEY / "obtained.json"


@pytest.mark.parametrize("published", [True, False])
def test_a_recording_keeps_that_a_case_is_out_of_memory(a100: Suite, published: bool) -> None:
    """Nothing is red, what fitted before is told of, and the case stands in the record beside those with a figure."""
    if not published:
        shutil.rmtree(a100.path / "baselines")
    a100.misbehave(sdpa={"raise": "generate"})

    result = a100.run(*RECORD)

    assert red(result) == []
    found = store.read_file(obtained(a100), gpu_key=KEY)
    assert (set(found.baselines), set(found.out_of_memory)) == ({FP32, BF16}, {SDPA})
    told = (
        f"BIGGER {SDPA} fit: .*, fitted in 0001"
        if published
        else f"NO_BASELINE {SDPA} fit: out of memory on 80.0 GiB; nothing was stored"
    )
    result.stdout.re_match_lines([told])


@pytest.mark.parametrize(("behaviour", "outcome"), [({"raise": "load"}, "PASS"), ({}, "FASTER")])
def test_what_was_recorded_out_of_memory_is_expected(a100: Suite, behaviour: dict[str, str], outcome: str) -> None:
    """record, promote, judge: as recorded it passes under enforce, and a case that has come to fit is told of."""
    shutil.rmtree(a100.path / "baselines")
    a100.misbehave(sdpa={"raise": "generate"})
    a100.run(*RECORD)
    promote.promote(a100.path / "baselines", KEY)
    a100.misbehave(sdpa=behaviour)

    result = a100.run("--weights=synthetic", "--stage=sdpa", "-k", "test_fit", "--gate=enforce")

    assert red(result) == []
    assert [one["outcome"] for one in a100.result("sdpa")["verdicts"] if one["claim"] == "fit"] == [outcome]


def test_a_recording_loses_a_case_that_fitted_in_it(a100: Suite) -> None:
    """Out of memory after a process that was measured is no end to expect again: red, and nothing is promoted."""
    a100.misbehave(sdpa={"raise": "generate", "from": 2})

    result = a100.run(*RECORD)

    assert red(result) == ["test_latency[sdxl-sdpa]"]
    result.stdout.re_match_lines([f"INVALID {SDPA} worker: .* MemoryError"])


def test_a_recording_that_goes_on_loses_a_case_that_fitted_before(a100: Suite) -> None:
    """What an earlier session measured counts as well: the same command, given again, makes no out-of-memory of it."""
    a100.misbehave(sdpa={"raise": "generate", "from": 2})
    a100.run(*RECORD)
    a100.misbehave(sdpa={"raise": "load"})

    result = a100.run(*RECORD)

    assert len(red(result)) == 1
    result.stdout.re_match_lines(
        [rf"INVALID {SDPA} worker: .* MemoryError.*; its finished processes are stored in {KEY}/recording/"]
    )
    with pytest.raises(ValueError, match="a failing case is never a baseline"):
        promote.promote(a100.path / "baselines", KEY)


def test_a_recording_that_makes_no_baseline_says_so(a100: Suite) -> None:
    """Without the reference nothing has been judged by its picture: it does not send anybody to promote that."""
    a100.misbehave(bf16={"raise": "load"})

    result = a100.run(*RECORD)

    assert red(result) == []
    result.stdout.re_match_lines(
        [r"\s*recorded baselines/.*obtained\.json: 2 of its cases cannot become a baseline: not judged: parity"]
    )


def test_a_cpu_records_no_out_of_memory(pytester: pytest.Pytester) -> None:
    """How much memory the host has is no part of a CPU's key: there it is a lost worker."""
    suite = Suite(pytester)
    suite.misbehave(sdpa={"raise": "generate"})

    result = suite.run(*RECORD)

    assert red(result) == ["test_latency[sdxl-tiny-sdpa]"]
    result.stdout.re_match_lines([r"INVALID sdxl-tiny/sdpa/.* worker: .* MemoryError"])


def test_a_case_out_of_memory_that_the_suite_lacks_is_missing(a100: Suite) -> None:
    """That a case was out of memory does not let it go unnoticed."""
    folder = a100.path / "baselines"
    shutil.rmtree(folder)
    obtain(folder, make_run(BF16), out_of_memory={"sdxl/gone/1024px-30steps-b1": "full"}).rename(
        folder / KEY / "0001_a.json"
    )

    result = a100.run("--weights=synthetic", "--stage=bf16", "-k", "coverage", "--gate=enforce")

    assert red(result) == ["test_coverage"]
    result.stdout.re_match_lines(
        [r"MISSING sdxl/gone/.* baseline: 0001_a has this case \(out of memory\), but the suite does not"]
    )
