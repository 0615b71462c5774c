"""The drift of a machine is the median of its confirmed cases, and half a tolerance of it makes a baseline old."""

import msgspec
import pytest

from speedgate.results import machine_drift
from tests.support.baseline_samples import BF16, INT8, make_confirmation


def drifts(*ratios, **fields):
    """Make confirmations of cases whose program is 2 % faster, on a machine with these drifts."""
    return [make_confirmation(stored_ratio=ratio * 0.98, live_ratio=0.98, **fields) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "line"),
    [
        ((1.042, 1.01, 1.3), "the machine takes 4.2% longer than when its baselines were recorded (median of 3 cases)"),
        ((0.95,), "the machine takes 5.0% less time than when its baselines were recorded (1 case)"),
        ((1.004,), "the machine takes as long as when its baselines were recorded (1 case)"),
    ],
)
def test_the_drift_is_the_median_without_the_programs_change(ratios, line):
    """The change of the program, which the pairs show, is no part of the drift."""
    shown = machine_drift.drift_line([*drifts(*ratios), make_confirmation(BF16, live_ratio=None)])

    assert shown is not None and shown.startswith(f"{line}: ")


def test_without_a_decision_there_is_no_drift():
    """A case that could not be confirmed, or not to its end, says nothing about the machine."""
    undecided = msgspec.structs.replace(make_confirmation(), reason="a worker died")

    assert machine_drift.remarks([make_confirmation(live_ratio=None), undecided], tolerance=0.03) == []


@pytest.mark.parametrize(("ratio", "is_stale"), [(1.014, False), (1.016, True), (0.986, False), (0.98, True)])
def test_half_a_tolerance_makes_a_baseline_stale_in_advance(ratio, is_stale):
    """Each file is judged by its own cases; a machine that became faster counts, and a file without a name does not."""
    confirmations = [
        *drifts(ratio, ratio, baseline="a.json"),
        *drifts(1.0, baseline="b.json"),
        *drifts(2.0, baseline=""),
    ]

    lines = machine_drift.stale_baselines(confirmations, tolerance=0.03)

    assert [line.split(" will soon be stale")[0] for line in lines] == ["a.json"] * is_stale
    assert all("pytest bench --gate record" in line for line in lines)


def test_cases_of_a_file_are_one_median():
    """One case of three that is off does not make the file stale."""
    confirmations = [
        make_confirmation(key, stored_ratio=ratio) for key, ratio in ((INT8, 1.0), (BF16, 1.0), ("a/b/c", 1.2))
    ]

    assert machine_drift.stale_baselines(confirmations, tolerance=0.03) == []
