"""Sign flips and bootstrap against SciPy's, and at their edges."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test

from sftprep.comparison.resample import EXACT_UP_TO, RANDOM_SEED, bootstrap_ratios, sign_flip_p


def mean(values: Any, axis: int) -> Any:
    return values.mean(axis=axis)


def scipys_p(values: np.ndarray, resamples: float) -> float:
    found = permutation_test(
        (values,), mean, permutation_type="samples", vectorized=True, n_resamples=resamples,
        alternative="less", rng=np.random.default_rng(5),
    )  # fmt: skip
    return float(found.pvalue)


@pytest.mark.parametrize("n", [2, 3, 5, 9, EXACT_UP_TO])
@pytest.mark.parametrize("ties", [False, True])
def test_few_items_have_the_exact_p_of_scipy(n: int, ties: bool) -> None:
    for seed in range(6):
        draw = np.random.default_rng((seed, n))
        values = draw.integers(-3, 4, n) / 3 if ties else draw.normal(-0.2, 1, n)
        assert sign_flip_p(values) == pytest.approx(scipys_p(values, np.inf), abs=1e-12)


@pytest.mark.parametrize("n", [EXACT_UP_TO + 1, 40, 203])
def test_many_items_have_the_p_of_scipy_within_the_error_of_drawing(n: int) -> None:
    for shift in (-0.2, 0.0, 0.1):
        values = np.random.default_rng(n).normal(shift, 1, n)
        ours, theirs = sign_flip_p(values), scipys_p(values, 9999)
        assert ours == pytest.approx(theirs, abs=5 * np.sqrt(2 * 0.25 / 9999))


def test_drawn_p_is_near_the_exact_one() -> None:
    values = np.random.default_rng(3).normal(-0.3, 1, EXACT_UP_TO + 2)
    exact = scipys_p(values, np.inf)
    error = np.sqrt(exact * (1 - exact) / 9999)
    assert sign_flip_p(values) == pytest.approx(exact, abs=4 * error)


def test_an_item_that_did_not_change_is_no_witness() -> None:
    values = np.array([-0.5, 0.25, -0.25, -1.0])
    assert sign_flip_p(np.concatenate([values, np.zeros(500)])) == sign_flip_p(values)
    assert sign_flip_p(np.zeros(500)) == 1.0


def test_every_item_lost_is_as_rare_as_the_draws_can_say() -> None:
    assert sign_flip_p(np.full(1000, -0.1)) == pytest.approx(1 / 10_000)
    assert sign_flip_p(np.full(1000, 0.1)) == 1.0


@pytest.mark.parametrize("n", [1, 7, 120, 2500])
@pytest.mark.parametrize("weighted", [False, True])
def test_bootstrap_draws_what_scipy_draws(n: int, weighted: bool) -> None:
    draw = np.random.default_rng(n)
    values = draw.standard_t(4, n)
    counts = draw.integers(5, 200, n).astype(float) if weighted else np.full(n, 2.0)
    if n == 1:  # SciPy refuses one item
        assert bootstrap_ratios(values, counts) == pytest.approx(np.full(9999, values / counts))
        return
    theirs = bootstrap(
        (values, counts), lambda v, c, axis: v.sum(axis=axis) / c.sum(axis=axis), paired=True,
        vectorized=True, n_resamples=9999, batch=100, method="percentile",
        rng=np.random.default_rng(RANDOM_SEED),
    ).bootstrap_distribution  # fmt: skip
    assert bootstrap_ratios(values, counts) == pytest.approx(theirs, rel=1e-10, abs=1e-12)
