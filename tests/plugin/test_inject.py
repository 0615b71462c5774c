"""`--inject`: what it refuses and measures, and the mark on everything that it writes, as on everything of `--quick`."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.selection import select
from speedgate.baselines import benchmark_json, store
from speedgate.gate.intervals import Looks
from speedgate.history import entries
from speedgate.plugin import drill, hooks, options
from speedgate.report import markdown
from speedgate.results.json_io import read_json
from tests.support.fake_bench import FakeBench
from tests.support.suite import Suite, red

SENTENCE = (
    "injected fault slower_step=10 in sdxl-tiny/bf16/32px-4steps-b1: the figures of this run are not those of the code"
)
BOTH = ["test_latency[sdxl-tiny-bf16]", "test_components[sdxl-tiny-bf16]"]  # claims that a slower denoiser turns red
REFUSED = [
    ("--inject=slow_step", "--inject: 'slow_step' is unknown, perhaps slower_step; `--inject list` prints *"),
    ("--inject=slower_step=1000", "--inject: slower_step=1000: expected 5 to 400 (percent)"),
    ("--inject=gpu_shared", "--inject: gpu_shared cannot be injected: *"),
    (
        "--inject=slower_step --inject=leaked_memory",
        "--inject: one fault at a time, found 2: slower_step, leaked_memory",
    ),
    ("--inject=slower_step --gate=record", "*--gate record: an injected run is never recorded: *; drop one of them"),
    ("--inject=slower_step --gate=report", "*--gate report: no verdict is red with it, so no gate could fire; *"),
    ("--inject=slower_step --history", "*--history: an injected run is never added to a history: *"),
    ("--inject=slower_step --against=python", "*--against: an injected run is compared with the same code *"),
    (
        "--inject=slower_step --against-rootdir=.",
        "*--against-rootdir: an injected run is compared with the same code *",
    ),
    ("--inject=slower_step --benchmark-save=run", "*--benchmark-save: an injected run is never saved: *"),
    ("--inject=slower_step --benchmark-autosave", "*--benchmark-autosave: an injected run is never saved: *"),
    (
        "--inject=slower_step --benchmark-compare",
        "*--benchmark-compare: an injected run is compared with the same code *",
    ),
    ("--inject=slower_step --shard=1/2", "*--shard 1/2: a fire drill is judged as a whole; *"),
    ("--inject=slower_step -x", "*--maxfail: the claims after the first red one would not be judged*"),
    ("--inject=slower_step --skip-latency", "*--skip-latency: it leaves out latency, the gate that must fire; *"),
    ("--inject=slower_step --isolation=none", "*--isolation none: the stage with the fault and the one without it *"),
    (
        "--inject=attention_scale --stage=bf16",
        "--inject: attention_scale applies to sdpa* of sdxl, *none of these is selected *",
    ),
    (
        "--inject=hidden_synchronisation",
        "--inject: hidden_synchronisation needs the device cuda, and this run is on cpu",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_a_drill_that_proves_nothing_or_would_be_stored_is_refused(bench, arguments: str, message: str) -> None:
    """One line names the option and the reason, while pytest is configured: nothing is collected or built."""
    with pytest.raises(pytest.UsageError) as raised:
        bench.configure(*arguments.split())
    pytest.LineMatcher([str(raised.value)]).fnmatch_lines([message])


@pytest.mark.parametrize(("fault", "stage"), [("slower_step", "fp32"), ("attention_scale", "sdpa")])
def test_without_a_stage_one_stage_of_the_fault_is_selected(bench: FakeBench, fault: str, stage: str) -> None:
    """A newcomer who names the fault alone waits for one stage and not for the ladder."""
    config = bench.configure(f"--inject={fault}")

    assert [case.stage for case in select(config, device="cpu")] == [stage]


@pytest.mark.parametrize(
    ("fault", "is_live", "is_measured", "looks"),
    [
        ("slower_step", True, True, Looks(first=4, last=8)),
        ("leaked_memory", True, True, Looks(first=1, last=1)),
        ("round_reused", False, True, Looks(first=3, last=8)),
        ("attention_scale", False, False, Looks(first=3, last=8)),
    ],
)
def test_a_drill_measures_what_its_gate_needs(
    bench: FakeBench, fault: str, is_live: bool, is_measured: bool, looks: Looks
) -> None:
    """A gate that compares gets pairs with the code without the fault; the others use no rounds, or one process."""
    config = bench.configure(f"--inject={fault}")

    assert options.is_live_comparison(config) == is_live
    assert not options.uses_baselines(config)
    assert config.getoption("skip_latency") == (not is_measured)
    assert options.gate_policy(config).looks == looks


def test_every_output_of_an_injected_run_is_marked(bench: FakeBench) -> None:
    """Nobody can take a figure of it for one of the code: header, table, result file and Markdown say so."""
    result = bench.run("--inject=slower_step=10", "--stage=bf16", "--rounds=4", other={}, bf16={"slower": 1.1})

    assert drill.pytest_report_header(result.config)[0] == f"speedgate: {SENTENCE}"
    result.terminal.re_match_lines([r"case .* injected .*", r"sdxl-tiny/bf16/.* slower_step=10 .*SLOWER"])
    assert SENTENCE in result.terminal.str()
    assert result.document("bf16")["injected"] == {
        "fault": "slower_step=10",
        "gate": "latency",
        "outcome": "SLOWER",
        "case_keys": ["sdxl-tiny/bf16/32px-4steps-b1"],
    }
    assert "**Fire drill**: <code>injected fault slower&#95;step=10 in" in markdown.render(result.folder)
    assert (
        read_json(result.session.options.results / "manifest.json")["injected"] == result.document("bf16")["injected"]
    )


@pytest.mark.parametrize("option", ["--inject=slower_step=10", "--quick"])
def test_no_history_and_no_baseline_takes_a_marked_run(bench: FakeBench, option: str) -> None:
    """Its result files are refused by a history, and they and its benchmark file by `promote` and `check`."""
    is_quick = option == "--quick"
    result = bench.run(
        option, "--stage=bf16", "--rounds=4", bf16={"slower": 1.1}, **({} if is_quick else {"other": {}})
    )
    document = result.document("bf16")
    benchmark = benchmark_json.make_benchmark(
        document, name="test", fullname="test", group=None, seconds=[1.0], options={}
    )
    reason = "was made with --quick, which times" if is_quick else "has the injected fault 'slower_step=10'"

    with pytest.raises(ValueError, match=f"sdxl-tiny__bf16.*{reason}"):
        entries.entries_from_files(result.folder)
    for refused in ({"benchmarks": [benchmark]}, document):
        with pytest.raises(ValueError, match=f"^a-file.json.*{reason}"):
            store.parse_document(refused, path=Path("a-file.json"), gpu_key=document["gpu_key"])


def test_every_output_of_a_quick_run_is_marked_and_shows_no_seconds(bench: FakeBench) -> None:
    """Nobody can take it for a whole run: result file, manifest and Markdown say so, and nothing that it timed is shown."""
    result = bench.run("--quick")

    assert result.red == []
    assert result.document("bf16")["quick"] is True
    assert read_json(result.session.options.results / "manifest.json")["quick"] is True
    assert "**Quick run**: <code>--quick checked structure and images" in markdown.render(result.folder)
    assert not re.search(r"\d s\b|load average", result.terminal.str())


@pytest.mark.parametrize(
    ("slower", "red", "status", "sentence"),
    [
        (1.1, BOTH, 0, "passed: latency and components went red, and nothing else did"),
        (1.0, [], 1, "FAILED: latency should have fired for sdxl-tiny/bf16/32px-4steps-b1 and did not: PASS, *"),
    ],
)
def test_the_exit_status_says_if_the_gate_fired(
    bench, slower: float, red: list[str], status: int, sentence: str
) -> None:
    """If one arm is slower, its latency and denoiser are red, after the first look: the status is 0. A green gate ends with 1."""
    result = bench.run("--inject=slower_step=10", "--stage=bf16", "--rounds=4", other={}, bf16={"slower": slower})
    lines: list[str] = []
    reporter = SimpleNamespace(write_line=lambda line, **_: lines.append(line))

    drill.pytest_terminal_summary(reporter, result.config)

    assert (result.red, result.exit_status) == (red, status)
    assert len(result.run("bf16").processes) == options.DRILL_FIRST_LOOK_PAIRS
    pytest.LineMatcher(lines).fnmatch_lines([f"fire drill {sentence}"])


def test_on_github_the_drill_is_one_annotation(bench: FakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The red verdict of a drill that passed is a notice and no error, and its title names the fault."""
    result = bench.run("--inject=slower_step=10", "--stage=bf16", "--rounds=4", other={}, bf16={"slower": 1.1})
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines: list[str] = []
    ignored = dict.fromkeys(("section", "write", "line"), lambda *_, **__: None)
    reporter = SimpleNamespace(write_line=lambda line, **_: lines.append(line), **ignored)

    for plugin in (hooks, drill):
        plugin.pytest_terminal_summary(reporter, result.config)

    annotations = [line for line in lines if line.startswith("::")]
    assert annotations == [
        "::notice title=fire drill%3A injected fault slower_step=10::"
        "fire drill passed: latency and components went red, and nothing else did"
    ]


@pytest.mark.parametrize(
    ("arguments", "status"), [([], pytest.ExitCode.INTERRUPTED), (["--collect-only"], pytest.ExitCode.OK)]
)
def test_a_drill_without_all_of_its_tests_keeps_its_exit_status(
    bench: FakeBench, arguments: list[str], status: pytest.ExitCode
) -> None:
    """A drill that was interrupted, or whose tests are only listed, has neither passed nor failed."""
    config = bench.configure("--inject=slower_step", *arguments)
    session = SimpleNamespace(config=config, exitstatus=status)

    drill.pytest_sessionfinish(session)

    assert session.exitstatus == status
    assert drill.DRILL not in config.stash


@pytest.mark.parametrize(
    "failure",
    ["INVALID sdxl/bf16/w worker: killed by a signal", "a plain failure", None],
    ids=["worker", "pytest.fail", "collection"],
)
def test_a_failure_without_a_verdict_fails_the_drill(bench: FakeBench, failure: str | None) -> None:
    """The right gate went red, but a test failed before it could judge, or its file could not be collected."""
    result = bench.run("--inject=slower_step=10", "--stage=bf16", "--rounds=4", other={}, bf16={"slower": 1.1})
    verdict = result.config.stash[hooks.SESSION].outcome.verdicts["sdxl-tiny/bf16/32px-4steps-b1"][-1]
    item = SimpleNamespace(nodeid="test_other", config=result.config)
    red_report = SimpleNamespace(failed=True)

    def note(error: str) -> None:
        call = SimpleNamespace(excinfo=SimpleNamespace(value=pytest.fail.Exception(error, pytrace=False)))
        finish(drill.pytest_runtest_makereport(item, call))

    def finish(hook: Generator[None, Any, Any]) -> None:
        next(hook)
        with pytest.raises(StopIteration):
            hook.send(red_report)

    note(f"{verdict}\n  what changed")
    assert drill.ERRORS not in result.config.stash
    if failure is None:
        finish(drill.pytest_make_collect_report(item))
    else:
        note(failure)

    session = SimpleNamespace(config=result.config, exitstatus=1)
    drill.pytest_sessionfinish(session)
    assert session.exitstatus == 1
    assert "went red as it must, but test_other ended with an error" in result.config.stash[drill.DRILL].sentence


def test_a_session_puts_the_fault_into_this_arm_and_ends_with_status_0(pytester: pytest.Pytester) -> None:
    """The name travels in the build request of this arm's workers only; the red verdict ends with the sentence and 0."""
    suite = Suite(pytester.path)

    pairs = ("--processes=3", "--max-processes=3", "--rounds=4")
    result = suite.run("--inject=slower_step=10", "--stage=bf16", *pairs, "--benchmark-json=out.json")

    assert result.ret == 0
    assert red(result) == BOTH
    result.stdout.fnmatch_lines(
        [f"speedgate: {SENTENCE}", "fire drill passed: latency and components went red, and nothing else did"]
    )
    benchmark = json.loads((suite.path / "out.json").read_text())["benchmarks"][0]
    assert benchmark["extra_info"]["speedgate"]["injected"]["fault"] == "slower_step=10"
    assert read_json(suite.path / "results" / "manifest.json")["exit_status"] == 0
    other = suite.result("bf16")["against"]
    assert other["label"] == "the same code without the fault"
    assert other["other"]["processes"][0]["seconds"][0] == pytest.approx(0.501)


def test_the_list_ends_with_status_0_and_builds_nothing(pytester: pytest.Pytester, capsys) -> None:
    """`--inject list` prints each fault with its gate, and starts no session."""
    config = pytester.parseconfig("-p", "speedgate.plugin.hooks", "-p", "fixtures.plugin", "--inject=list")

    assert config.hook.pytest_cmdline_main(config=config) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["slower_step=50", "latency"]
    assert hooks.SESSION not in config.stash


def test_a_suite_without_faults_refuses_the_option(pytester: pytest.Pytester) -> None:
    """A suite of plain functions names no faults, and says so instead of running without one."""
    with pytest.raises(pytest.UsageError, match=r"^--inject: this suite has no faults to inject$"):
        pytester.parseconfigure("-p", "speedgate.plugin.hooks", "-p", "no:cacheprovider", "--inject=slower_step")
