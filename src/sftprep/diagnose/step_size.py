"""Causes that lie in learning rate, batch size, precision or single batches."""

import math
from typing import Any

from sftprep.diagnose.curves import SPIKE_SHARE, drift, rate_where_loss_rose
from sftprep.diagnose.records import Finding
from sftprep.diagnose.training import flagged, stopped
from sftprep.gate.evidence import Evidence
from sftprep.recipe.sections import Recipe

RECOMMENDED_RATE = 5e-5  # stage document, Issue 1: "increase learning rate (try 5e-5)"
USUAL_ROWS = 32  # rows per optimiser step of the stage document's 7B recipe: 8 x 4
MANY_ROWS = 128


def _wild(evidence: Evidence) -> str:
    """Why larger steps are out of the question, or an empty text when the curve is calm."""
    log = evidence.steps
    found = drift(log.kept)
    if found is not None and math.isfinite(found.last) and found.rose:
        return "the loss rises"
    if log.unfinished.count:
        return "the loss or a gradient is not finite"
    return "the loss jumps" if log.spikes.count > SPIKE_SHARE * log.total else ""


def _broken_at_once(evidence: Evidence) -> int | None:
    """The first step when it was not finite: no update had been made yet."""
    log = evidence.steps
    at_once = log.unfinished.first[:1] == tuple(step.step for step in log.kept[:1])
    return log.kept[0].step if log.kept and at_once else None


def _gentler(recipe: Recipe, evidence: Evidence) -> tuple[str, dict[str, Any]]:
    """Half the rate, or half of where the warm-up began to hurt, and twice the warm-up."""
    rate, warmup = recipe.training.learning_rate, recipe.training.warmup_steps
    hurt = rate_where_loss_rose(evidence.steps.kept, warmup)
    lower = float(f"{min(rate, hurt or rate) / 2:.3g}")
    change = f"lower training.learning_rate from {rate:g} to {lower:g} and double the warm-up"
    if hurt is not None:
        change += f" (in the warm-up the loss was lowest near {hurt:g})"
    patch = {"training.learning_rate": lower, "training.warmup_steps": max(2 * warmup, 10)}
    return change, patch


def rate_too_high(recipe: Recipe, evidence: Evidence) -> Finding:
    """Large steps: the loss rises, jumps or becomes NaN."""
    cause, why = "learning_rate_too_high", _wild(evidence)
    stops = flagged(evidence, "gradients_exploding", "loss_not_finite") or stopped(evidence)
    broken = _broken_at_once(evidence)
    if broken is not None:
        text = f"not finite at the first step ({broken}): no rate had acted yet"
        return Finding("", cause, "ruled_out", text, "high")
    if not why and not stops:
        text = "no rise, no spike, no NaN in the training loss"
        return Finding("", cause, "ruled_out", text, "medium")
    change, patch = _gentler(recipe, evidence)
    text = f"{why or 'a red flag was raised'} at training.learning_rate "
    text += f"{recipe.training.learning_rate:g}{stops}"
    return Finding("", cause, "found", text, "high" if why else "medium", change, patch)


def rate_too_low(recipe: Recipe, evidence: Evidence) -> Finding:
    """Small steps: the loss stays where it was, without spikes."""
    rate, cause, why = recipe.training.learning_rate, "learning_rate_too_low", _wild(evidence)
    if why:
        text = f"{why}: larger steps would make it worse"
        return Finding("", cause, "ruled_out", text, "medium")
    low = rate < RECOMMENDED_RATE
    better = RECOMMENDED_RATE if low else 2 * rate
    text = f"flat and calm at training.learning_rate {rate:g}"
    change = f"raise training.learning_rate to {better:g}"
    patch = {"training.learning_rate": better}
    return Finding("", cause, "found", text, "medium" if low else "low", change, patch)


def rows_per_step(recipe: Recipe) -> int:
    """Packed rows of one optimiser step on each rank."""
    return recipe.training.batch_size * recipe.training.gradient_accumulation_steps


def batch_too_small(recipe: Recipe, evidence: Evidence) -> Finding:
    """Fewer rows per step make noisier steps."""
    cause, rows = "batch_too_small", rows_per_step(recipe)
    text = f"{rows} packed rows per optimiser step on each rank"
    if rows >= MANY_ROWS:
        return Finding("", cause, "ruled_out", text, "medium")
    larger = 2 * recipe.training.gradient_accumulation_steps
    sure = "medium" if rows < USUAL_ROWS else "low"
    change = f"raise training.gradient_accumulation_steps to {larger}"
    patch = {"training.gradient_accumulation_steps": larger}
    return Finding("", cause, "found", text, sure, change, patch)  # type: ignore[arg-type]


def rate_too_high_for_batch(recipe: Recipe, evidence: Evidence) -> Finding:
    """Noise that a large batch does not explain."""
    cause, rows = "learning_rate_too_high", rows_per_step(recipe)
    if rows < MANY_ROWS and not _wild(evidence):
        text = f"{rows} packed rows per step explain the noise; the loss does not rise"
        return Finding("", cause, "ruled_out", text, "low")
    change, patch = _gentler(recipe, evidence)
    text = f"{rows} packed rows per step and the loss still jumps"
    return Finding("", cause, "found", text, "medium", change, patch)


def broken_weights_or_precision(recipe: Recipe, evidence: Evidence) -> Finding:
    """NaN before the first update: the weights, the row or the number format."""
    cause, broken = "weights_or_precision", _broken_at_once(evidence)
    if broken is None:
        text = "the first steps were finite"
        return Finding("", cause, "ruled_out", text, "high")
    text = f"loss or gradient not finite at the first step ({broken})"
    change = "use training.precision: fp32 to rule the number format out; verify model.base"
    patch = {} if recipe.training.precision == "fp32" else {"training.precision": "fp32"}
    return Finding("", cause, "found", text, "high", change, patch)


def odd_batches(recipe: Recipe, evidence: Evidence) -> Finding:
    """A few spikes from which the loss recovers point at single rows."""
    cause, log = "odd_batches", evidence.steps
    found = log.spikes
    many = found.count > SPIKE_SHARE * log.total
    if not found.count or many or log.unfinished.count:
        text = "no isolated spike" if not found.count else (
            "too many for single rows" if many else "not spikes alone: steps are not finite"
        )  # fmt: skip
        return Finding("", cause, "ruled_out", text, "low")
    places = ", ".join(map(str, found.first[:3]))
    text = f"isolated spikes at step {places}, and the loss recovered"
    change = "look at the rows of these steps (events.jsonl, train/flags.jsonl)"
    return Finding("", cause, "found", text, "medium", change)
