"""Statistics against scipy, closed forms and simulation."""

import math
import random

import pytest
from scipy.stats import binomtest, norm

from sftprep.comparison.paired import (
    binary_effect,
    graded_effect,
    holm,
    mcnemar_mid_p,
    paired_effect,
    pooled_stderr,
    tango_interval,
    unpaired_effect,
)
from sftprep.errors import EvaluationError


def test_mid_p_is_the_exact_p_less_half_the_observed_probability() -> None:
    exact = binomtest(9, 12, 0.5, alternative="greater").pvalue
    observed = math.comb(12, 9) / 2**12
    assert mcnemar_mid_p(9, 3) == pytest.approx(exact - observed / 2, abs=1e-12)


def test_mid_p_of_one_loss_and_no_gain_is_a_quarter() -> None:
    assert mcnemar_mid_p(1, 0) == pytest.approx(0.25)


def test_without_flips_there_is_no_evidence() -> None:
    assert mcnemar_mid_p(0, 0) == 1.0


def test_tango_without_flips_is_z_squared_over_n_plus_z_squared() -> None:
    z2 = norm.ppf(0.975) ** 2
    low, high = tango_interval(0, 0, 100, 0.95)
    assert low == pytest.approx(-z2 / (100 + z2))
    assert high == pytest.approx(z2 / (100 + z2))


def test_tango_is_the_wald_interval_for_large_counts() -> None:
    better, worse, n = 1500, 1000, 40_000
    wald = 1.959964 * math.sqrt(better + worse - (better - worse) ** 2 / n) / n
    low, high = tango_interval(better, worse, n, 0.95)
    assert low == pytest.approx(500 / n - wald, abs=2e-5)
    assert high == pytest.approx(500 / n + wald, abs=2e-5)


def test_tango_bound_touches_zero_exactly_when_mcnemar_does() -> None:
    # z = (18 - 7) / sqrt(25) = 2.2, so the interval of confidence 2 * phi(2.2) - 1 ends at 0
    low, _ = tango_interval(18, 7, 300, 2 * float(norm.cdf(2.2)) - 1)
    assert low == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("better", "worse"), [(0, 50), (50, 0)])
def test_tango_stays_inside_minus_one_to_one_when_every_item_flips(better: int, worse: int) -> None:
    low, high = tango_interval(better, worse, 50, 0.95)
    assert -1 <= low < (better - worse) / 50 or low == -1
    assert high == 1 or high > (better - worse) / 50
    assert high <= 1


def test_detectable_loss_agrees_with_the_published_simulation() -> None:
    # research table, one-sided 5%, 80% power: MMLU d = 5% 0.47 points, HellaSwag-1k d = 10% 2.49
    assert 100 * (binary_effect(351, 351, 14042, 0.95).detectable or 0) == pytest.approx(
        0.47, abs=0.02
    )
    assert 100 * (binary_effect(50, 50, 1000, 0.95).detectable or 0) == pytest.approx(2.49, abs=0.1)


def test_holm_multiplies_by_the_number_left_and_never_decreases() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_permutation_of_all_losses_of_one_size_has_p_of_all_signs_equal() -> None:
    effect = graded_effect([-0.2] * 5, 0.95)
    assert effect.p_worse == pytest.approx(1 / 2**5)  # exact: 32 sign flips
    assert effect.change == pytest.approx(-0.2)


def test_equal_graded_scores_are_no_evidence() -> None:
    effect = graded_effect([0.0] * 20, 0.95)
    assert (effect.change, effect.p_worse, effect.detectable) == (0.0, 1.0, None)
    z2 = norm.ppf(0.95) ** 2
    assert effect.lower == pytest.approx(-z2 / (20 + z2))  # twenty equal items exclude little


def test_zero_of_n_against_zero_of_n_keeps_a_width() -> None:
    # pooled (0 + 1) / (20 + 20 + 2): sqrt(1/42 * 41/42 * 2/20)
    assert pooled_stderr(0, 20, 0, 20) == pytest.approx(math.sqrt(41 / 42**2 / 10))


def test_bootstrap_interval_is_near_the_normal_one() -> None:
    draw = random.Random(1)
    changes = [draw.gauss(-0.05, 0.3) for _ in range(800)]
    effect = graded_effect(changes, 0.95)
    half = 1.96 * 0.3 / math.sqrt(800)
    assert effect.interval[1] - effect.interval[0] == pytest.approx(2 * half, rel=0.1)


def test_paired_effect_counts_flips_of_binary_scores() -> None:
    effect = paired_effect([1, 1, 0, 0, 1.0], [0, 1, 1, 0, 0.0], 0.95)
    assert (effect.worse, effect.better) == (2, 1)
    assert effect.change == pytest.approx(-0.2)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(EvaluationError, match="not finite"):
        paired_effect([1.0, 0.0], [1.0, bad], 0.95)


def test_nothing_to_pair_is_refused() -> None:
    with pytest.raises(EvaluationError, match="nothing to pair"):
        paired_effect([], [], 0.95)


def test_unpaired_p_is_the_normal_tail() -> None:
    effect = unpaired_effect(-0.03, 0.02, 500, 0.95)
    assert effect.p_worse == pytest.approx(norm.cdf(-1.5))
    assert effect.lower == pytest.approx(-0.03 - 1.644854 * 0.02, abs=1e-6)


def test_pooled_stderr_by_hand() -> None:
    # pooled share 0.5: sqrt(0.25 * (1/100 + 1/100))
    assert pooled_stderr(0.4, 100, 0.6, 100) == pytest.approx(math.sqrt(0.005))


def test_false_alarms_of_the_family_stay_below_their_rate() -> None:
    """No true change, seven metrics: Holm keeps "any regression" near or below 5%."""
    draw = random.Random(11)
    alarms = 0
    for _ in range(400):
        p_values = []
        for n in (541, 300, 800, 300, 300, 164, 400):
            flips = sum(draw.random() < 0.1 for _ in range(n))
            worse = sum(draw.random() < 0.5 for _ in range(flips))
            p_values.append(mcnemar_mid_p(worse, flips - worse))
        alarms += min(holm(p_values)) <= 0.05
    assert alarms / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_bounds_cover_the_true_change_as_often_as_they_say() -> None:
    draw = random.Random(12)
    covered = 0
    for _ in range(500):
        worse = better = 0
        for _ in range(250):
            u = draw.random()
            worse += u < 0.08
            better += 0.08 <= u < 0.13
        covered += binary_effect(worse, better, 250, 0.95).lower <= -0.03
    assert covered / 500 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 500)
