"""Symptoms of the trained model and their causes."""

import dataclasses
from collections.abc import Callable, Mapping

from sftprep.diagnose.records import Finding, Symptom, present
from sftprep.gate import rules
from sftprep.gate.evidence import Evidence
from sftprep.recipe.sections import Recipe
from sftprep.records import Verdict

SENSITIVE_NATS = 0.1
"""Swapping the instruction must cost at least this much per token, else it is hardly read."""


def _from_rule(name: str, verdict: Verdict) -> Symptom:
    condition = {"pass": False, "fail": True, "missing": None}[verdict.status]
    return present(name, condition, f"{verdict.measured}; required {verdict.required}")


def validation_loss_high(recipe: Recipe, evidence: Evidence) -> Symptom:
    """Held-out perplexity above the gate's limit or above base."""
    return _from_rule("validation_loss_high", rules.validation_perplexity(recipe, evidence))


def instructions_ignored(recipe: Recipe, evidence: Evidence) -> Symptom:
    """Instruction-following accuracy below the gate's threshold or not above base."""
    return _from_rule("instructions_ignored", rules.instruction_following(recipe, evidence))


def answers_incoherent(recipe: Recipe, evidence: Evidence) -> Symptom:
    """Answers that do not end, are empty, or loop."""
    return _from_rule("answers_incoherent", rules.responses_coherent(recipe, evidence))


def weak_signal(recipe: Recipe, evidence: Evidence) -> Finding:
    """Responses that do not depend on their instruction teach nothing about instructions."""
    cause = "weak_instruction_signal"
    cost = evidence.validation.sft.sensitivity_nats if evidence.validation else None
    if cost is None:
        return Finding("", cause, "not_decidable", "sensitivity was not measured", "low")
    text = f"a swapped instruction costs {cost:.3f} nats per response token"
    if cost >= SENSITIVE_NATS:
        return Finding("", cause, "ruled_out", text, "medium")
    change = "use data whose responses follow from clear instructions; supervise responses only"
    patch = {} if recipe.training.train_on != "full" else {"training.train_on": "responses"}
    return Finding("", cause, "found", text, "high", change, patch)


def format_inconsistent(recipe: Recipe, evidence: Evidence) -> Finding:
    """Answers that do not end point at a template that differs between data and use."""
    change = "keep one template for all data (model.chat_template) and check " + (
        "`sftprep data RUN --preview 3`"
    )
    return dataclasses.replace(
        _by_rate(evidence, _ENDINGS, _ends(recipe), change), cause="format_inconsistent"
    )


def few_examples(recipe: Recipe, evidence: Evidence) -> Finding:
    """Fewer rows than the recipe asks for."""
    cause, data = "too_few_examples", evidence.data
    if data is None:
        return Finding("", cause, "not_decidable", "no data report", "low")
    rows, wanted = data.ledger.kept, recipe.data.minimum_rows
    text = f"{rows:,} rows after the checks, {wanted:,} asked for"
    if rows >= wanted:
        return Finding("", cause, "ruled_out", text, "medium")
    change = "add more instruction-following examples (data.sources)"
    return Finding("", cause, "found", text, "medium", change)


@dataclasses.dataclass(frozen=True, slots=True)
class _Habit:
    """A rate of the validation stage, what it says of the answers, the cause when it is off."""

    rate: str
    says: str
    cause: str


_ENDINGS = _Habit("stopped", "end by themselves", "end_of_turn_not_learned")
_LOOPS = _Habit("repetitive", "loop", "repetition_learned")
_EMPTY = _Habit("empty", "are empty", "empty_answers_learned")


def _by_rate(
    evidence: Evidence,
    habit: _Habit,
    healthy: Callable[[float], bool],
    change: str,
    patch: Mapping[str, str] | None = None,
) -> Finding:
    rates = evidence.validation.sft.rates if evidence.validation else {}
    if habit.rate not in rates:
        text = f"how many answers {habit.says} was not measured"
        return Finding("", habit.cause, "not_decidable", text, "low")
    text = f"{rates[habit.rate]:.1%} of the answers {habit.says}"
    if healthy(rates[habit.rate]):
        return Finding("", habit.cause, "ruled_out", text, "high")
    return Finding("", habit.cause, "found", text, "medium", change, patch or {})


def _ends(recipe: Recipe) -> Callable[[float], bool]:
    return lambda rate: rate >= recipe.gate.min_stop_rate


def never_learned_to_stop(recipe: Recipe, evidence: Evidence) -> Finding:
    """Answers that run on: the end of the turn was cut off or never seen."""
    change = "check that rows are not cut (training.max_length) and end with the end-of-turn token"
    return _by_rate(evidence, _ENDINGS, _ends(recipe), change)


def repetition_in_data(recipe: Recipe, evidence: Evidence) -> Finding:
    """Loops come from repetitive data or too many passes over little data."""
    change = "reject repetitive rows (data.checks) and make fewer passes over the data"
    most = recipe.gate.max_repetitive_rate
    return _by_rate(evidence, _LOOPS, lambda rate: rate <= most, change)


def empty_answers(recipe: Recipe, evidence: Evidence) -> Finding:
    """Answers of nothing come from rows that answer nothing."""
    checks = ("response_empty", "response_placeholder")
    actions = {name: recipe.data.checks.get(name) for name in checks}
    off = [name for name, own in actions.items() if own is not None and own.action != "drop"]
    change = f"drop rows without an answer: data.checks.{' and '.join(off or checks)}"
    patch = {f"data.checks.{name}.action": "drop" for name in off}
    most = recipe.gate.max_empty_rate
    return _by_rate(evidence, _EMPTY, lambda rate: rate <= most, change, patch)
