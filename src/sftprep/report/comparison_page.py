"""`sftprep compare --report`: did it get worse, metric by metric, with the items that flipped."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftprep.comparison.items import metric_scores, read_items
from sftprep.comparison.lines import WORDS, change_text, value_text
from sftprep.comparison.sources import Recorded, load_side
from sftprep.comparison.verdict import Change, Comparison, Outcome
from sftprep.errors import SftprepError
from sftprep.gate.rules import p_text
from sftprep.records import ItemRecord
from sftprep.report import charts
from sftprep.report.page import page
from sftprep.report.redact import redact_text
from sftprep.store.durable import write_text

STYLES: Mapping[Outcome, str] = {
    "regressed": "fail",
    "cannot_tell": "missing",
    "no_loss_beyond_margin": "pass",
}
MEANING: Mapping[Outcome, str] = {
    "regressed": "The candidate lost something the baseline could do.",
    "cannot_tell": "Nothing is shown to be lost, and a loss is not excluded either.",
    "no_loss_beyond_margin": "On every metric a loss beyond the margin is excluded.",
}
ORDER: Mapping[Outcome, int] = {"regressed": 0, "cannot_tell": 1, "no_loss_beyond_margin": 2}
FLIPS_SHOWN = 5
TEXT_LIMIT = 800


def write_comparison_report(comparison: Comparison, path: Path) -> Path:
    """Write the comparison as one self-contained page; returns its path.

    Raises:
        StoreError: the file cannot be written.
    """
    write_text(path, page("comparison.html.jinja", build(comparison)))
    return path


def build(comparison: Comparison) -> dict[str, Any]:
    """All values of the template."""
    changes = sorted(comparison.changes, key=lambda change: ORDER[change.outcome])
    return {
        "word": WORDS[comparison.outcome].upper(),
        "style": STYLES[comparison.outcome],
        "meaning": MEANING[comparison.outcome],
        "sentence": _counts(comparison),
        "baseline": redact_text(comparison.baseline),
        "candidate": redact_text(comparison.candidate),
        "confidence": f"{comparison.confidence:.0%}",
        "tested": sum(change.p_worse is not None for change in changes),
        "warnings": [redact_text(text) for text in comparison.warnings],
        "lost": [_lost(change) for change in changes if change.outcome == "regressed"],
        "unclear": [c.metric for c in changes if c.outcome == "cannot_tell"],
        "chart": charts.change_chart("Change per metric with interval", _bars(changes)),
        "rows": [_row(change) for change in changes],
        "flips": _all_flips(comparison),
    }


def _counts(comparison: Comparison) -> str:
    outcomes = [change.outcome for change in comparison.changes]
    parts = [f"{outcomes.count(o)} {WORDS[o].lower()}" for o in ORDER if o in outcomes]
    return f"{len(outcomes)} metrics: {', '.join(parts)}."


def _lost(change: Change) -> dict[str, str]:
    before, after = (value_text(v, change.unit) for v in (change.baseline, change.candidate))
    return {
        "name": change.metric,
        "why": change.why,
        "kind": "Perplexity" if change.unit == "perplexity" else "Score",
        "seen": f"{before} before, {after} after",
        "effect": _effect(change),
    }


def _effect(change: Change) -> str:
    if change.change is None or change.interval is None:
        return "not tested"
    low, high = (change_text(bound, change.unit) for bound in change.interval)
    return f"{change_text(change.change, change.unit)} [{low}, {high}]{_unit(change)}"


def _unit(change: Change) -> str:
    return " points" if change.unit == "share" else ""


def _size(change: Change, value: float | None) -> str:
    """A loss as a plain size; empty when unknown."""
    return "" if value is None else change_text(-value, change.unit).lstrip("+-")


def _percent(change: Change, value: float) -> float:
    """Points of a share or percent of a perplexity; plus is better."""
    return 100 * -math.expm1(-value) if change.unit == "perplexity" else 100 * value


def _bars(changes: list[Change]) -> list[charts.ChangeRow]:
    return [
        charts.ChangeRow(
            change.metric,
            _percent(change, change.change),
            (_percent(change, change.interval[0]), _percent(change, change.interval[1])),
            _percent(change, change.lower),
            _percent(change, -change.margin),
            STYLES[change.outcome],
        )
        for change in changes
        if change.change is not None
        and change.interval is not None
        and change.lower is not None
        and change.unit in ("share", "perplexity")
    ]


def _row(change: Change) -> dict[str, str]:
    return {
        "name": change.metric,
        "style": STYLES[change.outcome],
        "verdict": WORDS[change.outcome].lower(),
        "baseline": value_text(change.baseline, change.unit),
        "candidate": value_text(change.candidate, change.unit),
        "effect": _effect(change).removesuffix(" points"),
        "lower": "" if change.lower is None else change_text(change.lower, change.unit),
        "margin": _size(change, change.margin),
        "detectable": _size(change, change.detectable),
        "why": change.why,
        "flips": "" if change.worse is None else f"{change.worse:,} / {change.better:,}",
        "p": "" if change.p_adjusted is None else p_text(change.p_adjusted),
        "n": f"{change.n:,}",
        "method": change.method,
    }


def _all_flips(comparison: Comparison) -> list[dict[str, Any]]:
    """Items right before and wrong after, of metrics with item files on both sides."""
    try:
        before = load_side(Path(comparison.baseline)).metrics
        after = load_side(Path(comparison.candidate)).metrics
    except SftprepError:
        return []
    found = []
    for change in comparison.changes:
        one, other = before.get(change.metric), after.get(change.metric)
        if one is None or other is None or not change.worse:
            continue
        items = _flips(one, other)
        if items:
            found.append({"metric": change.metric, "total": change.worse, "shown": items})
    return found


def _flips(one: Recorded, other: Recorded) -> list[dict[str, str]]:
    if one.items is None or other.items is None:
        return []
    try:
        first, second = read_items(one.items), read_items(other.items)
    except SftprepError:
        return []
    was = metric_scores(first, one.name, one.headline)
    now = metric_scores(second, other.name, other.headline)
    sign = 1 if one.metric.higher_is_better else -1
    lost = [key for key in was if key in now and sign * (now[key] - was[key]) < 0]
    return [_flip(key, first[key], second[key]) for key in lost[:FLIPS_SHOWN]]


def _flip(key: str, before: ItemRecord, after: ItemRecord) -> dict[str, str]:
    return {
        "id": key,
        "cluster": after.cluster,
        "gold": _cut(after.gold),
        "before": _answer(before),
        "after": _answer(after),
    }


def _answer(item: ItemRecord) -> str:
    return _cut(item.text or item.prediction or f"({item.outcome})")


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]} …"
