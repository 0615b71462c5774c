"""An interrupted recording continues where it stopped; only one runs at a time; no case of a baseline is lost."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from fixtures.plugin import REQUIRED_CLAIMS
from speedgate.baselines.promote import promote
from speedgate.baselines.store import newest_baselines
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.rounds import MeasurementPlan
from speedgate.plugin.judgement import Gate
from speedgate.plugin.options import MIN_RECORD_PROCESSES
from speedgate.results.case_key import CaseKey
from speedgate.results.run import Outcome, Verdict
from tests.support.baseline_samples import make_run
from tests.support.sessions import make_session
from tests.support.suite import Folder, Suite, red

STAGES = ("--stage=fp32,bf16", f"--processes={MIN_RECORD_PROCESSES}")
ALL = MIN_RECORD_PROCESSES


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Two stages, recorded by the same command three times: interrupted between them, killed in the second, and finished."""
    suite = Suite(Folder(tmp_path_factory.mktemp("resumed")))
    suite.misbehave(bf16={"hang": "load"})
    with recording(suite, builds=ALL + 1) as interrupted:
        os.killpg(interrupted.pid, signal.SIGINT)
    (suite.path / "output.txt").rename(suite.path / "interrupted.txt")
    suite.misbehave(bf16={"hang": "generate", "from": 4})
    with recording(suite, builds=ALL + 4) as killed:
        second = suite.record(*STAGES)
        os.kill(killed.pid, signal.SIGKILL)
    suite.misbehave()
    last = suite.record(*STAGES)
    yield suite, interrupted, killed, second, last
    end_workers(suite)


def recording(suite, *, builds):
    """Start a recording in a new process group; wait until it has built so many workers, the last of which hangs."""
    command = [sys.executable, "-m", "pytest", *suite.arguments("--gate=record", "--rounds=4", *STAGES)]
    with (suite.path / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=suite.path, stdout=output, process_group=0)
    log, deadline_s = suite.path / "builds.log", time.monotonic() + 60
    while not log.exists() or len(log.read_text().splitlines()) < builds:
        assert time.monotonic() < deadline_s, f"{builds} workers were not built within 60 s"
        assert process.poll() is None, (
            f"the recording ended with {process.returncode} before it had built {builds} workers"
        )
        time.sleep(0.05)
    return process


def end_workers(suite):
    """Kill the workers that are left: one that hangs outlives a killed pytest by some seconds."""
    for line in (suite.path / "builds.log").read_text().splitlines():
        pid = int(line.split()[1])
        if b"execnet" in Path(f"/proc/{pid}/cmdline").read_bytes() if Path(f"/proc/{pid}").exists() else False:
            os.kill(pid, signal.SIGKILL)


def obtained(suite):
    """Return the recorded entries by stage."""
    document = json.loads((suite.path / "baselines" / suite.machine.key / "obtained.json").read_text())
    entries = [benchmark["extra_info"]["speedgate"] for benchmark in document["benchmarks"]]
    return {CaseKey.parse(entry["run"]["case_key"]).stage: entry for entry in entries}


def test_finished_processes_are_not_measured_again(resumed):
    """The first command finishes one case, the second two processes of the other, and the third only the rest."""
    suite, interrupted, killed, _, last = resumed

    assert (interrupted.returncode, killed.returncode, last.ret) == (2, -signal.SIGKILL, 0)
    assert suite.builds() == [*["fp32"] * ALL, "bf16", *["bf16"] * 3, *["bf16"] * (ALL - 2)]


def test_an_interrupted_recording_prints_the_command_that_continues_it(resumed):
    """After Ctrl-C the last line is that command; only a finished recording names `speedgate promote`."""
    interrupted = (resumed[0].path / "interrupted.txt").read_text()
    last = "\n".join(resumed[-1].outlines)

    assert re.search(
        r"^interrupted: .*\n(?:.*\n)*the same command continues the recording: pytest bench .*--gate=record",
        interrupted,
        re.M,
    )
    assert ("speedgate promote" in interrupted, "speedgate promote" in last) == (False, True)


def test_the_result_is_that_of_an_uninterrupted_recording(resumed):
    """Each case has all its processes and rounds, every claim is judged, and no checkpoint is left."""
    suite = resumed[0]
    entries = obtained(suite)

    assert list(entries) == ["fp32", "bf16"]
    for stage, median_s in (("fp32", 0.7), ("bf16", 0.5)):
        assert entries[stage]["outcome"] == "passed"
        seconds = [process["seconds"] for process in entries[stage]["run"]["processes"]]
        assert [len(rounds) for rounds in seconds] == [4] * ALL
        assert [statistics.median(rounds) for rounds in seconds] == pytest.approx([median_s] * ALL)
        assert entries[stage]["run"]["components_s"]["denoiser"] == pytest.approx(0.6 * median_s)
        assert entries[stage]["run"]["attribution"]["attention_kernels"] == {"flash": 40}
    assert not (suite.path / "baselines" / suite.machine.key / "recording").exists()


def test_a_resumed_recording_lists_what_counts(resumed):
    """It prints which cases were finished, and how many processes of another case count."""
    last = resumed[-1].stdout.str()

    assert "sdxl-tiny-fp32: finished by an interrupted recording, not built again" in last
    assert "sdxl-tiny-bf16: 2 processes of an interrupted recording count" in last


def test_a_second_recording_is_refused(resumed):
    """A second recording ends with exit status 4 before anything is built, and names the process of the first."""
    _, _, killed, second, _ = resumed

    assert second.ret == pytest.ExitCode.USAGE_ERROR
    second.stderr.fnmatch_lines([f"ERROR: another recording on cpu-* is running: process {killed.pid}, started *"])


@pytest.mark.parametrize(("changes", "counts"), [({}, True), ({"rounds": 5}, False), ({"source": "1" * 64}, False)])
def test_only_the_same_code_and_rounds_count(tmp_path, changes, counts):
    """With other measuring code or another number of rounds, the recording starts again."""
    run = make_run()
    session(tmp_path).store_run(run)

    assert session(tmp_path, **changes).resume_run(started(run)).processes == (run.processes if counts else ())


def test_another_recipe_starts_again(tmp_path):
    """Processes of a stage that was built differently do not count."""
    session(tmp_path).store_run(make_run())

    assert session(tmp_path).resume_run(started(make_run(fingerprint="beef"))).processes == ()


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
    ("processes", "claims", "unfinished"),
    [(5, REQUIRED_CLAIMS, False), (4, REQUIRED_CLAIMS, True), (5, REQUIRED_CLAIMS - {"parity"}, True)],
)
def test_a_result_file_is_marked_until_its_recording_is_finished(tmp_path, processes, claims, unfinished):
    """It is unfinished until every process is measured and every claim that a baseline needs is judged."""
    recording, run = session(tmp_path), make_run(medians_s=[2.4] * processes)
    recording.store_run(run)
    for claim in claims:
        recording.store_verdict(Verdict(case_key=run.case_key, claim=claim, outcome=Outcome.PASS, sentence=""))

    document = json.loads(recording.result_file(run.case_key).read_text())
    assert document.get("unfinished", False) == unfinished


def test_a_claim_that_is_judged_elsewhere_finishes_a_recording_too(tmp_path):
    """The result file is not marked as unfinished for such a claim."""
    recording, run = session(tmp_path), make_run(medians_s=[2.4] * 5)
    recording.store_run(run)
    for claim in REQUIRED_CLAIMS:
        recording.store_judged_elsewhere(run.case_key, claim)

    assert "unfinished" not in json.loads(recording.result_file(run.case_key).read_text())


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


@pytest.fixture(scope="module")
def renamed(resumed):
    """The promoted recording, in which one case is renamed to a case that the suite does not have."""
    suite = resumed[0]
    path = promote(suite.path / "baselines", suite.machine.key)
    path.write_text(path.read_text().replace("sdxl-tiny/bf16/", "sdxl-tiny/bf17/"))
    return suite


def test_a_case_of_the_baseline_that_the_suite_lacks_is_red_under_enforce(renamed):
    """It is MISSING, one red test, beside the measured case that has NO_BASELINE."""
    result = renamed.run("--gate=enforce", "--rounds=4", STAGES[0], "-k", "latency or coverage")

    assert red(result) == ["test_latency[sdxl-tiny-bf16]", "test_coverage"]
    result.stdout.re_match_lines(
        [r"MISSING sdxl-tiny/bf17/\S+ baseline: 0001_recorded has this case, but the suite does not: .*"]
    )
    result.stdout.re_match_lines(
        [r"No baseline of this machine for 1 of 2 cases\. Next: pytest bench --gate record, .*"]
    )


def test_a_missing_case_is_reported_under_auto(renamed):
    """Without `enforce` a missing case is green, and reported."""
    result = renamed.run(STAGES[0], "-k", "coverage")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.re_match_lines([r"MISSING sdxl-tiny/bf17/\S+ baseline: .*"])


def test_a_selected_case_that_was_not_measured_is_missing(tmp_path, renamed):
    """It is MISSING unless its worker was lost, which is red already."""
    state = session(tmp_path, baselines=newest_baselines(renamed.path / "baselines", renamed.machine.key))
    keys = frozenset(state.inputs.baselines)
    state.outcome.broken[min(keys)] = "the worker died"

    verdicts = Gate(state).missing(suite_keys=keys, required_keys=keys)

    assert [(verdict.case_key, verdict.sentence) for verdict in verdicts] == [
        (max(keys), "0001_recorded has this case, but it was not measured")
    ]
