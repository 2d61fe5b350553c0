"""Symptoms of the training curve and their causes."""

import math

from sftprep.diagnose.curves import SPIKE_SHARE, drift, noise
from sftprep.diagnose.records import Finding, Symptom, present
from sftprep.errors import SftprepError
from sftprep.gate.evidence import Evidence
from sftprep.gate.remedies import (
    HIGH_REJECTION,
    OVERFIT_NATS,
    overfitted,
    still_falling,
    validation_curve,
)
from sftprep.recipe.sections import Recipe
from sftprep.store.durable import read_json

UNTRAINED_NATS = 7.0
"""Held-out loss of the base model from which it looks untrained: a uniform guess over 32,000
tokens is 10.4 nats, pre-trained models lie near 2."""
CAPACITY_BITS = 2.0
"""Bits of knowledge a parameter holds at most (Allen-Zhu and Li 2024, Physics of Language Models
3.3): a model with less room than its data cannot learn the rows by heart."""


def flagged(evidence: Evidence, *flags: str) -> str:
    """Where red flags of the training stage saw the same, as an addition to evidence."""
    raised = evidence.flags or (evidence.train.flags if evidence.train else ())
    texts = []
    for flag in flags:
        steps = [str(one.step) for one in raised if one.id == flag]
        if steps:
            texts.append(f"; red flag '{flag}' at step {', '.join(steps[:3])}")
    return "".join(texts)


def base_suspicious(recipe: Recipe, evidence: Evidence) -> Symptom:
    """The base model guesses before any training."""
    loss = evidence.train.base_validation_loss_nats if evidence.train else None
    seen = flagged(evidence, "base_loss_suspicious")
    if loss is None and not seen:
        why = "the base model's held-out loss was not recorded"
        return present("base_model_suspicious", None, why)
    text = "held-out loss of the base model: " + (
        "not recorded" if loss is None else f"{loss:.2f} nats per token"
    )
    healthy = loss is not None and loss < UNTRAINED_NATS and not seen
    return present("base_model_suspicious", not healthy, text + seen)


def broken_start(recipe: Recipe, evidence: Evidence) -> Finding:
    """A base model that does not know language was not loaded as pre-trained."""
    cause = "model_not_loaded_as_pretrained"
    loss = evidence.train.base_validation_loss_nats if evidence.train else None
    seen = flagged(evidence, "base_loss_suspicious")
    if loss is None and not seen:
        text = "the base model's held-out loss was not recorded"
        return Finding("", cause, "not_decidable", text, "low")
    text = "held-out loss of the base model: " + (
        "not recorded" if loss is None else f"{loss:.2f} nats per token"
    )
    if loss is not None and loss < UNTRAINED_NATS and not seen:
        return Finding("", cause, "ruled_out", text, "high")
    change = (
        f"check that model.base ({recipe.model.base}) holds pre-trained weights and that "
        "model.tokenizer is its own"
    )
    return Finding("", cause, "found", text + seen, "high", change)


def loss_flat(recipe: Recipe, evidence: Evidence) -> Symptom:
    """Training loss flat or rising from start to end."""
    found = drift(evidence.steps.kept)
    if found is None:
        return present("loss_not_decreasing", None, f"{evidence.steps.total} steps recorded")
    text = f"mean loss {found.first:.3f} in the first tenth, {found.last:.3f} in the last"
    text += flagged(evidence, "loss_not_decreasing")
    return present("loss_not_decreasing", not found.fell, text)


def noisy_data(recipe: Recipe, evidence: Evidence) -> Finding:
    """Many rejected or flagged rows point at noisy labels."""
    data = evidence.data
    if data is None or not data.ledger.read or not data.ledger.kept:
        text = "no data report"
        return Finding("", "data_quality", "not_decidable", text, "low", "run `sftprep data RUN`")
    rejected = sum(data.ledger.rejected.values()) / data.ledger.read
    marked = sum(data.flagged.values()) / data.ledger.kept
    text = f"{rejected:.1%} of the rows rejected, {marked:.1%} of the kept ones flagged"
    if not (rejected > HIGH_REJECTION or marked > HIGH_REJECTION):
        return Finding("", "data_quality", "ruled_out", text, "low")
    most = dict(data.flagged) if marked > HIGH_REJECTION else dict(data.ledger.rejected)
    worst = max(most, key=lambda reason: most[reason])
    change = f"review the data: most often '{worst}' ({most[worst]:,} rows)"
    patch = {}
    if marked > HIGH_REJECTION:
        change += "; drop these rows"
        patch = {f"data.checks.{worst}.action": "drop"}
    return Finding("", "data_quality", "found", text, "low", change, patch)


def validation_rising(recipe: Recipe, evidence: Evidence) -> Symptom:
    """Held-out loss above its minimum at the end: overfitting."""
    curve = validation_curve(evidence.steps)
    if len(curve) < 3:
        return present("validation_rising", None, f"{len(curve)} validations recorded")
    best = min(curve, key=lambda point: point[1])
    step, last = curve[-1]
    text = f"held-out loss {last:.3f} at step {step}, best {best[1]:.3f} at step {best[0]}"
    text += flagged(evidence, "validation_loss_increasing")
    return present("validation_rising", overfitted(evidence.steps), text)


def trained_too_long(recipe: Recipe, evidence: Evidence) -> Finding:
    """The best validation lies well before the end, while the training loss went on falling."""
    cause, curve = "training_too_long", validation_curve(evidence.steps)
    best, last = min(curve, key=lambda point: point[1])[0], curve[-1][0]
    text = f"best at step {best} of {last} (rise above {OVERFIT_NATS:g} nats since)"
    after = drift([step for step in evidence.steps.kept if step.step >= best])
    if after is not None and after.rose:
        text += ", but the training loss rose too: not learned by heart"
        return Finding("", cause, "ruled_out", text, "medium")
    training = recipe.training
    patch = {"training.early_stopping_patience": min(training.early_stopping_patience or 3, 3)}
    if training.max_steps is not None:
        patch["training.max_steps"] = max(best, 1)
    elif training.epochs is not None:
        patch["training.epochs"] = round(max(training.epochs * best / last, 0.01), 2)  # type: ignore[assignment]
    change = f"end near step {best}; training.export: best_validation already uses that checkpoint"
    return Finding("", cause, "found", text, "high", change, patch)


def data_not_diverse(recipe: Recipe, evidence: Evidence) -> Finding:
    """Few different prompts, or few rows at all."""
    cause, data = "data_not_diverse", evidence.data
    if data is None or not data.ledger.kept:
        return Finding("", cause, "not_decidable", "no data report", "low")
    share = data.unique_prompts / data.ledger.kept
    text = f"{data.ledger.kept:,} rows, {share:.0%} of them with a prompt of their own"
    if data.ledger.kept >= recipe.data.minimum_rows and share >= 0.5:
        return Finding("", cause, "ruled_out", text, "medium")
    change = "add more diverse examples (data.sources)"
    return Finding("", cause, "found", text, "medium", change)


def model_too_large(recipe: Recipe, evidence: Evidence) -> Finding:
    """Regularise when the model can hold the whole data by heart."""
    cause = "model_too_large_for_data"
    decay = recipe.training.weight_decay
    better = max(0.1, decay)
    change = f"try training.weight_decay {better:g} (now {decay:g}) or training.method: lora"
    patch = {"training.weight_decay": better}
    train, trained = evidence.train, trained_parameters(evidence)
    steps_per_epoch = train.settings.get("steps_per_epoch") if train else None
    if train is None or trained is None or not steps_per_epoch or not train.steps:
        missing = "plan.json names no trained parameters" if trained is None else "no epoch length"
        return Finding("", cause, "not_decidable", missing, "low", change, patch)
    tokens = round(train.tokens_supervised * min(1.0, steps_per_epoch / train.steps))
    nats = train.base_validation_loss_nats
    bits = (
        tokens * (nats if nats is not None and math.isfinite(nats) else math.log(8)) / math.log(2)
    )
    text = (
        f"{trained:,} trained parameters hold about {trained * CAPACITY_BITS / 8e3:,.0f} kB, the "
        f"{tokens:,} supervised tokens of one pass about {bits / 8e3:,.0f} kB"
    )
    if trained * CAPACITY_BITS < bits:
        return Finding("", cause, "ruled_out", text, "medium")
    return Finding("", cause, "found", text, "medium", change, patch)


def trained_parameters(evidence: Evidence) -> int | None:
    """Parameters that learned, as plan.json says; None without a readable plan."""
    if not evidence.run.plan.is_file():
        return None
    try:
        plan = read_json(evidence.run.plan)
    except SftprepError:
        return None
    value = plan.get("trained_parameters") if isinstance(plan, dict) else None
    return value if isinstance(value, int) and value > 0 else None


def loss_oscillating(recipe: Recipe, evidence: Evidence) -> Symptom:
    """Training loss jumps from step to step by more than it gained."""
    found = noise(evidence.steps.kept)
    if found is None:
        return present("loss_oscillating", None, f"{evidence.steps.total} steps recorded")
    text = (
        f"noise of {found.jump:.3f} nats from step to step (second half), mean loss "
        f"{found.level:.3f}, {found.gain:.3f} below the first steps"
    )
    text += flagged(evidence, "loss_oscillating")
    return present("loss_oscillating", found.restless, text)


def training_unstable(recipe: Recipe, evidence: Evidence) -> Symptom:
    """Spikes, NaN, or a stop by a red flag."""
    log = evidence.steps
    if not log.total and not evidence.flags and not evidence.train:
        return present("training_unstable", None, "no steps recorded")
    jumps, broken = log.spikes.count, log.unfinished.count
    text = f"{jumps} spikes, {broken} steps not finite, of {log.total}"
    text += flagged(evidence, "gradients_exploding", "loss_spike")
    ended = stopped(evidence)
    many = jumps > SPIKE_SHARE * log.total
    return present("training_unstable", bool(ended or broken or many), text + ended)


def stopped(evidence: Evidence) -> str:
    """The red flag that ended the run or rolled it back, as an addition to evidence."""
    flags = evidence.train.flags if evidence.train else evidence.flags
    stops = [flag for flag in flags if flag.action != "warn"]
    if not stops:
        return ""
    return f"; stopped by '{stops[-1].id}' at step {stops[-1].step}: {stops[-1].evidence}"


def insufficient_training(recipe: Recipe, evidence: Evidence) -> Finding:
    """The held-out loss was still falling when training ended."""
    cause = "insufficient_training"
    if len(validation_curve(evidence.steps)) < 2:
        return Finding("", cause, "not_decidable", "fewer than two validations", "low")
    if not still_falling(evidence.steps):
        text = "the held-out loss had stopped falling"
        return Finding("", cause, "ruled_out", text, "medium")
    training = recipe.training
    key = "max_steps" if training.max_steps is not None else "epochs"
    longer = 2 * (training.max_steps or training.epochs or 1)
    text = "the last validation was the best one"
    change = f"raise training.{key} to {longer:g}"
    return Finding("", cause, "found", text, "high", change, {f"training.{key}": longer})
