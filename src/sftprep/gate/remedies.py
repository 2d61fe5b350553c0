"""What to change when a rule fails, chosen by what this run recorded.

The three kinds come from the stage's failure handling: a high validation loss asks for better data
or more training, low benchmarks for another model or data, an unstable run for another learning
rate or batch size.
"""

from collections.abc import Sequence

from sftprep.gate.evidence import Evidence
from sftprep.gate.step_log import StepLog
from sftprep.recipe.sections import Recipe
from sftprep.records import Metric

OVERFIT_NATS = 0.02
"""Rise of the held-out loss above its minimum from which a run counts as trained too long."""
STILL_FALLING_NATS = 0.005
"""Fall between the last two validations from which more steps still pay."""
HIGH_REJECTION = 0.2
"""Share of rejected rows from which the data itself deserves a look."""


def validation_curve(steps: StepLog) -> list[tuple[int, float]]:
    """(step, held-out loss in nats) wherever it was measured and finite."""
    found = [(step.step, step.validation_loss_nats) for step in steps.validated]
    return [(step, loss) for step, loss in found if loss is not None]


def overfitted(steps: StepLog) -> bool:
    """Whether the held-out loss ended clearly above its minimum."""
    curve = validation_curve(steps)
    return len(curve) >= 3 and curve[-1][1] - min(loss for _, loss in curve) > OVERFIT_NATS


def still_falling(steps: StepLog) -> bool:
    """Whether the last validation is the best one, by more than noise."""
    curve = validation_curve(steps)
    return len(curve) >= 2 and curve[-2][1] - curve[-1][1] > STILL_FALLING_NATS


def for_training(recipe: Recipe, evidence: Evidence) -> str:
    """A run that stopped or diverged: its own flag's remedy, else learning rate and batch size."""
    flags = evidence.train.flags if evidence.train else ()
    stops = [flag for flag in flags if flag.action == "stop"]
    if stops:
        return stops[-1].remedy
    rate = recipe.training.learning_rate
    accumulation = recipe.training.gradient_accumulation_steps
    return (
        f"lower training.learning_rate ({rate:g} -> {rate / 2:g}) or raise "
        f"training.gradient_accumulation_steps ({accumulation} -> {2 * accumulation})"
    )


def for_perplexity(recipe: Recipe, evidence: Evidence) -> str:
    """A high held-out loss: more training, less training or better data."""
    if overfitted(evidence.steps):
        curve = validation_curve(evidence.steps)
        best = min(curve, key=lambda point: point[1])
        return (
            f"overfitting: held-out loss {curve[-1][1]:.3f} at step {curve[-1][0]} against "
            f"{best[1]:.3f} at step {best[0]}; set training.max_steps near {best[0]}, keep "
            "training.export: best_validation, or add more diverse data"
        )
    if still_falling(evidence.steps):
        return f"{_longer(recipe)}: the held-out loss was still falling at the last validation"
    return f"improve the data{_rejected_share(evidence)}, or train longer: {_longer(recipe)}"


def _other_length(recipe: Recipe, evidence: Evidence) -> str:
    """Train longer, or not as long: what the held-out curve says."""
    if not overfitted(evidence.steps):
        return f"train longer: {_longer(recipe)}"
    best = min(validation_curve(evidence.steps), key=lambda point: point[1])[0]
    return f"end training near step {best}, where the held-out loss was lowest"


def _longer(recipe: Recipe) -> str:
    training = recipe.training
    if training.max_steps is not None:
        return f"raise training.max_steps ({training.max_steps} -> {2 * training.max_steps})"
    epochs = training.epochs or 1.0
    return f"raise training.epochs ({epochs:g} -> {2 * epochs:g})"


def _rejected_share(evidence: Evidence) -> str:
    if evidence.data is None or not evidence.data.ledger.read:
        return ""
    rejected = dict(evidence.data.ledger.rejected)
    share = sum(rejected.values()) / evidence.data.ledger.read
    if not share > HIGH_REJECTION:
        return ""
    worst = max(rejected, key=lambda reason: rejected[reason])
    return f" ({share:.0%} of the rows were rejected, most often for '{worst}')"


def for_instructions(recipe: Recipe, evidence: Evidence) -> str:
    """Ignored instructions: weak signal in the data, inconsistent format or too little training."""
    validation = evidence.validation
    sensitivity = validation.sft.sensitivity_nats if validation else None
    if still_falling(evidence.steps):
        return f"{_longer(recipe)}: the held-out loss was still falling at the last validation"
    if sensitivity is not None and not sensitivity > 0.1:
        return (
            f"the answers hardly depend on the instruction (swapping it costs {sensitivity:.3f} "
            "nats per token): use data with clearer instructions and keep training.train_on: "
            "responses"
        )
    return (
        "add instruction-following examples, keep one chat template for all data "
        f"(model.chat_template), or {_other_length(recipe, evidence)}"
    )


def for_coherence(wrong: Sequence[str]) -> str:
    """Answers that do not end, are empty or loop."""
    advice = {
        "stopped": "check that every answer ends with the end-of-turn token (`sftprep data RUN "
        "--preview 3`) and that the data's answers fit validation.max_new_tokens",
        "empty": "keep data.checks.response_empty and response_placeholder on drop, then run "
        "`sftprep run RUN --from data`",
        "repetitive": "reject repetitive answers (data.checks) and train less on small data",
    }
    return "; ".join(advice[name] for name in wrong)


def for_benchmarks(recipe: Recipe, evidence: Evidence, names: Sequence[str]) -> str:
    """Capability lost against the base model: gentler training, or data of what was lost."""
    training = recipe.training
    gentler = f"lower training.learning_rate ({training.learning_rate:g} -> " + (
        f"{training.learning_rate / 2:g})"
    )
    if overfitted(evidence.steps):
        curve = validation_curve(evidence.steps)
        best = min(curve, key=lambda point: point[1])[0]
        gentler = f"end training near step {best}, where the held-out loss was lowest, or {gentler}"
    return (
        f"{', '.join(names)} fell below the base model: {gentler}, or review the data: add rows of "
        "these capabilities"
    )


def for_weak_benchmark(metric: Metric, base: Metric | None) -> str:
    """Below expectation: the base model's own score tells model selection from data."""
    if base is None or base.value is None or metric.value is None:
        return "review the base model or the data"
    known = base.ci95[1] if base.ci95 else base.value
    if metric.value < base.value and metric.ci95 and metric.ci95[1] < base.value:
        return f"the base model has {base.value:.1%}: review the data and the learning rate"
    if known < (metric.ci95[0] if metric.ci95 else metric.value):
        return f"up from {base.value:.1%} of the base model: more training or data may still help"
    return f"the base model has {base.value:.1%}: review the choice of model.base"


def for_data(recipe: Recipe, evidence: Evidence) -> str:
    """Too few rows: how many are missing, and which check took most when the checks took them."""
    if evidence.data is None:
        return "add more data under data.sources"
    rows = min(evidence.data.ledger.kept, evidence.data.unique_prompts)
    missing = recipe.data.minimum_rows - rows
    change = f"add about {missing:,} rows with prompts of their own under data.sources"
    rejected = dict(evidence.data.ledger.rejected)
    if sum(rejected.values()) < missing:
        return change
    worst = max(rejected, key=lambda reason: rejected[reason])
    most = f"most rejected rows fell to '{worst}' ({rejected[worst]:,})"
    return f"{change}; {most}: see data/rejected.parquet"
