"""How a session ends if something beside it fails: another plugin, or the disk."""

import pytest

from speedgate.baselines import store
from speedgate.baselines.checkpoint import FOLDER
from speedgate.plugin import after
from tests.plugin.test_session import no_room
from tests.support.suite import ROOT

RECORD = ("--gate=record", "--budget=600", "--processes=3", "--rounds=4", "--stage=fp32")
CONFTEST = """
import sys

sys.path[:0] = {paths!r}

import pytest

pytest_plugins = ["speedgate.plugin"]


class Failing:
    @pytest.hookimpl(hookwrapper=True)
    def {hook}(self):
        raise RuntimeError("of another plugin")
        yield


def pytest_configure(config):
    config.pluginmanager.register(Failing(), "failing")
"""
TEST = """
from speedgate.results.run import Outcome, Verdict


def test_claim(gate):
    gate.check(gate.add(Verdict(case_key="a/b/c", claim="latency", outcome=Outcome.SLOWER, sentence="the sentence")))
"""


@pytest.mark.parametrize(
    "hook", ["pytest_sessionfinish", pytest.param("pytest_terminal_summary", marks=pytest.mark.exhaustive)]
)
def test_an_exception_of_another_plugin_does_not_take_our_section(pytester, monkeypatch, hook):
    """A plugin that raises at the end, as pytest-benchmark does for an unwritable file, comes after our table, written once."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (pytester.path / "conftest.py").write_text(CONFTEST.format(paths=[str(ROOT / "src")], hook=hook))
    (pytester.path / "test_it.py").write_text(TEST)

    ended = pytester.runpytest_subprocess(
        "-p", "benchmark", "-p", "no:cacheprovider", "--device=cpu", "--results=results"
    )

    text = ended.stdout.str()
    section = text[text.index("= speedgate on cpu-") :]
    assert "SLOWER a/b/c latency: the sentence" in section and section.count("= speedgate on cpu-") == 1
    assert "of another plugin" in text + ended.stderr.str()


def test_a_recording_that_cannot_be_written_keeps_its_processes(bench, monkeypatch):
    """If obtained.json does not fit on the disk, the checkpoints stay, one line says so, and the same command needs no round."""
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_json", no_room)
        result = bench.run(*RECORD)

    folder = bench.path / "baselines" / result.session.machine.key
    (line,) = after.unwritten_lines(result.session.outcome.unwritten)
    assert line == f"NOT WRITTEN: {folder / 'obtained.json'}: No space left on device"
    assert result.exit_status != 0 and result.session.outcome.recording is None
    assert list((folder / FOLDER).glob("*fp32*.json"))

    again = bench.run(*RECORD)
    assert again.stages == [] and list(again.obtained.baselines) == ["sdxl-tiny/fp32/32px-4steps-b1"]
    assert not list((folder / FOLDER).glob("*fp32*.json"))


def test_processes_that_no_baseline_can_take_are_kept(bench, monkeypatch):
    """Promotion refuses a case that no test benchmarked: its processes stay, and the terminal does not advise to promote it."""
    monkeypatch.setattr("speedgate.plugin.session.Session.attach_benchmark", lambda *_: None)

    result = bench.run(*RECORD)

    recording = result.session.outcome.recording
    assert list(recording.refused.values()) == ["no test benchmarked it"]
    assert list((bench.path / "baselines" / result.session.machine.key / FOLDER).glob("*fp32*.json"))


def test_a_gpu_that_is_lost_before_the_first_case_is_one_line(bench):
    """What NVML says while the machine is described ends the command as a wrong option does, without a traceback."""
    bench.pretend_a100(nvmlDeviceGetUUID=["NVML_ERROR_GPU_IS_LOST"])

    with pytest.raises(pytest.UsageError, match=r"^there is a GPU here that cannot be used: .* use --device cpu$"):
        bench.run("--stage=fp32")
