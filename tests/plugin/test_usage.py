"""Bad input: one clear line, exit status 4, nothing built, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.pipelines.registry import pipelines
from speedgate.baselines.promote import promote
from tests.support.suite import Suite, red


@pytest.fixture
def suite(pytester):
    return Suite(pytester)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage=int9"], "*--stage int9: unknown; choose from fp32, bf16, sdpa, compile, fused_qkv, int8*"),
        (["--stage=bf16,int9"], "*--stage int9: unknown*"),
        (["--pipeline=sdxxl"], f"*--pipeline sdxxl: unknown; choose from {', '.join(pipelines())}, all*"),
        (["--size=huge"], "*--size huge: unknown; choose from full, tiny*"),
        (["--gpu-key=nvidia-x"], "*--gpu-key nvidia-x: unknown; choose from cpu-*"),
        (["--device=cuda"], "*--device cuda: the NVIDIA driver reports no GPU here*--device cpu*"),
        (["--weights=nowhere"], "*--weights nowhere: no model_index.json*--weights synthetic*"),
        (["--weights=hub"], "*--weights hub: the hub has the full size only*--weights synthetic*"),
        (["--results=conftest.py/below"], "*--results conftest.py/below: *name a folder*"),
        (["--results=/proc"], "*--results /proc: *name a folder*"),
        (["--weights="], "*--weights: expected hub, synthetic or a folder*"),
        (["--images=conftest.py"], "*--images conftest.py: *name a folder*"),
        (["--processes=0"], "*--processes*"),
        (["--gate=strict"], "*--gate*invalid choice*"),
        (["--budget=60"], "*--budget: only for a recording in worker processes; add --gate record*"),
        (["--gate=record", "--budget=60", "--isolation=none"], "*--budget: *drop --isolation none*"),
        (["--gate=record", "--budget=60", "--processes=2"], "*--processes 2: a recording needs at least 3 processes*"),
        (["--gate=record", "--budget=soon"], "*--budget: soon: expected a number of seconds, above 0*"),
        (["--gate=record", "--skip-latency"], "*--skip-latency: cannot be used with --gate record*"),
    ],
)
def test_an_unknown_choice_names_the_valid_ones(suite, arguments, said):
    """The error is one usage error that says what would do, and no worker was started."""
    result = suite.run(*arguments)

    result.stderr.fnmatch_lines([said])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert not (suite.path / "builds.log").exists()


def test_another_gpus_baseline_is_refused_before_any_test(suite):
    """Comparing with a file of another GPU key ends with exit status 4 and no test run."""
    folder = suite.path / "baselines" / "nvidia-a100-sxm4-80gb-400w"
    folder.mkdir(parents=True)
    published = Path(__file__).parents[2] / "baselines" / folder.name / "0001_published.json"
    (folder / published.name).write_bytes(published.read_bytes())

    result = suite.run(f"--benchmark-compare={folder / published.name}")

    result.stderr.fnmatch_lines(["*nvidia-a100-sxm4-80gb-400w, this machine is cpu-*are not compared*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert not (suite.path / "builds.log").exists()


def test_another_gpu_key_is_refused(suite):
    """Asking for a known key that is not this machine's ends with exit status 4."""
    folder = suite.path / "baselines" / "nvidia-h100"
    folder.mkdir(parents=True)
    (folder / "0001_recorded.json").write_text("{}")

    result = suite.run("--gpu-key=nvidia-h100")

    result.stderr.fnmatch_lines(["*--gpu-key nvidia-h100: this machine is cpu-*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("text", ['{"benchmarks": [', "[]", '{"benchmarks": [{"name": "x"}]}'])
def test_a_broken_baseline_is_an_error_and_stays_as_it_is(suite, text):
    """A truncated or foreign file of this machine is named in the error, judged nothing and not overwritten."""
    folder = suite.path / "baselines" / suite.machine.key
    folder.mkdir(parents=True)
    path = folder / "0001_recorded.json"
    path.write_text(text)

    result = suite.run("--gate=record")

    result.stderr.fnmatch_lines(["*0001_recorded.json*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert path.read_text() == text


def test_a_checkout_that_cannot_be_written_is_said_up_front(suite):
    """The default folder of the results is tried before anything is built, and the line names the option."""
    (suite.path / ".speedgate").write_text("")
    arguments = [argument for argument in suite.arguments("--stage=fp32") if not argument.startswith("--results")]

    result = suite.pytester.runpytest_subprocess(*arguments)

    result.stderr.fnmatch_lines(["*--results DIR: the default *.speedgate/*: *name a folder that can be written*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert not (suite.path / "builds.log").exists()


@pytest.mark.parametrize("argument", ["--help", "--collect-only", "--version", "-VV"])
def test_a_look_around_makes_no_folder(suite, argument):
    """Neither a folder of baselines nor one of results is left by what measures nothing."""
    (suite.path / "baselines").mkdir()
    (suite.path / ".speedgate").write_text("")  # nothing could be made below it
    arguments = [one for one in suite.arguments(argument) if not one.startswith("--results")]

    result = suite.pytester.runpytest_subprocess(*arguments)

    assert result.ret == 0
    assert list((suite.path / "baselines").iterdir()) == []
    assert not (suite.path / ".benchmarks").exists()


def test_xdist_is_refused(suite, monkeypatch):
    """Under pytest-xdist nothing is measured, and the error says why."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")

    result = suite.run()

    result.stderr.fnmatch_lines(["*pytest-xdist is active*run without -n*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_recording_again_does_not_touch_a_kept_baseline(suite):
    """A second record and promotion adds a numbered file beside the first."""
    suite.record("--stage=fp32")
    first = promote(suite.path / "baselines", suite.machine.key)
    before = first.read_bytes()
    suite.record("--stage=fp32")

    second = promote(suite.path / "baselines", suite.machine.key)

    assert (first.name, second.name) == ("0001_recorded.json", "0002_recorded.json")
    assert first.read_bytes() == before


def test_saving_a_slower_run_does_not_make_it_the_baseline(suite):
    """A bare compare takes the promoted baseline, not the slower run that was autosaved after it."""
    suite.record("--stage=sdpa")
    promote(suite.path / "baselines", suite.machine.key)
    suite.misbehave(sdpa={"slower": 1.5})
    suite.run("--benchmark-autosave", "--stage=sdpa")

    result = suite.run("--benchmark-compare", "--stage=sdpa", "--processes=2")

    assert red(result) == ["test_latency[sdxl-tiny-sdpa]"]
    result.stdout.fnmatch_lines(["*test_latency?sdxl-tiny-sdpa? (baselines/*/0001_recorde*"])


def test_ctrl_c_ends_the_worker_and_keeps_what_is_done(suite):
    """After an interrupt the first case is on disk, in full, and no worker is left."""
    suite.misbehave(bf16={"hang": "generate"})
    command = [sys.executable, "-m", "pytest", *suite.arguments("--stage=fp32,bf16")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0) as process:
        workers = _wait_for_builds(suite.path / "builds.log", count=2)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)

    assert process.returncode == pytest.ExitCode.INTERRUPTED, output.decode()
    assert len(suite.result("fp32")["run"]["processes"][0]["seconds"]) == 10
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def _wait_for_builds(log: Path, *, count: int) -> list[str]:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        lines = log.read_text().splitlines() if log.exists() else []
        if len(lines) >= count:
            time.sleep(0.5)  # the worker has written its line and is on its way into the hang
            return [line.split()[1] for line in lines]
        time.sleep(0.05)
    raise AssertionError(f"{count} workers did not start within 30 s")


def test_a_result_file_is_valid_json_at_any_time(suite):
    """Nothing partial is left beside the results."""
    suite.run("--stage=fp32", "-k", "latency")

    files = sorted((suite.path / "results").iterdir())

    assert [path.name for path in files] == ["manifest.json", "sdxl-tiny__fp32__64px-4steps-b1.json"]
    assert {json.loads(path.read_text())["gpu_key"] for path in files} == {suite.machine.key}
