"""The decision table: symptoms of a run in order, each with the causes that are weighed."""

from pathlib import Path
from typing import Any

from sftprep.diagnose import behaviour, training
from sftprep.diagnose.records import Case, Diagnosis, Finding
from sftprep.gate.evidence import Evidence, load_evidence
from sftprep.recipe import load_recipe
from sftprep.recipe.sections import Recipe
from sftprep.store.run import RunFolder

CASES: tuple[Case, ...] = (
    Case(
        "training_unstable",
        "Training unstable",
        training.training_unstable,
        (training.unstable_rate,),
    ),
    Case(
        "loss_not_decreasing",
        "Training loss not decreasing",
        training.loss_flat,
        (
            training.rate_too_high,
            training.rate_too_low,
            training.noisy_data,
            training.broken_start,
        ),
    ),
    Case(
        "validation_rising",
        "Validation loss rising (overfitting)",
        training.validation_rising,
        (training.trained_too_long, training.data_not_diverse, training.model_too_large),
    ),
    Case(
        "loss_oscillating",
        "Training loss oscillating",
        training.loss_oscillating,
        (training.batch_too_small,),
    ),
    Case(
        "validation_loss_high",
        "Held-out perplexity too high",
        behaviour.validation_loss_high,
        (training.insufficient_training, behaviour.high_loss_data),
    ),
    Case(
        "instructions_ignored",
        "Poor instruction following",
        behaviour.instructions_ignored,
        (behaviour.weak_signal, behaviour.format_inconsistent, behaviour.too_little_training),
    ),
    Case(
        "answers_incoherent",
        "Answers do not end, are empty or loop",
        behaviour.answers_incoherent,
        (behaviour.never_learned_to_stop, behaviour.repetition_in_data),
    ),
    Case(
        "benchmarks_lost",
        "Capability lost against the base model",
        behaviour.benchmarks_lost,
        (behaviour.forgot,),
    ),
)
TITLES = {case.id: case.title for case in CASES}
SURENESS_ORDER = ("high", "medium", "low")


def diagnose(run: RunFolder, table: tuple[Case, ...] = CASES) -> Diagnosis:
    """Look for every symptom and weigh the causes of those that are present.

    Raises:
        RecipeError: the run folder has no readable recipe.
    """
    recipe = load_recipe(Path(run.recipe)).recipe
    return diagnosed(recipe, load_evidence(run, verify_checkpoint=False), table)


def diagnosed(recipe: Recipe, evidence: Evidence, table: tuple[Case, ...] = CASES) -> Diagnosis:
    """The diagnosis of loaded evidence."""
    symptoms = tuple(case.look(recipe, evidence) for case in table)
    findings = tuple(
        cause(recipe, evidence)
        for case, symptom in zip(table, symptoms, strict=True)
        if symptom.presence == "present"
        for cause in case.causes
    )
    return Diagnosis(str(evidence.run.root), symptoms, findings, _merged(findings))


def _merged(findings: tuple[Finding, ...]) -> dict[str, Any]:
    """Patches of found causes; for the same key the surer (then the earlier) cause wins."""
    merged: dict[str, Any] = {}
    found = [finding for finding in findings if finding.status == "found"]
    for finding in sorted(found, key=lambda f: SURENESS_ORDER.index(f.sure)):
        for key, value in finding.patch.items():
            merged.setdefault(key, value)
    return merged
