"""The pytest side of the runner: a case as a test sees it. Turns each failure into the outcome of the test that met it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, NoReturn, TypeVar

import pytest

from speedgate.measure.import_server import ImportServers
from speedgate.measure.other_arm import OtherArm
from speedgate.measure.rounds import replay_in_benchmark
from speedgate.measure.worker import OutOfTime
from speedgate.plugin.builder import Builder, CaseSpec, import_paths
from speedgate.plugin.github import safe_lines
from speedgate.plugin.hooks import GATE, PROGRESS, SESSION
from speedgate.plugin.runner import CaseFailure, Collector, FailureKind, LiveCase, Runner
from speedgate.results.run import Baseline, Outcome, Run, Verdict

T = TypeVar("T")
Spec = TypeVar("Spec", bound=CaseSpec)


@contextlib.contextmanager
def open_runner(
    config: pytest.Config,
    *,
    factory: str,
    arguments: Callable[[Any], Mapping[str, Any]],
    weights: Callable[[Any], Mapping[str, Any]] = lambda _: {},
    injected_arguments: Callable[[Any], Mapping[str, Any]] = lambda _: {},
    packages: tuple[ModuleType, ...] = (),
    collector: Collector | None = None,
    other: OtherArm | None = None,
    shared_arguments: Callable[[Any], Mapping[str, Any]] | None = None,
    servers: ImportServers | None = None,
    make_arm: Callable[[Baseline], OtherArm] | None = None,
) -> Iterator[RunnerFixture]:
    """Yield the runner of this session, for a suite's own `runner` fixture; see `Builder` for the arguments.

    `packages` are the suite's own packages that a worker must be able to import. `make_arm` makes the code and versions of
    a baseline again, to confirm suspected cases.
    """
    session, progress = config.stash[SESSION], config.stash[PROGRESS]
    with tempfile.TemporaryDirectory(prefix="speedgate-") as logs:
        builder = Builder(
            session=session,
            progress=progress,
            factory=factory,
            arguments=arguments,
            weights=weights,
            injected_arguments=injected_arguments,
            paths=import_paths(session.options.root, *packages),
            logs=Path(logs),
            other=other,
            shared_arguments=shared_arguments,
            servers=servers,
        )
        runner = Runner(
            session=session,
            gate=config.stash[GATE],
            builder=builder,
            progress=progress,
            collector=collector,
            make_arm=make_arm or _cannot_remake,
            always_collect=config.getoption("skip_latency") or config.getoption("report") is not None,
        )
        yield RunnerFixture(runner)


def _cannot_remake(_: Baseline) -> NoReturn:
    """Refuse to make the arm of a baseline, for a suite that has no way to do it."""
    raise ValueError("this suite does not keep the code of its baselines")


class RunnerFixture:
    """The runner as a test sees it, for claims that compare several cases."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._open: LiveCase | None = None  # pytest keeps the last case of a session open

    def measured(self, case: CaseSpec) -> Run:
        """Return a case's run with its rounds: from its own tests, or measured now."""
        live = self._open_case(case)
        return self.result_of(live.measure() if live else self.runner.measure(case))

    def collect(self, case: CaseSpec, *, other: bool = False) -> None:
        """Make sure that the outputs of a case are collected."""
        if not self.runner.has_outputs(case, other=other):
            live = None if other else self._open_case(case)
            failure = live.collect_outputs() if live else self.runner.collect(case, other=other)
            if failure is not None:
                self.end_test(failure)

    def restore(self, case: CaseSpec) -> bool:
        """Take over a case that an interrupted recording finished; return True if its run is there."""
        return self.runner.restore(case)

    @contextlib.contextmanager
    def live(self, case: Spec) -> Iterator[CaseFixture[Spec]]:
        """Yield the case with its worker, which is started when first needed and ended afterwards."""
        with self.runner.live(case) as live:
            self._open = live
            yield CaseFixture(case, live, self)
            self._end_open_case()

    def _open_case(self, case: CaseSpec) -> LiveCase | None:
        """Return the open case if it is this one; end any other, because at most one worker is alive."""
        if self._open is not None and self._open.case.key != case.key:
            self._end_open_case()
        return self._open

    def _end_open_case(self) -> None:
        """End the worker of the open case, and collect its outputs before that if they are always collected."""
        live, self._open = self._open, None
        if live is None:
            return
        failure = live.collect_outputs() if self.runner.always_collect and live.built is not None else None
        live.close()
        if failure is not None:
            self.end_test(failure)

    def result_of(self, result: T | CaseFailure) -> T:
        """Return the result, or end the test: the test that meets a failure first is red, later tests of the case skip."""
        if isinstance(result, CaseFailure):
            self.end_test(result)
        return result

    def end_test(self, failure: CaseFailure) -> NoReturn:
        """Skip or fail the test by a failure."""
        __tracebackhide__ = True
        if failure.kind is FailureKind.OUT_OF_TIME:
            raise OutOfTime(failure.sentence)  # the recording plugin skips the test and lists the case as unfinished
        if failure.kind is FailureKind.FAILED_BEFORE:
            pytest.skip(f"{failure.case_key} failed before: {failure.sentence}")
        if failure.verdict is None:
            pytest.fail(safe_lines(f"{Outcome.INVALID} {failure.case_key} worker: {failure.details}"), pytrace=False)
        if self.runner.gate.accepts(failure.verdict):
            pytest.skip(str(failure.verdict))
        pytest.fail(safe_lines("\n".join(filter(None, [str(failure.verdict), failure.details]))), pytrace=False)


class CaseFixture(Generic[Spec]):
    """A case with its worker, shared by every test of that case. `spec` is the suite's own description of the case."""

    def __init__(self, spec: Spec, live: LiveCase, runner: RunnerFixture) -> None:
        self.spec, self._live, self._runner = spec, live, runner

    @property
    def key(self) -> str:
        return self.spec.key

    def start(self) -> Run:
        """Return the run, with or without rounds; builds the case if nobody has."""
        return self._runner.result_of(self._live.start())

    def measure(self, benchmark: Any = None) -> Run:
        """Return the run with its rounds, measured once. pytest-benchmark's fixture, if given, gets every round."""
        run = self._runner.result_of(self._live.measure())
        if benchmark is not None:
            if not benchmark.disabled:
                replay_in_benchmark(benchmark, run.processes)
            self._runner.runner.session.attach_benchmark(self.key, benchmark)
        return run

    def counts(self) -> dict[str, Any]:
        """Return graphs, breaks, recompiles and the like, counted by the worker over another generation."""
        return self._runner.result_of(self._live.counts())

    def other_run(self) -> Run:
        """Return the other arm's run of a live comparison, without rounds."""
        return self._runner.result_of(self._live.other_run())

    def fit(self) -> Verdict | None:
        """Return the verdict on whether the case fits into memory; None if no expectation is known."""
        return self._runner.result_of(self._live.fit())
