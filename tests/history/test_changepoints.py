"""Steps in plain numbers: known steps, the published examples of E-divisive, and series without a step."""

import numpy as np
import pytest

from speedgate.history import changepoints
from speedgate.history.changepoints import ALPHA, estimate_noise, find_outliers, find_steps
from tests.support.histories import r_normal

# ggchangepoint's reference of `ecp_wrapper`, which calls ecp's e.divisive: `set.seed(2022)`, a series whose spread grows tenfold
# (its value at 102 of R's 1 to 200 is -12.2), then one that rises by ten, for which e.divisive reports 101 (with other random
# numbers than those that follow here).
ECP_SPREAD, ECP_LEVEL = np.split(r_normal(2022, 400), 2)
ECP_SPREAD[100:] *= 10
ECP_LEVEL[100:] += 10
# Apache Otava (of Hunter, ICPE 2023), tests/analysis_test.py, `test_single_series`: E-divisive finds 10.
OTAVA = [1.02, 0.95, 0.99, 1.00, 1.12, 1.00, 1.01, 0.98, 1.01, 0.96]
OTAVA += [0.50, 0.51, 0.48, 0.48, 0.55, 0.50, 0.49, 0.51, 0.50, 0.49]
# mongodb/signal-processing-algorithms, tests/test_detection.py, `test_random_ish_data`: E-divisive finds 20 and 40.
MONGODB = [41, 18, 23, 3, 32, 11, 40, 13, 29, 48, 47, 35, 18, 21, 6, 2, 23, 3, 4, 7]
MONGODB += [120, 103, 102, 81, 71, 62, 115, 61, 108, 63, 70, 98, 65, 96, 64, 74, 70, 113, 90, 114]
MONGODB += [208, 196, 153, 150, 225, 179, 206, 165, 177, 151, 218, 217, 244, 245, 229, 195, 225, 229, 176, 250]
# The same file: `test_finds_simple_regression`, `..._ahead`, `..._behind`, `..._regression2`, `test_two_regressions`.
PUBLISHED = {
    "otava": (OTAVA, [10]),
    "mongodb": (MONGODB, [20, 40]),
    "simple": ([50] * 15 + [100] * 15, [15]),
    "ahead": ([50] * 14 + [74] + [100] * 15, [15]),
    "behind": ([50] * 14 + [76] + [100] * 15, [14]),
    "outlier": ([50, 50, 100] + [50] * 12 + [100] * 15, [15]),
    "two": ([50, 50, 100] + [50] * 12 + [100] * 15 + [150] * 15, [15, 30]),
    "none": ([50] * 30, []),
    "ecp": (ECP_LEVEL, [100]),
}


def step_indices(values):
    """Find the steps in values without their outliers; return indices of all values."""
    values = np.asarray(values, dtype=np.float64)
    alone = find_outliers(values, estimate_noise(values, least=1e-6).scale)
    indices = np.flatnonzero(~alone)
    scatter = estimate_noise(values[indices], least=1e-6)
    weights = np.full(len(indices), scatter.scale**-2)
    return [int(indices[step.index]) for step in find_steps(values[indices], weights, noise=scatter)]


@pytest.mark.parametrize(("values", "expected"), PUBLISHED.values(), ids=list(PUBLISHED))
def test_the_published_examples_of_e_divisive_come_out(values, expected):
    """The published results of E-divisive are found at the same places, in series that equal the published ones."""
    assert ECP_SPREAD[101] == pytest.approx(-12.2, abs=0.05)  # the published value
    assert step_indices(values) == expected


@pytest.mark.parametrize("half", [8, 15, 99])
def test_an_exact_step_is_found_where_it_is(half):
    """Zeros followed by as many ones are one step (mongodb's `test_default_implementation_sanity`), from eight of each."""
    assert step_indices([0.0] * half + [1.0] * half) == [half]


def test_several_changes_are_found_one_by_one():
    """Three steps are found, up, up and down, with an outlier in each level, and rounding to a few values moves none."""
    values = np.repeat([0.0, 0.02, 0.05, 0.01], 60) + np.random.default_rng(3).normal(0, 0.004, 240)
    values[[20, 90, 150, 200]] += 0.2

    assert step_indices(values) == step_indices(np.round(values, 3)) == [60, 120, 180]


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_is_no_step(seed):
    """A thousand points without a change have no step: normal, heavy-tailed, or with two modes."""
    rng = np.random.default_rng(seed)

    assert step_indices(rng.normal(0, 0.006, 1000)) == []
    assert step_indices(0.006 * rng.standard_t(3, 1000)) == []
    assert step_indices(rng.integers(0, 2, 1000) * 0.05 + rng.normal(0, 0.003, 1000)) == []


def test_two_equal_outliers_are_no_step():
    """Two equal outliers are no level, neither in the middle nor at the end."""
    values = np.random.default_rng(4).normal(0, 0.004, 100)
    values[[50, 51]] += 0.1
    values[[98, 99]] += 0.1

    assert step_indices(values) == []


def test_a_run_of_many_processes_weighs_more():
    """Three points with large weights are a step; with small weights they are not."""
    values = np.random.default_rng(6).normal(0, 0.01, 60)
    values[57:] += 0.035
    weights = np.full(60, 1e4)
    scatter = estimate_noise(values, least=1e-6)

    unsure = find_steps(values, np.where(np.arange(60) < 57, weights, weights / 20), noise=scatter)
    sure = find_steps(values, weights, noise=scatter)

    assert ([step.index for step in sure], unsure) == ([57], [])


def test_a_range_holds_the_change_as_often_as_it_says():
    """For small steps in noise, the 95 % range contains the true place in at least 90 of 100 cases."""
    held = []
    for seed in range(100):
        values = np.repeat([0.0, 0.008], 60) + np.random.default_rng(seed).normal(0, 0.006, 120)
        scatter = estimate_noise(values, least=1e-6)
        held += [step.earliest <= 60 <= step.latest for step in find_steps(values, np.ones(120), noise=scatter)]

    assert len(held) >= 90
    assert np.mean(held) >= 0.9


def test_the_correlation_of_neighbours_is_estimated():
    """The correlation of neighbours is estimated correctly in spite of a step, and is about 0 for independent points."""
    rng = np.random.default_rng(7)
    values = rng.normal(0, 1, 2000)
    independent = estimate_noise(values + np.repeat([0.0, 5.0], 1000), least=1e-6)
    for place in range(1, 2000):
        values[place] += 0.5 * values[place - 1]

    alike = estimate_noise(values + np.repeat([0.0, 5.0], 1000), least=1e-6)

    assert (independent.correlation, independent.scale) == (pytest.approx(0, abs=0.05), pytest.approx(1, rel=0.05))
    assert (alike.correlation, alike.scale) == (pytest.approx(0.5, abs=0.08), pytest.approx(1.155, rel=0.08))


def test_the_same_values_give_the_same_steps():
    """The same values give the same p-values every time, because permutations have a fixed seed."""
    values = np.repeat([0.0, 0.005], 50) + np.random.default_rng(8).normal(0, 0.006, 100)
    scatter = estimate_noise(values, least=1e-6)

    first, again = (find_steps(values, np.ones(100), noise=scatter) for _ in range(2))
    changepoints._orders.cache_clear()

    assert first == again == find_steps(values, np.ones(100), noise=scatter)
    assert all(step.p_value <= ALPHA for step in first)
