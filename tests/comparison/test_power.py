"""A small version of benchmarks/power.py: error rates at most nominal, power as stated."""

import math

import numpy as np
import pytest
from benchmarks.power import (
    Rate,
    cluster_alarms,
    detectable,
    false_assurance,
    family_alarms,
    graded_alarms,
    mcnemar_alarms,
    power,
    unpaired_alarms,
)

from sftprep.comparison.paired import graded_effect


def at_most(found: Rate, nominal: float) -> bool:
    """Within three standard errors of simulation above the nominal rate."""
    return found.share <= nominal + 3 * math.sqrt(nominal * (1 - nominal) / found.trials)


@pytest.mark.parametrize(("n", "share"), [(14042, 0.05), (817, 0.1), (164, 0.2)])
def test_mcnemar_alarms_at_most_as_often_as_it_says(n: int, share: float) -> None:
    assert at_most(mcnemar_alarms(np.random.default_rng(1), n, share, 4000), 0.05)


def test_seven_benchmarks_together_alarm_at_most_as_often_as_one() -> None:
    any_, regressed = family_alarms(np.random.default_rng(2), 0.1, 1500)
    assert at_most(any_, 0.05)
    assert regressed.hits <= any_.hits


def test_a_loss_of_the_margin_is_rarely_called_excluded() -> None:
    assert at_most(false_assurance(np.random.default_rng(3), 14042, 0.05, 400), 0.05)


def test_the_margin_taken_off_every_row_moves_the_bound_by_the_margin() -> None:
    draw = np.random.default_rng(8)
    counts = draw.integers(5, 200, 60).astype(float)
    changes = counts * draw.standard_t(4, 60) * 0.15
    plain = graded_effect(changes.tolist(), 0.95, 1, counts.tolist())
    lost = graded_effect((changes - 0.01 * counts).tolist(), 0.95, 1, counts.tolist())
    assert lost.lower == pytest.approx(plain.lower - 0.01, abs=1e-12)


@pytest.mark.parametrize("weights", [False, True])
def test_graded_tests_keep_both_error_rates(weights: bool) -> None:
    alarms, assured = graded_alarms(np.random.default_rng(4), 60, 200, weights)
    assert at_most(alarms, 0.05)
    assert at_most(assured, 0.05)


def test_subjects_that_move_together_raise_no_alarm_once_they_are_clusters() -> None:
    plain, clustered = cluster_alarms(np.random.default_rng(5), 5000, 0.05, 400)
    assert at_most(clustered, 0.05)
    assert at_most(plain, 0.05) is False  # what the clusters are for


def test_the_unpaired_test_is_careful_near_zero() -> None:
    assert at_most(unpaired_alarms(np.random.default_rng(6), 164, 0.05, 400), 0.05)


@pytest.mark.parametrize(("n", "share", "family"), [(14042, 0.1, 1), (1319, 0.1, 7), (541, 0.2, 1)])
def test_the_stated_loss_is_found_four_times_in_five(n: int, share: float, family: int) -> None:
    loss = detectable(n, share, family)
    assert loss is not None
    found = power(np.random.default_rng(7), n, share, loss, family, 3000)
    assert found.share == pytest.approx(0.8, abs=0.04)
