"""Items that change together: MMLU questions of one subject are not independent witnesses."""

import dataclasses
import math
from collections.abc import Sequence

from sftprep.comparison.paired import POWER, Effect

MINIMUM_CLUSTERS = 10
"""Below this the spread between clusters is not known well enough for a cluster-level test."""


def with_clusters(
    effect: Effect,
    changes: Sequence[float],
    clusters: Sequence[str],
    confidence: float,
    family: int = 1,
    weights: Sequence[float] | None = None,
) -> Effect:
    """`effect` made as careful as a cluster-robust t test of the same change asks for.

    p-value, bound and interval are the more careful ones of the two analyses: a loss must be beyond
    chance among the items and among the clusters. Unchanged when every item stands alone or fewer
    than 10 clusters are there.

    Args:
        changes, weights: as in `graded_effect`; `clusters` names the group of each item.
    Source: cluster-robust covariance with G - 1 degrees of freedom, as in statsmodels; for
        evaluations: Miller 2024, arXiv 2411.00640, section 2.2.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    count = len(numbers)
    if not MINIMUM_CLUSTERS <= count < len(changes):
        return effect  # before the import of statsmodels, which takes a second
    import numpy as np
    from scipy.stats import t as student
    from statsmodels.regression.linear_model import WLS

    groups = np.array([numbers[name] for name in clusters])
    counts = np.ones(len(changes)) if weights is None else np.asarray(weights, dtype=np.float64)
    rates = np.asarray(changes, dtype=np.float64) / counts
    fitted = WLS(rates, np.ones_like(rates), weights=counts).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    error = float(fitted.bse[0])
    if not (math.isfinite(error) and error > 0):
        return effect
    low, high = (float(bound) for bound in fitted.conf_int(alpha=1 - confidence)[0])
    lower = float(fitted.conf_int(alpha=2 * (1 - confidence))[0][0])
    freedom = count - 1
    first_step = student.ppf(1 - (1 - confidence) / max(family, 1), freedom)
    detectable = float(first_step + student.ppf(POWER, freedom)) * error
    return dataclasses.replace(
        effect,
        interval=(min(low, effect.interval[0]), max(high, effect.interval[1])),
        lower=min(lower, effect.lower),
        p_worse=max(float(student.cdf(effect.change / error, freedom)), effect.p_worse),
        detectable=max(detectable, effect.detectable or 0.0),
        method=f"{effect.method}; {count} clusters: cluster-robust t",
        clusters=count,
    )
