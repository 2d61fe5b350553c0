"""Shares and means with standard error and 95% interval."""

import math
from collections.abc import Sequence

from sftprep.evaluate.benchmarks.protocol import Measured
from sftprep.records import ItemRecord

Z95 = 1.959963984540054
"""97.5% quantile of the standard normal distribution."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a share; stays inside 0..1 and is honest at 0 of n.

    Source: Wilson 1927, JASA 22:209.
    """
    share, z2 = successes / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == n else centre + half


def accuracy(hits: Sequence[bool], chance: float | None) -> Measured | None:
    """Share of hits; None when nothing was judged. stderr = sqrt(p (1 - p) / (n - 1))."""
    n = len(hits)
    if n == 0:
        return None
    share = sum(hits) / n
    stderr = math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else None
    return Measured(share, stderr, wilson(sum(hits), n), n, chance)


def mean(values: Sequence[float], chance: float | None) -> Measured | None:
    """Mean of graded scores in 0..1 with a t interval, cut at 0 and 1; None without values."""
    n = len(values)
    if n == 0:
        return None
    centre = math.fsum(values) / n
    if n == 1:
        return Measured(centre, None, None, 1, chance)
    variance = math.fsum((value - centre) ** 2 for value in values) / (n - 1)
    stderr = math.sqrt(variance / n)
    return Measured(centre, stderr, _t_interval(centre, stderr, n - 1), n, chance)


def _t_interval(centre: float, stderr: float, freedom: int) -> tuple[float, float]:
    from scipy.special import stdtrit  # Student's t; scipy.stats would take half a second

    half = float(stdtrit(freedom, 0.975)) * stderr
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio(parts: Sequence[tuple[float, float]], chance: float | None) -> Measured | None:
    """Sum of first over sum of second, items (not parts) as the unit of variation.

    For instruction-level IFEval: the instructions of one prompt succeed and fail together. `n` is
    the number of items. Source: ratio estimator, Cochran 1977, section 6.
    """
    n, total = len(parts), math.fsum(b for _, b in parts)
    if n == 0 or total == 0:
        return None
    value = math.fsum(a for a, _ in parts) / total
    if n == 1:
        return Measured(value, None, None, 1, chance)
    spread = math.fsum((a - value * b) ** 2 for a, b in parts) / (n - 1)
    stderr = math.sqrt(spread / n) / (total / n)
    return Measured(value, stderr, _t_interval(value, stderr, n - 1), n, chance)


def macro(groups: Sequence[Sequence[bool]], chance: float | None) -> Measured | None:
    """Unweighted mean of the groups' accuracies; groups independent. n counts the items."""
    n = sum(len(group) for group in groups)
    if n == 0:
        return None
    shares = [sum(group) / len(group) for group in groups]
    value = math.fsum(shares) / len(shares)
    if any(len(group) < 2 for group in groups):
        return Measured(value, None, None, n, chance)
    pairs = zip(shares, groups, strict=True)
    variance = math.fsum(p * (1 - p) / (len(g) - 1) for p, g in pairs)
    stderr = math.sqrt(variance) / len(groups)
    interval = (max(0.0, value - Z95 * stderr), min(1.0, value + Z95 * stderr))
    return Measured(value, stderr, interval, n, chance)


def hits(records: Sequence[ItemRecord], name: str | None = None) -> list[bool]:
    """Right or wrong per judged item: the score, or the 0/1 value `extra[name]`."""
    values = (record.score if name is None else record.extra.get(name) for record in records)
    return [float(value) == 1.0 for value in values if value is not None]


def by_name(**found: Measured | None) -> dict[str, Measured]:
    """The metrics that could be measured."""
    return {name: measured for name, measured in found.items() if measured is not None}
