"""The replay with confirmation asks for pairs where the gate would, and takes those that the series has at that time."""

import itertools
import json
import math
import operator
import random

import pytest

from speedgate.gate.judge import judge_latency, may_be_acquitted
from speedgate.gate.policy import Policy
from speedgate.results.run import Outcome
from tests.proof import __main__ as proof
from tests.proof import confirmation_section, confirmations, peers
from tests.proof.confirmations import Pair
from tests.proof.replay import STORED_LOOKS
from tests.proof.test_document import make_series
from tests.support.baseline_samples import make_baseline, make_run


def make_pairs(change):
    """Make twelve pairs that differ by 0.1 % around a change."""
    return [Pair(log_ratio=change + 1e-3 * (-1) ** (n // 2), this_first=n % 2 == 0, seconds=2.0) for n in range(12)]


@pytest.mark.parametrize(
    ("run_s", "pairs", "stored", "outcome"),
    [
        (1.1, make_pairs(0.0), Outcome.SLOWER, Outcome.PASS),
        (1.1, make_pairs(0.06), Outcome.SLOWER, Outcome.SLOWER),
        (1.0, None, Outcome.PASS, Outcome.PASS),
        (0.9, None, Outcome.FASTER, Outcome.FASTER),
    ],
)
def test_pairs_judge_a_suspected_case_and_no_other(run_s, pairs, stored, outcome):
    """A suspicion is acquitted or convicted by the pairs; a green case measures none."""
    baseline_s, run = ([level * (1 + 1e-4 * n) for n in range(8)] for level in (1.0, run_s))

    judgement = confirmations.judge(baseline_s, run, (lambda: pairs) if pairs else pytest.fail, process_s=5.0)

    assert (judgement.stored, judgement.outcome) == (stored, outcome)
    assert (judgement.pairs, judgement.pairs_s) == ((6, 12.0) if pairs else (None, 0.0))
    assert judgement.stored_s == judgement.screen_s == 3 * 5.0


@pytest.mark.parametrize("seed", range(8))
def test_the_screen_is_the_gates(seed):
    """The replay asks for pairs with the verdict and after the processes with which the gate does."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    old, new = ([math.exp(rng.gauss(0, 0.012)) for _ in range(8)] for _ in range(2))
    policy = Policy(looks=STORED_LOOKS)

    outcome, used = confirmations.screen(old, new)

    for count in STORED_LOOKS.counts[: STORED_LOOKS.number(used)]:
        run, baseline = make_run(medians_s=new[:count]), make_baseline(*old)
        verdict = judge_latency(run, baseline, policy)
        is_final = verdict.outcome is not Outcome.UNDECIDED or not may_be_acquitted(run, baseline, policy)
        assert is_final or count < used or count == STORED_LOOKS.last
        assert not is_final or count == used
    assert verdict.outcome is outcome


def test_an_undecided_case_does_not_wait_for_more_processes():
    """A noisy run goes to the pairs after three processes, of which the stored rule alone takes eight."""
    noisy = [1.0, 1.08, 0.93, 1.02, 1.09, 0.94, 1.03, 0.98]

    judgement = confirmations.judge(noisy, noisy[::-1], lambda: make_pairs(0.0), process_s=1.0)

    assert (judgement.stored, judgement.outcome) == (Outcome.UNDECIDED, Outcome.PASS)
    assert (judgement.stored_s, judgement.screen_s, judgement.added_s) == (8.0, 3.0, 3.0 + 12.0 - 8.0)


@pytest.fixture(scope="module")
def drifting():
    """Make a series of a quiet machine that becomes 10 % slower half-way, in which pairs are not affected."""
    series = make_series(spread=0.003, alone=34)
    for process in series["alone"][17:]:
        process["seconds"] = {level: [1.1 * value for value in rounds] for level, rounds in process["seconds"].items()}
    return series


def test_a_drift_is_acquitted_and_a_slowdown_is_convicted(drifting):
    """The stored rule calls the drift SLOWER; with the pairs there is no false alarm, and each slowdown is found."""
    for replay in confirmations.real(drifting):
        assert Outcome.SLOWER in {judgement.stored for judgement in replay.unchanged}
        assert {judgement.outcome for judgement in replay.unchanged} == {Outcome.PASS}
        assert {judgement.outcome for judgement in replay.slower} == {Outcome.SLOWER}


def test_the_following_pairs_are_those_of_that_time(drifting):
    """After a quarter of the processes come the pairs from a quarter on; at the end, the last twelve of the series."""
    numbered = list(confirmations.real_pairs(drifting, 0.0))
    pairs = [pair for _, pair in numbered]

    assert confirmations.following_pairs(numbered, count=24, share=0.25) == pairs[6:18]
    assert confirmations.following_pairs(numbered[::2], count=24, share=0.25) == pairs[::2]
    assert confirmations.following_pairs(numbered, count=24, share=1.0) == pairs[12:]


def test_a_faster_machine_hides_a_slowdown():
    """A slowdown of 6 % on a machine that became 5 % faster passes, with confirmation as well: the page must say so."""
    replays = confirmations.simulated(process_s=5.0, pair_s=13.0, repetitions=3)

    faster = next(replay for replay in replays if replay.machine == "processes' sd 0.3%, drift -5%")
    assert {judgement.outcome for judgement in faster.slower} == {Outcome.PASS}


@pytest.mark.parametrize(("attempts_s", "alarm"), [([1.3] * 7, True), ([1.3] * 6 + [1.1], False)])
def test_one_good_attempt_of_seven_is_enough(attempts_s, alarm):
    """SGLang's test is red only if all seven attempts are above the limit."""
    assert peers.above_in_every_attempt(attempts_s, peers.sglang_limit(1.0)) is alarm


@pytest.mark.parametrize(("change", "alarm"), [(1.049, False), (1.051, True)])
def test_a_history_band_is_as_wide_as_its_history(change, alarm):
    """Differences of 1 % and 2 % in turn have these quartiles, so the limit is 2 + 3 x 1 = 5 % above the last value."""
    factors = [1.01, 1.02] * (peers.RUSTC_PERF_HISTORY // 2)
    history_s = list(itertools.accumulate(factors, operator.mul, initial=1.0))

    assert peers.rustc_perf(history_s[-1] * change, history_s) is alarm


def test_the_section_has_every_machine_and_every_project(drifting):
    """Each machine has a row in both tables, each project has one, and no figure is left out."""
    section = confirmation_section.replay_section(drifting, repetitions=2)

    text = "\n".join(section.lines)
    assert text.count(f"\n| {confirmations.NEXT} |") == text.count("\n| two modes, 5% apart, drift +5% |") == 2
    assert all(f"\n| {name} |" in text for name in ("SGLang", "rustc-perf", "vllm-omni", "CodSpeed", "speedgate"))
    assert section.shares == {"false_alarms": 0.0, "caught": 1.0, "undecided": 0.0}
    assert "{" not in text


def test_the_committed_series_keep_the_promises_with_confirmation():
    """On the real series at most 1 % are false alarms, 95 % of 6 % slowdowns are found, and 5 % stay undecided."""
    series = json.loads(proof.SERIES.read_text(encoding="utf-8"))

    ordered = confirmations.real(series)[0]

    def share(judgements, outcome):
        return sum(judgement.outcome is outcome for judgement in judgements) / len(judgements)

    assert share(ordered.unchanged, Outcome.SLOWER) <= 0.01
    assert share(ordered.unchanged, Outcome.UNDECIDED) <= 0.05
    assert share(ordered.slower, Outcome.SLOWER) >= 0.95
