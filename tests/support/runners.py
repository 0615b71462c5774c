"""Make a runner of fake targets, for tests: no process and no clock."""

from __future__ import annotations

import contextlib
import dataclasses

from speedgate.measure.other_arm import OtherArm
from speedgate.measure.rounds import MeasurementPlan
from speedgate.plugin.builder import Builder
from speedgate.plugin.judgement import Gate
from speedgate.plugin.runner import Runner
from speedgate.results.run import Baseline
from tests.support.fake_target import FakeSpec, FakeTarget
from tests.support.sessions import make_session

CASE = FakeSpec()


class SilentProgress:
    """Remembers the lines of progress."""

    log = None

    def __init__(self):
        self.lines = []

    def activity(self, text):
        self.lines.append(text)
        return contextlib.nullcontext()

    def note(self, text):
        self.lines.append(text)

    heading = note


class FakeCollector:
    """Counts how often the outputs of each arm were collected."""

    def __init__(self):
        self.collected = []

    def collect(self, case, built, *, other):
        built.worker.call("count")
        self.collected.append((case.stage, other))

    def has(self, case, *, other=False):
        return (case.stage, other) in self.collected

    def restore(self, case, key):
        self.collected.append((case.stage, False))


def make_runner(
    folder,
    *targets,
    others=(),
    collector=None,
    processes=1,
    rounds=3,
    make_arm=None,
    confirmation=None,
    **session_arguments,
):
    """Make a runner whose workers are the given targets, in order; the last one serves every later worker too.

    `others` are those of the other arm: of a live comparison, or with `make_arm` of the baseline that it makes again.
    """
    plan = MeasurementPlan(processes=processes, rounds=rounds)
    session = make_session(folder, plan=plan, **session_arguments)
    session.options = dataclasses.replace(session.options, confirmation=confirmation)
    queues = {False: list(targets or [FakeTarget()]), True: list(others)}
    opened = []

    def open_target(case, other):
        queue = queues[other]
        target = queue.pop(0) if len(queue) > 1 else queue[0]
        if target.is_closed:  # the last one again, as a fresh process
            target = FakeTarget(seconds=target.seconds, fails=target.fails, **target.reply)
        opened.append(("other" if other else "this", target))
        return target

    arm = (
        OtherArm(python="python", paths=(), versions={}, label="the other arm") if others and make_arm is None else None
    )
    progress = SilentProgress()
    builder = Builder(
        session=session,
        progress=progress,
        factory="",
        arguments=lambda _: {},
        paths=(),
        logs=folder,
        other=arm,
        open_target=open_target,
    )
    runner = Runner(
        session=session, gate=Gate(session), builder=builder, progress=progress, collector=collector, make_arm=make_arm
    )
    runner.opened, runner.queues = opened, queues
    return runner


def recorded_baseline(*medians_s):
    """A recorded baseline of the case, of any recipe."""
    return Baseline(
        path="baselines/toy/0001_recorded.json",
        gpu_key="toy",
        case_key=CASE.key,
        source="recorded",
        process_medians_s=medians_s,
        peak_bytes=2**20,
        fingerprint=None,
    )


def verdicts(runner, case=CASE):
    """The claim and outcome of each verdict on a case."""
    return [(verdict.claim, verdict.outcome) for verdict in runner.session.outcome.verdicts.get(case.key, ())]
