"""Statistics of "did it get worse?" for two models on the same items.

Signs: a change is candidate minus baseline, turned so that negative is worse. `worse` counts items
that went from right to wrong, `better` the opposite. p-values are one-sided for "got worse".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from sftprep.comparison.resample import bootstrap_ratios, sign_flip_p
from sftprep.errors import EvaluationError

POWER = 0.8
NORMAL = NormalDist()
RULE_OF_THREE = 3.0  # 0 events in n: the 95% upper bound of the rate is 3 / n


@dataclass(frozen=True, slots=True)
class Effect:
    """One tested change. `lower`: one-sided bound; `interval`: two-sided, same confidence.

    `detectable`: smallest loss found with 80% power at the first Holm step, or None if unknown.
    `clusters`: how many groups of items the test allowed for, None when items stand alone.
    """

    change: float
    interval: tuple[float, float]
    lower: float
    p_worse: float
    detectable: float | None
    n: int
    method: str
    worse: int | None = None
    better: int | None = None
    clusters: int | None = None


def mcnemar_mid_p(worse: int, better: int) -> float:
    """One-sided mid-p of McNemar's test for "more items got worse than better".

    Returns 1.0 when no item flipped: there is no evidence of a loss.
    Source: Fagerland, Lydersen, Laake 2013, doi:10.1186/1471-2288-13-91.
    """
    flips = worse + better
    if flips == 0:
        return 1.0
    observed = math.comb(flips, worse) / (1 << flips)
    # the shorter tail is summed outward until its terms no longer count
    tail, term, place = 0.0, observed, max(worse, better)
    while place < flips and term > tail * 1e-17:
        term *= (flips - place) / (place + 1)
        tail += term
        place += 1
    return tail + observed / 2 if worse >= better else 1 - tail - observed / 2


def tango_interval(better: int, worse: int, n: int, confidence: float) -> tuple[float, float]:
    """Two-sided score interval of (better - worse) / n for paired shares.

    It inverts the score test whose value at 0 is McNemar's, so bound and test agree, and it has a
    width at 0 flips, unlike the Wald interval.
    Source: Tango 1998, Statistics in Medicine 17:891-908, equation 12.
    """
    z = NORMAL.inv_cdf(0.5 + confidence / 2)
    change = (better - worse) / n

    def outside(delta: float) -> bool:
        return _tango_score(delta, better, worse, n) ** 2 > z * z

    return _boundary(outside, change, -1.0), _boundary(outside, change, 1.0)


def _boundary(outside: Callable[[float], bool], inner: float, outer: float) -> float:
    """Where `outside` begins between inner and outer, to 1e-13; outer when it nowhere does."""
    edge = math.copysign(1 - 1e-12, outer)
    if not outside(edge):
        return outer
    while abs(edge - inner) > 1e-13:
        middle = (inner + edge) / 2
        inner, edge = (inner, middle) if outside(middle) else (middle, edge)
    return edge


def _tango_score(delta: float, better: int, worse: int, n: int) -> float:
    a = 2.0 * n
    b = -better - worse + (2.0 * n - better + worse) * delta
    c = -worse * delta * (1 - delta)
    nuisance = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * nuisance + delta * (1 - delta))
    gap = better - worse - n * delta
    if variance <= 0:
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def binary_effect(worse: int, better: int, n: int, confidence: float, family: int = 1) -> Effect:
    """McNemar's mid-p with Tango's interval for right-or-wrong items.

    Args:
        n: items scored by both models, at least 1.
        family: number of metrics tested together; it only sets `detectable`.
    """
    _, z_alpha, z_beta = _normal_quantiles(confidence, family)
    flip_rate = max(worse + better, RULE_OF_THREE) / n
    detectable = (z_alpha + z_beta) * math.sqrt(flip_rate / n)
    for _ in range(20):  # a loss of that size narrows the spread of the difference
        spread = math.sqrt(max(flip_rate - detectable**2, 0.0))
        detectable = (z_alpha * math.sqrt(flip_rate) + z_beta * spread) / math.sqrt(n)
    lower, _ = tango_interval(better, worse, n, 2 * confidence - 1)
    return Effect(
        change=(better - worse) / n,
        interval=tango_interval(better, worse, n, confidence),
        lower=lower,
        p_worse=mcnemar_mid_p(worse, better),
        detectable=detectable if detectable <= 1 else None,
        n=n,
        method="paired items: McNemar mid-p, Tango interval",
        worse=worse,
        better=better,
    )


def graded_effect(
    changes: Sequence[float],
    confidence: float,
    family: int = 1,
    weights: Sequence[float] | None = None,
) -> Effect:
    """Sign-flip permutation test with a bootstrap interval for graded items.

    When every item changed by the same amount there is nothing to resample; the interval then has
    the width of Tango's at 0 flips, because a few equal items do not exclude a loss elsewhere.

    Args:
        changes: candidate minus baseline per item, turned so that negative is worse; with weights
            the sums per item (nats of a row).
        weights: what each sum is counted in (tokens of a row), all above 0; the change is then
            the sum of changes over the sum of weights.
    """
    import numpy as np

    values = np.asarray(changes, dtype=np.float64)
    counts = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    n, change = len(values), float(values.sum() / counts.sum())
    _, z_alpha, z_beta = _normal_quantiles(confidence, family)
    residuals = (values - change * counts) / counts.mean()
    spread = float(residuals.std(ddof=1)) if n > 1 else 0.0
    interval, lower = _graded_bounds(values, counts, confidence)
    return Effect(
        change=change,
        interval=interval,
        lower=lower,
        p_worse=sign_flip_p(values),
        detectable=(z_alpha + z_beta) * spread / math.sqrt(n) if spread > 0 else None,
        n=n,
        method="paired items: sign-flip permutation, bootstrap interval",
    )


def _graded_bounds(
    values: Any, counts: Any, confidence: float
) -> tuple[tuple[float, float], float]:
    """Two-sided interval and one-sided lower bound, from the same bootstrap draws."""
    import numpy as np

    rates, one_sided = values / counts, 2 * confidence - 1
    if np.ptp(rates) == 0:
        low, high = tango_interval(0, 0, len(values), confidence)
        bound = tango_interval(0, 0, len(values), one_sided)[0]
        return (float(rates[0]) + low, float(rates[0]) + high), float(rates[0]) + bound

    tails = 50 * (1 - confidence), 50 * (1 + confidence), 100 * (1 - confidence)
    low, high, lower = np.percentile(bootstrap_ratios(values, counts), tails)
    return (float(low), float(high)), float(lower)


def unpaired_effect(
    change: float, stderr: float, n: int, confidence: float, family: int = 1, note: str = ""
) -> Effect:
    """Normal test of a change whose standard error is known, without pairing."""
    z_two, z_alpha, z_beta = _normal_quantiles(confidence, family)
    z_one = NORMAL.inv_cdf(confidence)
    p_worse = _normal_tail(change / stderr) if stderr > 0 else (1.0 if change >= 0 else 0.0)
    return Effect(
        change=change,
        interval=(change - z_two * stderr, change + z_two * stderr),
        lower=change - z_one * stderr,
        p_worse=p_worse,
        detectable=(z_alpha + z_beta) * stderr,
        n=n,
        method=note or "not paired: z test",
    )


def shares_effect(
    before: float, n_before: int, after: float, n_after: int, confidence: float, family: int = 1
) -> Effect:
    """Two shares of different or unknown items: Agresti and Caffo's test and interval.

    They add one success and one failure to each side, so that 0 of n against 0 of n keeps a width.
    Shares of graded items in 0..1 vary less than this, so the test errs on the careful side.

    Args:
        before, after: shares in 0..1.
    Source: Agresti and Caffo 2000, The American Statistician 54:280-288.
    """
    shares = [
        ((share * n + 1) / (n + 2), n + 2) for share, n in ((before, n_before), (after, n_after))
    ]
    centre = shares[1][0] - shares[0][0]
    stderr = math.sqrt(sum(share * (1 - share) / n for share, n in shares))
    z_two, z_alpha, z_beta = _normal_quantiles(confidence, family)
    return Effect(
        change=after - before,
        interval=(max(-1.0, centre - z_two * stderr), min(1.0, centre + z_two * stderr)),
        lower=max(-1.0, centre - NORMAL.inv_cdf(confidence) * stderr),
        p_worse=_normal_tail(centre / stderr),
        detectable=(z_alpha + z_beta) * stderr,
        n=min(n_before, n_after),
        method="not paired: Agresti-Caffo",
    )


def _normal_tail(z: float) -> float:
    """Chance of a standard normal value below z, exact to the last digits far out too."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _normal_quantiles(confidence: float, family: int) -> tuple[float, float, float]:
    """(two-sided z, one-sided z at the first Holm step, z of the power)."""
    levels = 0.5 + confidence / 2, 1 - (1 - confidence) / max(family, 1), POWER
    two_sided, first_step, power = map(NORMAL.inv_cdf, levels)
    return two_sided, first_step, power


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the chance of any false alarm in the family.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - step)))
        adjusted[place] = largest
    return adjusted


def paired_effect(
    baseline: Sequence[float],
    candidate: Sequence[float],
    confidence: float,
    family: int = 1,
    *,
    clusters: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
) -> Effect:
    """The right paired test for these scores: McNemar for 0/1, permutation for graded ones.

    Args:
        baseline, candidate: scores of the same items in the same order; higher is better.
        clusters: what each item belongs to (MMLU subject); items of one cluster may change
            together, and then both the item-level and the cluster-level test must agree.
        weights: see `graded_effect`; with weights the scores are sums.
    Raises:
        EvaluationError: no items, a score that is not finite, or a weight that is not positive.
    """
    from sftprep.comparison.clusters import with_clusters

    if not baseline or len(baseline) != len(candidate):
        raise EvaluationError("no item was scored by both models: there is nothing to pair.")
    if not all(map(math.isfinite, (*baseline, *candidate))):
        raise EvaluationError("an item score is not finite; score the benchmark again.")
    if weights is not None and not all(weight > 0 for weight in weights):
        raise EvaluationError("an item has no tokens; score it again.")
    changes = [b - a for a, b in zip(baseline, candidate, strict=True)]
    if weights is None and {*baseline, *candidate} <= {0.0, 1.0}:
        worse, better = changes.count(-1.0), changes.count(1.0)
        effect = binary_effect(worse, better, len(baseline), confidence, family)
    else:
        effect = graded_effect(changes, confidence, family, weights)
    if clusters is None:
        return effect
    return with_clusters(effect, changes, clusters, confidence, family, weights)
