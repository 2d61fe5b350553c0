"""Gate rules on capability benchmarks: recorded in full, and nothing forgotten."""

import math
from collections.abc import Mapping

from sftprep.comparison.paired import Effect, holm, shares_effect
from sftprep.comparison.pairs import scores_effect
from sftprep.errors import SftprepError
from sftprep.gate import remedies
from sftprep.gate.evidence import Evidence
from sftprep.gate.rules import Found, not_recorded, p_text
from sftprep.recipe.sections import Recipe
from sftprep.records import BenchmarkResult, Metric, Verdict


def required_names(recipe: Recipe) -> tuple[str, ...]:
    """Benchmarks the gate asks for: the explicit list, else every task of the recipe."""
    if recipe.gate.require_benchmarks is not None:
        return recipe.gate.require_benchmarks
    return tuple(task.name for task in recipe.benchmarks.tasks)


def headline_of(result: BenchmarkResult | None) -> Metric | None:
    """The headline metric of a benchmark that may not have run."""
    return headline_metric(result) if result is not None else None


def weakness(result: BenchmarkResult, metric: Metric) -> str:
    """Below expectation in words: at chance, or below the range that is typical; else empty."""
    if above_chance(metric) is False:
        return f"at chance ({metric.chance:.1%})"
    if result.typical_range is None or metric.value is None or not metric.complete:
        return ""
    low, high = result.typical_range
    if metric.value >= low:
        return ""
    return f"{metric.value:.1%} is below the typical {low:.0%}-{high:.0%}"


def headline_metric(result: BenchmarkResult) -> Metric | None:
    """The metric a benchmark is judged by."""
    return result.metrics.get(result.headline)


def benchmarks_recorded(recipe: Recipe, evidence: Evidence) -> Verdict:
    """Every required benchmark has a finite score of the full set."""
    names = required_names(recipe)
    required = f"{len(names)} of {len(names)} recorded" + (
        "" if recipe.gate.allow_subsets else " in full"
    )
    if not names:
        found = Found("missing", "0 required", required, "no benchmark is required",
                      "list benchmarks.tasks in the recipe")  # fmt: skip
        return found.verdict("benchmarks_recorded", "benchmarks")
    if not evidence.benchmarks:
        found = not_recorded(evidence, "benchmarks", required, "benchmark")
        return found.verdict("benchmarks_recorded", "benchmarks")
    broken, absent, notes = [], [], []
    for name in names:
        result, before = evidence.benchmarks.get(name), evidence.base_benchmarks.get(name)
        fault, lack, note = _state(result, before, name, recipe.gate.allow_subsets)
        broken += [fault] if fault else []
        absent += [lack] if lack else []
        notes += [note] if note else []
    good = len(names) - len(broken) - len(absent)
    measured = f"{good} of {len(names)} recorded"
    why = "; ".join(broken + absent + notes) or "all recorded, all above chance"
    status = "fail" if broken else "missing" if absent else "pass"
    remedy = "run `sftprep benchmark RUN` without limits" if "subset" in why else (
        "run `sftprep benchmark RUN` and see its messages"
    )  # fmt: skip
    found = Found(status, measured, required, why, remedy)  # type: ignore[arg-type]
    return found.verdict("benchmarks_recorded", "benchmarks")


def _state(
    result: BenchmarkResult | None, before: BenchmarkResult | None, name: str, allow_subsets: bool
) -> tuple[str, str, str]:
    """(what is broken, what is missing, what should be said) about one benchmark."""
    metric = headline_metric(result) if result else None
    if result is None or metric is None or metric.value is None:
        note = f" ({result.note})" if result and result.note else ""
        return ("", f"{name}: not scored{note}", "")
    if not math.isfinite(metric.value):
        return (f"{name}: the score is not finite", "", "")
    errors = result.outcomes.get("error", 0)
    if errors:
        return ("", f"{name}: {errors} items could not be scored", "")
    if not metric.complete and not allow_subsets:
        return ("", f"{name}: a subset ({metric.n} of {metric.n_total} items)", "")
    notes = [] if metric.complete else [f"a subset, {metric.n} of {metric.n_total} items"]
    weak = weakness(result, metric)
    notes += [f"{weak}; {remedies.for_weak_benchmark(metric, headline_of(before))}"] if weak else []
    return ("", "", f"{name}: {', '.join(notes)}" if notes else "")


def above_chance(metric: Metric) -> bool | None:
    """Whether the interval lies above chance; None when chance or interval is unknown."""
    if metric.chance is None or metric.ci95 is None or metric.value is None:
        return None
    low = metric.ci95[0]
    return (low > metric.chance) if metric.higher_is_better else (metric.ci95[1] < metric.chance)


def no_forgetting(recipe: Recipe, evidence: Evidence) -> Verdict:
    """No benchmark is significantly below the base model (one-sided, Holm over benchmarks)."""
    confidence = recipe.gate.confidence
    tolerated = recipe.gate.max_forgetting
    allowed = f" by more than {100 * tolerated:g} points" if tolerated else ""
    required = f"no benchmark below base{allowed} at {confidence:.0%} confidence (Holm)"
    rule, unit = "no_forgetting", "benchmarks"
    if not evidence.benchmarks:
        return not_recorded(evidence, "benchmarks", required, "benchmark").verdict(rule, unit)
    if not evidence.base_benchmarks:
        why = evidence.problems.get("base benchmarks", "the base model was not scored")
        remedy = "run `sftprep benchmark RUN --set benchmarks.base_model=true`"
        return Found("missing", "not recorded", required, why, remedy).verdict(rule, unit)
    effects, unknown = _effects(evidence, required_names(recipe), confidence)
    lost = _lost(effects, confidence, tolerated)
    measured = f"{len(lost)} of {len(effects)} below base" + (
        f", lowest {_lowest(effects)}" if effects else ""
    )
    if lost:
        why = "; ".join(f"{name} {100 * effects[name].change:+.1f} points "
                        f"(p {p_text(lost[name])})" for name in lost)  # fmt: skip
        remedy = remedies.for_benchmarks(recipe, evidence, list(lost))
        found = Found("fail", measured, required, why, remedy)
    elif unknown or not effects:
        why = f"no comparison for {', '.join(unknown) or 'any benchmark'}"
        remedy = "run `sftprep benchmark RUN` for the base model too"
        found = Found("missing", measured, required, why, remedy)
    else:
        found = Found("pass", measured, required, _not_excluded(effects))
    return found.verdict(rule, unit)


def forgotten(recipe: Recipe, evidence: Evidence, confidence: float) -> dict[str, float]:
    """Benchmarks significantly below base with their adjusted p-values."""
    effects, _ = _effects(evidence, required_names(recipe), confidence)
    return _lost(effects, confidence, recipe.gate.max_forgetting)


def _lost(effects: Mapping[str, Effect], confidence: float, tolerated: float) -> dict[str, float]:
    if all(effect.p_worse > 1 - confidence for effect in effects.values()):
        return {}  # the correction only raises p-values
    adjusted = zip(effects, holm([e.p_worse for e in effects.values()]), strict=True)
    return {
        name: p
        for name, p in adjusted
        if not (p > 1 - confidence or -effects[name].change <= tolerated)
    }


def _effects(
    evidence: Evidence, names: tuple[str, ...], confidence: float
) -> tuple[dict[str, Effect], list[str]]:
    """Change against base per benchmark, and the names that cannot be compared."""
    effects: dict[str, Effect] = {}
    unknown = []
    for name in names:
        effect = forgetting(evidence, name, confidence, len(names))
        if effect is None:
            unknown.append(name)
        else:
            effects[name] = effect
    return effects, unknown


def forgetting(evidence: Evidence, name: str, confidence: float, family: int = 1) -> Effect | None:
    """SFT minus base on one benchmark: paired on items when both were kept, else a z test."""
    result, before = evidence.benchmarks.get(name), evidence.base_benchmarks.get(name)
    sft = headline_metric(result) if result else None
    base = headline_metric(before) if before else None
    if sft is None or base is None or sft.value is None or base.value is None:
        return None
    if not (math.isfinite(sft.value) and math.isfinite(base.value)):
        return None
    try:
        first, second = evidence.scores(name, base=True), evidence.scores(name, base=False)
        if first and second:
            effect = scores_effect(first, second, confidence, family, sft.higher_is_better)
            if effect is not None:
                return effect
    except SftprepError:
        return None  # unreadable or non-finite items: the rule reports "no comparison"
    if not (sft.n and base.n and 0 <= sft.value <= 1 and 0 <= base.value <= 1):
        return None
    return shares_effect(base.value, base.n, sft.value, sft.n, confidence, family)


def _not_excluded(effects: dict[str, Effect]) -> str:
    """A pass in words: "not significant" must not read as "nothing lost"."""
    name = min(effects, key=lambda key: effects[key].lower)
    lower = 100 * effects[name].lower
    text = "no significant loss against the base model"
    if lower >= 0:
        return text
    return f"{text}; not excluded: {-lower:.1f} points on {name} (n {effects[name].n})"


def _lowest(effects: dict[str, Effect]) -> str:
    name = min(effects, key=lambda key: effects[key].change)
    return f"{name} {100 * effects[name].change:+.1f} points"
