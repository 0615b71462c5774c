"""The proof's section on trends: what simulated histories are accused of, and what is found in them."""

import json

import numpy as np
import pytest

from speedgate.history.trend import ChangeKind
from tests.proof import __main__ as proof
from tests.proof import trend_section, trends


@pytest.fixture(scope="module")
def machines():
    """Those of the document, by name."""
    return {one.name: one for one in trends.machines(json.loads(proof.SERIES.read_text(encoding="utf-8")))}


def test_the_measured_machine_is_the_one_that_was_measured(machines):
    """Its runs are consecutive processes of the series, and spread as those do."""
    logs = machines["measured processes"].draw(np.random.default_rng(1), 4000)

    assert logs.shape == (4000, trends.PROCESSES)
    assert logs.std() == pytest.approx(0.042, rel=0.15)
    assert logs.mean(axis=1).std() > 1.3 * logs.std() / trends.PROCESSES**0.5


def test_days_correlate_as_they_are_said_to(machines):
    """Neighbouring runs resemble each other by as much as is left of 0.5 beside their processes' own scatter."""
    means = machines["0.6%, days correlate by 0.5"].draw(np.random.default_rng(1), 20000).mean(axis=1)

    assert np.corrcoef(means[1:], means[:-1])[0, 1] == pytest.approx(0.5 * 3 / 4, abs=0.03)


def test_nothing_is_said_of_a_quiet_machine(machines):
    """No alarm in two hundred nights, and none in whole histories."""
    alarms = trends.false_alarms(machines["processes' sd 0.6%"], runs=200, whole=5)

    assert {*alarms.nightly.values(), *alarms.whole.values()} == {0.0}


def test_an_alarm_is_counted_once():
    """A step of 5 % is red for two weeks of nights and one alarm."""
    logs = np.random.default_rng(2).normal(0, 0.005, (100, 3))
    logs[80:] += 0.05

    (alarm,) = trends._alarms(trends.history(logs))

    assert (alarm.kind, alarm.run) == (ChangeKind.STEP, 80)


def test_changes_are_found_as_what_they_are(machines):
    """On a quiet machine every injected change is, a step after three runs and in the right place."""
    found = {one.change: one for one in trends.power(machines["processes' sd 0.3%"], repetitions=3)}

    assert {(one.share, one.otherwise) for one in found.values()} == {(1.0, 0.0)}
    assert (found["step +3%"].runs, found["step +3%"].placed) == (3, 1.0)
    assert found["drift +1% a month"].runs <= 40


def test_the_section_holds_every_machine(machines):
    """A row each in both tables, with the figures."""
    alarms = [
        trends.Alarms(machine=name, nightly=dict.fromkeys(ChangeKind, 0.5), whole=dict.fromkeys(ChangeKind, 0.25))
        for name in machines
    ]
    found = [
        trends.Found(machine=name, change="step +1%", share=0.5, runs=7.0, otherwise=0.1, placed=0.9)
        for name in machines
    ]

    text = "\n".join(trend_section.lines(alarms, found, runs=9, whole=8, repetitions=7, took_s=6.0))

    assert text.count("| 0.50 | 0.50 | 0.25 | 0.25 |") == len(machines)
    assert text.count("| 50% / 7 / 10% | 90% |") == len(machines)
    assert "{" not in text


def test_a_section_takes_the_place_of_the_one_before():
    """The rest of the document stays as it is, whether it had one or not."""
    document = "# Proof\n\ntext\n\n## Simulated\n\nplot\n\n## Faults\n\nlist\n"

    once = trend_section.replaced(document, ["## Trend\n", "one", ""])

    assert once == "# Proof\n\ntext\n\n## Simulated\n\nplot\n\n## Trend\n\none\n\n## Faults\n\nlist\n"
    assert trend_section.replaced(once, ["## Trend\n", "two", ""]) == once.replace("one", "two")


def test_the_document_has_the_section():
    """What is committed was written by these functions: its tables have their headers."""
    text = (proof.ROOT / "docs" / "proof.md").read_text(encoding="utf-8")

    assert text.count(f"\n{trend_section.HEADING}\n") == 1
    assert text.partition(trend_section.HEADING)[2].count("\n| measured processes |") == 2
