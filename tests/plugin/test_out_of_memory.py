"""Running out of memory: when it is red, when it was expected, and what a recording makes of it."""

from __future__ import annotations

import re
import shutil

import pytest

from speedgate.baselines import promote
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.run import Outcome
from tests.support.baseline_samples import make_run, obtain, publish_throughput
from tests.support.fake_bench import A100, ROOT, FakeBench

FP32, BF16, SDPA = (f"sdxl/{stage}/1024px-30steps-b1" for stage in ("fp32", "bf16", "sdpa"))
FAMILY = "out of memory in what was published for a100 (torch 2.0, torch nightly)"
NEIGHBOUR = {"pid": 815, "usedGpuMemory": 2**33, "gpuInstanceId": 2**32 - 1, "computeInstanceId": 2**32 - 1}
CLAIMS = ("test_latency", "test_fit", "test_memory", "test_recipe", "test_compile")
STAGES = "--stage=fp32,bf16,sdpa"


@pytest.fixture
def a100(bench: FakeBench) -> FakeBench:
    """An A100 without a recorded or published baseline."""
    bench.pretend_a100(published=False)
    return bench


def publish(bench: FakeBench, *outcomes: str) -> None:
    """Write these outcomes of fp32, one for each build of torch, as figures of the A100 family."""
    figures = [
        FamilyFigure(
            family="a100",
            case_key=FP32,
            build=build,
            mode="fp32",
            outcome=outcome,
            iterations_per_s=20.0 if outcome == "ok" else None,
        )
        for outcome, build in zip(outcomes, ("2.0", "nightly"), strict=True)
    ]
    publish_throughput(bench.path / "baselines", *figures)


@pytest.mark.parametrize("operation", ["load", "first_image", "generate"])
def test_a_case_that_no_longer_fits_is_one_red_claim(bench: FakeBench, operation: str) -> None:
    """The claim that meets the out of memory is red with the worker's words, and the other claims of the case are skipped."""
    bench.pretend_a100()

    result = bench.run("--stage=fp32", claims=CLAIMS, fp32={"raise": operation})

    assert result.red == ["test_latency[sdxl-fp32]"]
    assert f"{operation!r} of the worker raised MemoryError" in result.texts[result.red[0]]
    assert {result.claims[f"{claim}[sdxl-fp32]"] for claim in CLAIMS[1:3]} == {"skipped"}
    result.terminal.re_match_lines([rf"BIGGER {FP32} fit: out of memory on 80\.0 GiB, fitted in 0001_published.*"])


def test_a_case_that_fits_as_before_passes_without_a_word(bench: FakeBench) -> None:
    """A case with a baseline is judged, and a PASS takes no line of the terminal."""
    bench.pretend_a100()

    result = bench.run("--stage=fp32", claims=CLAIMS)

    assert (result.red, result.claims["test_fit[sdxl-fp32]"]) == ([], "passed")
    assert " fit: " not in str(result.terminal)


@pytest.mark.parametrize(
    ("outcomes", "outcome"), [((), "failed"), (("oom", "oom"), "passed")], ids=["a baseline", "a family"]
)
def test_the_claim_alone_runs_the_case(bench: FakeBench, outcomes: tuple[str, ...], outcome: str) -> None:
    """`-k fit` runs the case itself and reaches the verdict."""
    bench.pretend_a100(published=not outcomes)
    if outcomes:
        publish(bench, *outcomes)

    result = bench.run("--stage=fp32", claims=("test_fit",), fp32={"raise": "generate"})

    assert result.claims == {"test_fit[sdxl-fp32]": outcome}


@pytest.mark.parametrize(
    ("outcomes", "fault", "line"),
    [
        ("oom oom", {"fail": "generate"}, "worker: .*no kernel image"),
        ("oom oom", {"abort": "generate"}, "worker: .*SIGABRT"),
        ("oom oom", {"kill": "generate"}, "worker: .*SIGKILL, often the out-of-memory killer"),
        ("oom oom", {"raise": "generate", "from": 2}, "worker: .* MemoryError"),  # after a process that fitted
        ("oom oom", {"raise": "load"}, "fit: .* of which other processes hold a part: "),
        ("oom ok", {"raise": "generate"}, "worker: .* MemoryError"),
        ("oom not_published", {"raise": "generate"}, "worker: .* MemoryError"),
        ("ok ok", {"raise": "generate"}, "worker: .* MemoryError"),
    ],
)
def test_a_worker_that_was_lost_otherwise_is_not_out_of_memory(a100, outcomes: str, fault: dict, line: str) -> None:
    """INVALID is a worker that fails otherwise, that fitted before or has a neighbour, or that one build of torch could fit."""
    publish(a100, *outcomes.split())
    if line.startswith("fit"):
        a100.answer(nvmlDeviceGetComputeRunningProcesses_v3=[[], [NEIGHBOUR]])

    result = a100.run("--stage=fp32", "--processes=3", claims=CLAIMS, fp32=fault)

    assert result.red == ["test_latency[sdxl-fp32]"]
    result.terminal.re_match_lines([f"INVALID {FP32} {line}.*"])


def test_an_out_of_memory_of_the_whole_family_passes(a100: FakeBench) -> None:
    """If both builds of torch ran out of memory on this family the case passes too, and its other claims are skipped."""
    publish(a100, "oom_after_warmup", "oom")
    sentence = f"PASS {FP32} fit: out of memory on 80.0 GiB, {FAMILY}"

    result = a100.run("--stage=fp32", "--gate=enforce", claims=CLAIMS, fp32={"raise": "generate"})

    assert (result.red, result.claims["test_fit[sdxl-fp32]"]) == ([], "passed")
    assert sentence in result.texts["test_latency[sdxl-fp32]"]
    result.terminal.fnmatch_lines([f"{FP32} *PASS", sentence])


def test_a_case_that_has_come_to_fit_is_never_red(a100: FakeBench) -> None:
    """FASTER than the figures of a family is green, even under `--strict-improvement`."""
    publish(a100, "oom", "oom")

    result = a100.run("--stage=fp32", "--strict-improvement", claims=CLAIMS)

    assert result.red == []
    result.terminal.fnmatch_lines([f"FASTER {FP32} fit: fits into 80.0 GiB, {FAMILY}: *"])


def test_a_case_of_which_nothing_is_known_is_skipped(bench: FakeBench) -> None:
    """Without a baseline or a figure nothing is built for the claim, and the reason is given."""
    result = bench.run("--stage=fp32", claims=("test_fit",))

    assert (list(result.claims.values()), result.stages) == (["skipped"], [])
    assert "no published figure says whether sdxl-tiny/fp32/" in result.texts["test_fit[sdxl-tiny-fp32]"]


@pytest.mark.parametrize(
    ("published", "line"),
    [
        (True, f"BIGGER {SDPA} fit: .*, fitted in 0001.*"),
        (False, f"NO_BASELINE {SDPA} fit: out of memory on 80.0 GiB; nothing was stored.*"),
    ],
)
def test_a_recording_stores_that_a_case_is_out_of_memory(bench: FakeBench, published: bool, line: str) -> None:
    """Nothing is red, and the record has the case without a figure beside the cases that fit."""
    bench.pretend_a100(published=published)

    result = bench.record(STAGES, sdpa={"raise": "generate"})

    assert result.red == []
    assert (set(result.obtained.baselines), set(result.obtained.out_of_memory)) == ({FP32, BF16}, {SDPA})
    assert any(re.fullmatch(line, str(verdict)) for verdict in result.session.outcome.verdicts[SDPA])


@pytest.mark.parametrize(("fault", "outcome"), [({"raise": "load"}, Outcome.PASS), ({}, Outcome.FASTER)])
def test_a_stored_out_of_memory_is_expected(a100: FakeBench, fault: dict[str, str], outcome: Outcome) -> None:
    """A case that was promoted as out of memory passes if it still is, and is FASTER if it fits."""
    a100.promoted(STAGES, sdpa={"raise": "generate"})

    result = a100.run("--stage=sdpa", "--gate=enforce", claims=("test_fit",), sdpa=fault)

    assert (result.red, result.verdict("sdpa", "fit").outcome) == ([], outcome)


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_recording_refuses_an_out_of_memory_of_a_case_that_fitted_in_it(a100: FakeBench, is_resumed: bool) -> None:
    """A case that fitted in an earlier process or session of the recording is red, names what is stored, and is not promoted."""
    result = a100.record(STAGES, sdpa={"raise": "generate", "from": 2})
    stored = f"; its finished processes are stored in {A100}/recording/"
    if is_resumed:
        result = a100.record(STAGES, sdpa={"raise": "load"})

    assert result.red == ["test_latency[sdxl-sdpa]"]
    assert re.search(f"MemoryError.*{stored}", result.verdict("sdpa", "worker").sentence)
    with pytest.raises(ValueError, match="a failing case is never a baseline"):
        promote.promote(a100.path / "baselines", A100)


def test_a_recording_without_its_reference_says_that_it_makes_no_baseline(bench: FakeBench) -> None:
    """The last line counts the cases whose images nobody judged."""
    bench.pretend_a100()

    result = bench.record(STAGES, bf16={"raise": "load"})

    assert result.red == []
    result.terminal.fnmatch_lines(["recorded *: 2 of its cases cannot become a baseline: not judged: parity"])


def test_a_recording_on_a_cpu_stores_no_out_of_memory(bench: FakeBench) -> None:
    """The memory of a host is no part of its key, so an out of memory there is a lost worker."""
    result = bench.record("--stage=sdpa", sdpa={"raise": "generate"})

    assert result.red == ["test_latency[sdxl-tiny-sdpa]"]
    assert "MemoryError" in result.verdict("sdpa", "worker").sentence


def test_a_stored_out_of_memory_that_the_suite_lacks_is_missing(a100: FakeBench) -> None:
    """A case that was stored without a figure is MISSING if the suite no longer has it."""
    folder = a100.path / "baselines"
    recorded = obtain(folder, make_run(BF16), out_of_memory={"sdxl/gone/1024px-30steps-b1": "full"})
    recorded.rename(folder / A100 / "0001_a.json")

    result = a100.run("--stage=bf16", "--gate=enforce", claims=("test_coverage",))

    assert result.red == ["test_coverage"]
    result.terminal.re_match_lines(
        [r"MISSING sdxl/gone/.* baseline: 0001_a has this case \(out of memory\), but the suite does not: .*"]
    )


def test_a_published_row_that_matches_no_case_is_missing(a100: FakeBench) -> None:
    """A row of the ladder or of a family's table that no case and no loop of the suite has is MISSING, and says what to do."""
    a100.pretend_a100()
    published = a100.path / "baselines" / A100 / "0001_published.json"
    published.write_text(published.read_text().replace("sdxl/int8/", "sdxl/int9/"))
    throughput = a100.path / "baselines" / "published"
    shutil.copytree(ROOT / "baselines" / "published", throughput)
    for path in throughput.glob("*.toml"):
        path.write_text(path.read_text().replace('= "deepfloyd-if-stage2"', '= "deepfloyd-if-stage4"'))

    result = a100.run("--stage=bf16", "--gate=enforce", claims=("test_coverage",))

    assert result.red == ["test_coverage"]
    result.terminal.re_match_lines(
        [
            r"MISSING deepfloyd-if-stage4/fp16/.* baseline: a figure published for a100 has .* correct or remove its row",
            r"MISSING sdxl/int9/.* baseline: 0001_published has this case, but the suite does not: correct or remove its row",
        ]
    )
