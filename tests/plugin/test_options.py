"""The command-line options: which cases they select, and how bad input ends (one line, exit status 4, nothing built)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fixtures import selection
from fixtures.cases import Case
from fixtures.pipelines.registry import pipelines
from fixtures.selection import coverage_of, nothing_left, select
from fixtures.stages.ladder import LADDERS, lineage
from speedgate.measure.machine import resolve_machine
from speedgate.plugin import options
from speedgate.plugin.hooks import SESSION
from speedgate.plugin.items import parameters_of
from speedgate.results import optional
from tests.support.fake_bench import OPTIONS

ROOT = Path(__file__).parents[2]
TOLERANCE = "argument --tolerance: {}: expected PERCENT or STAGE=PERCENT, above 0 and below 100, for example int8=5"
SHARD = "argument --shard: {}: expected I/N with I from 1 to N, as in 1/2 and 2/2"
LIVE = "--against: cannot be used with --*, because a live comparison *; drop one of them"
BAD_OPTIONS = [
    ("--stage=int9", "--stage int9: unknown; choose from fp32, bf16, sdpa, compile, fused_qkv, int8*"),
    ("--stage=bf16,int9", "--stage int9: unknown*"),
    ("--pipeline=sdxxl", f"--pipeline sdxxl: unknown; choose from {', '.join(pipelines())}, all"),
    ("--size=huge", "--size huge: unknown; choose from full, tiny"),
    ("--gpu-key=nvidia-x", "--gpu-key nvidia-x: unknown; choose from cpu-*"),
    ("--device=cuda", "--device cuda: the NVIDIA driver reports no GPU here*--device cpu*"),
    ("--weights=hub", "--weights hub: the hub has the full size only*--weights synthetic*"),
    ("--weights=", "--weights: expected hub, synthetic or a folder*"),
    ("--results=a-file/below", "--results a-file/below: *name a folder*"),
    ("--results=/proc", "--results /proc: *name a folder*"),
    ("--benchmark-json=a-file/below.json", "--benchmark-json a-file/below.json: *name a file that can be written"),
    ("--benchmark-json=/proc/x.json", "--benchmark-json /proc/x.json: *name a file that can be written"),
    ("--report=missing/x.html", "--report missing/x.html: No such file or directory; name a file that can be written"),
    ("--benchmark-compare --benchmark-compare-fail=mean:5%", "--benchmark-compare-fail: there is no baseline of cpu-*"),
    ("--images=a-file", "--images a-file: *name a folder*"),
    ("--gate=strict", "*--gate*invalid choice*"),
    ("--processes=0", "*argument --processes: 0: expected a whole number, 1 or more"),
    ("--processes=many", "*argument --processes: many: expected a whole number, 1 or more"),
    ("--rounds=0", "*argument --rounds: 0: expected a whole number, 1 or more"),
    ("--worker-timeout=never", "*argument --worker-timeout: never: expected a number of seconds, above 0"),
    (
        "--budget=60",
        "--budget: limits a recording or live pairs, and this command has neither; add --gate record, --gate enforce or *",
    ),
    ("--gate=record --budget=soon", "*argument --budget: soon: expected a number of seconds, above 0"),
    ("--gate=record --budget=60 --isolation=none", "--budget: *drop --isolation none"),
    ("--gate=record --budget=60 --processes=2", "--processes 2: a recording needs at least 3 processes*"),
    ("--gate=record --processes=3", "--processes 3: a recording needs at least 5 processes*"),
    ("--gate=record --skip-latency", "--skip-latency: cannot be used with --gate record*"),
    *[
        (f"--quick --{name}={value}", f"--quick: cannot be used with --{shown}, because --quick measures nothing *")
        for name, value, shown in [
            ("gate", "record", "gate record"),
            ("gate", "enforce", "gate enforce"),
            ("against", "python", "against"),
            ("against-rootdir", "a-folder", "against-rootdir"),
            ("inject", "slower_step", "inject"),
            ("history", "sqlite:///a-file", "history"),
            ("shard", "1/2", "shard 1/2"),
        ]
    ],
    (
        "--quick --stage=int8,compile",
        "--quick: nothing is left to check, because it compiles nothing and every selected stage is compiled"
        " (compile, int8); drop --quick, or select from fp32, bf16, sdpa",
    ),
    ("--gate=record --shard=1/2", "--shard 1/2: cannot be used with --gate record*; drop --shard*"),
    ("--gate=record --against=python", LIVE),
    ("--isolation=none --against=python", LIVE),
    (
        "--confirm=always --skip-latency",
        "--confirm always: cannot be used with --skip-latency, because nothing *; drop one of them",
    ),
    ("--max-processes=2 --processes=5", "--max-processes 2: less than --processes 5; raise it to 5 or more"),
    ("--tolerance=int9=5", "--tolerance int9: unknown; choose from fp32, bf16, sdpa, compile, fused_qkv, int8*"),
    *[
        (f"--tolerance={text}", f"*{TOLERANCE.format(text)}")
        for text in ["0", "abc", "=3", "int8=", "150", "nan", "int8=-1"]
    ],
    *[
        (f"--shard={text}", f"*{SHARD.format(text)}")
        for text in ["0/2", "3/2", "a/b", "1", "1/0", "-1/2", "1/2/3", "1/9999"]
    ],
    ("--report=a-folder", "--report a-folder: expected the name of an HTML file, such as report.html"),
    ("--report=report.pdf", "--report report.pdf: expected the name of an HTML file*"),
    ("--report=a-file/report.html", "--report a-file/report.html: *name a file that can be written"),
    ("--history=a-folder/", "*a-folder/: expected a URL, sqlite:///FILE or *write --history=URL*"),
]


@pytest.fixture
def configure(bench):
    """Configure pytest with the plugins and the options, in this process."""
    (bench.path / "a-file").touch()
    (bench.path / "a-folder").mkdir()
    return bench.configure


@pytest.fixture
def run_claim(bench, pytester):
    """Run tests that must not be reached, with the plugins and the options, in this process."""
    names = ("recipe", "compile", "parity", "latency")
    tests = [f"def test_{name}(case, gate, benchmark): raise AssertionError('a test ran')\n" for name in names]
    pytester.makepyfile(test_claims="".join(tests))

    def run(*options):
        result = pytester.runpytest_inprocess(*OPTIONS, "--device=cpu", *options, plugins=pytester.plugins)
        assert "a test ran" not in result.stdout.str()
        return result

    return run


def usage_error(configure, *options):
    """Return the text of the usage error that the options end with; argparse adds its usage and the root folder."""
    with pytest.raises(pytest.UsageError) as raised:
        configure(*options)
    return str(raised.value)


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_a_bad_option_is_refused_in_one_line_that_names_the_valid_values(configure, options, message):
    """The line names the option, its value and what is valid; pytest is not even configured."""
    text = usage_error(configure, *options.split())

    pytest.LineMatcher(text.splitlines()).fnmatch_lines([message])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--stage=int9", "--stage int9: unknown; choose from *"),
        ("--weights=nowhere", "--weights nowhere: no model_index.json*--weights synthetic*"),
        ("--against=nowhere", "--against nowhere: does not exist; *"),
        ("--gate=enforce --benchmark-skip", "--benchmark-skip: --gate enforce needs the latency, *; drop one of them"),
        ("--gate=record --benchmark-disable", "--benchmark-disable: --gate record needs the latency, *"),
        ("--confirm=always --benchmark-disable", "--benchmark-disable: --confirm always needs the latency, *"),
        ("--inject=slower_step --benchmark-skip", "--benchmark-skip: --inject needs the latency, *"),
    ],
)
def test_a_usage_error_ends_the_command_before_any_test(run_claim, option, message):
    """Exit status 4 and the line alone on stderr, for an error in an option and for one in what it names."""
    result = run_claim("--stage=fp32", *option.split())

    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_an_option_that_this_machine_cannot_follow_is_refused(configure, pytester, monkeypatch):
    """A key of another machine, a missing extra and a bad URL are lines that say what is wrong, without the URL's password."""
    folder = pytester.path / "baselines" / "nvidia-h100"
    folder.mkdir(parents=True)
    (folder / "0001_recorded.json").write_text("{}")
    monkeypatch.setitem(optional.PACKAGES, "report", ("no_such_package",))
    url = usage_error(configure, "--history=postgresql://u:secret@secret@127.0.0.1:1/db")

    assert usage_error(configure, "--gpu-key=nvidia-h100").startswith("--gpu-key nvidia-h100: this machine is cpu-")
    extra = "a report needs the report extra (no_such_package missing)"
    assert extra in usage_error(configure, "--report=report.html")
    assert 'postgresql://...: contains more than one "@"' in url and "secret" not in url


def test_a_baseline_of_another_gpu_is_refused_before_any_test(run_claim, pytester):
    """Comparing with a file of another GPU key ends with exit status 4."""
    folder = Path("baselines") / "nvidia-a100-sxm4-80gb-400w"
    (pytester.path / folder).mkdir(parents=True)
    path = folder / "0001_published.json"
    (pytester.path / path).write_bytes((ROOT / path).read_bytes())

    result = run_claim(f"--benchmark-compare={path}")

    result.stderr.fnmatch_lines(["*nvidia-a100-sxm4-80gb-400w, this machine is cpu-*are not compared*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("text", ['{"benchmarks": [', "[]", '{"benchmarks": [{"name": "x"}]}'])
def test_a_broken_baseline_is_an_error_and_stays_as_it_is(run_claim, pytester, text):
    """A truncated or foreign file of this machine is named in the error and not overwritten, and no test runs."""
    path = pytester.path / "baselines" / resolve_machine("cpu").key / "0001_recorded.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)

    result = run_claim("--gate=record")

    result.stderr.fnmatch_lines(["*0001_recorded.json*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert path.read_text() == text


@pytest.mark.parametrize("option", ["--help", "--collect-only", "--version", "-VV"])
def test_a_command_that_measures_nothing_creates_no_folder(run_claim, pytester, option):
    """No folder of baselines, results or pytest-benchmark is left behind."""
    (pytester.path / "baselines").mkdir()
    (pytester.path / ".speedgate").touch()  # no folder can be created there

    result = run_claim(option)

    assert result.ret == 0
    assert list((pytester.path / "baselines").iterdir()) == []
    assert not (pytester.path / ".benchmarks").exists()


@pytest.mark.filterwarnings("ignore::pytest_benchmark.logger.PytestBenchmarkWarning")
@pytest.mark.parametrize("is_xdist", [True, False])
def test_a_place_that_cannot_measure_is_an_error_before_any_test(run_claim, pytester, monkeypatch, is_xdist):
    """Under pytest-xdist nothing is measured; the default folder of the results is tried first, and the line names the option."""
    if is_xdist:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    else:
        (pytester.path / ".speedgate").touch()
    folder = "*--results DIR: the default *.speedgate/*: *name a folder that can be written*"

    result = run_claim()

    result.stderr.fnmatch_lines(["*pytest-xdist is active*run without -n*" if is_xdist else folder])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_stages_above_an_unsupported_one_leave_it_out(monkeypatch):
    """They are built without it, expected without its facts, and compared with the stage below it."""
    unsupported = {"fused_qkv": "it has no Q, K and V"}
    sd15 = dataclasses.replace(pipelines()["sd15"], unsupported=unsupported)
    monkeypatch.setitem(pipelines(), "sd15", sd15)

    case = Case(pipeline="sd15", size="tiny", stage="int8")

    names = [stage.name for stage in lineage("int8", without=unsupported)]
    assert names == ["fp32", "bf16", "sdpa", "compile", "int8"]
    assert case.parent.stage == "compile"
    assert case.expected_structure()["unet.fused_attention"] == 0


def test_a_pipeline_without_published_figures_is_listed_beside_one_that_has_some(configure):
    """The throughput suite has eager and compiled fp16 at each published batch, and a pipeline without any as one absent case."""
    cases = select(configure("--suite=throughput", "--pipeline=sd15,pixart-alpha"), device="cpu")

    batches = [workload.key for workload in pipelines()["sd15"].sizes["tiny"].throughput]
    expected = {(stage, batch) for stage in ("fp16", "compile_reduce_overhead") for batch in batches}
    assert {(case.stage, case.workload.key) for case in cases if case.pipeline == "sd15"} == expected
    assert len(cases) == len(expected) + 1
    assert [bool(case.absent) for case in cases if case.pipeline == "pixart-alpha"] == [True]


@pytest.mark.parametrize(
    ("options", "reason", "choices"),
    [
        (
            "--suite=throughput --pipeline=pixart-alpha",
            "pixart-alpha has no throughput case: none was published",
            "--suite throughput --pipeline deepfloyd-if, ",
        ),
        (
            "--suite=ladder --stage=fp16",
            "the suite has no such stage",
            "--pipeline sdxl --stage fp32, bf16, sdpa, compile, fused_qkv, int8",
        ),
        (
            "--stage=fp8,sdpa_cudnn",
            "sdpa_cudnn: the cuDNN attention kernel needs a CUDA GPU; fp8: float8 matrix multiplication needs a CUDA GPU",
            "--pipeline sdxl --stage fp32, bf16, ",
        ),
        (
            "--pipeline=flux-dev --stage=sdpa --gate=enforce",
            "flux-dev has no sdpa stage: its ladder is flux-fast",
            "--pipeline flux-dev --stage fp32, bf16, compile_whole, ",
        ),
    ],
)
def test_a_selection_that_cannot_be_built_is_one_reason_and_one_line_of_choices(bench, options, reason, choices):
    """No test of it is left, whatever the gate: pytest ends with 5, as if it had collected none, and nothing says it twice."""
    config = bench.configure(*options.split())

    lines = nothing_left(config, select(config, device="cpu"), device="cpu")

    assert lines[0].endswith(f": nothing is left to measure (exit status 5): {reason}")
    assert lines[1].startswith(f"select from {choices}")
    assert "fp8" not in lines[1]
    assert len(lines) == 2
    assert (bench.collect(*options.split()), config.stash[SESSION].outcome.not_built) == ([], {})


def test_a_stage_is_left_if_its_full_size_can_be_checked(configure):
    """The tiny size reuses nothing, so it has no cache stage; the structure of the full size is judged all the same."""
    config = configure("--pipeline=qwen-image", "--stage=first_block_cache")

    (case,) = select(config, device="cpu")
    assert case.unsupported is not None
    assert nothing_left(config, [case], device="cpu") == []


def test_a_selection_without_cases_is_no_pass(run_claim):
    """The command ends as if no test was collected, and says so once."""
    result = run_claim("--stage=fp8", "--gate=record")

    text = result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert text.count("needs a CUDA GPU") == text.count("nothing is left to measure") == 1
    assert "Exit" not in text and "seconds by activity" not in text


def test_skip_latency_leaves_out_every_test_that_measures_rounds(bench):
    """What is left needs a built case and no round; a live comparison keeps the claims about the picture."""
    functions = {item.function.__name__ for item in bench.collect("--skip-latency")}

    claims = ("attention", "compile", "coverage", "fit", "full_recipe", "parity", "recipe")
    assert functions == {f"test_{claim}" for claim in claims}


def test_quick_checks_the_eager_stages_in_this_process(bench):
    """`--quick` leaves out the stages that compile and the tests that measure rounds, and says so; the size is tiny."""
    items, config = bench.collect("--quick"), bench.configure("--quick")

    cases = {parameters_of(item)["case"].key for item in items if "case" in parameters_of(item)}
    assert cases == {f"sdxl-tiny/{stage}/32px-4steps-b1" for stage in ("fp32", "bf16", "sdpa")}
    assert "test_latency" not in {item.function.__name__ for item in items}
    assert config.stash[SESSION].options.isolation == "none"
    assert selection.size_of(config, device="cuda") == "tiny"
    assert selection.quick_remark(config, device="cpu") == (
        "--quick: not checked: latency, components, memory, cold start, compile seconds, stage compile, stage fused_qkv,"
        " stage int8"
    )


def test_what_quick_left_out_stands_below_the_verdicts(configure):
    """`Every verdict is PASS.` is not the last word on a part of the suite, SDXL alone. pluggy calls the first of a list last."""
    config = configure("--quick")

    names = [implementation.plugin_name for implementation in config.hook.pytest_terminal_summary.get_hookimpls()]
    assert names.index("fixtures.plugin") < names.index("speedgate.plugin.hooks")
    assert {case.pipeline for case in select(config, device="cpu")} == {"sdxl"}


def test_six_to_twelve_pairs_are_measured_unless_options_name_others(configure):
    """With `--against` verdicts are tried after 6, 9 and 12 pairs, of rounds that fill three seconds."""
    config = configure("--against=python")

    assert options.gate_policy(config).looks.counts == (6, 9, 12)
    assert options.measurement_plan(config).min_total_s == 3.0


@pytest.mark.parametrize(
    ("arguments", "has_baselines", "allowed"),
    [
        ([], False, True),
        ([], True, False),
        (["--gate=record"], False, False),
        (["--against=python"], False, False),
        (["--inject=slower_step"], False, True),
        (["--allow-busy"], True, True),
    ],
)
def test_rounds_on_a_busy_machine_count_where_nothing_close_is_decided(configure, arguments, has_baselines, allowed):
    """A first run and a fire drill are not INVALID on a busy machine; a gate, a recording and a comparison are."""
    assert options.allows_busy(configure(*arguments), has_baselines=has_baselines) is allowed


def test_suspected_cases_are_confirmed_where_a_stored_figure_decides(configure):
    """By default with --gate enforce alone; `always` refuses each option that leaves nothing to confirm, and names it."""
    config = configure("--rounds=4", "--budget=900", "--confirm=always")
    option = config.option
    plan = options.confirmation_plan(config)
    assert (plan.looks.counts, plan.measurement.rounds, plan.budget_s) == ((6, 9, 12), 4, 900)
    obstacles = {
        "--gate record": {"gate": "record"},
        "--gate report": {"gate": "report"},
        "--quick": {"quick": True},
        "--inject": {"inject": ["slower_step"]},
        "--against": {"against": "python"},
        "--against-rootdir": {"against_rootdir": Path()},
        "--gpu-code": {"gpu_code": "a100"},
        "--isolation none": {"isolation": "none"},
    }
    for name, changes in obstacles.items():
        before = {key: getattr(option, key) for key in changes}
        vars(option).update(changes)
        with pytest.raises(pytest.UsageError, match=f"^--confirm always: cannot be used with {name}, because"):
            options.confirmation_plan(config)
        option.confirm = "auto"
        assert options.confirmation_plan(config) is None
        vars(option).update(before, confirm="always")
    for gate, confirm, confirms in [("auto", "auto", False), ("enforce", "auto", True), ("enforce", "never", False)]:
        option.gate, option.confirm = gate, confirm
        assert (options.confirmation_plan(config) is not None) is confirms


@pytest.mark.parametrize("option", ["--skip-latency", "--stage=fp32", "--suite=ladder", "--pipeline=sd15", "-kfp32"])
def test_a_baseline_case_that_the_command_leaves_out_is_not_missing(configure, option):
    """A command that measures a part of the suite expects no case of a baseline; the whole command expects its ladder."""
    assert coverage_of(configure(option), device="cpu").required_keys == frozenset()
    assert "sdxl-tiny/int8/32px-4steps-b1" in coverage_of(configure(), device="cpu").required_keys


def test_every_case_of_every_pipeline_can_be_collected(bench):
    """`--suite all --pipeline all` has a latency test of every pipeline, and its ladder is in order."""
    names = [item.name for item in bench.collect("--suite=all", "--pipeline=all")]

    assert {name for name in pipelines() if f"test_latency[{name}-tiny-fp32]" in names} == {*pipelines()}
    ladder = [names.index(f"test_latency[sdxl-tiny-{stage}]") for stage in LADDERS["diffusion-fast"]]
    assert ladder == sorted(ladder)
