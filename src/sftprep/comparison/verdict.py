"""Did the candidate get worse than the baseline? Paired where items are at hand, never silent."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sftprep.comparison.items import metric_scores, read_items
from sftprep.comparison.paired import Effect, holm, paired_effect, pooled_stderr, unpaired_effect
from sftprep.comparison.sources import Recorded, Side, load_side
from sftprep.errors import EvaluationError, SftprepWarning
from sftprep.records import RECORD_VERSION

Outcome = Literal["regressed", "no_loss_beyond_margin", "cannot_tell"]

DEFAULT_MARGIN = 0.01
"""Tolerated loss: one point of a share, one percent of a perplexity."""
TOKEN_SPREAD_NATS = 1.0
"""Assumed spread of the per-token difference between two related models, because no per-row figures
are kept. Chosen large, not measured: a larger value makes "cannot tell" more likely."""
MAX_UNMATCHED = 0.01
"""Share of items that one side lacks from which the rest no longer speaks for the whole."""
MAY_DIFFER = ("weights", "model", "items", "tokenizer", "adapter")
"""Hashes that name the model rather than the question asked of it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One metric on both sides.

    `change` is turned so that negative is worse: a difference of shares, or of log perplexities.
    `worse` / `better` count flipped items. `detectable`: smallest loss found with 80% power.
    """

    metric: str
    unit: str
    baseline: float | None
    candidate: float | None
    change: float | None
    interval: tuple[float, float] | None
    lower: float | None
    p_worse: float | None
    p_adjusted: float | None
    n: int
    worse: int | None
    better: int | None
    margin: float
    detectable: float | None
    method: str
    outcome: Outcome
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All metrics; the outcome is the worst of them."""

    baseline: str
    candidate: str
    outcome: Outcome
    confidence: float
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    version: int = RECORD_VERSION

    @property
    def regressed(self) -> bool:
        """True when at least one metric got worse beyond chance and margin."""
        return self.outcome == "regressed"


@dataclass(frozen=True, slots=True)
class _Pair:
    key: str
    baseline: Recorded
    candidate: Recorded | None
    margin: float
    effect: Effect | None
    why: str


def compare(
    baseline: Path | str,
    candidate: Path | str,
    *,
    confidence: float = 0.95,
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Test every metric of the baseline for a loss in the candidate.

    A metric regressed when the one-sided test is significant after Holm's correction over the
    family and the loss reaches the margin. "No loss beyond margin" needs the one-sided lower bound
    of the change above minus the margin; anything else is "cannot tell".

    Args:
        baseline, candidate: run folders, checkpoint folders or metrics files.
        confidence: of the family of tests and of the bounds, above 0.5 and below 1.
        margins: tolerated loss by metric key, as a share (perplexity: relative).
    Raises:
        EvaluationError: the two sides asked different questions (protocol, data, template).
        StoreError: a side cannot be read.
    """
    if not 0.5 < confidence < 1:
        raise EvaluationError(f"confidence is {confidence}; use a value above 0.5 and below 1.")
    before, after = load_side(Path(baseline)), load_side(Path(candidate))
    notes = _refuse_different_questions(before, after)
    family = sum(key in after.metrics for key in before.metrics)
    pairs = [
        _pair(key, one, after.metrics.get(key), (margins or {}).get(key, DEFAULT_MARGIN),
              confidence, family)
        for key, one in before.metrics.items()
    ]  # fmt: skip
    adjusted = iter(holm([p.effect.p_worse for p in pairs if p.effect]))
    changes = tuple(_judged(p, next(adjusted) if p.effect else None, confidence) for p in pairs)
    return Comparison(before.path, after.path, _worst(changes), confidence, changes, notes)


def _refuse_different_questions(before: Side, after: Side) -> tuple[str, ...]:
    notes = []
    for side in (before, after):
        if side.flat:
            notes.append(
                f"{side.path}: bare numbers without n, protocol or hashes: tests are not paired "
                "and nothing shows that both sides were asked the same."
            )
            warnings.warn(notes[-1], SftprepWarning, stacklevel=3)
    wrong = []
    for key, one in before.metrics.items():
        other = after.metrics.get(key)
        if other is not None and not (before.flat or after.flat):
            wrong += [f"{key}: {text}" for text in differences(one, other)]
    if wrong:
        raise EvaluationError(
            f"{before.path} and {after.path} were not asked the same: " + "; ".join(wrong) + ". "
            "Score both with the same recipe sections and version, then compare again."
        )
    return tuple(notes)


def differences(one: Recorded, other: Recorded) -> list[str]:
    """What differs between two measurements besides the model, named with both values."""
    a, b = one.metric, other.metric
    found = [
        f"{name} {first!r} against {second!r}"
        for name, first, second in (
            ("protocol", a.protocol, b.protocol),
            ("few_shot", a.few_shot, b.few_shot),
            ("unit", a.unit, b.unit),
        )
        if first != second
    ]
    for name in sorted(set(a.hashes) & set(b.hashes)):
        free = name in MAY_DIFFER and not (name == "tokenizer" and a.unit == "perplexity")
        if a.hashes[name] != b.hashes[name] and not free:
            found.append(f"{name} {a.hashes[name][:12]} against {b.hashes[name][:12]}")
    return found


def _pair(
    key: str, one: Recorded, other: Recorded | None, margin: float, confidence: float, family: int
) -> _Pair:
    if other is None:
        return _Pair(key, one, other, margin, None, "the candidate has no such measurement")
    if one.metric.value is None or not math.isfinite(one.metric.value):
        return _Pair(key, one, other, margin, None, "the baseline has no finite value")
    if other.metric.value is None or not math.isfinite(other.metric.value):
        return _Pair(key, one, other, margin, None, "the candidate has no finite value")
    if one.metric.unit == "perplexity":
        margin = math.log1p(margin)
        effect = _perplexity_effect(one, other, confidence, family)
        return _Pair(key, one, other, margin, effect, "" if effect else "no number of tokens")
    if one.items is not None and other.items is not None:
        return _paired(key, one, other, margin, confidence, family)
    effect = _share_effect(one, other, confidence, family)
    return _Pair(key, one, other, margin, effect, "" if effect else "no number of items")


def _paired(
    key: str, one: Recorded, other: Recorded, margin: float, confidence: float, family: int
) -> _Pair:
    assert one.items is not None and other.items is not None
    first = metric_scores(read_items(one.items), one.name, one.headline)
    second = metric_scores(read_items(other.items), other.name, other.headline)
    shared = [item for item in first if item in second]
    unmatched = len(first.keys() ^ second.keys())
    if not shared:
        effect = _share_effect(one, other, confidence, family)
        return _Pair(key, one, other, margin, effect, "no item in common")
    sign = 1.0 if one.metric.higher_is_better else -1.0
    effect = paired_effect(
        [sign * first[item] for item in shared],
        [sign * second[item] for item in shared],
        confidence,
        family,
    )
    total = len(shared) + unmatched
    why = f"{unmatched} of {total} items only on one side" if unmatched else ""
    return _Pair(key, one, other, margin, effect, why if unmatched > MAX_UNMATCHED * total else "")


def _share_effect(one: Recorded, other: Recorded, confidence: float, family: int) -> Effect | None:
    """Unpaired test; a side without n (bare number) borrows the other side's."""
    a, b = one.metric, other.metric
    n_a, n_b = a.n or b.n, b.n or a.n
    if not n_a or a.value is None or b.value is None:
        return None
    change = (b.value - a.value) * (1 if a.higher_is_better else -1)
    inside = 0 <= a.value <= 1 and 0 <= b.value <= 1
    if inside and a.unit == "share":
        stderr = pooled_stderr(a.value, n_a, b.value, n_b)
    elif a.stderr is not None and b.stderr is not None:
        stderr = math.hypot(a.stderr, b.stderr)
    else:
        return None
    return unpaired_effect(change, stderr, min(n_a, n_b), confidence, family)


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


def _judged(pair: _Pair, adjusted: float | None, confidence: float) -> Change:
    effect, other = pair.effect, pair.candidate
    outcome, why = _outcome(pair, adjusted, confidence)
    return Change(
        metric=pair.key,
        unit=pair.baseline.metric.unit,
        baseline=finite(pair.baseline.metric.value),
        candidate=finite(other.metric.value) if other else None,
        change=effect.change if effect else None,
        interval=effect.interval if effect else None,
        lower=effect.lower if effect else None,
        p_worse=effect.p_worse if effect else None,
        p_adjusted=adjusted,
        n=effect.n if effect else 0,
        worse=effect.worse if effect else None,
        better=effect.better if effect else None,
        margin=pair.margin,
        detectable=effect.detectable if effect else None,
        method=effect.method if effect else "not tested",
        outcome=outcome,
        why=why,
    )


def _outcome(pair: _Pair, adjusted: float | None, confidence: float) -> tuple[Outcome, str]:
    effect = pair.effect
    if effect is None or adjusted is None:
        lost = pair.candidate is not None and pair.candidate.metric.value is not None
        broken = lost and not math.isfinite(pair.candidate.metric.value)  # type: ignore[union-attr, arg-type]
        return ("regressed" if broken else "cannot_tell", pair.why)
    significant = adjusted <= 1 - confidence
    if significant and -effect.change >= pair.margin:
        return ("regressed", "worse beyond chance, and by at least the margin")
    if pair.why:
        return ("cannot_tell", pair.why)
    if effect.lower > -pair.margin:
        small = "worse beyond chance, but by less than the margin"
        return ("no_loss_beyond_margin", small if significant else "a larger loss is excluded")
    if significant:
        return ("cannot_tell", "worse beyond chance; whether by the margin is open")
    return ("cannot_tell", "too few items to exclude a loss of the margin")


def finite(value: float | None) -> float | None:
    """The value, or None when it is missing or not finite (JSON has no NaN)."""
    return value if value is not None and math.isfinite(value) else None


def _worst(changes: tuple[Change, ...]) -> Outcome:
    found = {change.outcome for change in changes}
    if "regressed" in found:
        return "regressed"
    return "no_loss_beyond_margin" if found == {"no_loss_beyond_margin"} else "cannot_tell"
