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
    Source: Liang and Zeger 1986, Biometrika 73:13-22, of a mean, times G / (G - 1), with G - 1
        degrees of freedom; for evaluations: Miller 2024, arXiv 2411.00640, section 2.2.
    """
    weights = [1.0] * len(changes) if weights is None else weights
    whole = math.fsum(weights)
    mean = math.fsum(changes) / whole
    residuals: dict[str, float] = {}
    for name, change, weight in zip(clusters, changes, weights, strict=True):
        residuals[name] = residuals.get(name, 0.0) + change - mean * weight
    count = len(residuals)
    if not MINIMUM_CLUSTERS <= count < len(changes):
        return effect
    squares = math.fsum(value * value for value in residuals.values())
    error = math.sqrt(squares * count / (count - 1)) / whole
    if not (math.isfinite(error) and error > 0):
        return effect
    from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats would take half a second

    two_sided, one_sided, first_step, power = (
        float(stdtrit(count - 1, level))
        for level in (
            0.5 + confidence / 2,
            confidence,
            1 - (1 - confidence) / max(family, 1),
            POWER,
        )
    )
    return dataclasses.replace(
        effect,
        interval=(
            min(mean - two_sided * error, effect.interval[0]),
            max(mean + two_sided * error, effect.interval[1]),
        ),
        lower=min(mean - one_sided * error, effect.lower),
        p_worse=max(float(stdtr(count - 1, effect.change / error)), effect.p_worse),
        detectable=max((first_step + power) * error, effect.detectable or 0.0),
        method=f"{effect.method}; {count} clusters: cluster-robust t",
        clusters=count,
    )
