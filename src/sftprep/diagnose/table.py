"""The decision table: symptoms of a run in order, each with the causes that are weighed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sftprep.diagnose import behaviour, capability, step_size, training
from sftprep.diagnose.records import Case, Diagnosis, Finding, Symptom
from sftprep.gate.evidence import Evidence, load_evidence
from sftprep.recipe import load_recipe
from sftprep.recipe.sections import Recipe
from sftprep.records import RedFlag
from sftprep.store.run import RunFolder

CASES: tuple[Case, ...] = (
    Case(
        "base_model_suspicious",
        "Base model guesses before training",
        training.base_suspicious,
        (training.broken_start,),
        ("base_loss_suspicious",),
    ),
    Case(
        "training_unstable",
        "Training unstable",
        training.training_unstable,
        (
            step_size.rate_too_high,
            step_size.batch_too_small,
            step_size.broken_weights_or_precision,
            step_size.odd_batches,
        ),
        ("loss_not_finite", "loss_spike", "gradients_exploding"),
    ),
    Case(
        "loss_not_decreasing",
        "Training loss not decreasing",
        training.loss_flat,
        (
            step_size.rate_too_high,
            step_size.rate_too_low,
            training.noisy_data,
            training.broken_start,
        ),
        ("loss_not_decreasing",),
    ),
    Case(
        "validation_rising",
        "Validation loss rising (overfitting)",
        training.validation_rising,
        (training.trained_too_long, training.data_not_diverse, training.model_too_large),
        ("validation_loss_increasing",),
    ),
    Case(
        "loss_oscillating",
        "Training loss oscillating",
        training.loss_oscillating,
        (step_size.batch_too_small, step_size.rate_too_high_for_batch),
        ("loss_oscillating",),
    ),
    Case(
        "validation_loss_high",
        "Held-out perplexity too high",
        behaviour.validation_loss_high,
        (training.insufficient_training, training.noisy_data),
    ),
    Case(
        "instructions_ignored",
        "Poor instruction following",
        behaviour.instructions_ignored,
        (
            behaviour.weak_signal,
            behaviour.format_inconsistent,
            training.insufficient_training,
            behaviour.few_examples,
        ),
    ),
    Case(
        "answers_incoherent",
        "Answers do not end, are empty or loop",
        behaviour.answers_incoherent,
        (
            behaviour.never_learned_to_stop,
            behaviour.repetition_in_data,
            behaviour.empty_answers,
        ),
    ),
    Case(
        "benchmarks_lost",
        "Capability lost against the base model",
        capability.benchmarks_lost,
        (capability.trained_too_hard, capability.data_lacks_capability),
    ),
    Case(
        "benchmarks_below_expected",
        "Benchmarks below expectation",
        capability.benchmarks_weak,
        (capability.base_model_weak, capability.lowered_by_training),
    ),
)
TITLES = {case.id: case.title for case in CASES}


def title_of(symptom: str) -> str:
    """A symptom in words; a red flag that no case names gives its id."""
    return TITLES.get(symptom, symptom.replace("_", " ").capitalize())


SURENESS_ORDER = ("high", "medium", "low")


def diagnose(run: RunFolder, table: tuple[Case, ...] = CASES) -> Diagnosis:
    """Look for every symptom and weigh the causes of those that are present.

    Raises:
        RecipeError: the run folder has no readable recipe.
    """
    recipe = load_recipe(Path(run.recipe)).recipe
    return diagnosed(recipe, load_evidence(run, verify_checkpoint=False), table)


def diagnosed(recipe: Recipe, evidence: Evidence, table: tuple[Case, ...] = CASES) -> Diagnosis:
    """The diagnosis of loaded evidence.

    A red flag that no row of the table names is a symptom of its own, with the cause and remedy
    that the training stage recorded, so that no flag is lost.
    """
    symptoms = [case.look(recipe, evidence) for case in table]
    findings = [
        dataclasses.replace(cause(recipe, evidence), symptom=symptom.id)
        for case, symptom in zip(table, symptoms, strict=True)
        if symptom.presence == "present"
        for cause in case.causes
    ]
    for flag in _other_flags(evidence, table):
        text = f"red flag at step {flag.step}: {flag.evidence}"
        symptoms.append(Symptom(flag.id, "present", text))
        findings.append(Finding(flag.id, flag.cause, "found", text, "low", flag.remedy))
    run = str(evidence.run.root)
    return Diagnosis(run, tuple(symptoms), tuple(findings), _merged(findings))


def _other_flags(evidence: Evidence, table: tuple[Case, ...]) -> list[RedFlag]:
    """The last red flag of each id that no case covers."""
    known = {flag for case in table for flag in case.flags}
    raised = evidence.flags or (evidence.train.flags if evidence.train else ())
    return list({flag.id: flag for flag in raised if flag.id not in known}.values())


def _merged(findings: Sequence[Finding]) -> dict[str, Any]:
    """Patches of found causes; for the same key the surer (then the earlier) cause wins."""
    merged: dict[str, Any] = {}
    found = [finding for finding in findings if finding.status == "found"]
    for finding in sorted(found, key=lambda f: SURENESS_ORDER.index(f.sure)):
        for key, value in finding.patch.items():
            merged.setdefault(key, value)
    return merged
