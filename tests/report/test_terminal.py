"""The terminal section: the figures of each case, the sentences of verdicts, and the remarks."""

import collections
import re

import msgspec
import pytest

from speedgate.gate.policy import Policy
from speedgate.report import terminal
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.run import Comparison, Outcome, Turns, Verdict
from speedgate.results.timings import Loop
from tests.support.baseline_samples import BF16, INT8, KEY, make_baseline, make_confirmation, make_run

FP32 = "sdxl/fp32/1024px-30steps-b1"
GIB = 2**30

TABLE = [
    "case | latency | it/s | spread | vs parent | vs first | SSIM | peak | cold start | baseline | verdict",
    f"{FP32} | 8 s | 30 | 1 proc. | - | - | - | 9.000 GiB | 10.0 s (cold cache) | - | NO_BASELINE",
    f"{BF16} | 4.481 s | - | 25.0% of 3 | 1.79x | 1.79x | 1.0000 | 5.250 GiB | 10.0 s (warm cache) | - | PASS",
    f"{INT8} | - | - | - | - | - | - | - | 10.0 s (eager) | 0002_recorded | NOT_APPLIED",
]


def view(*runs, verdicts=(), **fields):
    """Make a view of these runs and verdicts on an A100."""
    verdicts_by_case = {}
    for verdict in verdicts:
        verdicts_by_case.setdefault(verdict.case_key, []).append(verdict)
    runs_by_case = {run.case_key: run for run in runs}
    return terminal.TerminalView(gpu_key=KEY, runs=runs_by_case, verdicts=verdicts_by_case, **fields)


def measured(case_key, *stages, hits=0, misses=0, parity=None, **figures):
    """Make a run of a case whose recipe has these stages."""
    run = make_run(case_key, **figures)
    cold_start = msgspec.structs.replace(run.cold_start, cache_hits=hits, cache_misses=misses)
    return msgspec.structs.replace(run, recipe={"stages": list(stages)}, cold_start=cold_start, parity=parity)


def with_loops(run, **loops):
    """Give the run these loops in each of its processes."""
    return msgspec.structs.replace(run, processes=tuple(msgspec.structs.replace(p, loops=loops) for p in run.processes))


def make_verdict(outcome, *, case_key=INT8, claim="latency", sentence="1 s against 2 s"):
    """Make a verdict."""
    return Verdict(case_key=case_key, claim=claim, outcome=outcome, sentence=sentence)


def cells(line):
    """Split a line into its cells; columns are two spaces apart."""
    return re.split(r"  +", line)


def columns(shown):
    """Read the cells of the last case by their heading; a column that was left out gives a dash."""
    header, *_, row = map(cells, terminal.table(shown))
    return collections.defaultdict(lambda: "-", zip(header, row, strict=True))


@pytest.fixture
def ladder():
    """A view of three stages: slow, noisy and wrongly built."""
    noisy = {"medians_s": [4.0, 4.5, 5.0], "peak_bytes": [GIB, 21 * GIB // 4], "hits": 3, "parity": {"ssim": 0.99996}}
    slow = measured(FP32, "fp32", medians_s=[8.0], peak_bytes=[9 * GIB], misses=2)
    return view(
        with_loops(slow, **{"": Loop(iterations=210, seconds=(7.0, 7.2, 6.9))}),
        measured(BF16, "fp32", "bf16", **noisy),
        measured(INT8, "fp32", "bf16", "int8", medians_s=[]),
        verdicts=[
            make_verdict(Outcome.PASS, case_key=FP32),
            make_verdict(Outcome.NO_BASELINE, case_key=FP32),
            make_verdict(Outcome.PASS, case_key=BF16),
            make_verdict(Outcome.PASS),
            make_verdict(Outcome.NOT_APPLIED),
        ],
        baselines={INT8: make_baseline(2.5, 2.5)},
    )


def test_the_table_shows_each_case_in_one_line(ladder):
    """A line has latency, spread, speed-ups, parity, peak, cold start, baseline and the worst verdict of a case."""
    assert [" | ".join(cells(line)) for line in terminal.table(ladder)] == TABLE


def test_columns_are_aligned(ladder):
    """Every cell begins where its heading does, and no line ends in spaces."""
    lines = terminal.table(ladder)

    starts = {tuple(match.end() for match in re.finditer(r"  +", line)) for line in lines}

    assert len(starts) == 1
    assert [line.rstrip() for line in lines] == lines


def test_a_case_without_a_worker_stays_in_the_table():
    """A case whose worker died before it had a run is in the table as INVALID, and its sentence says why."""
    lost = make_verdict(Outcome.INVALID, claim="worker", sentence="the worker died during 'build' (SIGABRT)")
    shown = view(verdicts=[lost], lost_cases={INT8})

    assert dict(columns(shown)) == {"case": INT8, "verdict": "INVALID"}
    assert terminal.sentences(shown) == [f"INVALID {INT8} worker: the worker died during 'build' (SIGABRT)"]


def test_a_speedup_is_over_the_parent_and_over_the_first_stage():
    """One column compares with the stage before, the other with the first stage; a stage that was not measured is a dash."""
    stages, seconds = ["fp32", "bf16", "int8"], {FP32: 8.0, BF16: 4.0, INT8: 2.5}
    runs = [measured(key, *stages[:n], medians_s=[seconds[key]]) for n, key in enumerate(seconds, start=1)]

    whole, alone = columns(view(*runs)), columns(view(runs[1]))
    assert (whole["vs parent"], whole["vs first"]) == ("1.60x", "3.20x")
    assert (alone["vs parent"], alone["vs first"]) == ("-", "-")


def test_sentences_come_worst_first_and_leave_out_what_passed():
    """Every verdict that is neither PASS nor NO_BASELINE has a line with its case and claim."""
    verdicts = [
        make_verdict(Outcome.FASTER, sentence="2 s against 3 s"),
        make_verdict(Outcome.PASS, claim="memory"),
        make_verdict(Outcome.SLOWER, case_key=BF16, sentence="3 s against 2 s"),
        make_verdict(Outcome.NOT_APPLIED, claim="recipe", sentence="int8 is 0, expected 4"),
    ]

    assert terminal.sentences(view(verdicts=verdicts)) == [
        f"NOT_APPLIED {INT8} recipe: int8 is 0, expected 4",
        f"SLOWER {BF16} latency: 3 s against 2 s",
        f"FASTER {INT8} latency: 2 s against 3 s",
    ]


def test_what_changed_stands_below_the_verdict_that_moved():
    """The explanation of a case is shown once, below its worst verdict that says that something moved."""
    verdicts = [
        make_verdict(Outcome.BIGGER, claim="memory"),
        make_verdict(Outcome.SLOWER),
        make_verdict(Outcome.DIFFERENT, claim="parity"),
    ]

    lines = terminal.sentences(view(verdicts=verdicts, explanations={INT8: ["unet 1 s -> 2 s"]}))

    assert [line.split()[0] for line in lines] == ["DIFFERENT", "SLOWER", "unet", "BIGGER"]
    assert lines[2] == "  unet 1 s -> 2 s"


RECORD = f"pytest bench/ --gate record, then speedgate promote {KEY}"


@pytest.mark.parametrize(
    ("outcome", "step"),
    [
        (Outcome.PASS, "Every verdict is PASS."),
        (Outcome.NO_BASELINE, f"No baseline of this machine. Next: {RECORD}"),
        (Outcome.FASTER, f"Next: record a new baseline: {RECORD}"),
        (Outcome.STALE, f"Next: record a new baseline: {RECORD}"),
        (
            Outcome.SLOWER,
            f"Next: read below what changed. If the change is intended: {RECORD} --accept-slower REASON; until then:"
            " speedgate acknowledge CASE --why REASON",
        ),
        (Outcome.DIFFERENT, "Next: compare the images: the same command with --report report.html"),
        (Outcome.INVALID, "Next: read below what broke, and measure again."),
    ],
)
def test_the_next_step_follows_the_table(outcome, step):
    """The first line after the table says what to do about the worst verdict; a live comparison stores nothing to record."""
    verdicts = [make_verdict(Outcome.PASS, claim="recipe"), make_verdict(outcome)]
    assert terminal.section(view(measured(INT8), verdicts=verdicts))[2:4] == ["", step]
    if outcome in (Outcome.SLOWER, Outcome.FASTER):
        assert "record" not in "".join(terminal.next_steps(view(measured(INT8), verdicts=verdicts, is_live=True)))


def test_acknowledged_claims_are_counted():
    """They are no reason to do anything, and hide nothing else."""
    acknowledged = msgspec.structs.replace(make_verdict(Outcome.SLOWER, sentence="ACKNOWLEDGED: why"), gates=False)

    assert terminal.next_steps(view(measured(INT8), verdicts=[make_verdict(Outcome.PASS), acknowledged])) == [
        "Every other verdict is PASS.",
        "1 red claim is acknowledged until the next baseline: the sentence below begins with the reason.",
    ]
    assert terminal.next_steps(view(measured(INT8), verdicts=[make_verdict(Outcome.FASTER), acknowledged]))[0] == (
        f"Next: record a new baseline: {RECORD}"
    )


def test_cases_without_a_baseline_are_counted_once():
    """Two claims of one case count as one, below another step too, without sentences; if all lack one, no column shows it."""
    unknown = [make_verdict(Outcome.NO_BASELINE, case_key=BF16, claim=claim) for claim in ("latency", "memory")]
    shown = view(measured(INT8), measured(BF16), verdicts=[make_verdict(Outcome.FASTER), *unknown])

    assert terminal.next_steps(shown)[1] == f"No baseline of 1 of 2 cases on this machine. Next: {RECORD}"
    assert [line.split()[0] for line in terminal.sentences(shown)] == ["FASTER"]
    assert "verdict" not in terminal.table(view(measured(BF16), verdicts=unknown))[0]


def test_a_recording_ends_with_its_file_and_what_its_spread_cannot_show():
    """The file, how to promote it, and the slowdown that its noisiest case may hide; more processes only if they would help."""
    quiet, noisy = (
        measured(key, medians_s=medians_s) for key, medians_s in ((BF16, [1, 1, 1.001]), (INT8, [1, 1.1, 1.16]))
    )
    recording = terminal.Recording(path="baselines/a100/obtained.json")

    written, unseen = terminal.next_steps(view(quiet, noisy, is_recording=True, recording=recording))

    assert written == f"recorded baselines/a100/obtained.json. Next: speedgate promote {KEY}, then commit the new file"
    assert re.fullmatch(
        rf"16.0% spread of 3 processes \({INT8}\): a slowdown of less than \+(\S+)% may stay unseen; "
        r"with --processes 12, less than \+(\S+)%",
        unseen,
    )
    assert terminal.next_steps(view(quiet, is_recording=True, recording=recording))[1].endswith("may stay unseen")


def test_a_recording_that_cannot_be_promoted_says_why():
    """It names the number of cases and the first reason, and no command; an unfinished one has no step."""
    refused = terminal.Recording(path="obtained.json", refused={INT8: "not judged: parity", BF16: "test_fit"})

    lines = terminal.next_steps(view(is_recording=True, recording=refused))

    assert lines == ["recorded obtained.json: 2 of its cases cannot become a baseline: not judged: parity"]
    assert terminal.next_steps(view(verdicts=[make_verdict(Outcome.NO_BASELINE)], is_recording=True)) == []


def test_other_verdicts_that_passed_are_counted_by_claim():
    """Claims with the same number of cases share it; a latency that passed has a sentence of its own."""
    claims = {"recipe": (INT8, BF16), "compile": (INT8, BF16), "parity": (INT8,), "latency": (BF16,)}
    shown = view(
        verdicts=[make_verdict(Outcome.PASS, claim=c, case_key=key) for c, keys in claims.items() for key in keys]
    )

    assert terminal.section(shown)[-2] == "PASS recipe, compile of 2 cases; parity of 1 case"
    assert terminal.sentences(shown) == [f"PASS {BF16} latency: 1 s against 2 s"]


def test_the_last_line_counts_what_is_guarded_and_what_is_not():
    """Below the verdicts one line counts guarded claims, and others by reason; a reason why cases are not built stands once."""
    shown = view(
        verdicts=[make_verdict(Outcome.PASS, claim="attention")],
        not_judged={INT8: {"memory": "CPU"}},
        not_built=["fp8: needs a CUDA GPU", "fp8: needs a CUDA GPU"],
    )

    assert terminal.section(shown)[-1] == "guarded: 1 claim of 1 case; not guarded here: memory 1 (CPU)"
    assert terminal.remarks(shown) == ["not built here: fp8: needs a CUDA GPU"]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (f"SLOWER {INT8} latency: 1 s", ("", Outcome.SLOWER, f" {INT8} latency: 1 s")),
        (f"{INT8}  1 s  NO_BASELINE", (f"{INT8}  1 s  ", Outcome.NO_BASELINE, "")),
        ("a line about PASS and SLOWER", ("a line about PASS and SLOWER", None, "")),
        ("Every verdict is PASS.", ("Every verdict is PASS.", None, "")),
    ],
)
def test_the_outcome_of_a_line_is_coloured(line, parts):
    """The word at the start of a sentence or at the end of a row is split off, and no other."""
    assert terminal.split_outcome(line) == parts


def test_a_busy_machine_is_reported():
    """A load average above half of the cores before the first case has a remark with both numbers, if anything was timed."""
    run = measured(FP32, "fp32")
    untimed = msgspec.structs.replace(run, processes=())
    busy = terminal.remarks(view(run, health={"load_1min": 5.0, "cores": 8}))

    assert [line[:30] for line in busy] == ["load average 5.0 on 8 cores be"]
    assert terminal.remarks(view(run, health={"load_1min": 4.0, "cores": 8})) == []
    assert terminal.remarks(view(untimed, health={"load_1min": 5.0, "cores": 8})) == []
    assert terminal.remarks(view(run, health={"allows_busy": True}, is_recording=True)) == [
        "--allow-busy: rounds that other programs disturbed are used too"
    ]
    assert terminal.remarks(view(run, health={"allows_busy": True})) == []


def test_rounds_that_were_measured_again_are_counted():
    """The discarded rounds of a case are counted, with those of the other arm."""
    run = measured(FP32, "fp32", medians_s=[1.0, 2.0])
    run = msgspec.structs.replace(
        run, processes=tuple(msgspec.structs.replace(p, discarded_reasons=("hot",)) for p in run.processes)
    )
    comparison = Comparison(case_key=FP32, label="the other arm", other=run, turns=Turns.ROUNDS)

    assert terminal.remarks(view(run)) == [
        f"2 discarded rounds of {FP32} were measured again, the last one because: hot"
    ]
    assert terminal.remarks(view(run, comparisons={FP32: comparison}))[0].startswith("4 discarded rounds")


def test_confirmed_cases_are_counted_with_their_cost():
    """One line says how many cases pairs decided, their outcomes, how many they did not, and the seconds of both."""
    confirmations = {
        key: msgspec.structs.replace(make_confirmation(key, live_ratio=ratio), seconds=60.4)
        for key, ratio in ((INT8, 1.0), (BF16, 1.06), (FP32, None))
    }
    verdicts = [
        *(make_verdict(outcome, case_key=key) for key, outcome in ((INT8, Outcome.PASS), (BF16, Outcome.SLOWER))),
        make_verdict(Outcome.SLOWER, case_key=FP32),
        make_verdict(Outcome.PASS, claim="parity"),
    ]

    lines = terminal.remarks(view(confirmations=confirmations, verdicts=verdicts))

    assert lines[0] == (
        "3 cases may be slower than their stored figures: pairs decided 2 (1 SLOWER, 1 PASS), 1 not decided; 12 pairs in 181 s"
    )


def test_the_drift_of_the_machine_is_a_remark():
    """The median over the confirmed cases is shown, and the tolerance of the session decides which baseline will be stale."""
    confirmations = {key: make_confirmation(key, stored_ratio=ratio) for key, ratio in ((INT8, 1.01), (BF16, 1.03))}

    default, strict = (
        terminal.remarks(view(confirmations=confirmations, policy=Policy(latency_tolerance=tolerance)))
        for tolerance in (0.05, 0.03)
    )

    assert [line.split(":")[0] for line in default[1:]] == [
        "the machine takes 2.0% longer than when its baselines were recorded (median of 2 cases)"
    ]
    assert strict[1] == default[1] and strict[2].startswith(f"baselines/{KEY}/0002_recorded.json will soon be stale")


def test_a_live_comparison_shows_both_arms_versions():
    """Each package has a line with the version of both arms."""
    shown = view(measured(FP32, "fp32"), is_live=True, other_versions={"torch": "2.12.0", "cuda": None})

    assert [line.split() for line in terminal.remarks(shown)] == [
        ["this", "arm", "other", "arm"],
        ["torch", "2.13.0", "2.12.0"],
        ["cuda", "None", "None"],
    ]


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x9b31m", "\r\n", "\x07", "\u2028", "\u202e", "\x00"])
def test_nothing_that_a_run_says_steers_the_terminal(hostile):
    """Control, line-breaking and direction characters in a key, a sentence or a baseline's name are replaced."""
    key = f"sdxl/fp32{hostile}/64px"
    baseline = msgspec.structs.replace(make_baseline(2.5), path=f"0001_{hostile}x.json")
    verdicts = [make_verdict(Outcome.SLOWER, case_key=key, sentence=f"is {hostile}")]
    shown = view(measured(key, "fp32"), verdicts=verdicts, baselines={key: baseline})

    lines = [*terminal.table(shown), *terminal.sentences(shown)]

    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert "sdxl/fp32?" in lines[1]
    assert "is ?" in lines[2]


def test_several_loops_are_named():
    """Each rate follows the name of its loop, without control characters, in the order of the loops."""
    loops = {"base": Loop(iterations=30, seconds=(2.0, 2.0, 2.0)), "up\x1b": Loop(iterations=9, seconds=(2.0,) * 3)}

    assert columns(view(with_loops(measured(FP32, "fp32"), **loops)))["it/s"] == "base 15, up? 4.5"


def figure(case_key=INT8, *, iterations_per_s=None, outcome="ok", build="2.0"):
    """Make a figure that was published for the family."""
    rate = {"outcome": outcome, "iterations_per_s": iterations_per_s}
    return FamilyFigure(family="a100", case_key=case_key, build=build, mode="eager", **rate)


def test_published_seconds_stand_beside_those_measured_here():
    """Seconds of an image are compared with seconds, and named with torch, source and remark."""
    published = FamilyFigure(
        family="l20",
        case_key=INT8,
        build="2.7.1",
        mode="int8",
        outcome="ok",
        latency_s=24.94,
        source="README",
        note="b",
    )
    shown = view(measured(INT8, "int8", medians_s=[2.5]), family_figures={INT8: (published,)})

    assert terminal.remarks(shown)[0] == (
        f"published for this family (l20), not gated: {INT8}: 24.94 s an image (torch 2.7.1; README; b); measured here: 2.5 s"
    )


def test_a_case_that_timed_no_loop_says_so():
    """The remark on a published rate says that no loop was timed here."""
    shown = view(measured(INT8, "int8"), family_figures={INT8: (figure(outcome="oom"),)})

    assert columns(shown)["it/s"] == "-"
    assert terminal.remarks(shown)[0].endswith("out of memory (torch 2.0); no loop timed here")


def test_a_figure_of_one_loop_stands_beside_that_loop():
    """A figure that was published for one of several models in a row is shown with the rate of that loop."""
    key, cell_key = "if/fp16/64px-100steps-b1", "if-second/fp16/256px-50steps-b1"
    loops = {"first": Loop(iterations=100, seconds=(2.0,) * 3), "second": Loop(iterations=50, seconds=(5.0,) * 3)}
    figures = dict.fromkeys((cell_key, "if-second/fp16/256px-50steps-b4"), (figure(cell_key, iterations_per_s=13.84),))

    assert terminal.remarks(view(with_loops(measured(key, "fp16"), **loops), family_figures=figures)) == [
        f"published for this family (a100), not gated: {cell_key}: 13.84 it/s (torch 2.0); measured here: 10 it/s"
    ]


def test_a_figure_of_the_family_stands_beside_a_measured_case():
    """A measured case has one line with each build of torch and the rate measured here; a case without rounds has none."""
    cell, hostile = figure(iterations_per_s=21.66), figure(build="\x1b[2J", outcome="oom_after_warmup")
    timed = with_loops(measured(INT8, "fp32", "int8"), **{"": Loop(iterations=50, seconds=(2.0, 2.0, 2.0))})
    figures = {INT8: (cell, hostile), BF16: (cell,), FP32: (cell,)}
    shown = view(timed, measured(BF16, "fp32", "bf16", medians_s=[]), family_figures=figures)

    line = f"{INT8}: 21.66 it/s (torch 2.0), out of memory after the warm-up (torch ?[2J); measured here: 25 it/s"
    assert terminal.remarks(shown) == [f"published for this family (a100), not gated: {line}"]


def test_operations_and_the_share_reached_are_reported():
    """A case with known ceilings has its floor and share; without ceilings a workload has one line for all stages."""
    counted = {"operations": {"unet": {"flops": {"mm": 3 * 10**12, "bmm": 10**12}}}}
    shown = view(rooflines={FP32: counted, BF16: counted, INT8: counted | {"floor_s": 0.0251, "share": 0.42}})

    assert terminal.remarks(shown) == [
        "sdxl at 1024px-30steps-b1: 4 TFLOP an image",
        f"{INT8}: 4 TFLOP an image, at least 0.0251 s here; this run reaches 42%",
    ]


def test_a_column_that_says_nothing_is_left_out():
    """A column in which no case has a figure is not shown, nor the cold start of a session that times nothing."""
    described = msgspec.structs.replace(measured(INT8, "int8", parity={"ssim": 1.0}), processes=())

    assert [cells(line) for line in terminal.table(view(described))] == [
        ["case", "SSIM", "verdict"], [INT8, "1.0000", "not judged"],
    ]  # fmt: skip
