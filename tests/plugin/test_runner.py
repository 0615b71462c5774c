"""The runner measures cases and returns each failure as a value; called directly, with targets in this process."""

import dataclasses
import functools
import os

import msgspec
import pytest

from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.measure.worker import InProcessTarget, OutOfTime
from speedgate.plugin import builder
from speedgate.plugin.runner import CaseFailure, FailureKind
from speedgate.results.run import Outcome, Run
from tests.support import runners
from tests.support.baseline_samples import make_run
from tests.support.fake_target import FakeTarget
from tests.support.runners import CASE, FakeCollector, recorded_baseline, verdicts

OUT_OF_MEMORY = "'generate' of the worker raised MemoryError: CUDA out of memory"
RECORD = Policy(mode=Mode.RECORD)


@pytest.fixture
def make_runner(tmp_path):
    """Make a runner in the folder of this test; the arguments are those of `runners.make_runner`."""
    return functools.partial(runners.make_runner, tmp_path)


def test_a_case_is_measured_once(make_runner):
    """The second call returns the same run, and no worker is started for it."""
    runner = make_runner(processes=2)

    run = runner.measure(CASE)

    assert isinstance(run, Run)
    assert [process.seconds for process in run.processes] == [(0.5, 0.5, 0.5)] * 2
    assert runner.measure(CASE) is runner.session.outcome.runs[CASE.key]
    assert len(runner.opened) == 2 and all(target.is_closed for _, target in runner.opened)


def test_each_process_is_a_fresh_worker(make_runner):
    """A worker that has measured rounds is closed before the next one starts, and each makes its own first image."""
    first, second = FakeTarget(), FakeTarget(seconds=0.6)
    runner = make_runner(first, second, processes=2)

    run = runner.measure(CASE)

    assert [process.median_s for process in run.processes] == [0.5, 0.6]
    assert first.calls.count("first_image") == second.calls.count("first_image") == 1
    assert [target for _, target in runner.opened] == [first, second]


def test_kernels_and_outputs_are_collected_once_and_after_the_rounds(make_runner):
    """The profile leaves a profiler behind and an inspection makes images, so neither may come before a round."""
    first, second = FakeTarget(), FakeTarget()
    runner = make_runner(first, second, processes=2, collector=FakeCollector())

    run = runner.measure(CASE)

    rounds = max(number for number, name in enumerate(first.calls) if name == "generate")
    assert first.calls.index("attribute") > rounds and first.calls.index("count") > rounds
    assert "attribute" not in second.calls and "count" not in second.calls
    assert [kernel.name for kernel in run.attribution.kernels] == ["gemm"]
    assert runner.collector.collected == [("fast", False)]


@pytest.mark.parametrize(("policy", "times"), [(RECORD, 1), (Policy(), 0)], ids=["record", "auto"])
def test_a_recording_asks_once_for_the_packages_of_a_case(make_runner, monkeypatch, policy, times):
    """Each process of a case imports the same. Of a case that is only judged nobody needs them."""
    monkeypatch.setattr(builder, "packages_of", lambda modules: dict.fromkeys(modules, "9.0"))
    targets = [FakeTarget(offers=["modules"]) for _ in range(2)]
    runner = make_runner(*targets, processes=2, policy=policy)

    run = runner.measure(CASE)

    assert len(run.processes) == 2
    assert [target.calls.count("modules") for target in targets] == [times, 0]
    assert run.packages == ({"pytest": "9.0"} if times else {})


def test_a_run_exists_before_its_rounds(make_runner):
    """`start` builds the case and returns its structure without measuring a round."""
    runner = make_runner()

    with runner.live(CASE) as live:
        run = live.start()

    assert (run.processes, run.structure) == ((), {"linears": 3})
    assert runner.opened[0][1].calls == ["load", "first_image"]


def test_counts_are_kept_with_the_run(make_runner):
    """The worker counts once; the second call reads the run."""
    runner = make_runner()

    with runner.live(CASE) as live:
        assert live.counts() == live.counts() == {"graphs": 1}

    assert runner.session.outcome.runs[CASE.key].counts == {"graphs": 1}
    assert runner.opened[0][1].calls.count("count") == 1


@pytest.mark.parametrize("operation", ["load", "first_image", "generate"])
def test_a_lost_worker_is_a_value(make_runner, operation):
    """The case is INVALID, its worker is closed, and nothing more is asked of it: the next call says why."""
    target = FakeTarget(fails={operation: "the worker died (SIGABRT); its last words\n  the log"})
    runner = make_runner(target)

    failure = runner.measure(CASE)

    assert (failure.kind, failure.verdict) == (FailureKind.LOST, None)
    assert "the log" in failure.details
    assert verdicts(runner) == [("worker", Outcome.INVALID)]
    assert target.is_closed
    again = runner.measure(CASE)
    assert (again.kind, again.sentence) == (FailureKind.FAILED_BEFORE, failure.sentence)
    assert len(runner.opened) == 1


def test_a_run_without_rounds_outlives_a_failure(make_runner):
    """A worker that dies in a round was built: its structure can still be judged."""
    runner = make_runner(FakeTarget(fails={"generate": "the worker died"}))

    with runner.live(CASE) as live:
        assert isinstance(live.measure(), CaseFailure)
        assert live.start().structure == {"linears": 3}
        assert live.counts().kind is FailureKind.FAILED_BEFORE


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_measurement_that_cannot_be_used_is_discarded(make_runner, seconds):
    """A round of impossible length is INVALID and leaves no process."""
    runner = make_runner(FakeTarget(seconds=seconds))

    failure = runner.measure(CASE)

    assert failure.kind is FailureKind.DISCARDED
    assert failure.verdict.outcome is Outcome.INVALID
    assert runner.session.outcome.runs[CASE.key].processes == ()


def test_time_that_is_over_is_a_value(make_runner):
    """The budget of a recording ends an operation: the case is neither lost nor invalid."""
    target = FakeTarget(fails={"generate": OutOfTime("the budget is over")})
    runner = make_runner(target, policy=RECORD)

    failure = runner.measure(CASE)

    assert (failure.kind, failure.sentence) == (FailureKind.OUT_OF_TIME, "the budget is over")
    assert verdicts(runner) == [] and target.is_closed


def test_processes_are_added_while_the_verdict_is_undecided(make_runner):
    """Three noisy processes decide nothing, so the next look comes after five; quiet ones end at three."""
    policy = Policy(looks=Looks(first=3, last=5))
    baseline = recorded_baseline(0.5, 0.501, 0.499, 0.5, 0.5)
    noisy = [FakeTarget(seconds=seconds) for seconds in (0.45, 0.5, 0.55, 0.48, 0.52)]

    runs = [
        make_runner(*targets, policy=policy, baselines={CASE.key: baseline}).measure(CASE)
        for targets in (noisy, [FakeTarget()])
    ]

    assert [len(run.processes) for run in runs] == [5, 3]


def test_without_isolation_a_case_is_built_in_this_process(make_runner):
    """`--isolation none` starts no worker process: a debugger can step into the case."""
    runner = make_runner(isolation="none")
    builder = dataclasses.replace(runner.builder, factory="tests.support.targets:Target", open_target=None)

    target = builder.open(CASE)

    assert isinstance(target, InProcessTarget) and target.call("pid") == os.getpid()


def test_a_discarded_process_of_a_pair_leaves_no_worker_behind(make_runner):
    """Arms that take turns by process end each worker, so that nothing is asked of a closed one afterwards."""
    crowded = FakeTarget(fails={"load": OUT_OF_MEMORY})
    runner = make_runner(FakeTarget(seconds=float("nan")), others=[crowded, FakeTarget()], other_arm="other")
    runner.session.options = _with_looks(runner.session.options, first=1, last=1)

    with runner.live(CASE) as live:
        failure = live.measure()
        assert live.built is None or not live.built.worker.is_closed

    assert failure.kind is FailureKind.DISCARDED


def _with_looks(options, *, first, last):
    return dataclasses.replace(options, policy=Policy(looks=Looks(first=first, last=last)))


@pytest.mark.parametrize(("digest", "is_measured"), [("1a", True), ("2b", False), (None, True)])
def test_arms_that_loaded_different_weights_are_not_compared(make_runner, digest, is_measured):
    """Before any round the comparison is refused in one line; an older checkout's worker, which has no digest, is compared."""
    recipe, other_recipe = ({"stages": ["fast"], "weights": {"digest": value}} for value in ("1a", digest))
    other = FakeTarget(recipe=other_recipe)
    runner = make_runner(FakeTarget(recipe=recipe), others=[other], other_arm="other")

    result = runner.measure(CASE)

    assert isinstance(result, Run) is is_measured
    if not is_measured:
        assert result.kind is FailureKind.DISCARDED
        assert "the arms did not load the same weights (digest 1a here, 2b of the other arm)" in result.sentence
        assert other.is_closed and "generate" not in other.calls


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.ENFORCE])
def test_other_conditions_than_the_baselines_are_stale_before_a_round(make_runner, mode):
    """Fewer threads are no slowdown: nothing is measured, and the verdict, stored once, names both numbers."""
    recorded = msgspec.structs.replace(
        recorded_baseline(0.5, 0.5, 0.5), run=make_run(CASE.key, environment={"threads": 2, "cpu_quota": None})
    )
    target = FakeTarget(environment={"threads": 1, "cpu_quota": None})
    runner = make_runner(target, policy=Policy(mode=mode), baselines={CASE.key: recorded})

    results = [runner.measure(CASE) for _ in range(2)]

    assert [result.kind for result in results] == [FailureKind.STALE] * 2
    assert "generate" not in target.calls
    assert verdicts(runner) == [("latency", Outcome.STALE)]
    assert "was recorded under other conditions (threads 2 -> 1)" in results[0].sentence
    assert not runner.gate.missing(suite_keys=[CASE.key], required_keys=[CASE.key])


@pytest.mark.parametrize(
    ("before", "after"),
    [({"threads": 2}, {"threads": 2, "cpu_quota": 1.0}), ({}, {"threads": 1}), ({"torch": "1"}, {})],
)
def test_the_same_conditions_are_measured(make_runner, before, after):
    """A condition that an older baseline did not record, and a version, make no baseline stale."""
    recorded = msgspec.structs.replace(recorded_baseline(0.5, 0.5, 0.5), run=make_run(CASE.key, environment=before))
    runner = make_runner(FakeTarget(environment=after), baselines={CASE.key: recorded})

    assert isinstance(runner.measure(CASE), Run)


def test_a_torn_file_of_the_compile_cache_is_named(make_runner):
    """What a killed process left half written is one line of progress, and the case is measured."""
    target = FakeTarget(first={"torn_files": ["/cache/ab/x.so"]})
    runner = make_runner(target)

    assert isinstance(runner.measure(CASE), Run)
    assert "toy-fast: /cache/ab/x.so was half written by a process that was killed; it was built anew" in (
        runner.progress.lines
    )
