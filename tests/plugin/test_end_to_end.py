"""Whole sessions of `bench/` in pytest processes of their own, each with fake worker processes.

Every decision is tested in one process elsewhere; these few sessions test that pytest, pytest-benchmark, the workers and the
files on disk work together.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time

import pytest

from speedgate.baselines.promote import promote
from speedgate.measure import budget
from speedgate.results.case_key import CaseKey
from speedgate.results.run import Outcome
from tests.support.suite import ROOT, Suite, red

STAGES = "--stage=fp32,bf16"
ONE_PROCESS = ("--processes=1", "--max-processes=1", "--rounds=4")
RECORD = ("--gate=record", "--budget=600", "--rounds=4", STAGES)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A recording that was killed and then run to its end: the suite, the exit statuses, and the last result."""
    suite = Suite(tmp_path_factory.mktemp("recorded"))
    return suite, *record_with_kills(suite, kills=1, processes=3)


def record_with_kills(suite, *, kills, processes):
    """Kill a recording at random moments, then run the same command to its end; return the statuses and the last result."""
    command = (*RECORD, f"--processes={processes}")
    draw = random.Random(7)  # noqa: S311 - not for secrets
    statuses = []
    for builds in range(1, kills + 1):
        with suite.start(*command) as process:
            workers = suite.wait_for_builds(builds)
            time.sleep(draw.uniform(0, 0.3))
            process.kill()
            end_workers(workers)  # one that hangs would outlive a killed pytest by some seconds
        statuses.append(process.returncode)
    return statuses, suite.run(*command)


def end_workers(pids):
    """Kill the workers that are left."""
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:  # noqa: PTH123 - no file on a disk
                if b"execnet" in stream.read():
                    os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def check_record(suite, statuses, last, *, processes):
    """Assert that the record is complete, and that each kill cost at most one process."""
    document = json.loads((suite.path / "baselines" / suite.machine.key / "obtained.json").read_text())
    entries = [benchmark["extra_info"]["speedgate"] for benchmark in document["benchmarks"]]
    seconds = [[len(process["seconds"]) for process in entry["run"]["processes"]] for entry in entries]

    assert set(statuses) == {-signal.SIGKILL}
    assert (last.ret, red(last)) == (pytest.ExitCode.OK, [])
    assert [CaseKey.parse(entry["run"]["case_key"]).stage for entry in entries] == ["fp32", "bf16"]
    assert ([entry["outcome"] for entry in entries], seconds) == (["passed"] * 2, [[4] * processes] * 2)
    assert len(suite.builds()) <= 2 * processes + len(statuses)


def test_a_recording_that_was_killed_is_completed_by_the_same_command(recorded):
    """Every case has all its processes and rounds, and the log has the activities of every command."""
    suite, statuses, last = recorded
    check_record(suite, statuses, last, processes=3)

    entries = budget.read_timings(suite.path / "results" / budget.TIMINGS_FILE)
    assert len({entry.command for entry in entries}) == 2
    last_command = [entry.seconds for entry in entries if entry.command == entries[-1].command]
    assert 0.5 * last.duration < sum(last_command) < last.duration + 1  # the activities cover most of the command


@pytest.mark.exhaustive
def test_a_recording_that_was_killed_ten_times_is_completed(tmp_path):
    """However often it is killed, each kill costs at most the process that was running."""
    suite = Suite(tmp_path)

    check_record(suite, *record_with_kills(suite, kills=10, processes=6), processes=6)


@pytest.fixture(scope="module")
def green(recorded):
    """The same stages on the same machine, judged by the promoted recording under enforce: the suite and the result."""
    suite = recorded[0]
    promote(suite.path / "baselines", suite.machine.key)
    (suite.path / "builds.log").unlink()
    options = "--gate=enforce --benchmark-compare --results=green --images=images --benchmark-json=out.json"
    return suite, suite.run(*options.split(), *ONE_PROCESS, STAGES)


def test_an_unchanged_machine_passes_its_own_baseline(green):
    """Promoted and enforced, every case says PASS, and a bare --benchmark-compare shows the promoted file."""
    suite, result = green

    assert (result.ret, red(result), suite.builds()) == (pytest.ExitCode.OK, [], ["fp32", "bf16"])
    result.stdout.fnmatch_lines(["*test_latency?sdxl-tiny-bf16? (baselines/*/0001_recorde*"])


def test_only_complete_files_are_left(green):
    """The results have the manifest, the log of seconds and a file of each case; `--images` has each image and difference."""
    files = {path.name: path.read_text() for path in (green[0].path / "green").iterdir()}
    images = {path.name for path in (green[0].path / "images").iterdir()}

    results = {f"sdxl-tiny__{stage}__32px-4steps-b1.json" for stage in ("fp32", "bf16")}
    assert files.keys() == {"manifest.json", "times.jsonl", *results}
    assert {json.loads(files[name])["gpu_key"] for name in results} == {green[0].machine.key}
    pictures = [f"sdxl-tiny-{stage}{suffix}.png" for stage in ("fp32", "bf16") for suffix in ("", "-difference-x10")]
    assert images == {*pictures}


def test_pytest_benchmark_sees_the_seconds_that_the_worker_measured(green):
    """pytest-benchmark's own JSON holds the worker's seconds as its data and our record in `extra_info`."""
    benchmark = json.loads((green[0].path / "out.json").read_text())["benchmarks"][1]

    record = benchmark["extra_info"]["speedgate"]["run"]
    assert benchmark["stats"]["data"] == pytest.approx([0.501, 0.499, 0.501, 0.499], rel=1e-9)
    assert record["case_key"] == "sdxl-tiny/bf16/32px-4steps-b1"
    assert record["parity"]["ssim"] == pytest.approx(1.0)


def test_the_terminal_has_progress_lines_and_the_section(green):
    """Progress is written although pytest captures output, and the section has one line for each case."""
    green[1].stdout.re_match_lines(
        [
            r"  \[0:\d\d.*\] sdxl-tiny-fp32: load and apply \.\.\. \d+\.\d s",
            r"case +latency +it/s .*",
            r"sdxl-tiny/bf16/\S+ +0.5 s +10 .* PASS",
            r"guarded: .*; not guarded here: .*memory 2, ladder 2 \(CPU\).*",
            r"--allow-busy: rounds that other programs disturbed are used too",
        ]
    )


@pytest.fixture(scope="module")
def judged(green):
    """Four stages, three with a fault, and a report: the suite and the result."""
    suite = green[0]
    (suite.path / "builds.log").unlink()
    (suite.path / "out").mkdir()
    suite.misbehave(bf16={"slower": 1.10}, sdpa={"noise": 20}, fp16={"abort": "generate"})
    suite.environment |= {"GITHUB_ACTIONS": "true", "CI": "true"}
    secret = ("-o", "junit_suite_name=postgresql://boss:S3cret!pw@h/db")  # a password in the command
    return suite, suite.run(*ONE_PROCESS, "--stage=fp32,bf16,sdpa,fp16", "--report=out/report.html", *secret)


def test_each_fault_is_one_red_test(judged):
    """Every stage is built once in ladder order; a slower, a different and a dead stage fail the test that owns the fault."""
    suite, result = judged

    assert suite.builds() == ["fp32", "bf16", "sdpa", "fp16"]
    owners = [("components", "bf16"), ("latency", "bf16"), ("latency", "fp16"), ("parity", "sdpa")]
    assert sorted(red(result)) == [f"test_{claim}[sdxl-tiny-{stage}]" for claim, stage in owners]
    for line in (
        r"SLOWER sdxl-tiny/bf16/\S+ latency: 0\.55 s against 0\.5 s in 0001_recorded: \+10\.0% \(.*",
        r"DIFFERENT sdxl-tiny/sdpa/\S+ parity: .*",
        r"INVALID sdxl-tiny/fp16/\S+ worker: .* died during 'generate' \(SIGABRT\)",
        r".*the last words of a worker.*",
    ):
        result.stdout.re_match_lines([line])


def test_a_red_verdict_is_an_annotation_on_github(judged):
    """In a job of GitHub Actions the verdict is an annotation, and pytest's own line on the red test begins with it."""
    verdict = "SLOWER sdxl-tiny/bf16/32px-4steps-b1 latency"

    judged[1].stdout.re_match_lines([rf"::error title={verdict}::.*", rf"FAILED \S+ - {verdict}: .*"])


def test_a_session_leaves_its_report(judged):
    """The HTML file has each red verdict, the images of every built stage and the command, without its password."""
    suite, result = judged
    document = (suite.path / "out" / "report.html").read_text()
    files = [path.read_bytes() for path in (suite.path / "results").rglob("*") if path.is_file()]

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "report: out/report.html" in result.outlines
    assert re.search(r'outcome bad">DIFFERENT</span>\s*<a href="#case-\d">sdxl-tiny/sdpa/', document)
    assert document.count("data:image/png;base64,") >= 1 + 2 * len(["fp32", "bf16", "sdpa"])
    assert "--report=out/report.html" in document
    assert not any(b"S3cret" in data for data in (document.encode(), *files))


def test_ctrl_c_ends_the_worker_and_leaves_finished_cases_on_disk(tmp_path):
    """After an interrupt the first case is complete on disk, and no worker is left."""
    suite = Suite(tmp_path)
    suite.misbehave(bf16={"hang": "load"})

    with suite.start("--stage=fp32,bf16", "-k", "latency") as process:
        workers = suite.wait_for_builds(2)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)

    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert len(suite.result("fp32")["run"]["processes"][0]["seconds"]) == 10
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)  # noqa: PTH110 - no file on a disk


def test_another_interpreter_and_checkout_are_the_other_arm(tmp_path):
    """Workers of the other arm are built by that checkout in that environment, and a broken one is named."""
    suite, checkout = Suite(tmp_path), tmp_path / "before"
    for place in ("fixtures", "src/speedgate", "tests/support"):
        shutil.copytree(ROOT / place, checkout / place)  # compiled files too: each takes time to compile
    (checkout / "tests" / "__init__.py").touch()
    code = (ROOT / "tests" / "support" / "fake_case.py").read_text()
    (checkout / "tests" / "support" / "fake_case.py").write_text(code.replace('"fp32": 0.7,', '"fp32": 0.77,'))
    other = suite.against(bf16={"abort": "first_image"}, versions={"diffusers": "0.41.0"})
    pairs = ("--rounds=4", "--processes=3", "--max-processes=3", "--stage=fp32,bf16", "-k", "latency")

    result = suite.run(other, f"--against-rootdir={checkout}", *pairs)

    label = rf"the other arm \(checkout {checkout}, diffusers 0\.41\.0\)"
    assert red(result) == ["test_latency[sdxl-tiny-bf16]"]
    assert suite.latency("fp32").outcome is Outcome.FASTER
    result.stdout.re_match_lines([rf"FASTER .* of {label}: -9\.1%.*"])
    result.stdout.re_match_lines([rf".*the worker of {label} died during 'first_image' \(SIGABRT\).*"])
    assert suite.arms("fp32") == ["this", "other", "other", "this", "this", "other"]


@pytest.mark.exhaustive
def test_a_suspected_case_is_confirmed_by_the_code_of_its_baseline(tmp_path):
    """On a machine that became slower for every code, worker processes of both arms acquit the case."""
    suite, offers = Suite(tmp_path), ["attribute", "modules"]
    suite.misbehave(bf16={"offers": offers})
    suite.run("--gate=record", "--budget=600", "--processes=3", "--rounds=4", "--stage=bf16")
    promote(suite.path / "baselines", suite.machine.key)
    suite.misbehave(bf16={"offers": offers, "slower": 1.1})
    (suite.path / "builds.log").unlink()

    result = suite.run("--gate=enforce", "--rounds=4", "--stage=bf16", "-k", "latency or components or coverage")

    verdict = suite.latency("bf16")
    assert (verdict.outcome, red(result)) == (Outcome.PASS, []), verdict
    assert verdict.sentence.endswith("to 0001_recorded: since that recording the machine has drifted by +10.0%")
    assert suite.arms("bf16") == ["this"] * (3 + 2 * 6)  # the code of the baseline is that of this checkout
