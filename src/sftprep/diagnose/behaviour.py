"""Symptoms of the trained model and their causes."""

import dataclasses

from sftprep.diagnose import training
from sftprep.diagnose.records import Finding, Symptom, present
from sftprep.gate import benchmark_rules, rules
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


def benchmarks_lost(recipe: Recipe, evidence: Evidence) -> Symptom:
    """A benchmark significantly below the base model."""
    return _from_rule("benchmarks_lost", benchmark_rules.no_forgetting(recipe, evidence))


def high_loss_data(recipe: Recipe, evidence: Evidence) -> Finding:
    """The data causes of a high held-out loss are those of a flat training loss."""
    finding = training.noisy_data(recipe, evidence)
    return dataclasses.replace(finding, symptom="validation_loss_high")


def weak_signal(recipe: Recipe, evidence: Evidence) -> Finding:
    """Responses that do not depend on their instruction teach nothing about instructions."""
    symptom, cause = "instructions_ignored", "weak_instruction_signal"
    cost = evidence.validation.sft.sensitivity_nats if evidence.validation else None
    if cost is None:
        return Finding(symptom, cause, "not_decidable", "sensitivity was not measured", "low")
    text = f"a swapped instruction costs {cost:.3f} nats per response token"
    if cost >= SENSITIVE_NATS:
        return Finding(symptom, cause, "ruled_out", text, "medium")
    change = "use data whose responses follow from clear instructions; supervise responses only"
    patch = {} if recipe.training.train_on != "full" else {"training.train_on": "responses"}
    return Finding(symptom, cause, "found", text, "high", change, patch)


def format_inconsistent(recipe: Recipe, evidence: Evidence) -> Finding:
    """Answers that do not end point at a template that differs between data and use."""
    symptom, cause = "instructions_ignored", "format_inconsistent"
    rates = evidence.validation.sft.rates if evidence.validation else {}
    if "stopped" not in rates:
        return Finding(symptom, cause, "not_decidable", "the stop rate was not measured", "low")
    text = f"{rates['stopped']:.1%} of the answers end by themselves"
    if rates["stopped"] >= recipe.gate.min_stop_rate:
        return Finding(symptom, cause, "ruled_out", text, "medium")
    change = (
        "keep one template for all data (model.chat_template) and check `sftprep data --preview 3`"
    )
    return Finding(symptom, cause, "found", text, "medium", change)


def too_little_training(recipe: Recipe, evidence: Evidence) -> Finding:
    """More steps help while the held-out loss falls."""
    finding = training.insufficient_training(recipe, evidence)
    return dataclasses.replace(finding, symptom="instructions_ignored")


def never_learned_to_stop(recipe: Recipe, evidence: Evidence) -> Finding:
    """Which of the three rates is off decides what to look at."""
    symptom, cause = "answers_incoherent", "end_of_turn_not_learned"
    rates, gate = (evidence.validation.sft.rates if evidence.validation else {}), recipe.gate
    if "stopped" not in rates:
        return Finding(symptom, cause, "not_decidable", "the stop rate was not measured", "low")
    text = f"{rates['stopped']:.1%} of the answers end by themselves"
    if rates["stopped"] >= gate.min_stop_rate:
        return Finding(symptom, cause, "ruled_out", text, "high")
    change = "check that rows are not cut (training.max_length) and end with the end-of-turn token"
    return Finding(symptom, cause, "found", text, "medium", change)


def repetition_in_data(recipe: Recipe, evidence: Evidence) -> Finding:
    """Loops come from repetitive data or too many passes over little data."""
    symptom, cause = "answers_incoherent", "repetition_learned"
    rates = evidence.validation.sft.rates if evidence.validation else {}
    if "repetitive" not in rates:
        return Finding(symptom, cause, "not_decidable", "repetition was not measured", "low")
    text = f"{rates['repetitive']:.1%} of the answers loop"
    if rates["repetitive"] <= recipe.gate.max_repetitive_rate:
        return Finding(symptom, cause, "ruled_out", text, "high")
    change = "reject repetitive rows (data.checks) and make fewer passes over the data"
    return Finding(symptom, cause, "found", text, "medium", change)


def forgot(recipe: Recipe, evidence: Evidence) -> Finding:
    """Fine-tuning moved the weights too far for what the data covers."""
    rate = recipe.training.learning_rate
    return Finding(
        "benchmarks_lost",
        "forgetting",
        "found",
        benchmark_rules.no_forgetting(recipe, evidence).why,
        "medium",
        f"halve training.learning_rate to {rate / 2:g}, and add data of the lost capabilities",
        {"training.learning_rate": rate / 2},
    )
