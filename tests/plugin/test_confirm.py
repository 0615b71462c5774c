"""A case that its stored figure suspects is judged by live pairs with the code of its baseline; on fake targets."""

import dataclasses
import json

import msgspec
import pytest

from speedgate.gate.intervals import Looks
from speedgate.gate.policy import Mode, Policy
from speedgate.history.entries import entries_from_files
from speedgate.measure.other_arm import OtherArm
from speedgate.measure.rounds import MeasurementPlan
from speedgate.measure.worker import OutOfTime
from speedgate.plugin import after
from speedgate.plugin.session import ConfirmationPlan
from speedgate.report import terminal
from speedgate.results import folder
from speedgate.results.run import Origin, Outcome, Run, Turns
from tests.support import runners
from tests.support.fake_target import FakeTarget
from tests.support.runners import CASE, recorded_baseline

PLAN = ConfirmationPlan(looks=Looks(first=4, last=6), measurement=MeasurementPlan(processes=1, rounds=2))
ENFORCE = Policy(mode=Mode.ENFORCE, looks=Looks(first=3, last=8))
BASELINE = msgspec.structs.replace(
    recorded_baseline(*[0.498, 0.499, 0.5, 0.5, 0.5, 0.5, 0.501, 0.502]),
    origin=Origin(python="3.11.7", packages={"torch": "2.13.0"}, code_digest="c0de"),
)
NOISY = (0.45, 0.5, 0.55)


@pytest.fixture
def make_runner(tmp_path):
    """Make a runner that confirms against the baseline; `this` and `others` are the seconds of each worker."""

    def make(this=(), others=(), *, baseline=BASELINE, make_arm=remake, this_fails=None, other_fails=None, **arguments):
        arguments = {"policy": ENFORCE, "confirmation": PLAN} | arguments
        return runners.make_runner(
            tmp_path,
            *[FakeTarget(seconds=seconds, fails=this_fails) for seconds in this],
            others=[FakeTarget(seconds=seconds, fails=other_fails) for seconds in others],
            make_arm=make_arm,
            baselines={CASE.key: baseline},
            **arguments,
        )

    return make


def remake(baseline):
    """Make the arm of a baseline again, without any code."""
    return OtherArm(python="python", paths=(), versions={}, label=f"the arm of {baseline.name}")


def judged(runner):
    """Measure the case as its own tests do; return the verdict on its latency and the confirmation, None if there is none."""
    with runner.live(CASE) as live:
        run = live.measure()
        assert isinstance(run, Run), run
        assert live.measure() is run, "it is confirmed once"
    return runner.gate.latency(run), runner.session.outcome.confirmations.get(CASE.key)


def arms(runner):
    """The arm of each worker, in the order of their starts."""
    return [arm for arm, _ in runner.opened]


@pytest.mark.parametrize(
    ("this", "others", "stored", "outcome"),
    [
        ([0.53], [0.53], Outcome.SLOWER, Outcome.PASS),
        ([0.53], [0.5], Outcome.SLOWER, Outcome.SLOWER),
        ([*NOISY, 0.5], [0.5], Outcome.UNDECIDED, Outcome.PASS),
        # 3.7 % faster, and at most 0.7 %: not slower, whether or not it is faster than the tolerance.
        ([0.53, 0.53, 0.53, 0.48, 0.482, 0.4832, 0.4812], [0.5], Outcome.SLOWER, Outcome.PASS),
        ([*NOISY, 0.53], [0.5], Outcome.UNDECIDED, Outcome.SLOWER),
        ([0.53, 0.53, 0.53, 0.5, 0.5, 0.56, 0.56, 0.5, 0.5], [0.5], Outcome.SLOWER, Outcome.UNDECIDED),
    ],
)
def test_the_pairs_decide_on_a_suspected_case(make_runner, this, others, stored, outcome):
    """Three stored processes suspect the case, then pairs judge it, and the sentence gives both verdicts."""
    runner = make_runner(this, others)

    verdict, confirmation = judged(runner)

    pairs = len(confirmation.comparison.log_ratios)
    assert (verdict.outcome, confirmation.stored, confirmation.reason) == (outcome, stored, "")
    assert pairs == (6 if outcome is Outcome.UNDECIDED else 4)
    assert arms(runner) == ["this"] * 3 + ["this", "other", "other", "this"] * (pairs // 2)
    assert len(runner.session.outcome.runs[CASE.key].processes) == 3
    assert verdict.sentence.startswith("live, ") and f"the stored figure said {stored}, " in verdict.sentence
    assert all(target.is_closed for _, target in runner.opened)
    assert runner.session.monitor.expected_workers == 1, "the next case has one worker"
    assert "toy-fast: confirm: pair 3 of at most 6, this arm first" in runner.progress.lines


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        (0.53, "+6.0% to 0001_recorded: since that recording the machine has drifted by +6.0%"),
        (0.5, "+6.0% to 0001_recorded"),
    ],
)
def test_a_disagreement_is_the_drift_of_the_machine(make_runner, others, sentence):
    """The sentence of a case that the pairs acquit says by how much the machine has drifted; that of a guilty one does not."""
    verdict, _ = judged(make_runner([0.53], [others]))

    assert verdict.sentence.endswith(sentence)


def test_the_drift_of_a_session_is_shown_and_stored(make_runner):
    """The line of the terminal, the remark on the baseline, and the entry of the history have the drift of the live pairs."""
    runner = make_runner([0.53], [0.53])
    judged(runner)

    lines = terminal.remarks(after.terminal_view(runner.session))
    (entry,) = entries_from_files(folder.read_folder(runner.session.options.results))

    assert [line.split(" when")[0] for line in lines if "the machine takes" in line] == [
        "the machine takes 6.0% longer than",
        f"{entry.columns()['drift_baseline']} will soon be stale: the machine takes 6.0% longer than",
    ]
    assert entry.columns()["drift"] == pytest.approx(1.06, rel=1e-4)


@pytest.mark.parametrize(("this", "count"), [([0.5], 3), ([0.45], 3), ([0.485, 0.5, 0.515, 0.5], 5)])
def test_an_acquitted_case_is_not_measured_again(make_runner, this, count):
    """PASS and FASTER stand, and a noisy case gets more processes alone while these are expected to acquit it."""
    runner = make_runner(this)

    verdict, confirmation = judged(runner)

    assert verdict.outcome in (Outcome.PASS, Outcome.FASTER) and "live" not in verdict.sentence
    assert (confirmation, arms(runner)) == (None, ["this"] * count)


def cannot_remake(baseline):
    """Refuse to make an arm again."""
    raise ValueError("torch==2.13.0 cannot be installed: the index cannot be reached")


@pytest.mark.parametrize(
    ("changes", "make_arm", "reason"),
    [
        (
            {"origin": None},
            remake,
            "0001_recorded does not say with which code and versions it was recorded; record it anew",
        ),
        ({"source": "published"}, remake, "0001_recorded holds a published figure, which cannot be measured again"),
        (
            {},
            cannot_remake,
            "the code and versions of 0001_recorded cannot be made again: torch==2.13.0 cannot be installed",
        ),
    ],
)
@pytest.mark.parametrize("this", [[0.6], NOISY])
def test_without_the_arm_of_the_baseline_the_stored_verdict_stands(make_runner, changes, make_arm, reason, this):
    """The sentence says why in one clause, and an undecided case gets all its stored processes."""
    runner = make_runner(this, baseline=msgspec.structs.replace(BASELINE, **changes), make_arm=make_arm)
    is_published = "source" in changes

    verdict, confirmation = judged(runner)

    assert "other" not in arms(runner)
    if is_published and this is NOISY:  # one process, and no interval
        assert (verdict.outcome, confirmation) == (Outcome.PASS, None)
        return
    assert verdict.outcome is (Outcome.SLOWER if this == [0.6] else Outcome.UNDECIDED)
    assert f"; not confirmed live: {reason}" in verdict.sentence and "\n" not in verdict.sentence
    assert (confirmation.comparison, confirmation.drift) == (None, None)
    assert len(arms(runner)) == (1 if is_published else 3 if this == [0.6] else 8)


@pytest.mark.parametrize(
    ("fails", "this_weights", "reason"),
    [
        ({"generate": "the worker died (SIGKILL)"}, None, "the pairs cannot be measured: the worker died (SIGKILL)"),
        ({}, "1a", "the arms did not load the same weights (digest 1a here, 2b of the arm of 0001_recorded)"),
    ],
)
def test_a_pair_that_cannot_be_measured_convicts_and_acquits_nobody(make_runner, fails, this_weights, reason):
    """If the baseline's code dies, or loads other weights, the stored verdict stands with the reason, and no test is broken."""
    runner = make_runner([0.53], [0.53], other_fails=fails)
    if this_weights:
        for arm, targets in runner.queues.items():
            targets[0].reply["recipe"] = {"stages": ["fast"], "weights": {"digest": "2b" if arm else this_weights}}

    verdict, confirmation = judged(runner)

    assert verdict.outcome is Outcome.SLOWER and reason in verdict.sentence
    assert (confirmation.comparison, runner.session.outcome.broken) == (None, {})
    assert all(target.is_closed for _, target in runner.opened)


@pytest.mark.parametrize(("make_arm", "count"), [(cannot_remake, 3), (remake, 3 + 8)])
def test_later_claims_use_the_worker_that_is_there(make_runner, make_arm, count):
    """The last worker of the pairs, or of the stored processes without pairs, counts graphs: the case is not built again."""
    runner = make_runner([0.6], [0.6], make_arm=make_arm)

    with runner.live(CASE) as live:
        live.measure()
        assert live.counts() == {"graphs": 1}

    assert len(runner.opened) == count


def test_another_recipe_of_the_baselines_code_is_a_reason(make_runner):
    """Code that builds something else here than it recorded is no reference."""
    fingerprint = judged(make_runner([0.5]))[0] and make_runner([0.5]).measure(CASE).fingerprint
    runner = make_runner([0.53], [0.53], baseline=msgspec.structs.replace(BASELINE, fingerprint=fingerprint))
    runner.queues[True][0].reply["structure"] = {"linears": 4}

    verdict, _ = judged(runner)

    assert verdict.outcome is Outcome.SLOWER
    assert f"not {fingerprint} as recorded" in verdict.sentence


def test_without_a_plan_the_stored_verdict_is_final(make_runner):
    """With `--confirm never` no pair is measured and the sentence is that of the stored figure."""
    runner = make_runner([0.53], [0.53], confirmation=None)

    verdict, confirmation = judged(runner)

    assert (verdict.outcome, confirmation, arms(runner)) == (Outcome.SLOWER, None, ["this"] * 3)
    assert "live" not in verdict.sentence


def test_a_case_that_others_are_compared_with_is_not_confirmed(make_runner):
    """Only a case's own tests judge its latency, so a parent stage costs no pairs; its own tests confirm it later."""
    runner = make_runner([0.53], [0.53])

    runner.measure(CASE)

    assert arms(runner) == ["this"] * 3
    assert judged(runner)[0].outcome is Outcome.PASS


def test_an_interrupt_loses_no_pair(make_runner):
    """Ctrl-C in the third pair leaves the stored processes and two pairs on disk, and no worker alive."""
    runner = make_runner([0.53], [0.53, 0.53, 0.53])
    runner.queues[True][2].fails["generate"] = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        judged(runner)

    path = runner.session.result_file(CASE.key)
    stored = folder.parse_result(path.name, json.loads(path.read_bytes()))
    assert (len(stored.run.processes), stored.confirmation.reason, stored.verdicts) == (3, "", ())
    assert len(stored.confirmation.comparison.log_ratios) == len(stored.confirmation.processes) == 2
    assert all(target.is_closed for _, target in runner.opened)


@pytest.mark.parametrize(("budget_s", "pairs"), [(1e-6, 0), (1e9, 2)])
def test_a_budget_that_is_over_leaves_the_stored_verdict(make_runner, budget_s, pairs):
    """No pair is begun after the budget, one that is measured is cut short, and the pairs before it are stored."""
    plan = dataclasses.replace(PLAN, budget_s=budget_s)
    runner = make_runner([0.53], [0.53, 0.53, 0.53], confirmation=plan)
    runner.queues[True][2].fails["generate"] = OutOfTime("the budget is over")

    verdict, confirmation = judged(runner)

    assert verdict.outcome is Outcome.SLOWER
    assert verdict.sentence.endswith("; not confirmed live: the budget is over")
    assert len(confirmation.processes) == pairs and not confirmation.decides
    assert arms(runner).count("this") - pairs - bool(pairs) == 3


def test_arms_that_do_not_fit_at_once_take_turns_by_process(make_runner):
    """A confirmation that is out of memory with both arms alive measures one after the other, and the sentence says so."""
    runner = make_runner([0.53], [0.53, 0.53])
    runner.queues[True][0].fails["load"] = "'load' of the worker raised MemoryError: CUDA out of memory"

    verdict, confirmation = judged(runner)

    assert (verdict.outcome, confirmation.comparison.turns) == (Outcome.PASS, Turns.PROCESSES)
    assert "process by process" in verdict.sentence


def test_an_arm_is_made_once_and_its_seconds_count(make_runner):
    """Cases of one origin share the arm, and the first of them counts the seconds that it took."""
    calls, now_s = [], [0.0]

    def slow_remake(baseline):
        calls.append(baseline.case_key)
        now_s[0] += 30
        return remake(baseline)

    runner = make_runner([0.53], [0.53], make_arm=slow_remake)
    runner.confirmer.clock = lambda: now_s[0]
    other = dataclasses.replace(CASE, stage="slow")
    runner.session.inputs = dataclasses.replace(
        runner.session.inputs, baselines=dict.fromkeys((CASE.key, other.key), BASELINE)
    )

    judged(runner)
    with runner.live(other) as live:
        live.measure()

    assert calls == [CASE.key]
    assert [confirmation.seconds for confirmation in runner.session.outcome.confirmations.values()] == [30, 0]


def test_a_confirmed_case_is_explained_by_the_live_arm(make_runner):
    """The lines below its verdict compare with the baseline's code here and now, not with the recording."""
    runner = make_runner([0.53], [0.5])

    judged(runner)

    lines = runner.session.outcome.explanations[CASE.key]
    assert any("kernels: the same" in line for line in lines)
