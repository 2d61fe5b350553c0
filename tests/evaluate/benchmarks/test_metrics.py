"""Shares, means and their intervals, against scipy and by hand."""

import math

import pytest
from scipy.stats import binomtest

from sftprep.evaluate.benchmarks.metrics import accuracy, macro, mean, ratio, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 164), (1, 3), (50, 100), (14000, 14042), (7, 7)])
def test_the_interval_of_a_share_is_wilsons(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_accuracy_of_nothing_is_missing_not_zero() -> None:
    assert accuracy([], 0.25) is None
    assert mean([], None) is None
    assert ratio([], None) is None
    assert macro([], None) is None


def test_accuracy_by_hand() -> None:
    found = accuracy([True, False, False, True], 0.25)
    assert found is not None
    assert (found.value, found.n, found.chance) == (0.5, 4, 0.25)
    assert found.stderr == pytest.approx(math.sqrt(0.25 / 3))


def test_a_mean_has_a_t_interval() -> None:
    found = mean([0.2, 0.4, 0.6], 0.5)
    assert found is not None and found.ci95 is not None
    # s = 0.2, stderr = 0.2 / sqrt(3), t(0.975; 2) = 4.302653
    assert found.value == pytest.approx(0.4)
    assert found.stderr == pytest.approx(0.2 / math.sqrt(3))
    assert found.ci95[0] == 0.0
    assert found.ci95[1] == pytest.approx(0.4 + 4.302653 * 0.2 / math.sqrt(3), abs=1e-6)


def test_a_single_value_has_no_interval() -> None:
    found = mean([0.3], None)
    assert found is not None
    assert (found.value, found.stderr, found.ci95) == (0.3, None, None)


def test_a_ratio_counts_items_as_the_unit() -> None:
    # 1 of 1 and 0 of 3: value 1/4; residuals 1 - 1/4 and -3/4, spread 2 * 9/16.
    found = ratio([(1.0, 1.0), (0.0, 3.0)], 0.0)
    assert found is not None
    assert (found.value, found.n) == (0.25, 2)
    assert found.stderr == pytest.approx(math.sqrt(2 * 9 / 16 / 2) / 2)


def test_the_macro_average_weighs_groups_equally() -> None:
    found = macro([[True, True, True, True], [False, True]], 0.25)
    assert found is not None
    assert (found.value, found.n) == (0.75, 6)
    assert found.stderr == pytest.approx(math.sqrt(0.25 / 1) / 2)
