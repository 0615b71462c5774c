"""The proof's document: real series are judged like simulated ones, trends are found, and every figure comes from the data."""

import dataclasses
import json
import random

import numpy as np
import pytest

from speedgate.history.trend import ChangeKind
from speedgate.results.run import Outcome
from tests.proof import __main__ as proof
from tests.proof import document, real, replay, series, trend_section, trends
from tests.proof.confirmation_section import Section
from tests.proof.faults import COMMAND, Result, _held


def scatter(rng, level, count):
    """Draw the seconds of the rounds of one process."""
    return [level * rng.gauss(1.0, 0.001) for _ in range(count)]


def make_series(*, spread, order=0.02, alone=34, pairs=24):
    """Make a series of a machine with that spread, with slowdowns of exactly the injected size."""
    rng = random.Random(3)  # noqa: S311 - a simulation
    environment = {"torch": "2.13.0", "diffusers": "0.42.1"}
    measured = {"machine": "cpu-made-up", "environment": environment, "alone": [], "pairs": []}
    for _ in range(alone):
        level = rng.gauss(0.05, 0.05 * spread)
        seconds = {str(slow): scatter(rng, level * (1 + slow), 8) for slow in series.LEVELS}
        measured["alone"].append({"opened_s": 4.0, "seconds": seconds})
    for number in range(pairs):
        this_first, seconds = number % 2 == 0, {}
        log_ratio = rng.gauss(order if this_first else -order, spread)
        for slow in series.LEVELS:
            seconds[str(slow)] = {
                "own": scatter(rng, 0.05 * (1 + log_ratio) * (1 + slow), 8),
                "other": scatter(rng, 0.05, 8),
            }
        measured["pairs"].append({"own_first": this_first, "seconds": seconds})
    return measured


@pytest.fixture(scope="module")
def quiet():
    """Make a series of a machine whose processes vary by 0.3 %."""
    return make_series(spread=0.003)


def shares(cells, rule, change):
    """Return the shares of alarms and passes of a rule at a true change."""
    (cell,) = [cell for cell in cells if (cell.rule, cell.change, cell.budget) == (rule, change, replay.SAME)]
    return cell.alarms, cell.passes


def test_real_processes_are_judged_by_both_of_our_rules(quiet):
    """On a quiet machine no change is a PASS, 6 % and 10 % are caught, and the order of opening is no change."""
    cells = real.comparisons(quiet, count=20)

    assert [shares(cells, rule, 0.0) for rule in replay.OURS] == [(0.0, 1.0)] * 2
    assert [shares(cells, rule, change) for rule in replay.OURS for change in (0.06, 0.10)] == [(1.0, 0.0)] * 4


def test_the_spreads_are_those_of_the_series(quiet):
    """The document's figures on the machine are those that the series was made with."""
    spread = real.spread(quiet)

    assert spread.between == pytest.approx(0.003, rel=0.3)
    assert spread.within == pytest.approx(0.001, rel=0.3)
    assert spread.between_pairs == pytest.approx(0.003, rel=0.4)
    assert spread.order == pytest.approx(0.02, rel=0.1)


def test_independent_comparisons_share_no_process(quiet):
    """34 processes make two comparisons of 8 with 8, and 24 pairs make two of 12; all pass."""
    assert real.independent(quiet) == {rule: [Outcome.PASS.value] * 2 for rule in replay.OURS}


def test_every_slowdown_has_equally_many_pairs_of_both_orders():
    """In twelve pairs each injected slowdown is measured four times, twice in each order."""
    measured = [(number % 2, level) for number in range(12) for level in series._levels(number)]

    counts = {(order, level): measured.count((order, level)) for order in (0, 1) for level in series.LEVELS}

    assert {count for (_, level), count in counts.items() if level} == {2}
    assert counts[0, 0.0] == counts[1, 0.0] == 6


def test_the_document_counts_what_was_caught_and_what_was_not(quiet):
    """Faults and harmless changes are counted and listed with their results, at the top and in their section."""
    fields = {"gate": "parity", "description": "a description"}
    faults = [
        Result(family="numerics", name="wrong_mask", held=True, **fields),
        Result(family="cost", name="slower_step", held=False, **fields),
        Result(family="harmless", name="another_seed", held=True, **fields),
    ]
    simulated = replay.replay(repetitions=2)
    shares = {"false_alarms": 0.25, "caught": 0.5, "undecided": 0.125}
    confirmation = Section(lines=["## Confirmation", "earlier", ""], shares=shares)

    text = "\n".join(
        document.lines(
            quiet,
            real.comparisons(quiet, count=2),
            simulated,
            faults,
            confirmation=confirmation,
            trend=["## Trend"],
            repetitions=2,
            replay_s=1.0,
        )
    )

    assert "The gates\ncaught 1 of 2 injected faults and fired on 0 of 1 harmless changes." in text
    assert "1 of 2 injected faults are caught by their gate" in text
    assert "no gate fires on 1 of 1 harmless" in text
    assert "| cost | slower step | a description | parity | **missed** |" in text
    assert "live pairs were measured in turn on `cpu-made-up` with" in text
    assert "{" not in text
    again = document.replace_faults(text, [*faults, dataclasses.replace(faults[0], name="another_mask")])
    assert "The gates\ncaught 2 of 3 injected faults and fired on 0 of 1 harmless changes." in again
    assert again.count("wrong mask") == again.count("another mask") == 1
    assert again.partition("The gates\n")[0] == text.partition("The gates\n")[0]
    assert "raised a false alarm in 25.0%, caught 50.0% and" in text
    newer = document.replace_confirmation(
        text, Section(lines=["## Confirmation", "later", ""], shares={**shares, "caught": 1.0})
    )
    assert newer == text.replace("caught 50.0%", "caught 100.0%").replace("earlier", "later")


@pytest.mark.parametrize(
    ("outcomes", "held"),
    [
        ({"test_fault[sdpa-wrong_mask]": True, "test_fault[int8-wrong_mask]": True}, True),
        ({"test_fault[sdpa-wrong_mask]": True, "test_fault[int8-wrong_mask]": False}, False),
        ({"test_fault[another_wrong_mask]": True}, False),
        ({}, False),
    ],
)
def test_a_fault_that_was_not_run_was_not_caught(outcomes, held):
    """Every test with exactly that name must have passed, at least one, and the command runs the exhaustive ones too."""
    assert _held("wrong_mask", outcomes) is held
    assert "--exhaustive" in COMMAND


def test_a_drift_is_not_hidden(quiet):
    """On a machine that becomes 10 % slower half-way, later runs are SLOWER, and the document has the size of the drift."""
    later = [
        {**process, "seconds": {"0.0": [1.1 * s for s in process["seconds"]["0.0"]]}} for process in quiet["alone"]
    ]

    drifting = [*quiet["alone"], *later]

    assert real.in_order(quiet["alone"]) == {Outcome.PASS.value: 1.0}
    assert real.in_order(drifting)[Outcome.SLOWER.value] > 0.3
    assert real.drift(drifting) == pytest.approx(0.10, abs=0.01)


@pytest.fixture(scope="module")
def machines():
    """Return the machines of the document by name."""
    return {machine.name: machine for machine in trends.machines(json.loads(proof.SERIES.read_text(encoding="utf-8")))}


def test_the_measured_machine_has_the_measured_spread(machines):
    """Its runs are consecutive processes of the series, with their spread and correlation."""
    logs = machines["measured processes"].draw(np.random.default_rng(1), 4000)

    assert logs.shape == (4000, trends.PROCESSES)
    assert logs.std() == pytest.approx(0.042, rel=0.15)
    assert logs.mean(axis=1).std() > 1.3 * logs.std() / trends.PROCESSES**0.5


def test_days_correlate_by_the_named_amount(machines):
    """Neighbouring runs correlate by 0.5, reduced by the independent variation of their processes."""
    means = machines["0.6%, days correlate by 0.5"].draw(np.random.default_rng(1), 10000).mean(axis=1)

    assert np.corrcoef(means[1:], means[:-1])[0, 1] == pytest.approx(0.5 * 3 / 4, abs=0.04)


def test_a_quiet_machine_raises_no_alarm(machines):
    """There is no alarm in a hundred nights, and none in whole histories."""
    alarms = trends.false_alarms(machines["processes' sd 0.6%"], runs=100, whole=2)

    assert {*alarms.nightly.values(), *alarms.whole.values()} == {0.0}


def test_an_alarm_is_counted_once():
    """A step of 5 % that is reported in many nights is one alarm."""
    logs = np.random.default_rng(2).normal(0, 0.005, (100, 3))
    logs[80:] += 0.05

    (alarm,) = trends._nightly_alarms(trends.make_history(logs))

    assert (alarm.kind, alarm.run) == (ChangeKind.STEP, 80)


def test_changes_are_found_as_the_right_kind(machines):
    """On a quiet machine every injected change is found, a step after three runs and in the right place."""
    detections = {
        detection.change: detection for detection in trends.power(machines["processes' sd 0.3%"], repetitions=3)
    }

    assert {(detection.share, detection.misreported) for detection in detections.values()} == {(1.0, 0.0)}
    assert (detections["step +3%"].runs, detections["step +3%"].placed) == (3, 1.0)
    assert detections["drift +1% a month"].runs <= 40


def test_the_section_has_every_machine(machines):
    """Each machine has a row with its figures in both tables."""
    alarms = [
        trends.Alarms(machine=name, nightly=dict.fromkeys(ChangeKind, 0.5), whole=dict.fromkeys(ChangeKind, 0.25))
        for name in machines
    ]
    detections = [
        trends.Detection(machine=name, change="step +1%", share=0.5, runs=7.0, misreported=0.1, placed=0.9)
        for name in machines
    ]

    text = "\n".join(trend_section.lines(alarms, detections, runs=9, whole=8, repetitions=7, took_s=6.0))

    assert text.count("| 0.50 | 0.50 | 0.25 | 0.25 |") == len(machines)
    assert text.count("| 50% / 7 / 10% | 90% |") == len(machines)
    assert "{" not in text


def test_a_section_replaces_the_one_before():
    """The rest of the page stays the same and in its order, with or without an earlier section."""
    page = "# Proof\n\ntext\n\n## Simulated\n\nplot\n\n## Faults\n\nlist\n"

    once = document.replace_section(page, ["## Trend\n", "one", ""])

    assert once == "# Proof\n\ntext\n\n## Simulated\n\nplot\n\n## Trend\n\none\n\n## Faults\n\nlist\n"
    assert document.replace_section(once, ["## Trend\n", "two", ""]) == once.replace("one", "two")
    assert document.replace_section(once, ["## Simulated\n", "two", ""]) == once.replace("plot", "two")


def test_the_document_has_the_section():
    """The committed document has one section on trends with both tables."""
    text = (proof.ROOT / "docs" / "proof.md").read_text(encoding="utf-8")

    assert text.count(f"\n{trend_section.HEADING}\n") == 1
    assert text.partition(trend_section.HEADING)[2].count("\n| measured processes |") == 2


@pytest.mark.parametrize("option", ["--only-confirmation", "--only-trend"])
def test_a_section_is_not_written_from_a_series_that_is_missing(tmp_path, monkeypatch, capsys, option):
    """A misspelled name is one line: the series is not measured anew, and no file is created."""
    monkeypatch.setattr(series, "collect", None)

    with pytest.raises(SystemExit):
        proof.main([option, "--series", str(tmp_path / "typo.json")])

    assert "typo.json: there is no such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
