"""The proof's section on trends: false alarms in simulated histories, and the changes found in them."""

import json

import numpy as np
import pytest

from speedgate.history.trend import ChangeKind
from tests.proof import __main__ as proof
from tests.proof import trend_section, trends


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
    means = machines["0.6%, days correlate by 0.5"].draw(np.random.default_rng(1), 20000).mean(axis=1)

    assert np.corrcoef(means[1:], means[:-1])[0, 1] == pytest.approx(0.5 * 3 / 4, abs=0.03)


def test_a_quiet_machine_raises_no_alarm(machines):
    """There is no alarm in two hundred nights, and none in whole histories."""
    alarms = trends.false_alarms(machines["processes' sd 0.6%"], runs=200, whole=5)

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
    """The rest of the document stays the same, with or without an earlier section."""
    document = "# Proof\n\ntext\n\n## Simulated\n\nplot\n\n## Faults\n\nlist\n"

    once = trend_section.replace_section(document, ["## Trend\n", "one", ""])

    assert once == "# Proof\n\ntext\n\n## Simulated\n\nplot\n\n## Trend\n\none\n\n## Faults\n\nlist\n"
    assert trend_section.replace_section(once, ["## Trend\n", "two", ""]) == once.replace("one", "two")


def test_the_document_has_the_section():
    """The committed document has one section on trends with both tables."""
    text = (proof.ROOT / "docs" / "proof.md").read_text(encoding="utf-8")

    assert text.count(f"\n{trend_section.HEADING}\n") == 1
    assert text.partition(trend_section.HEADING)[2].count("\n| measured processes |") == 2
