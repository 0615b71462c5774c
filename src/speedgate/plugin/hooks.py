"""The hooks of the pytest plugin: they set up the session, read its inputs, and write the recording and the terminal section."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from speedgate.baselines import checkpoint, published, store
from speedgate.baselines.acknowledged import acknowledged_now
from speedgate.baselines.lock import recording_lock
from speedgate.gate import guard
from speedgate.gate.policy import Mode
from speedgate.measure import budget, code_digest
from speedgate.measure.machine import resolve_machine
from speedgate.measure.monitor import HostMonitor, Monitor
from speedgate.measure.nvml import NvmlMonitor
from speedgate.plugin import after, options
from speedgate.plugin.estimate import earlier_timings, expected_session_s
from speedgate.plugin.items import case_attribute, fixtures_of, has_gate, parameters_of
from speedgate.plugin.judgement import Gate
from speedgate.plugin.progress import Progress, PytestScreen, format_seconds
from speedgate.plugin.promises import PromisePlugin, check_recording
from speedgate.plugin.recording import RecordingPlugin
from speedgate.plugin.session import Session, SessionInputs, SessionOptions
from speedgate.report import terminal
from speedgate.results.exit_status import ExitStatus
from speedgate.results.run import Run
from speedgate.results.text import command_line, printable

pytest_plugins = ["speedgate.plugin.sharding", "speedgate.plugin.drill"]  # their hooks follow ours

SESSION = pytest.StashKey[Session]()
GATE = pytest.StashKey[Gate]()
PROGRESS = pytest.StashKey[Progress]()
RESOURCES = pytest.StashKey[contextlib.ExitStack]()  # closed at the end: the device, the lock, temporary folders
_LEAST_ROOM_BYTES = 2**20  # a result is up to 60 kB for each pair of processes
# A test with this mark, or with pytest-benchmark's fixture, measures rounds.
ROUNDS_MARK = "rounds"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Make the session from the options. Runs before pytest-benchmark's own hook, which reads its storage option."""
    config.addinivalue_line("markers", f"{ROUNDS_MARK}: the test measures rounds; --skip-latency leaves it out")
    config.stash[RESOURCES] = contextlib.ExitStack()
    options.apply_quick(config)
    try:
        machine = resolve_machine(config.getoption("device"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    session_options = SessionOptions(
        policy=options.gate_policy(config),
        plan=options.measurement_plan(config),
        isolation=config.getoption("isolation"),
        worker_timeout_s=config.getoption("worker_timeout"),
        root=config.rootpath,
        tests=command_line(config.args),
        is_quick=config.getoption("quick"),
        confirmation=options.confirmation_plan(config),
        results=config.getoption("results") or config.rootpath / ".speedgate" / _session_name(),
    )
    code = code_digest.digest(code_digest.measuring_files()) if session_options.is_recording else ""
    session = Session(options=session_options, machine=machine, inputs=SessionInputs(code_digest=code))
    config.stash[SESSION], config.stash[GATE] = session, Gate(session)
    config.pluginmanager.register(PromisePlugin(session), "speedgate-promises")
    config.stash[PROGRESS] = progress = Progress(PytestScreen(config))
    if session_options.is_recording:
        recording = RecordingPlugin(config, session=session, progress=progress, seconds=config.getoption("budget"))
        config.pluginmanager.register(recording, "speedgate-recording")
        session.budget = recording.budget
    _check_gpu_key(config, session)
    if config.getoption("results"):
        check_folder("--results", session_options.results)
    if getattr(config.option, "benchmark_json", None):  # pytest-benchmark opens it at the end
        check_file("--benchmark-json", Path(config.option.benchmark_json))
    after.check_report(config)
    if config.getoption("report"):
        check_file("--report", config.getoption("report"))
    _point_storage(config, session)
    after.register_upload(config, session)


def check_folder(option: str, folder: Path) -> None:
    """Create the folder that an option names. Raises `pytest.UsageError` if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        raise pytest.UsageError(f"{option} {folder}: {error.strerror}; name a folder that can be written") from error


def check_file(option: str, path: Path) -> None:
    """Raise `pytest.UsageError` if the file that an option names cannot be written; its folder must exist."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists():
            with path.open("ab"):
                pass
        _try_to_write(path.parent)
    except OSError as error:
        raise pytest.UsageError(f"{option} {path}: {error.strerror}; name a file that can be written") from error


def _try_to_write(folder: Path) -> None:
    """Write as much as a result needs and remove it: a full disk takes new files and none of their bytes."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_LEAST_ROOM_BYTES))
        file.flush()


def _session_name() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"


def _check_gpu_key(config: pytest.Config, session: Session) -> None:
    gpu_key = config.getoption("gpu_key")
    if gpu_key is None or gpu_key == session.machine.key:
        return
    valid_keys = sorted({*store.gpu_keys(session.options.baselines_root), session.machine.key})
    if gpu_key not in valid_keys:
        raise pytest.UsageError(f"--gpu-key {gpu_key}: unknown; choose from {', '.join(valid_keys)}")
    raise pytest.UsageError(
        f"--gpu-key {gpu_key}: this machine is {session.machine.key}; figures of different GPU keys are not compared"
    )


def _point_storage(config: pytest.Config, session: Session) -> None:
    """Let pytest-benchmark store in this machine's folder, and compare with its newest baseline.

    `--benchmark-compare` without a value would otherwise read the run that was saved last, whatever its verdict was. A
    folder outside the working directory is not used: pytest-benchmark formats it relative to there, and raises.
    """
    option = config.option
    folder = session.options.baselines_root / session.machine.key
    if not hasattr(option, "benchmark_storage") or not folder.is_relative_to(Path.cwd()):
        return
    if option.benchmark_compare is True:
        newest = store.latest_file(session.options.baselines_root, session.machine.key)
        if newest is not None:
            option.benchmark_compare = str(newest.relative_to(Path.cwd()))
        elif not any(folder.glob("*.json")):
            if option.benchmark_compare_fail:
                raise pytest.UsageError(
                    f"--benchmark-compare-fail: there is no baseline of {session.machine.key} to compare with: record one with"
                    " --gate record, or drop it"
                )
            option.benchmark_compare = []  # nothing to read: our own report says so for each case
    if "--benchmark-storage" not in " ".join(config.invocation_params.args):
        if not (option.benchmark_save or option.benchmark_autosave or option.benchmark_compare):
            # pytest-benchmark creates the folder even for --help: give it one that exists if it will not use it
            folder = next(path for path in (folder, *folder.parents) if path.is_dir())
        option.benchmark_storage = f"file://./{folder.relative_to(Path.cwd())}"


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the GPU key and the machine; drop the clock rate, which would make each comparison look like another machine."""
    machine = config.stash[SESSION].machine
    machine_info["speedgate"] = {"gpu_key": machine.key}
    machine_info["gpu" if machine.device == "cuda" else "host"] = dataclasses.asdict(machine)
    cpu = machine_info.get("cpu", {})
    machine_info["cpu"] = {name: cpu[name] for name in ("brand_raw", "arch", "count") if name in cpu}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Name the cases among the parameters by their keys: pytest-benchmark would write that they cannot be serialised."""
    for benchmark in output_json.get("benchmarks", ()):
        parameters = benchmark.get("params") or {}
        benchmark["params"] = {name: getattr(value, "key", value) for name, value in parameters.items()} or None


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Refuse a comparison with another GPU key before any test runs."""
    gpu_key = config.stash[SESSION].machine.key
    facts = compared_benchmark.get("machine_info", {}).get("speedgate", {})
    stored_gpu_key = facts.get("gpu_key", "a machine without a GPU key")
    if stored_gpu_key != gpu_key:
        raise pytest.UsageError(
            f"--benchmark-compare: that run is of {printable(str(stored_gpu_key))}, this machine is {gpu_key}; figures of"
            " different GPU keys are not compared"
        )
    # With the same key, other differences (of versions, for example) are the reason for the comparison. pytest-benchmark's
    # own hook runs next: it would print both records in full, and raises if its storage is outside the working directory.
    compared_benchmark["machine_info"] = machine_info


@pytest.fixture(scope="session")
def gate(request: pytest.FixtureRequest) -> Gate:
    """Judge claims by this machine's baselines, or by the other arm of a live comparison."""
    return request.config.stash[GATE]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse to measure under pytest-xdist; with `--skip-latency`, leave out the tests that measure rounds."""
    if has_gate(items) and (os.environ.get("PYTEST_XDIST_WORKER") or config.getoption("numprocesses", None)):
        raise pytest.UsageError(
            "pytest-xdist is active: cases that run at the same time slow one another, and pytest-benchmark does not measure"
            " then; run without -n"
        )
    if config.getoption("skip_latency"):
        measuring = [item for item in items if _measures_rounds(item)]
        config.hook.pytest_deselected(items=measuring)
        items[:] = [item for item in items if item not in measuring]


def _measures_rounds(item: pytest.Item) -> bool:
    return "benchmark" in fixtures_of(item) or item.get_closest_marker(ROUNDS_MARK) is not None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Read the baselines and open the device, if any test judges a claim."""
    config, state = session.config, session.config.stash[SESSION]
    if config.option.collectonly or not has_gate(session.items):
        return
    if getattr(config.option, "benchmark_cprofile", None):
        raise pytest.UsageError(
            "--benchmark-cprofile: it profiles this process, but a case runs in its worker process; drop it"
        )
    options.check_measures(config, state.options.policy.mode)
    if state.options.is_recording:
        check_recording(session.items, required=state.required_claims)
    if not config.getoption("results"):
        check_folder("--results DIR: the default", state.options.results)
    try:
        state.inputs = _read_inputs(config, state)
        expected_workers = 2 if options.is_live_comparison(config) else 1
        state.monitor = open_monitor(
            state.machine.device,
            expected_workers=expected_workers,
            allows_busy=options.allows_busy(config, has_baselines=bool(state.inputs.baselines)),
        )
        config.stash[RESOURCES].callback(state.monitor.close)
        state.inputs = dataclasses.replace(state.inputs, machine_facts=state.monitor.facts())
    except ValueError as error:  # a `GpuError` is one
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Open the log of activities, and say how long the session is expected to take."""
    config, state = session.config, session.config.stash[SESSION]
    if config.option.collectonly or not has_gate(session.items):
        return
    progress, gate, earlier = config.stash[PROGRESS], config.stash[GATE], earlier_timings(state.options.results)
    if progress.log is None:  # the recording plugin has opened the log of a recording
        path, command = state.options.results / budget.TIMINGS_FILE, f"{budget.utc_now()} {state.options.results.name}"
        progress.log = budget.TimingLog(path=path, command=command, earlier=earlier)
    processes = {
        str(case_attribute(item, "id")): gate.processes_at_first(str(case_attribute(item, "key")))
        for item in session.items
        if _measures_rounds(item) and case_attribute(item, "key") and not item.get_closest_marker("skip")
    }
    progress.expected_s = expected_session_s(earlier, processes, is_live=gate.is_live)
    if progress.expected_s is not None:
        seconds = format_seconds(progress.expected_s)
        cases = "1 case" if len(processes) == 1 else f"{len(processes)} cases"
        progress.note(f"speedgate: about {seconds} for {cases}, by the last time that each was measured")


def _read_inputs(config: pytest.Config, session: Session) -> SessionInputs:
    """Read the commit and the baselines. A recording first takes the lock and sets an older obtained.json aside."""
    root, machine, inputs = session.options.baselines_root, session.machine, session.inputs
    if session.options.is_recording:
        config.stash[RESOURCES].enter_context(recording_lock(machine.key))
        store.set_aside_obtained(root, machine.key)
    if config.pluginmanager.hasplugin("benchmark"):
        commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
        inputs = dataclasses.replace(inputs, commit=commit)
    if options.uses_baselines(config):
        cases = store.newest_cases(root, machine.key)
        acknowledged = acknowledged_now(root, machine.key, cases.baselines)
        inputs = dataclasses.replace(
            inputs, baselines=cases.baselines, out_of_memory=cases.out_of_memory, acknowledged=acknowledged
        )
    if machine.device == "cuda":
        inputs = dataclasses.replace(inputs, family_figures=published.family_figures(root, machine.name))
    return inputs


def open_monitor(device: str, *, expected_workers: int = 1, allows_busy: bool = False) -> Monitor:
    """Open the monitor of torch's first GPU for "cuda", of this host for "cpu"."""
    if device == "cuda":
        return NvmlMonitor(expected_workers=expected_workers)
    assert device == "cpu", f"no monitor for {device!r}"
    return HostMonitor(expected_workers=expected_workers, allows_busy=allows_busy)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the device and release the lock."""
    config.stash[RESOURCES].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """Note which cases have a failed test: they never become a baseline. Let the summary of a failure begin with its text."""
    result = yield
    crash = getattr(result.longrepr, "reprcrash", None)
    if crash is not None and call.excinfo is not None and isinstance(call.excinfo.value, pytest.fail.Exception):
        crash.message = str(call.excinfo.value).partition("\n")[0]  # without "Failed: ", and one line in any log
    for key in (getattr(value, "key", None) for value in parameters_of(item).values()):
        if key is not None and result.failed:
            item.config.stash[SESSION].outcome.failed_tests.setdefault(key, item.nodeid)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Write obtained.json of a recording before other plugins end; if one of them raises, still write all that is ours.

    With `--gate enforce`, a session that judged nothing is not green.
    """
    config = session.config
    state = config.stash.get(SESSION, None)
    if state is None:
        return (yield)
    if exitstatus == pytest.ExitCode.OK and has_gate(session.items):
        session.exitstatus = _status_of_guard(state)
    if state.options.is_recording:
        _finish_recording(config, state, exitstatus)
    if state.outcome.unwritten and session.exitstatus == pytest.ExitCode.OK:
        # pytest documents no other way to set the exit status.
        session.exitstatus = ExitStatus.UPLOAD
    try:
        return (yield)
    except BaseException:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            after.write_rest(reporter, session, state)
        raise


def _finish_recording(config: pytest.Config, state: Session, exitstatus: int) -> None:
    """Write obtained.json into the folder of this machine's baselines; drop the checkpoints of cases that are in it."""
    outcome, root = state.outcome, state.options.baselines_root
    if not (outcome.runs or outcome.failed_tests or outcome.out_of_memory):
        return
    unfinished = {key: f"not finished: {reason}" for key, reason in outcome.unfinished.items()}
    failed = {**state.unjudged_cases(), **unfinished, **outcome.failed_tests}
    try:
        path = _write_obtained(config, state, failed)
    except OSError as error:  # the checkpoints stay, and the same command continues from them
        outcome.unwritten[str(root / state.machine.key / store.OBTAINED)] = str(error.strerror)
        return
    failed = {**store.unusable_runs(_recorded_runs(state), state.benchmarks), **failed}
    if exitstatus == pytest.ExitCode.OK and not failed:  # otherwise the same command continues from the checkpoints
        checkpoint.discard(root, state.machine.key, case_keys={*outcome.runs, *outcome.out_of_memory})
    # An interrupted or unfinished recording is reported by the recording plugin.
    is_over = exitstatus != pytest.ExitCode.INTERRUPTED and not outcome.unfinished
    if is_over and any(run.processes for run in outcome.runs.values()):
        outcome.recording = terminal.Recording(path=str(path.relative_to(state.options.root)), refused=failed)


def _status_of_guard(session: Session) -> pytest.ExitCode:
    """Return the exit status of a session without a red test: with `--gate enforce`, 5 if nothing was judged, 1 for a gap."""
    outcome, policy = session.outcome, session.options.policy
    if not _must_guard(session):
        return pytest.ExitCode.OK
    if judged_nothing(session):
        return pytest.ExitCode.NO_TESTS_COLLECTED
    gaps = guard.unguarded_claims(
        session.promised, outcome.verdicts, outcome.not_judged, policy=policy, broken=outcome.broken
    )
    for verdict in gaps:
        session.store_verdict(verdict)
    return pytest.ExitCode.TESTS_FAILED if gaps else pytest.ExitCode.OK


def judged_nothing(session: Session) -> bool:
    """Return True if `--gate enforce` guards not one claim: every one was skipped."""
    outcome = session.outcome
    return _must_guard(session) and not guard.count_guarded(outcome.verdicts, outcome.not_judged).claims


def _must_guard(session: Session) -> bool:
    """Return True with `--gate enforce`; a fire drill has an end of its own."""
    return session.options.policy.mode is Mode.ENFORCE and session.injection is None


def _recorded_runs(state: Session) -> list[Run]:
    """Return the runs of a recording, also of cases that failed, but not of those that were built only for parity."""
    outcome = state.outcome
    return [run for run in outcome.runs.values() if run.processes or run.case_key in outcome.failed_tests]


def _write_obtained(config: pytest.Config, state: Session, failed: Mapping[str, str]) -> Path:
    machine_info = config.hook.pytest_benchmark_generate_machine_info(config=config)
    config.hook.pytest_benchmark_update_machine_info(config=config, machine_info=machine_info)
    outcome = state.outcome
    return store.write_obtained(
        state.options.baselines_root,
        state.machine.key,
        runs=_recorded_runs(state),
        failed=failed,
        benchmarks_meta={
            key: {"name": benchmark.name, "fullname": benchmark.fullname, "group": benchmark.group}
            for key, benchmark in state.benchmarks.items()
        },
        machine_info=machine_info,
        commit_info=state.inputs.commit,
        measured_at=state.inputs.measured_at,
        earlier=state.first_sessions,
        out_of_memory=outcome.out_of_memory,
        rooflines={key: roofline for key, roofline in outcome.rooflines.items() if "share" in roofline},
        code=state.inputs.code,
    )


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write our section, below pytest-benchmark's tables."""
    state = config.stash.get(SESSION, None)
    if state is None or config.option.collectonly:
        return
    if after.has_section(config, state):
        after.write_section(terminalreporter, config, state)
    if judged_nothing(state) and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line(
            "--gate enforce: no claim was judged, so this run is not green (exit status 5)", red=True
        )
