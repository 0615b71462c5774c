"""The other tools' rules decide as documented, and in the replay our rules keep their promises."""

import math
import random
from xml.etree import ElementTree

import pytest

from speedgate.gate.judge import judge_latency, judge_latency_against
from speedgate.gate.policy import Policy
from speedgate.results.run import Comparison, Outcome, Turns
from tests.proof import peers, plot, replay, table
from tests.support.baseline_samples import INT8, make_baseline, make_run

QUIET = [1 + 1e-4 * number for number in range(-10, 10)]
WILD = [0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4, 1.5]
REPETITIONS = 60


@pytest.fixture(scope="module")
def cells():
    """A reduced replay of the two quiet series."""
    return replay.replay(repetitions=REPETITIONS, series=replay.SERIES[:2], changes=(0.0, 0.03, 0.06))


@pytest.mark.parametrize(
    ("rule", "old", "above", "below"),
    [
        (peers.pytest_benchmark, QUIET, 1.0501, 1.0499),
        (peers.asv, QUIET * 2, 1.101, 1.099),
        (peers.github_action_benchmark, QUIET, 2.001, 1.999),
        (peers.torchbench, QUIET, 1.0701, 1.0699),
        (peers.sglang, QUIET, 1.2001, 1.1999),
        (peers.sglang, [0.05], 1.42, 1.38),  # 21 and 19 ms
        (peers.criterion, QUIET, 1.011, 1.009),  # both significant, one within the noise threshold
        (peers.mann_whitney, QUIET, 1.001, 1.0001),
    ],
)
def test_a_rule_alarms_when_its_tool_would(rule, old, above, below):
    """Each rule alarms above its documented threshold and not below."""
    assert [rule([factor * value for value in old], old) for factor in (above, below)] == [True, False]


@pytest.mark.parametrize("rule", [peers.asv, peers.criterion])
def test_a_large_difference_of_noisy_rounds_is_no_alarm(rule):
    """Medians or means 20 % apart are above the threshold of these rules, and not significant to them."""
    assert not rule([1.2 * value for value in WILD], WILD)


@pytest.mark.parametrize("rule", peers.RULES.values(), ids=list(peers.RULES))
def test_no_rule_alarms_without_a_change(rule):
    """The same rounds twice are no slowdown to any rule, with one process or with five."""
    processes = [QUIET] * 5

    assert not rule.native(processes, processes)
    assert not rule.same_budget(processes, processes)


def test_a_tool_sees_the_processes_that_it_starts():
    """By itself pytest-benchmark reads the first process and asv two; given all processes they read all."""
    slow, old = [1.5 * value for value in QUIET], [QUIET] * 3
    rules = [peers.RULES["pytest-benchmark median:5%"], peers.RULES["asv x1.1, p<0.002"]]

    assert [rule.native([QUIET, slow, slow], old) for rule in rules] == [False, True]
    assert [rule.native([QUIET, QUIET, slow], old) for rule in rules] == [False, False]
    assert [rule.same_budget([QUIET, slow, slow], old) for rule in rules] == [True, True]


@pytest.mark.parametrize("seed", range(6))
def test_the_replayed_decision_is_the_gates(seed):
    """At the look where the replay stops, `judge_latency` gives the same verdict, and it is undecided at the looks before."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    factor = rng.choice([1.0, 1.02, 1.05])
    old, new = ([math.exp(rng.gauss(0, 0.008)) for _ in range(count)] for count in (5, replay.STORED_LOOKS.last))
    new = [factor * value for value in new]

    outcome, used = replay.sequential(old, iter(new).__next__, looks=replay.STORED_LOOKS, tolerance=replay.TOLERANCE)

    counts = [count for count in replay.STORED_LOOKS.counts if count <= used]
    policy = Policy(looks=replay.STORED_LOOKS)
    outcomes = [judge_latency(make_run(medians_s=new[:count]), make_baseline(*old), policy).outcome for count in counts]
    assert outcomes == [Outcome.UNDECIDED] * (len(counts) - 1) + [outcome]


@pytest.mark.parametrize("seed", range(6))
def test_the_replayed_decision_by_pairs_is_the_gates(seed):
    """At the look where the replay stops, `judge_latency_against` gives the same verdict."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    change = rng.choice([0.0, 0.02, 0.05])
    ratios = [change + rng.gauss(0, 0.012) for _ in range(replay.PAIRS_LOOKS.last)]

    outcome, used = replay.sequential_pairs(iter(ratios).__next__, looks=replay.PAIRS_LOOKS, tolerance=replay.TOLERANCE)

    comparison = Comparison(
        case_key=INT8,
        label="the other arm",
        other=make_run(),
        turns=Turns.ROUNDS,
        log_ratios=tuple(ratios[:used]),
        this_first=tuple(number % 2 == 0 for number in range(used)),
    )
    assert judge_latency_against(make_run(), comparison, Policy(looks=replay.PAIRS_LOOKS)).outcome is outcome


def test_a_replay_is_the_same_for_a_seed():
    """Two replays with one seed agree in every figure, and a replay with another seed differs."""
    few = {"repetitions": 20, "series": replay.SERIES[2:], "changes": (0.0, 0.05)}

    assert replay.replay(seed=1, **few) == replay.replay(seed=1, **few) != replay.replay(seed=2, **few)


@pytest.mark.parametrize("rule", replay.OURS)
def test_our_rule_keeps_its_promise(cells, rule):
    """Up to the tolerance at most 1 % are false alarms, within three standard errors, and 95 % of 6 % slowdowns are caught."""
    ours = [cell for cell in cells if cell.rule == rule]

    assert {round(cell.alarms + cell.passes + cell.undecided, 9) for cell in ours} == {1.0}
    assert max(cell.alarms for cell in ours if cell.change <= replay.TOLERANCE) <= 0.01 + 3 * math.sqrt(
        0.01 / REPETITIONS
    )
    assert min(cell.alarms for cell in ours if cell.change == 0.06) >= 0.95


def test_the_tables_hold_every_verdict_and_every_rule(cells):
    """Alarms have a row per rule and a column per change, verdicts a row per change of ours, and the summary every rule."""
    alarms = [table.alarms(cells, series=replay.SERIES[0].name, budget=budget) for budget in replay.BUDGETS]
    verdicts = table.verdicts(cells, series=replay.SERIES[0].name)
    summary = table.summary(cells, budget=replay.NATIVE)

    for lines in (*alarms, summary):
        assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [*replay.OURS, *peers.RULES]
    assert {line.count(" | ") for lines in alarms for line in lines} == {4}
    assert len(verdicts) == 2 + len(replay.OURS) * 3
    assert summary[-1].endswith("| 0.0% / 0.0% / 100.0% | 0.0% / 0.0% / 100.0% |")


@pytest.mark.slow
def test_the_plot_is_an_svg_that_names_every_rule_and_is_reproducible(cells, tmp_path):
    """The file parses, its text is text, and drawing it again makes the same file."""
    pytest.importorskip("matplotlib", reason="matplotlib is in the dependency group `proof` only")
    paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        plot.save(cells, path)

    root = ElementTree.parse(paths[0]).getroot()  # noqa: S314 - a file of our own

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {*replay.OURS, *peers.RULES} <= {text.strip() for text in root.itertext()}
    assert paths[0].read_bytes() == paths[1].read_bytes()
