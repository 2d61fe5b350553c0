"""One metric on both sides, tested in the strongest way that its records allow."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from sftprep.comparison.items import ItemScores
from sftprep.comparison.paired import Effect, paired_effect, shares_effect, unpaired_effect
from sftprep.comparison.sources import Recorded
from sftprep.errors import CorruptError

TOKEN_SPREAD_NATS = 1.0
"""Assumed spread of the per-token difference between two related models when no per-row figures
are kept. Chosen large, not measured: a larger value makes "cannot tell" more likely."""
MAX_UNMATCHED = 0.01
"""Share of items that one side lacks from which the rest no longer speaks for the whole."""
SAME_PERPLEXITY = 1e-3  # relative; recorded per-row losses must give the recorded perplexity


@dataclass(frozen=True, slots=True)
class Pair:
    """One metric, tested or not. `why`: what stands in the way of a clear answer.

    `noise`: change between two scorings of the baseline, in the unit of the effect, or None.
    """

    key: str
    baseline: Recorded
    candidate: Recorded | None
    margin: float
    effect: Effect | None
    why: str
    noise: float | None = None


def pair(
    key: str,
    one: Recorded,
    other: Recorded | None,
    repeat: Recorded | None,
    margin: float,
    confidence: float,
    family: int,
) -> Pair:
    """Test one metric.

    Args:
        repeat: the baseline scored again, or None.
        margin: tolerated loss as a share; of a perplexity, relative.
        family: number of metrics tested together.
    Raises:
        StoreError: an item file cannot be read.
    """
    if one.metric.unit == "perplexity":
        margin = math.log1p(margin)
    noise = _noise(one, repeat)
    if other is None:
        return Pair(key, one, None, margin, None, "the candidate has no such measurement", noise)
    for side, metric in (("baseline", one.metric), ("candidate", other.metric)):
        if metric.value is None or not math.isfinite(metric.value):
            why = f"the {side} has no finite value"
            return Pair(key, one, other, margin, None, why, noise)
    effect, why = _tested(one, other, confidence, family)
    return Pair(key, one, other, margin, effect, why, noise)


def _tested(
    one: Recorded, other: Recorded, confidence: float, family: int
) -> tuple[Effect | None, str]:
    perplexity = one.metric.unit == "perplexity"
    first, second = one.scores(), other.scores()
    if first is not None and second is not None:
        return _paired(one, other, first, second, confidence, family)
    effect = (_perplexity_effect if perplexity else _share_effect)(one, other, confidence, family)
    return effect, "" if effect else f"no number of {'tokens' if perplexity else 'items'}"


def scores_effect(
    first: ItemScores,
    second: ItemScores,
    confidence: float,
    family: int = 1,
    higher_is_better: bool = True,
) -> Effect | None:
    """`second` against `first` on the items both have; None when they share none.

    Raises:
        EvaluationError: a score is not finite.
    """
    shared = [item for item in first.values if item in second.values]
    if not shared:
        return None
    sign = 1.0 if higher_is_better else -1.0
    return paired_effect(
        [sign * first.values[item] for item in shared],
        [sign * second.values[item] for item in shared],
        confidence,
        family,
        clusters=[first.clusters[item] for item in shared] if first.clusters else None,
        weights=[first.weights[item] for item in shared] if first.weights else None,
    )


def _paired(
    one: Recorded,
    other: Recorded,
    first: ItemScores,
    second: ItemScores,
    confidence: float,
    family: int,
) -> tuple[Effect | None, str]:
    perplexity = one.metric.unit == "perplexity"
    for side, scores in ((one, first), (other, second)):
        _same_perplexity(side, scores)
    higher = one.metric.higher_is_better or first.weights is not None  # sums are minus nats
    effect = scores_effect(first, second, confidence, family, higher)
    if effect is None:
        loose = _perplexity_effect if perplexity else _share_effect
        return loose(one, other, confidence, family), "no item in common"
    if perplexity:
        change = math.log(one.metric.value or 1) - math.log(other.metric.value or 1)
        effect = dataclasses.replace(effect, change=change)
    unmatched = len(first.values.keys() ^ second.values.keys())
    total = len(first.values.keys() | second.values.keys())
    why = f"{unmatched} of {total} items only on one side" if unmatched else ""
    return effect, why if unmatched > MAX_UNMATCHED * total else ""


def _same_perplexity(side: Recorded, scores: ItemScores) -> None:
    if scores.weights is None or side.metric.value is None:
        return
    nats = -sum(scores.values.values()) / sum(scores.weights.values())
    if not abs(nats - math.log(side.metric.value)) <= SAME_PERPLEXITY:
        raise CorruptError(
            f"{side.items}: its rows give perplexity {math.exp(nats):.6g}, recorded is "
            f"{side.metric.value:.6g}. Run `sftprep validate RUN` again."
        )


def _noise(one: Recorded, repeat: Recorded | None) -> float | None:
    """How much two scorings of the baseline differ: flipped items, or the mean absolute change."""
    if repeat is None or one.metric.value is None or repeat.metric.value is None:
        return None
    first, second = one.scores(), repeat.scores()
    if first is None or second is None:
        a, b = one.metric.value, repeat.metric.value
        return abs(math.log(a / b)) if one.metric.unit == "perplexity" else abs(a - b)
    shared = [item for item in first.values if item in second.values]
    if not shared:
        return None
    moved = sum(abs(first.values[item] - second.values[item]) for item in shared)
    return moved / _count(first.weights, shared)


def _count(weights: Mapping[str, float] | None, shared: list[str]) -> float:
    return len(shared) if weights is None else sum(weights[item] for item in shared)


def _share_effect(one: Recorded, other: Recorded, confidence: float, family: int) -> Effect | None:
    """Unpaired test; a side without n (bare number) borrows the other side's."""
    a, b = one.metric, other.metric
    n_a, n_b = a.n or b.n, b.n or a.n
    if not n_a or a.value is None or b.value is None:
        return None
    if a.unit == "share" and 0 <= a.value <= 1 and 0 <= b.value <= 1:
        if a.higher_is_better:
            return shares_effect(a.value, n_a, b.value, n_b, confidence, family)
        return shares_effect(1 - a.value, n_a, 1 - b.value, n_b, confidence, family)
    if a.stderr is None or b.stderr is None:
        return None
    change = (b.value - a.value) * (1 if a.higher_is_better else -1)
    return unpaired_effect(
        change, math.hypot(a.stderr, b.stderr), min(n_a, n_b), confidence, family
    )


def _perplexity_effect(
    one: Recorded, other: Recorded, confidence: float, family: int
) -> Effect | None:
    a, b = one.metric, other.metric
    tokens = min(a.n or b.n, b.n or a.n)
    if not tokens or not a.value or not b.value or min(a.value, b.value) <= 0:
        return None
    return unpaired_effect(
        math.log(a.value) - math.log(b.value),
        TOKEN_SPREAD_NATS / math.sqrt(tokens),
        tokens,
        confidence,
        family,
        note=f"same tokens, assumed spread {TOKEN_SPREAD_NATS:g} nats per token",
    )
