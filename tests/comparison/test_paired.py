"""Statistics against scipy, closed forms and simulation."""

import math
import random

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm, t

from sftprep.comparison.clusters import with_clusters
from sftprep.comparison.paired import (
    binary_effect,
    graded_effect,
    holm,
    mcnemar_mid_p,
    paired_effect,
    shares_effect,
    tango_interval,
    unpaired_effect,
)
from sftprep.errors import EvaluationError


def test_mid_p_is_the_exact_p_less_half_the_observed_probability() -> None:
    exact = binomtest(9, 12, 0.5, alternative="greater").pvalue
    observed = math.comb(12, 9) / 2**12
    assert mcnemar_mid_p(9, 3) == pytest.approx(exact - observed / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("worse", "better"),
    [(0, 5), (5, 0), (351, 351), (760, 644), (1, 2800), (2800, 1), (30, 31), (6000, 5000)],
)
def test_mid_p_is_the_tail_and_half_the_point_of_scipys_binomial(worse: int, better: int) -> None:
    flips = binom(worse + better, 0.5)
    expected = flips.sf(worse) + 0.5 * flips.pmf(worse)
    assert mcnemar_mid_p(worse, better) == pytest.approx(expected, rel=1e-11)


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
    # Agresti-Caffo: one success and one failure on each side, so 1/22 of 22 twice
    error = math.sqrt(2 * (1 / 22) * (21 / 22) / 22)
    effect = shares_effect(0, 20, 0, 20, 0.95)
    assert effect.interval == pytest.approx((-1.959964 * error, 1.959964 * error), abs=1e-6)
    assert effect.p_worse == pytest.approx(0.5)


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


def test_unpaired_shares_by_hand() -> None:
    # 61 of 102 against 41 of 102 after adding: z = (41 - 61) / 102 / sqrt(2 * 61 * 41 / 102**3)
    z = (41 - 61) / 102 / math.sqrt(2 * 61 * 41 / 102**3)
    effect = shares_effect(0.6, 100, 0.4, 100, 0.95)
    assert effect.change == pytest.approx(-0.2)
    assert effect.p_worse == pytest.approx(norm.cdf(z))


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


def test_holm_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = [0.02, 0.2, 0.004, 0.9, 0.03]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


@pytest.mark.parametrize("p_values", [[0.5, 0.5, 0.01], [1.0], [0.0, 0.3, 0.3, 0.02, 0.02, 0.9]])
def test_holm_with_ties_is_that_of_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


@pytest.mark.parametrize(
    ("before", "n_before", "after", "n_after"),
    [(0.6, 100, 0.4, 100), (0.0, 164, 0.0, 20), (1.0, 30, 0.9, 541), (0.253, 75, 0.25, 8)],
)
def test_unpaired_shares_are_those_of_statsmodels(
    before: float, n_before: int, after: float, n_after: int
) -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

    counts = (after * n_after, n_after, before * n_before, n_before)
    with np.errstate(divide="ignore", invalid="ignore"):  # it also reports ratios
        tested = test_proportions_2indep(*counts, method="agresti-caffo", alternative="smaller")
    low, high = confint_proportions_2indep(*counts, method="agresti-caffo", alpha=0.1)
    effect = shares_effect(before, n_before, after, n_after, 0.9)
    assert effect.p_worse == pytest.approx(float(tested.pvalue), rel=1e-10)
    assert effect.interval == pytest.approx((float(low), float(high)), rel=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_cluster_robust_error_is_that_of_statsmodels(weighted: bool) -> None:
    from statsmodels.regression.linear_model import WLS

    draw = np.random.default_rng(4)
    groups = draw.integers(0, 25, 400)
    counts = draw.integers(5, 60, 400).astype(float) if weighted else np.ones(400)
    rates = draw.normal(-0.01, 1, 400) + draw.normal(0, 0.7, 25)[groups]
    fitted = WLS(rates, np.ones(400), weights=counts).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    changes = (rates * counts).tolist()
    plain = graded_effect(changes, 0.9, weights=counts.tolist() if weighted else None)
    effect = with_clusters(
        plain,
        changes,
        [f"g{g}" for g in groups],
        0.9,
        weights=counts.tolist() if weighted else None,
    )
    low, high = fitted.conf_int(alpha=0.1)[0]
    assert effect.interval == pytest.approx((float(low), float(high)), rel=1e-10)  # the wider one
    assert effect.p_worse == pytest.approx(float(t.cdf(fitted.tvalues[0], 24)), rel=1e-10)


def test_mid_p_lies_between_exact_mcnemar_halves() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    # statsmodels' exact test is two-sided: twice the one-sided p, which the mid-p undercuts
    two_sided = mcnemar([[40, 15], [5, 40]], exact=True).pvalue
    observed = math.comb(20, 15) / 2**20
    assert mcnemar_mid_p(15, 5) == pytest.approx(two_sided / 2 - observed / 2, abs=1e-12)


def test_a_weighted_change_is_the_sum_over_the_tokens() -> None:
    effect = graded_effect([-2.0, 1.0, -3.0], 0.95, weights=[10.0, 20.0, 10.0])
    assert effect.change == pytest.approx(-4 / 40)
    # exact sign flips of (2, 1, 3): sums <= -4 are -6 and -4, two of eight
    assert effect.p_worse == pytest.approx(2 / 8)


def test_weights_of_one_change_nothing() -> None:
    changes = [0.3, -0.2, 0.5, -0.9, 0.1, 0.0, -0.4]
    plain, weighted = graded_effect(changes, 0.9), graded_effect(changes, 0.9, weights=[1.0] * 7)
    assert plain == weighted


def clustered_scores(groups: int, size: int) -> tuple[list[float], list[float], list[str]]:
    """Every item of every third cluster is lost, every item of another third gained."""
    names = [f"subject {number // size}" for number in range(groups * size)]
    before = [float(number // size % 3 != 1) for number in range(groups * size)]
    after = [float(number // size % 3 != 0) for number in range(groups * size)]
    return before, after, names


def test_cluster_robust_p_is_the_t_test_of_equal_cluster_means() -> None:
    from scipy.stats import ttest_1samp

    before, after, names = clustered_scores(31, 8)
    effect = paired_effect(before, after, 0.95, clusters=names)
    means = [
        sum(a - b for a, b, n in zip(after, before, names, strict=True) if n == name) / 8
        for name in dict.fromkeys(names)
    ]
    # equal sizes: the cluster-robust error is that of the means, times sqrt((n-1)/(n-k)) = 1
    by_means = ttest_1samp(means, 0, alternative="less")
    assert effect.clusters == 31
    assert effect.p_worse == pytest.approx(by_means.pvalue, rel=0.02)
    assert effect.p_worse > paired_effect(before, after, 0.95).p_worse


def test_clusters_never_make_a_test_less_careful() -> None:
    before, after, names = clustered_scores(31, 8)
    plain, clustered = (
        paired_effect(before, after, 0.95),
        paired_effect(before, after, 0.95, clusters=names),
    )
    assert clustered.lower <= plain.lower
    assert clustered.interval[0] <= plain.interval[0]
    assert clustered.interval[1] >= plain.interval[1]
    assert (clustered.detectable or 0) >= (plain.detectable or 0)


@pytest.mark.parametrize("names", [["all"] * 40, [str(n) for n in range(40)], ["a", "b"] * 20])
def test_one_cluster_single_items_or_too_few_clusters_leave_the_test_as_it_is(
    names: list[str],
) -> None:
    before, after = [1.0] * 40, [1.0] * 30 + [0.0] * 10
    assert paired_effect(before, after, 0.95, clusters=names) == paired_effect(before, after, 0.95)


def test_a_row_without_tokens_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no tokens"):
        paired_effect([-1.0, -2.0], [-1.0, -1.0], 0.95, weights=[3.0, 0.0])
