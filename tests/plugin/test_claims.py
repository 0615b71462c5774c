"""The claims of `bench/` on fake workers in this process: one fault turns one claim red, and the text says what changed."""

import dataclasses
import itertools
import re

import pytest

from fixtures.pipelines.registry import pipelines
from speedgate.baselines.promote import promote
from speedgate.measure.machine import resolve_machine
from speedgate.report import markdown
from speedgate.results.json_io import read_json
from speedgate.results.run import Outcome

QUICK = ("--processes=2", "--rounds=4")
LADDER = ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]
SLOWER = {
    "slower": 1.10,
    "at": "vae_decode",
    "kernels": {"gemm": [120, 0.2], "softmax": [], "copy": [18, 0.002], "cat": [7, 0.02]},
    "attention_kernels": {"math": 40},
    "code_digest": "0123456789abcdef",
}
CHANGES = [
    "components: vae_decode 0.08 s -> 0.12 s (+50.0%)",
    "kernels appeared: cat (7 calls, 0.02 s)",
    "kernels vanished: softmax (40 calls, 0.03 s)",
    "kernels more calls: copy (9 -> 18)",
    "kernels slower: gemm (0.12 s -> 0.2 s)",
    "attention: flash x40 -> math x40",
    "generated code: 00000000deadbeef -> 0123456789abcdef",
    "versions: diffusers 0.41.0 -> 0.42.1",
]


@pytest.fixture
def a100(bench):
    """The claims on an A100 with its published baseline."""
    bench.pretend_a100()
    return bench


def test_an_unchanged_ladder_passes_its_own_baseline(bench):
    """Recorded, promoted and measured again, every case says PASS, and each process is a fresh worker in ladder order."""
    bench.promoted()

    result = bench.run(*QUICK, "--gate=enforce")

    assert (result.red, result.stages) == ([], [stage for stage in LADDER for _ in range(2)])
    assert {result.verdict(stage).outcome for stage in LADDER} == {Outcome.PASS}


@pytest.mark.parametrize(
    "faults",
    [
        [
            (
                "sdpa",
                {"slower": 1.10},
                "latency components",
                r"SLOWER \S+ latency: 0\.44 s against 0\.4 s in 0001_.*: \+10\.0% .*",
            ),
            (
                "bf16",
                {"slower": 1.02, "at": "text_encoders"},
                "components",
                r"SLOWER \S+ components: text_encoders 0\.06 s against 0\.05 s in 0001_\S+: \+20\.0% .*, \+2\.0% of the .*",
            ),
            ("compile", {"noise": 20}, "parity", r"DIFFERENT \S+ parity: .*"),
            ("fused_qkv", {"recompiles": 1}, "compile", r"NOT_APPLIED \S+ compile: recompiles is 1, expected 0"),
            (
                "int8",
                {"lacks_int8": True},
                "recipe",
                r"NOT_APPLIED \S+ recipe: unet\.int8_linears is 0, expected [1-9].*",
            ),
        ],
        [
            ("bf16", {"seconds": 0}, "latency", r"INVALID sdxl-tiny/bf16/\S+ measurement: .*not a duration.*"),
            ("sdpa", {"abort": "generate"}, "latency", r"INVALID \S+ worker: .* died during 'generate' \(SIGABRT\)"),
            (
                "compile",
                {"inductor_graphs": 0},
                "compile",
                r"NOT_APPLIED \S+ compile: inductor_graphs is 0, expected 2",
            ),
            ("int8", {"seconds": -1.0}, "latency", r"INVALID sdxl-tiny/int8/\S+ measurement: .*not a duration.*"),
        ],
        [
            ("sdpa", {"noise": float("nan")}, "parity", r"sdxl-tiny/sdpa/.* NaN .* DIFFERENT"),
            ("compile", {"hang": "count"}, "compile", r"INVALID \S+ worker: .* did not answer 'count' within 3 s .*"),
            ("int8", {"seconds": float("nan")}, "latency", r"INVALID \S+ measurement: .*not a duration.*"),
        ],
    ],
)
def test_each_fault_turns_its_own_claims_red(bench, faults):
    """The claims that own the fault of a stage are red and no other one, a sentence has the numbers, and all cases are built."""
    bench.promoted()

    result = bench.run(*QUICK, **{stage: fault for stage, fault, _, _ in faults})

    assert set(result.stages) == set(LADDER)
    names = [f"test_{claim}[sdxl-tiny-{stage}]" for stage, _, claims, _ in faults for claim in claims.split()]
    assert sorted(result.red) == sorted(names)
    for *_, line in faults:
        result.terminal.re_match_lines([line])


def test_a_reference_that_dies_does_not_redden_the_stages_that_need_it(bench):
    """Only the claim of bf16 that met the death is red; the parity of other stages is skipped with the reason."""
    result = bench.run("--stage=bf16,sdpa", bf16={"abort": "first_image"})

    assert result.red == ["test_latency[sdxl-tiny-bf16]"]
    assert result.texts[result.red[0]].startswith("INVALID sdxl-tiny/bf16/32px-4steps-b1 worker: ")
    assert result.claims["test_parity[sdxl-tiny-sdpa]"] == "skipped"
    assert "sdxl-tiny/bf16/32px-4steps-b1 failed before: " in result.texts["test_parity[sdxl-tiny-sdpa]"]


def test_a_fault_leaves_its_words_and_no_figure(bench):
    """A red claim has the type and the message of the worker's exception; a figure that is NaN is null on disk."""
    result = bench.run("--stage=fp32,sdpa", fp32={"raise": "count"}, sdpa={"noise": float("nan")})

    assert "raised MemoryError: CUDA out of memory" in result.texts[result.red[0]]
    assert result.document("sdpa")["run"]["parity"]["ssim"] is None


def test_report_is_never_red(bench):
    """`--gate report` lists what is wrong, worst first, and fails nothing."""
    bench.promoted()
    faults = {"sdpa": {"slower": 1.5}, "int8": {"lacks_int8": True}, "compile": {"noise": 20}}

    result = bench.run(*QUICK, "--gate=report", **faults)

    assert result.red == []
    result.terminal.re_match_lines(["NOT_APPLIED .*", "DIFFERENT .*", "SLOWER .*"])


@pytest.mark.parametrize(("mode", "red"), [("enforce", ["test_latency[sdxl-tiny-fp32]"]), ("auto", [])])
def test_a_missing_baseline_is_red_under_enforce_only(bench, mode, red):
    """`--gate enforce` fails a case without a baseline, and `auto` does not."""
    assert bench.run("--stage=fp32", f"--gate={mode}", claims=("test_latency",)).red == red


def test_a_case_that_is_red_is_not_promoted(bench):
    """A recording of a failed case cannot become a baseline."""
    result = bench.record("--stage=int8", int8={"lacks_int8": True})

    with pytest.raises(ValueError, match="sdxl-tiny/int8"):
        promote(bench.path / "baselines", result.session.machine.key)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (
            ("test_latency", "test_recipe"),
            "sdxl-tiny/int8/32px-4steps-b1 cannot become a baseline without test_compile, test_parity, which",
        ),
        (("test_recipe",), "no selected test measures a case, or"),
    ],
    ids=["without parity", "without latency"],
)
def test_a_recording_that_leaves_out_a_required_claim_is_refused_before_anything_is_built(bench, claims, message):
    """The latency alone, or nothing measured, is refused in one line: no worker starts, and the last recording stays."""
    folder = bench.path / "baselines" / resolve_machine("cpu").key
    folder.mkdir(parents=True)
    (folder / "obtained.json").write_text("the last recording")

    with pytest.raises(pytest.UsageError) as raised:
        bench.record("--stage=int8", claims=claims)

    assert str(raised.value).startswith(f"--gate record: {message}")
    assert not list(bench.path.glob("results-*/*.json"))
    assert [path.name for path in folder.iterdir()] == ["obtained.json"]


def test_a_recording_names_the_machine_and_the_commit_and_does_not_ask_to_be_recorded(bench):
    """The recorded file has the host and pytest-benchmark's commit facts, and the terminal does not ask for a recording."""
    result = bench.record("--stage=sdpa")

    document = read_json(result.session.options.baselines_root / result.session.machine.key / "obtained.json")
    assert document["machine_info"]["host"]["name"] == result.session.machine.name
    assert "id" in document["commit_info"]
    assert "record them" not in str(result.terminal)


def test_parity_alone_builds_the_references_and_measures_nothing(bench):
    """Parity of one stage builds it and the two references, once each and without a round, and judges the stage alone."""
    result = bench.run("--stage=int8", claims=("test_parity",))

    assert (result.red, sorted(result.stages)) == ([], ["bf16", "fp32", "int8"])
    assert result.run("int8").processes == ()
    assert result.session.outcome.verdicts.keys() == {result.run("int8").case_key}


def test_skip_latency_judges_outputs_and_measures_nothing(bench):
    """With `--skip-latency` structure, compilation and parity are judged, and no round is measured."""
    result = bench.run("--stage=sdpa", "--skip-latency")

    assert (result.red, result.run("sdpa").processes) == ([], ())
    assert [name for name, outcome in result.claims.items() if outcome == "passed"] == [
        "test_compile[sdxl-tiny-sdpa]",
        "test_recipe[sdxl-tiny-sdpa]",
        "test_parity[sdxl-tiny-sdpa]",
    ]


def test_claims_that_compare_cases_end_the_case_that_is_open(bench):
    """Each case is built once, and the last one, which pytest keeps open, has no worker when another is built."""
    result = bench.run("--stage=compile,sdpa", "--skip-latency")

    assert (result.red, result.stages) == ([], ["sdpa", "compile", "bf16", "fp32"])
    assert result.builds.most_living == 1


def test_every_pipeline_is_green(bench):
    """Every claim of every pipeline's fp32 case fits the facts that its specification expects."""
    result = bench.run("--pipeline=all", "--stage=fp32")

    labels = {key.partition("/")[0] for key, verdicts in result.session.outcome.verdicts.items() if verdicts}
    assert (result.red, labels) == ([], {f"{name}-tiny" for name in pipelines()})


def test_the_image_of_a_batch_is_judged_at_the_ladders_workload(bench):
    """The parity of a throughput case is skipped, and the reason names the option that judges it."""
    result = bench.run("--suite=throughput", "--pipeline=sd15", claims=("test_parity",))

    assert result.red == []
    assert {text for text in result.texts.values() if "fp16" in text} == {
        "parity is not judged here (at this workload): --stage fp16 judges the image at the ladder's"
    }


def test_a_stage_that_its_pipeline_cannot_have_is_skipped_with_the_reason(bench, monkeypatch):
    """It is not built, and the other stages of the ladder are judged."""
    sd15 = dataclasses.replace(
        pipelines()["sd15"], unsupported=dict.fromkeys(("int8", "int8_weight_only", "fp8"), "it has no linear")
    )
    monkeypatch.setitem(pipelines(), "sd15", sd15)

    ladder = bench.run("--pipeline=sd15", claims=("test_recipe",))

    assert (ladder.red, ladder.stages) == ([], LADDER[:-1])
    assert ladder.texts["test_recipe[sd15-tiny-int8]"] == "sd15-tiny has no int8 stage: it has no linear"


@pytest.mark.parametrize(("mode", "status"), [("enforce", pytest.ExitCode.NO_TESTS_COLLECTED), ("auto", 0)])
def test_a_session_that_judges_nothing_is_not_green_under_enforce(bench, mode, status):
    """Memory is not judged on a CPU: exit status 5 if it is the only claim, as if there was none."""
    assert bench.run("--stage=fp32", f"--gate={mode}", claims=("test_memory",)).exit_status == status


def test_a_machine_as_fast_as_the_published_one_is_green(a100):
    """The published figures pass their own gates at full size, ladder and memory included, under enforce."""
    result = a100.run("--gate=enforce")

    assert result.red == []
    result.terminal.re_match_lines([r"sdxl/int8/1024px-30steps-b1 +2\.429 s .* 1\.04x +3\.03x .* 0001_published +PASS"])
    assert [result.claims[f"test_{claim}[sdxl-int8]"] for claim in ("ladder", "memory", "fit")] == ["passed"] * 3


@pytest.mark.parametrize(
    "faults",
    [
        [
            ("compile", {"slower": 1.3}, "latency ladder", r"SLOWER \S+ ladder: 1\.005x over .*, expected 1\.306x.*"),
            (
                "int8",
                {"bigger": 1.18},
                "memory",
                r"BIGGER \S+ memory: peak 8\.260 GiB against ceiling 7\.866 .*\+5\.0%.*",
            ),
        ],
        [
            ("compile", {"syncs": 1.0}, "compile", r"NOT_APPLIED \S+ compile: syncs_per_step is 1\.0, expected 0\.0"),
            (
                "fused_qkv",
                {"cudagraph_skips": 2},
                "compile",
                r"NOT_APPLIED \S+ compile: cudagraph_skips is 2, expected 0",
            ),
        ],
        [(stage, {"slower": 1.15}, "latency", rf"SLOWER sdxl/{stage}/\S+ latency: .*") for stage in LADDER],
    ],
    ids=["one gain lost", "not one graph", "everything slower"],
)
def test_each_claim_of_a_gpu_owns_its_fault(a100, faults):
    """A lost gain, more memory, a synchronisation and a skipped CUDA graph turn only their own claims red."""
    result = a100.run(**{stage: fault for stage, fault, _, _ in faults})

    names = [f"test_{claim}[sdxl-{stage}]" for stage, _, claims, _ in faults for claim in claims.split()]
    assert sorted(result.red) == sorted(names)
    for *_, line in faults:
        result.terminal.re_match_lines([line])


def test_a_throttled_gpu_is_invalid_and_leaves_no_figure(a100):
    """If every round is discarded, the case is INVALID after a limited number of tries and has no rounds."""
    a100.answer(nvmlDeviceGetCurrentClocksEventReasons=[0x40])

    result = a100.run("--stage=int8", "--gate=enforce")

    assert result.red[0] == "test_latency[sdxl-int8]"
    assert re.match("6 rounds of one process were discarded, .*0x40", result.verdict("int8", "measurement").sentence)
    assert result.run("int8").processes == ()


def test_a_discarded_round_is_measured_again(a100):
    """A discarded round costs one more round and is reported, and the result file has the state of the GPU."""
    a100.answer(nvmlDeviceGetCurrentClocksEventReasons=[0, 0, 0, 0x40, 0])

    result = a100.run("--stage=fp32", "--rounds=4", claims=("test_latency",))

    (process,) = result.run("fp32").processes
    assert (result.red, len(process.seconds), len(process.discarded_reasons)) == ([], 4, 1)
    assert process.health["sm_clock_median_mhz"] == 1410
    assert result.document("fp32")["health"]["power_limit_w"] == 400
    result.terminal.fnmatch_lines(["1 discarded rounds of sdxl/fp32/* were measured again, the last one because: *"])


def test_a_red_verdict_says_what_changed_wherever_it_is_read(bench):
    """The failed claim, the terminal, the JSON and the Markdown have a line for each kind of change, in numbers."""
    stages = "--stage=fp32,bf16,sdpa"
    bench.promoted(stages, versions={"diffusers": "0.41.0"})

    result = bench.run(*QUICK, stages, sdpa=SLOWER, bf16={"slower": 0.9}, versions={"diffusers": "0.42.1"})

    assert result.red == ["test_latency[sdxl-tiny-sdpa]", "test_components[sdxl-tiny-sdpa]"]
    for lines in (result.texts[result.red[0]].splitlines(), below(result.terminal, "SLOWER sdxl-tiny/sdpa/")):
        assert [line.strip() for line in lines][-len(CHANGES) :] == CHANGES
    assert result.document("sdpa")["explanation"] == CHANGES
    assert result.document("fp32")["explanation"] == []
    text = markdown.render(result.folder).splitlines()
    number, _ = [number for number, line in enumerate(text) if line.startswith("- **SLOWER**")]
    assert [line[:10] for line in text[number + 1 : number + 1 + len(CHANGES)]] == ["  - <code>"] * len(CHANGES)
    assert "vae&#95;decode 0.08 s -&#62; 0.12 s" in text[number + 1]


def test_a_faster_case_is_explained_too(bench):
    """FASTER is green, and the terminal says which component became faster."""
    bench.promoted("--stage=bf16")

    result = bench.run(*QUICK, "--stage=bf16", bf16={"slower": 0.9})

    lines = below(result.terminal, "FASTER sdxl-tiny/bf16/")
    assert (result.red, lines[0].strip()) == ([], "components: denoiser 0.3 s -> 0.25 s (-16.7%)")
    assert lines[1].strip().startswith("kernels: the same")


def below(matcher, start):
    """The indented lines below the first line that begins with `start`."""
    lines = str(matcher).splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(start)) + 1
    return list(itertools.takewhile(lambda line: line.startswith("  "), lines[number:]))


def test_kernels_are_profiled_once_a_case(bench):
    """One worker of a case is profiled, and the components of every process are timed."""
    result = bench.run("--stage=sdpa", "--processes=3", "--rounds=4", sdpa=SLOWER)

    run = result.run("sdpa")
    assert [kernel.name for kernel in run.attribution.kernels] == ["gemm", "cat", "copy"]
    assert [len(process.components) for process in run.processes] == [3, 3, 3]
    assert [
        worker.operations.count("attribute") for worker in result.builds.workers if worker.case.stage == "sdpa"
    ] == [1, 0, 0]


@pytest.mark.parametrize("other", [None, {}])
def test_without_latency_each_case_is_built_once(bench, other):
    """Structure, compilation and parity share one worker of each arm, though no test measures its rounds."""
    result = bench.run("--skip-latency", "--stage=sdpa", other=other)

    arms = ["this"] if other is None else ["this", "other"]
    assert sorted(result.builds.builds()) == sorted(
        [("fp32", "this"), ("bf16", "this"), *(("sdpa", arm) for arm in arms)]
    )
