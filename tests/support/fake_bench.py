"""Call the claims of `bench/` in this process: real options, runner and gate, but no pytest session and no worker process.

A test states how fake workers misbehave and looks at which claims are red. It takes milliseconds, where a nested pytest
session with one process for each worker takes seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import inspect
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import plugin as suite_plugin
from fixtures.cases import Case
from fixtures.outputs import OutputCollector
from fixtures.parity_judge import ParityJudge
from speedgate.baselines import promote, store
from speedgate.fleet import shards
from speedgate.measure.other_arm import OtherArm, other_arm_label
from speedgate.measure.worker import OutOfTime
from speedgate.plugin import after, drill, hooks, sharding
from speedgate.plugin.case_fixtures import CaseFixture, RunnerFixture, open_runner
from speedgate.plugin.judgement import Gate
from speedgate.plugin.session import Session
from speedgate.report import terminal
from speedgate.results.folder import read_folder
from speedgate.results.json_io import read_json
from speedgate.results.run import Run, Verdict
from tests.support.fake_nvml import FakeNvml, answers
from tests.support.fake_worker import FakeBuilds, FakeClock, FakeWorker, InProcessCase

ROOT = Path(__file__).parents[2]
A100 = "nvidia-a100-sxm4-80gb-400w"
# The last plugin collects garbage five times whenever a configuration ends, which takes longer than a run.
OPTIONS = ("-p", "benchmark", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "-q")
# They need a meta worker or real figures of the machine.
LEFT_OUT = ("test_full_recipe", "test_roofline")
WEIGHTS = {"source": "synthetic", "revisions": {}}
PROMOTED: dict[
    str, tuple[Path, bytes]
] = {}  # baseline files that were recorded before, by what they were recorded with


@dataclasses.dataclass(frozen=True)
class Claim:
    """One test of `bench/` with its case, in the form of a collected pytest item."""

    function: Callable[..., None]
    module: Any
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    index: int = 0
    id: str = ""
    param_marks: tuple[pytest.Mark, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.function.__name__}[{self.id}]" if self.id else self.function.__name__

    @property
    def nodeid(self) -> str:
        return f"bench/{self.module.__name__.rpartition('.')[2]}.py::{self.name}"

    @property
    def fixturenames(self) -> list[str]:
        names = [name for mark in self._marks() if mark.name == "usefixtures" for name in mark.args]
        return [*names, *inspect.signature(self.function).parameters]

    @property
    def callspec(self) -> Any:
        return SimpleNamespace(params=self.params, indices=dict.fromkeys(self.params, self.index))

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        """Return the mark of that name: of the parameter, the function or its module."""
        return next((mark for mark in self._marks() if mark.name == name), None)

    def _marks(self) -> list[pytest.Mark]:
        marks = getattr(self.module, "pytestmark", [])
        decorators = marks if isinstance(marks, list) else [marks]
        return [
            *self.param_marks,
            *getattr(self.function, "pytestmark", []),
            *(decorator.mark for decorator in decorators),
        ]


@functools.cache
def bench_functions() -> list[tuple[Any, Callable[..., None]]]:
    """Return each module of `bench/` with each of its tests, in the order of collection."""
    sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]
    modules = [importlib.import_module(f"bench.{path.stem}") for path in sorted((ROOT / "bench").glob("test_*.py"))]
    functions = [(module, function) for module in modules for function in vars(module).values()]
    return [
        (module, function) for module, function in functions if getattr(function, "__name__", "").startswith("test_")
    ]


@dataclasses.dataclass(kw_only=True)
class BenchResult:
    """The outcome of each claim by its name, in the order of the claims, and the session that they left."""

    config: pytest.Config
    session: Session
    gate: Gate
    builds: FakeBuilds
    notes: list[str]
    ending: list[str] = dataclasses.field(default_factory=list)
    exit_status: int = 0
    claims: dict[str, str] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def red(self) -> list[str]:
        """Return the names of the claims that failed."""
        return [name for name, outcome in self.claims.items() if outcome == "failed"]

    @property
    def stages(self) -> list[str]:
        """Return the stages in the order in which workers built them."""
        return [stage for stage, _ in self.builds.builds()]

    def arms(self, stage: str) -> list[str]:
        """Return the arm ("this" or "other") of each worker of a stage, in the order of their start."""
        return [arm for name, arm in self.builds.builds() if name == stage]

    def run(self, stage: str) -> Run:
        """Return the run of a stage."""
        return next(run for run in self.session.outcome.runs.values() if run.stage == stage)

    def verdict(self, stage: str, claim: str = "latency") -> Verdict:
        """Return the last verdict on a claim of a stage."""
        verdicts = self.session.outcome.verdicts.items()
        return [v for key, values in verdicts if f"/{stage}/" in key for v in values if v.claim == claim][-1]

    def document(self, stage: str) -> dict[str, Any]:
        """Read the result file of a stage."""
        (path,) = self.session.options.results.glob(f"*__{stage}__*.json")
        document: dict[str, Any] = read_json(path)
        return document

    @property
    def folder(self) -> Mapping[str, bytes]:
        """Return the result files."""
        files: Mapping[str, bytes] = read_folder(self.session.options.results)
        return files

    @property
    def obtained(self) -> store.StoredCases:
        """Read the record of a recording."""
        return store.read_file(
            self.session.options.baselines_root / self.session.machine.key / "obtained.json",
            gpu_key=self.session.machine.key,
        )

    @property
    def terminal(self) -> pytest.LineMatcher:
        """Return the lines of the terminal section."""
        view = after.terminal_view(self.session)
        return pytest.LineMatcher([*terminal.section(view), *terminal.remarks(view)])


class FakeBench:
    """A folder in which the claims of `bench/` are called, on this CPU or on a pretended A100."""

    def __init__(self, pytester: pytest.Pytester, patch: pytest.MonkeyPatch) -> None:
        self.pytester, self.patch, self.path = pytester, patch, pytester.path
        self.device, self.clock, self.runs = "cpu", FakeClock(), 0
        self.on_call: Callable[[str], None] = lambda _: None
        patch.setattr(tempfile, "tempdir", str(self.path))  # the lock of a recording lies there
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        # pytest searches every installed package for a plugin's name, which takes longer than a run.
        patch.setattr(
            importlib.metadata, "distributions", lambda: [importlib.metadata.distribution("pytest-benchmark")]
        )
        pytester.plugins += [hooks, suite_plugin]

    def pretend_a100(self, *, published: bool = True, **answers_of_nvml: list[Any]) -> None:
        """Replace NVML so that this machine is the A100 of the published baseline, which is there if `published`."""
        self.device = "cuda"
        self.answer(**answers_of_nvml)
        if published:
            shutil.copytree(ROOT / "baselines" / A100, self.path / "baselines" / A100)

    def answer(self, **answers_of_nvml: list[Any]) -> None:
        """Replace answers of NVML, from the next run on. No other process is on the GPU unless an answer says so."""
        alone: dict[str, list[Any]] = {"nvmlDeviceGetComputeRunningProcesses_v3": [[]]}
        nvml = FakeNvml(answers("published_a100") | alone | answers_of_nvml)
        self.patch.setitem(sys.modules, "pynvml", nvml)

    def configure(self, *options: str) -> pytest.Config:
        """Configure pytest with the plugins of the suite and these options."""
        weights = ("--weights=synthetic",) if self.device == "cuda" else ()
        return self.pytester.parseconfigure(*OPTIONS, f"--device={self.device}", *weights, *options)

    def record(self, *options: str, **faults: Any) -> BenchResult:
        """Record in this process, as `--gate record` does, in three processes of four rounds."""
        return self.run("--gate=record", "--budget=600", "--processes=3", "--rounds=4", *options, **faults)

    def promoted(self, *options: str, **faults: Any) -> Path:
        """Store a promoted baseline, which the first call with these arguments records; return its file."""
        key = repr((self.device, options, faults))
        if key not in PROMOTED:
            result = self.record(*options, **faults)
            assert result.red == [], result.texts
            path = promote.promote(self.path / "baselines", result.session.machine.key)
            PROMOTED[key] = path.relative_to(self.path), path.read_bytes()
        relative, data = PROMOTED[key]
        (self.path / relative).parent.mkdir(parents=True, exist_ok=True)
        (self.path / relative).write_bytes(data)
        return self.path / relative

    def collect(self, *options: str) -> list[Claim]:
        """Return the tests that pytest would run, in their order."""
        return self._collect(self.configure(*options), ())

    def _collect(self, config: pytest.Config, names: Collection[str]) -> list[Claim]:
        if config.pluginmanager.hasplugin("terminalreporter"):
            config.pluginmanager.unregister(name="terminalreporter")  # it belongs to a session
        claims = [*_claims(config)]
        items = [claim for claim in claims if not names or claim.function.__name__ in names]
        config.hook.pytest_deselected(items=[claim for claim in claims if claim not in items])
        config.hook.pytest_collection_modifyitems(session=None, config=config, items=items)
        return items

    def run(
        self,
        *options: str,
        claims: Collection[str] = (),
        other: Mapping[str, Any] | None = None,
        prepare: Callable[[pytest.Config], None] = lambda _: None,
        **faults: Any,
    ) -> BenchResult:
        """Call the claims of the cases that the options select, all or those that `claims` names.

        `faults` maps a stage to what its workers do, see `FakeCase`; `other` does the same for the other arm of a live
        comparison. `prepare` may change the configured session before anything is measured.
        """
        self.runs += 1
        is_drill = any(option.startswith("--inject") for option in options)
        live = ["--against=python"] if other is not None and not is_drill else []
        config = self.configure(f"--results=results-{self.runs}", *live, *options)
        session = config.stash[hooks.SESSION]
        result = BenchResult(
            config=config, session=session, gate=config.stash[hooks.GATE], builds=FakeBuilds(), notes=[]
        )
        names = claims or {function.__name__ for _, function in bench_functions()} - {*LEFT_OUT}
        items = self._collect(config, names)
        arm = _other_arm(session, other) if other is not None else None
        prepare(config)
        collected = SimpleNamespace(config=config, items=items)
        config.pluginmanager.get_plugin("speedgate-promises").pytest_collection_finish(collected)
        hooks.pytest_collection_finish(collected)
        sharding.pytest_collection_finish(collected)
        if (history := config.pluginmanager.get_plugin("speedgate-history")) is not None:
            history.pytest_collection_finish(collected)
        recording = config.pluginmanager.get_plugin("speedgate-recording")
        if recording is not None:
            recording.pytest_collection_finish(collected)
            session.budget.clock = self.clock

        def open_target(case: Case, is_other: bool) -> FakeWorker:
            behaviour = (other or {}) if is_other else faults
            fake = InProcessCase(
                **case.worker_arguments(device=session.machine.device),
                weights=WEIGHTS,
                behaviour=behaviour,
                log=result.builds,
                arm="other" if is_other else "this",
            )
            worker = FakeWorker(
                case=fake,
                name=f"the worker of {arm.label}" if is_other and arm else "the worker",
                session=session,
                clock=self.clock,
                on_call=self.on_call,
            )
            result.builds.workers.append(worker)
            return worker

        collector = OutputCollector(session)
        with open_runner(
            config,
            factory="",
            arguments=lambda _: {},
            weights=lambda _: WEIGHTS,
            collector=collector,
            other=arm,
        ) as runner:
            runner.runner.builder.open_target = open_target
            self.patch.setattr(config.stash[hooks.PROGRESS], "note", result.notes.append)
            for item in _in_turn(items, result, runner, collector):
                _note_outcome(item, session, result)
            collector.save_images()
        self._finish(result, items)
        return result

    def _finish(self, result: BenchResult, items: list[Claim]) -> None:
        """Call the hooks at the end of a session."""
        config, status = result.config, pytest.ExitCode.TESTS_FAILED if result.red else pytest.ExitCode.OK
        ended = SimpleNamespace(config=config, exitstatus=int(status), items=items)
        history = config.pluginmanager.get_plugin("speedgate-history")
        recording = config.pluginmanager.get_plugin("speedgate-recording")

        def finish() -> None:
            drill.pytest_sessionfinish(ended)
            sharding.pytest_sessionfinish(ended)
            if history is not None:
                history.pytest_sessionfinish(ended)
                result.ending.extend(history.lines)

        def finish_recording() -> None:
            _inside(recording.pytest_sessionfinish(ended), finish)

        _inside(hooks.pytest_sessionfinish(ended, status), finish if recording is None else finish_recording)
        if recording is not None:
            reporter = SimpleNamespace(section=result.ending.append, write_line=result.ending.append)
            _inside(recording.pytest_terminal_summary(reporter), lambda: None)
        result.exit_status = ended.exitstatus
        hooks.pytest_unconfigure(config)


def _inside(wrapper: Generator[None, Any, Any], function: Callable[[], None]) -> None:
    """Call the function inside a hook wrapper, as pluggy does."""
    next(wrapper)
    try:
        function()
    except OutOfTime as error:
        wrapper.throw(error)
    with contextlib.suppress(StopIteration):
        wrapper.send(None)


def _claims(config: pytest.Config) -> Iterator[Claim]:
    """Yield each test of `bench/` with each case that the plugin of the suite gives it."""
    for module, function in bench_functions():
        parameters: list[tuple[str, Any]] = []
        names = [*inspect.signature(function).parameters]
        metafunc = SimpleNamespace(
            config=config,
            fixturenames=names,
            parametrize=lambda name, values, **_: parameters.extend((name, value) for value in values),  # noqa: B023
        )
        suite_plugin.pytest_generate_tests(metafunc)
        if not parameters:
            yield Claim(function, module)
        for index, (name, parameter) in enumerate(parameters):
            marks = tuple(decorator.mark for decorator in parameter.marks)
            yield Claim(function, module, {name: parameter.values[0]}, index, str(parameter.id), marks)


def _other_arm(session: Session, behaviour: Mapping[str, Any]) -> OtherArm:
    versions = behaviour.get("versions", {})
    label = other_arm_label(dict.fromkeys(versions), versions)
    session.inputs = dataclasses.replace(session.inputs, other_arm=label, other_versions=versions)
    return OtherArm(python="python", paths=(), versions=versions, label=label)


def _in_turn(
    items: list[Claim], result: BenchResult, runner: RunnerFixture, collector: OutputCollector
) -> Iterator[Claim]:
    """Call each claim and yield it. As with pytest, a case is open until another one is asked for, or to the end."""
    open_case: tuple[Any, Any, Any] | None = None
    for item in items:
        case = item.params.get("case")
        if open_case is not None and case not in (None, open_case[0]):
            _end(open_case[1])
            open_case = None
        if case is not None and open_case is None:
            context = runner.live(case)
            open_case = case, context, context.__enter__()
        _call(item, result, runner, collector, open_case[2] if open_case and case is not None else None)
        yield item
    if open_case is not None:
        _end(open_case[1])


def _end(context: Any) -> None:
    context.__exit__(None, None, None)


def _call(
    item: Claim,
    result: BenchResult,
    runner: RunnerFixture,
    collector: OutputCollector,
    live: CaseFixture[Case] | None,
) -> None:
    config, gate = result.config, result.gate
    fixtures: dict[str, Callable[[], Any]] = {
        "gate": lambda: gate,
        "runner": lambda: runner,
        "case": lambda: live,
        "selected_case": lambda: item.params["selected_case"],
        "parity": lambda: ParityJudge(runner, collector, gate),
        "coverage": lambda: suite_plugin.coverage_of_shard(config, device=gate.machine.device),
        "benchmark": lambda: SimpleNamespace(
            disabled=True, name=item.name, fullname=item.nodeid, group=None, extra_info={}
        ),
    }
    arguments = {name: fixtures[name]() for name in inspect.signature(item.function).parameters}
    outcome, text = "passed", ""
    try:
        if (mark := item.get_closest_marker("skip")) is not None:
            pytest.skip(mark.kwargs["reason"])
        _call_with_budget(item, config, lambda: item.function(**arguments))
    except pytest.skip.Exception as skipped:
        outcome, text = "skipped", str(skipped)
    except pytest.fail.Exception as failed:
        outcome, text = "failed", str(failed)
    result.claims[item.name], result.texts[item.name] = outcome, text


def _call_with_budget(item: Claim, config: pytest.Config, function: Callable[[], None]) -> None:
    """Call the claim inside the hook of the recording plugin, which skips it when the budget is over."""
    recording = config.pluginmanager.get_plugin("speedgate-recording")
    if recording is None:
        return function()
    return _inside(recording.pytest_runtest_call(item), function)


def _note_outcome(item: Claim, session: Session, result: BenchResult) -> None:
    """Note the outcome of a test, as the hooks on its report do."""
    result.config.stash[sharding.MANIFEST].add_outcome(shards.case_keys_of(item), result.claims[item.name])
    for case in item.params.values():
        if result.claims[item.name] == "failed":
            session.outcome.failed_tests.setdefault(case.key, item.nodeid)
