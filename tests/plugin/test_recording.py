"""A recording: it can be killed at any moment and continued, a budget ends it in good order, and no case gets lost."""

from __future__ import annotations

import itertools
import json
import shutil

import msgspec
import pytest

from fixtures.plugin import REQUIRED_CLAIMS
from speedgate.baselines.checkpoint import FOLDER
from speedgate.baselines.lock import recording_lock
from speedgate.baselines.promote import promote
from speedgate.baselines.store import newest_baselines
from speedgate.gate.policy import Mode, Policy
from speedgate.measure import budget
from speedgate.measure.machine import resolve_machine
from speedgate.measure.rounds import MeasurementPlan
from speedgate.plugin import builder
from speedgate.plugin.judgement import Gate
from speedgate.results.case_key import CaseKey
from speedgate.results.exit_status import ExitStatus
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import make_run
from tests.support.sessions import make_session

STAGES = ["fp32", "bf16", "sdpa", "compile"]
RECORD = ("--gate=record", "--budget=600", "--processes=3", "--rounds=4", f"--stage={','.join(STAGES)}")
KEY = resolve_machine("cpu").key
KILLS = [0, 21, 60]  # numbers of the worker's operation before which the recording is killed


def obtained(folder):
    """Return the recorded entries by stage, without their times and the readings of the machine."""
    document = json.loads((folder / "baselines" / KEY / "obtained.json").read_text())
    entries = {}
    for benchmark in document["benchmarks"]:
        entry = benchmark["extra_info"]["speedgate"]
        processes = [{**process, "health": None} for process in entry["run"]["processes"]]
        run = {**entry["run"], "processes": processes}
        entries[CaseKey.parse(run["case_key"]).stage] = {**entry, "session": None, "run": run}
    return entries


def judged(result):
    """Return case, claim and outcome of every verdict of a session."""
    verdicts = itertools.chain.from_iterable(result.session.outcome.verdicts.values())
    return sorted((verdict.case_key, verdict.claim, verdict.outcome) for verdict in verdicts)


@pytest.fixture
def snapshots(bench):
    """Record without an interruption, and copy the stored files before each operation of a worker, as a kill would leave them."""
    folders, operations = [], []

    def take(operation):
        folders.append((bench.path / "snapshots" / str(len(folders)), operations.count("load")))
        operations.append(operation)
        shutil.copytree(bench.path / "baselines", folders[-1][0])

    (bench.path / "baselines").mkdir()
    bench.on_call = take
    whole = bench.run(*RECORD)
    bench.on_call = lambda _: None
    return whole, folders


@pytest.mark.parametrize("kills", [KILLS, pytest.param(range(0, 90, 3), marks=pytest.mark.exhaustive)], ids=["3", "30"])
def test_a_recording_that_was_killed_continues_and_gives_the_same_record(bench, snapshots, kills):
    """Cases, processes, rounds and verdicts are those of an uninterrupted recording, and at most one process is built again."""
    whole, folders = snapshots
    expected = obtained(bench.path)
    assert len(folders) > max(kills)

    for kill in kills:
        shutil.rmtree(bench.path / "baselines")
        folder, builds_before = folders[kill]
        shutil.copytree(folder, bench.path / "baselines")

        result = bench.run(*RECORD)

        assert obtained(bench.path) == expected
        assert (result.red, judged(result)) == ([], judged(whole))
        assert builds_before + len(result.stages) <= len(whole.stages) + 1
        assert not (bench.path / "baselines" / KEY / FOLDER).exists()


def test_a_finished_process_is_not_measured_again(bench, monkeypatch):
    """Two processes of an interrupted case count, a finished case is not built, and both are named. Its origin is not lost."""
    monkeypatch.setattr(builder, "packages_of", lambda modules: dict.fromkeys(modules, "9.0"))
    options = ("--stage=fp32,bf16",)
    first = bench.record(*options, fp32={"offers": ["modules"]}, bf16={"kill": "generate", "from": 3})
    assert first.stages == [*["fp32"] * 3, *["bf16"] * 3]

    second = bench.record(*options)

    assert (second.red, second.stages) == ([], ["bf16"])
    assert "sdxl-tiny-fp32: finished by an interrupted recording, not built again" in second.notes
    assert "sdxl-tiny-bf16: 2 processes of an interrupted recording count" in second.notes
    origin = obtained(bench.path)["fp32"]["origin"]
    assert origin["packages"] == {"pytest": "9.0"}
    assert (bench.path / "baselines" / KEY / origin["archive"]).is_file()


def test_the_log_of_a_finished_recording_moves_to_its_results(bench):
    """It has the activities of every command of the recording, and no folder of checkpoints is left."""
    bench.record("--stage=fp32,bf16", bf16={"kill": "generate", "from": 3})

    result = bench.record("--stage=fp32,bf16")

    entries = budget.read_timings(result.session.options.results / budget.TIMINGS_FILE)
    assert len({entry.command for entry in entries}) == 2
    assert sum(entry.activity == "process" and entry.outcome == budget.DONE for entry in entries) == 2 * 3
    assert not (bench.path / "baselines" / KEY / FOLDER).exists()


def test_eager_cases_run_before_compiled_ones(bench):
    """In every pipeline, comparisons included, so that an interrupted recording has the cheap cases."""
    items = bench.collect("--gate=record", "--pipeline=sdxl,sd15", "--stage=sdpa,compile")

    names = [item.name for item in items if {"case", "selected_case"} & item.params.keys()]
    compiling = [name.endswith("compile]") for name in names]
    assert compiling == sorted(compiling)
    assert any("test_parity" in name for name in names[: compiling.index(True)])


def test_a_budget_that_is_over_ends_the_running_process(bench):
    """Nothing is red, no worker is left, the exit status says unfinished, and each case is listed with the next command."""
    secret = ("-o", "junit_suite_name=postgresql://boss:S3cret!pw@h/db")  # a password in the command
    command = ("--gate=record", "--processes=3", "--rounds=4", "--stage=fp32,bf16,sdpa", *secret)

    result = bench.run("--budget=12", *command, bf16={"hang": "generate", "from": 3})

    assert (result.exit_status, result.red, result.builds.living()) == (ExitStatus.UNFINISHED, [], 0)
    lines = pytest.LineMatcher(result.ending)
    lines.re_match_lines(
        [
            "seconds by activity",
            r"the budget of 12 s is over \(exit status 75\); left to do:",
            r"  sdxl-tiny/bf16/\S+: 2 of 3 processes; the budget was over during 'generate'",
            r"  sdxl-tiny/sdpa/\S+: 0 of 3 processes; the budget is over",
            r"the same command continues the recording: pytest .*--budget=12.*",
        ]
    )
    assert "S3cret" not in str(lines)


def test_an_ended_process_does_not_count(bench):
    """Before the next command no unfinished case can be promoted; that command measures the ended process again and no other."""
    command = ("--gate=record", "--processes=3", "--rounds=4", "--stage=fp32,bf16,sdpa")
    bench.run("--budget=12", *command, bf16={"hang": "generate", "from": 3})
    with pytest.raises(ValueError, match=r"never a baseline: sdxl-tiny/bf16/.*, sdxl-tiny/sdpa/"):
        promote(bench.path / "baselines", KEY)
    bench.clock.now_s = 0.0

    result = bench.run("--budget=600", *command)

    assert (result.exit_status, result.stages) == (0, ["bf16", *["sdpa"] * 3])
    assert [len(entry["run"]["processes"]) for entry in obtained(bench.path).values()] == [3, 3, 3]


def test_an_interrupted_recording_prints_the_command_that_continues_it(bench):
    """After Ctrl-C the last line is that command, although no budget is over."""

    def interrupt(config):
        config.pluginmanager.get_plugin("speedgate-recording").pytest_keyboard_interrupt()

    result = bench.record("--stage=fp32", prepare=interrupt)

    assert result.ending[-2:] == [
        "interrupted: all finished processes are stored",
        next(line for line in result.ending if line.startswith("the same command continues the recording: pytest ")),
    ]


def test_a_second_recording_is_refused(bench):
    """It ends before anything is built, and names the process of the first."""
    with (
        recording_lock(KEY),
        pytest.raises(pytest.UsageError, match=r"another recording on .* is running: process \d+"),
    ):
        bench.record("--stage=fp32")


def test_a_second_baseline_does_not_replace_the_first(bench):
    """Recording and promoting again adds a numbered file beside the first."""
    first = bench.promoted("--stage=fp32")
    before = first.read_bytes()
    bench.record("--stage=fp32")

    second = promote(bench.path / "baselines", KEY)

    assert (first.name, second.name) == ("0001_recorded.json", "0002_recorded.json")
    assert first.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "fingerprint", "counts"),
    [({}, "f00d", True), ({"rounds": 5}, "f00d", False), ({"source": "1" * 64}, "f00d", False), ({}, "beef", False)],
)
def test_only_the_same_recipe_code_and_rounds_count(tmp_path, changes, fingerprint, counts):
    """With another recipe, other measuring code or another number of rounds, the recording starts again."""
    run = make_run(fingerprint="f00d")
    session(tmp_path).store_run(run)

    resumed = session(tmp_path, **changes).resume_run(started(make_run(fingerprint=fingerprint)))
    assert resumed.processes == (run.processes if counts else ())


def started(run):
    """Return the run as it is after the first image, without rounds."""
    return msgspec.structs.replace(run, processes=(), components_s={})


def session(folder, *, rounds=4, source="0" * 64, **inputs):
    """Make a session that records."""
    session = make_session(
        folder,
        policy=Policy(mode=Mode.RECORD),
        plan=MeasurementPlan(processes=5, rounds=rounds),
        code_digest=source,
        **inputs,
    )
    session.required_claims = REQUIRED_CLAIMS
    return session


@pytest.mark.parametrize(
    ("processes", "claims", "elsewhere", "unfinished"),
    [
        (5, REQUIRED_CLAIMS, (), False),
        (4, REQUIRED_CLAIMS, (), True),
        (5, REQUIRED_CLAIMS - {"parity"}, (), True),
        (5, (), REQUIRED_CLAIMS, False),
    ],
)
def test_a_result_file_is_marked_until_its_recording_is_finished(tmp_path, processes, claims, elsewhere, unfinished):
    """It is unfinished until every process is measured and every claim that a baseline needs is judged, here or elsewhere."""
    recording, run = session(tmp_path), make_run(medians_s=[2.4] * processes)
    recording.store_run(run)
    for claim in claims:
        recording.store_verdict(Verdict(case_key=run.case_key, claim=claim, outcome=Outcome.PASS, sentence=""))
    for claim in elsewhere:
        recording.store_judged_elsewhere(run.case_key, claim)

    document = json.loads(recording.result_file(run.case_key).read_text())
    assert document.get("unfinished", False) == unfinished


def test_a_run_has_the_time_of_its_first_session(tmp_path):
    """It has the commit of that session too, however many sessions continue it."""
    run = make_run(medians_s=[2.4] * 5)
    first, second, third = (session(tmp_path, commit={"id": letter * 40}) for letter in "abc")
    first.store_run(msgspec.structs.replace(run, processes=run.processes[:4]))

    second.store_run(msgspec.structs.replace(second.resume_run(started(run)), processes=run.processes))
    third.store_run(third.load_finished_run(third.checkpoint_key_of(run)))

    document = json.loads(third.result_file(run.case_key).read_text())
    assert (document["measured_at"], document["commit"]) == (first.inputs.measured_at, {"id": "a" * 40})
    assert len(document["run"]["processes"]) == 5


@pytest.fixture
def renamed(bench):
    """A promoted recording, in which one case is renamed to a case that the suite does not have."""
    path = bench.promoted("--stage=fp32,bf16")
    path.write_text(path.read_text().replace("sdxl-tiny/bf16/", "sdxl-tiny/bf17/"))
    return bench


@pytest.mark.parametrize(
    ("mode", "red"), [("enforce", ["test_latency[sdxl-tiny-bf16]", "test_coverage"]), ("auto", [])]
)
def test_a_case_of_the_baseline_that_the_suite_lacks_is_missing(renamed, mode, red):
    """It is reported, and red under enforce beside the measured case that has no baseline."""
    result = renamed.run(f"--gate={mode}", "--stage=fp32,bf16", claims=("test_latency", "test_coverage"))

    assert result.red == red
    result.terminal.re_match_lines(
        [r"MISSING sdxl-tiny/bf17/\S+ baseline: 0001_recorded has this case, but the suite does not: .*"]
    )
    result.terminal.re_match_lines([r"No baseline of 1 of 2 cases on this machine\. Next: .*"])


def test_a_selected_case_that_was_not_measured_is_missing(tmp_path, renamed):
    """It is MISSING unless its worker was lost, which is red already."""
    state = session(tmp_path, baselines=newest_baselines(renamed.path / "baselines", KEY))
    keys = frozenset(state.inputs.baselines)
    state.outcome.broken[min(keys)] = "the worker died"

    verdicts = Gate(state).missing(suite_keys=keys, required_keys=keys)

    assert [(verdict.case_key, verdict.sentence) for verdict in verdicts] == [
        (max(keys), "0001_recorded has this case, but it was not measured")
    ]
