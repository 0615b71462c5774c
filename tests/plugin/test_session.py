"""A session: its files, its monitor, the storage of pytest-benchmark, and how many processes its gate wants."""

import dataclasses
import errno
import io
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from speedgate.baselines import checkpoint
from speedgate.gate import explain
from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.machine import Machine
from speedgate.plugin import after, hooks
from speedgate.plugin import session as session_module
from speedgate.plugin.after import write_coloured
from speedgate.plugin.hooks import open_monitor
from speedgate.plugin.judgement import Gate
from speedgate.report import markdown, terminal
from speedgate.report.html import document, view
from speedgate.results import folder
from speedgate.results.json_io import read_json, write_json
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import BF16, INT8, KEY, make_baseline, make_run
from tests.support.fake_nvml import FakeNvml, answers
from tests.support.fake_target import FakeSpec
from tests.support.sessions import make_session

NOISY_S = (2.25, 2.5, 2.75, 2.3, 2.7, 2.4, 2.6, 2.5)
QUIET_S = (2.5, 2.501, 2.499, 2.5, 2.5, 2.501, 2.499, 2.5)


@pytest.fixture
def session(tmp_path):
    """A session on an A100 that has measured nothing yet."""
    machine = Machine(key=KEY, device="cuda", name="NVIDIA A100-SXM4-80GB", memory_bytes=80 * 2**30)
    return make_session(tmp_path, machine=machine)


def test_each_case_is_on_disk_as_soon_as_it_is_stored(session):
    """The result file exists before the session ends, and gets each verdict at once."""
    session.store_run(make_run(INT8))
    path = session.options.results / "sdxl__int8__1024px-30steps-b1.json"
    before = path.read_text()

    Gate(session).latency(session.outcome.runs[INT8])

    assert '"verdicts": []' in before
    assert '"outcome": "NO_BASELINE"' in path.read_text()
    assert [path.name for path in session.options.results.iterdir()] == [path.name]


@pytest.mark.parametrize(("has_room", "rest"), [(True, "it is in "), (False, "it is nowhere else")])
def test_a_full_disk_costs_no_measurement(session, tmp_path, monkeypatch, has_room, rest):
    """A result that does not fit is written to the temporary folder if there is room, one line says so, and nothing is raised."""
    is_full = True

    def write(path, document):
        if is_full and (path.is_relative_to(session.options.results) or not has_room):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_json(path, document)

    monkeypatch.setattr(session_module, "write_json", write)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    session.store_run(make_run(INT8))
    session.store_run(make_run(BF16))

    (line,) = after.unwritten_lines(session.outcome.unwritten)
    assert line.startswith(f"NOT WRITTEN: {session.result_file(INT8)} and 1 more: No space left on device; {rest}")
    written = [read_json(path)["run"]["case_key"] for path in session.result_files.values()]
    assert written == ([INT8, BF16] if has_room else [])
    is_full = False
    session.store_run(make_run(INT8))
    assert [*session.outcome.unwritten] == [str(session.result_file(BF16))]
    assert session.result_files[INT8] == session.result_file(INT8)


def no_room(*_, **__):
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_no_recording(tmp_path, monkeypatch):
    """Room is tried with some bytes before anything is measured; later a checkpoint that does not fit is one line."""

    class FullDisk(io.BytesIO):
        write = no_room

    session = make_session(tmp_path, policy=Policy(mode=Mode.RECORD))
    monkeypatch.setattr(checkpoint, "write_json", no_room)
    session.store_run(make_run(INT8))
    assert INT8 in session.outcome.runs
    assert [Path(path).parent.name for path in session.outcome.unwritten] == [checkpoint.FOLDER]

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: FullDisk())
    with pytest.raises(pytest.UsageError, match=r"^--results .*: No space left on device; name a folder"):
        hooks.check_folder("--results", tmp_path)


def test_a_lost_worker_is_an_invalid_case(session):
    """A case whose worker died is INVALID, the reason is its sentence, and its result file exists."""
    Gate(session).mark_worker_lost(INT8, "the worker died during 'build' (SIGABRT)")

    (verdict,) = session.outcome.verdicts[INT8]
    assert (verdict.claim, verdict.outcome) == ("worker", Outcome.INVALID)
    assert verdict.sentence == "the worker died during 'build' (SIGABRT)"
    assert "SIGABRT" in session.result_file(INT8).read_text()


@pytest.mark.parametrize(("device", "kind"), [("cpu", "HostMonitor"), ("cuda", "NvmlMonitor")])
def test_each_device_has_its_monitor(monkeypatch, device, kind):
    """A GPU has a monitor with NVML and a CPU has one without; both get the number of our workers."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(answers("idle_h200")) if device == "cuda" else None)

    monitor = open_monitor(device, expected_workers=2)
    monitor.close()

    assert (type(monitor).__name__, monitor.expected_workers) == (kind, 2)


def test_only_the_outcome_is_coloured_by_pytests_own_markup():
    """pytest's reporter gets the word with its colour, so that `--color` and `NO_COLOR` decide, and the rest without."""
    colours = {"green": ("PASS", "FASTER"), "yellow": ("UNDECIDED", "STALE"), "red": ("SLOWER", "DIFFERENT")}
    for colour, outcome in ((colour, outcome) for colour, outcomes in colours.items() for outcome in outcomes):
        calls = []
        reporter = SimpleNamespace(
            write=lambda text, **markup: calls.append((text, markup)),  # noqa: B023
            line=lambda text: calls.append((text, {})),  # noqa: B023
        )

        write_coloured(reporter, f"{outcome} sdxl latency: SLOWER is a word here")

        assert calls == [("", {}), (outcome, {colour: True}), (" sdxl latency: SLOWER is a word here", {})]


def test_a_bare_compare_takes_the_promoted_baseline(bench):
    """A run that was saved later, whatever its verdict was, is not what `--benchmark-compare` compares with."""
    stored = bench.promoted("--stage=fp32").relative_to(bench.path)
    autosaved = bench.path / stored.parent / "Linux-CPython-3.11-64bit" / "0002_unversioned.json"
    autosaved.parent.mkdir()  # pytest-benchmark saves into a folder of the machine
    autosaved.write_text("{}")

    option = bench.configure("--benchmark-compare").option

    assert option.benchmark_compare == str(stored)
    assert option.benchmark_storage == f"file://./{stored.parent}"


def test_nothing_is_compared_if_nothing_is_stored(bench):
    """Without a stored file `--benchmark-compare` is no error: our own section says so for each case."""
    assert bench.configure("--benchmark-compare").option.benchmark_compare == []


def test_a_broken_file_of_published_figures_is_a_usage_error(bench):
    """It is named before anything is built, as a broken baseline is."""
    bench.pretend_a100()
    path = bench.path / "baselines" / "published" / "guide.toml"
    path.parent.mkdir()
    path.write_text('format = "throughput"')
    path.with_suffix(".csv").write_text("figures")

    with pytest.raises(pytest.UsageError, match=rf"^{path}: missing field timer"):
        bench.run("--stage=fp32")


@pytest.fixture
def judging(session):
    """The session with a recorded baseline of INT8 and looks at 3, 5 and 8 processes."""
    session.options = dataclasses.replace(session.options, policy=Policy(looks=Looks(first=3, last=8)))
    session.inputs = dataclasses.replace(session.inputs, baselines={INT8: make_baseline(*QUIET_S)})
    return session


def wanted(session, medians_s):
    """Return the wanted number of processes after each process."""
    return [
        Gate(session).processes_wanted(make_run(medians_s=medians_s[:count])) for count in range(len(medians_s) + 1)
    ]


def test_a_noisy_run_has_three_looks(judging):
    """It gets 3, then 5, then 8 processes, and no more than 8."""
    assert wanted(judging, NOISY_S) == [3, 3, 3, 5, 5, 8, 8, 8, 8]


def test_a_quiet_run_ends_at_the_first_look(judging):
    """Three processes that agree are enough for a verdict."""
    assert wanted(judging, QUIET_S[:3]) == [3, 3, 3, 3]


def test_nothing_is_judged_between_two_looks(judging):
    """A run that could be decided after four processes gets a fifth: between looks there is no share of the error rate."""
    noisy_then_quiet = (2.4, 2.6, 2.5, 2.5)

    assert Gate(judging).latency(make_run(medians_s=[2.5] * 4)).outcome.value == "PASS"
    assert Gate(judging).processes_wanted(make_run(medians_s=[2.5] * 4)) == 5
    assert wanted(judging, noisy_then_quiet)[-1] == 5


@pytest.mark.parametrize(("source", "mode"), [("published", Mode.AUTO), ("recorded", Mode.RECORD)])
def test_a_case_without_an_interval_gets_the_planned_processes(judging, source, mode):
    """With a published baseline, and in a recording, the spread is not used: noise adds no process."""
    judging.inputs = dataclasses.replace(judging.inputs, baselines={INT8: make_baseline(2.5, source=source)})
    judging.options = dataclasses.replace(judging.options, policy=Policy(mode=mode, looks=Looks(first=3, last=8)))

    assert wanted(judging, ()) == [1]
    assert Gate(judging).processes_wanted(make_run(medians_s=[2.5])) == 1


def test_a_case_without_a_baseline_gets_the_planned_processes(judging):
    """Without a verdict to decide, the plan is the number of processes."""
    judging.inputs = dataclasses.replace(judging.inputs, baselines={})

    assert Gate(judging).processes_wanted(make_run(medians_s=[2.5])) == 1


@pytest.mark.parametrize(("medians_s", "is_explained"), [((2.6, 2.9, 2.7), True), ((2.2, 2.8, 2.5), False)])
def test_an_undecided_verdict_beyond_the_tolerance_is_explained(judging, medians_s, is_explained):
    """A ratio beyond the tolerance is explained, below a line that says that nothing is decided; one within it is not."""
    verdict = Gate(judging).latency(make_run(medians_s=medians_s))
    lines = judging.outcome.explanations[INT8]

    assert verdict.outcome.value == "UNDECIDED"
    assert [*lines[:1]] == [explain.UNDECIDED_HEAD] * is_explained
    assert Gate(judging).failure_text(verdict).splitlines()[1:] == [f"  {line}" for line in lines]
    sentences = terminal.sentences(after.terminal_view(judging))
    assert sum(explain.UNDECIDED_HEAD in line for line in sentences) == is_explained


def test_an_undecided_verdict_keeps_the_explanation_of_a_decided_one(judging):
    """The explanation of a memory that grew stays, and an undecided latency of the same case replaces no line of it."""
    Gate(judging).memory(make_run(medians_s=(2.6, 2.9, 2.7), peak_bytes=(2**40,) * 3))
    lines = list(judging.outcome.explanations[INT8])
    verdict = Gate(judging).latency(make_run(medians_s=(2.6, 2.9, 2.7)))

    assert judging.outcome.explanations[INT8] == lines and explain.UNDECIDED_HEAD not in lines
    assert Gate(judging).failure_text(verdict) == str(verdict)


def test_the_json_of_pytest_benchmark_names_each_case(session):
    """A case among the parameters is its key, other parameters stay, and a test without parameters has none."""
    case, plain = {"params": {"case": FakeSpec(), "size": 3}}, {"params": None}

    hooks.pytest_benchmark_update_json(output_json={"benchmarks": [case, plain]})

    assert (case["params"], plain["params"]) == ({"case": "toy/fast/one", "size": 3}, None)


def test_a_reference_is_shown_as_one(session):
    """A case that was built only to be compared with is a reference in its file and every page, until it is judged itself."""
    session.selected_keys = frozenset({INT8})
    Gate(session).latency(session.store_run(make_run(INT8)))
    session.store_run(make_run(BF16, medians_s=()))

    files = folder.read_folder(session.options.results)
    assert [result.is_reference for result in folder.parse_results(files)] == [True, False]
    assert "**1 NO_BASELINE, 1 reference**" in markdown.render(files)
    assert "| reference |" in markdown.render(files)
    assert after.terminal_view(session).references == [BF16]
    report = document.render_report(view.load_report(session.options.results, root=session.options.baselines_root))
    assert '<span class="outcome plain">reference</span>' in report and "not judged" not in report

    session.store_run(make_run(BF16))
    assert not any(result.is_reference for result in folder.parse_results(folder.read_folder(session.options.results)))


@pytest.mark.parametrize(
    ("mode", "advice"), [(Mode.AUTO, "record one with --gate record"), (Mode.RECORD, "this recording")]
)
def test_a_recording_does_not_ask_for_one(tmp_path, mode, advice):
    """While a baseline is being recorded, no verdict advises to record one."""
    session = make_session(tmp_path, policy=Policy(mode=mode))

    verdicts = [
        judge(make_run(INT8)) for judge in (Gate(session).latency, Gate(session).memory, Gate(session).cold_start)
    ]

    assert all(f"on this machine: {advice}" in verdict.sentence for verdict in verdicts)


@pytest.mark.parametrize(
    ("outcome", "before", "after_", "is_noted"),
    [
        (Outcome.DIFFERENT, "1a", "2b", True),
        (Outcome.DIFFERENT, "1a", "1a", False),
        (Outcome.DIFFERENT, None, "2b", False),
        (Outcome.PASS, "1a", "2b", False),
    ],
)
def test_other_weights_than_the_baselines_are_named(session, outcome, before, after_, is_noted):
    """Another picture is not blamed on a stage without saying that the synthetic weights have changed as well."""
    old, new = (
        msgspec.structs.replace(make_run(INT8), recipe={"weights": {"digest": digest}}) for digest in (before, after_)
    )
    stored = msgspec.structs.replace(make_baseline(2.5, 2.5, 2.5), run=old)
    session.inputs = dataclasses.replace(session.inputs, baselines={INT8: stored})
    session.store_run(new)

    verdict = Gate(session).parity(Verdict(case_key=INT8, claim="parity", outcome=outcome, sentence="SSIM 0.3"), {})

    assert verdict.sentence.startswith("SSIM 0.3")
    assert ("this run has other weights than 0002_recorded (digest 1a -> 2b)" in verdict.sentence) is is_noted
