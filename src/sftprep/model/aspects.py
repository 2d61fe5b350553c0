"""What speaks for and against a model: size, licence, context, tokenizer, domain, support."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from sftprep.model.catalogue import CatalogueModel
from sftprep.model.describe import ModelFacts, native_support
from sftprep.model.estimate import seconds_per_token, training_volume
from sftprep.model.hardware import GIB, Hardware
from sftprep.model.hub import HubFacts
from sftprep.model.job import Job
from sftprep.model.licences import judge
from sftprep.model.memory import fits
from sftprep.model.plan_words import readable_seconds
from sftprep.model.sample import TYPICAL_BYTES_PER_TOKEN, TokenFit
from sftprep.model.settings import job_for, nearest
from sftprep.recipe.sections import ModelSection, TrainingSection

Standing = Literal["good", "caution", "bad", "unknown", "out"]
Fit = Literal["full", "lora", "no"]

# Training longer than the stage document's longest (7 days) is a warning, than a month useless.
LONG_SECONDS, TOO_LONG_SECONDS = 7 * 86400, 30 * 86400
# Unknown characters: one in a thousand costs meaning now and then, one in twenty much of it.
FEW_UNKNOWN, MANY_UNKNOWN = 0.001, 0.05
# English text: tokenizers of 32k to 256k entries reach 3.5 to 4.7 bytes per token.
LOW_BYTES_PER_TOKEN = 2.5
# Models of 1B parameters and more reach 0.6 to 0.9 bits per byte on English text and code.
NEAR_BITS, FAR_BITS = 1.0, 1.5
# Below this many downloads in 30 days hardly anybody else meets a model's problems.
FEW_DOWNLOADS = 1000
OLD_MONTHS = 24
# Families whose attention cannot be exchanged (model/attention.py; a test asks it).
UNPACKED = frozenset({"falcon", "gemma2"})


@dataclass(frozen=True, slots=True)
class Aspect:
    """One consideration. `out` excludes the model; the text says why in words."""

    name: str
    standing: Standing
    text: str
    value: float | None = None


def size_aspect(
    facts: ModelFacts, training: TrainingSection, hardware: Hardware
) -> tuple[Aspect, Fit]:
    """Does it train here: in full, in full with other settings, as adapters, or not at all."""
    if facts.shape is None or facts.parameters is None:
        return Aspect("size", "unknown", "its layout is unknown, memory cannot be computed"), "no"
    size = f"{readable_count(facts.parameters)} parameters"
    length = min(training.max_length, facts.context or training.max_length)
    training = training.model_copy(update={"max_length": length})
    job, need, _ = job_for(facts.shape, facts.parameters, training, hardware)
    if fits(need, hardware):
        text = f"{size}: {job.method} fine-tuning needs {need.total / GIB:.1f} GiB per device"
        return _timed(text, "good", need.total, job, training, hardware), job.method
    for other, smaller in nearest(job, training, hardware):
        text = (
            f"{size}: fits only with {other.text} ({other.memory_bytes / GIB:.1f} GiB per device)"
        )
        standing = _timed(text, "caution", other.memory_bytes, smaller, training, hardware)
        return standing, smaller.method
    text = f"{size}: needs {need.total / GIB:.1f} GiB per device, there are "
    return Aspect("size", "out", f"{text}{hardware.memory_bytes / GIB:.1f}", need.total), "no"


def readable_count(parameters: int) -> str:
    """For example `7.24B` or `0.66M`."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.2f}M"


def _timed(
    text: str, standing: Standing, memory: int, job: Job, training: TrainingSection, on: Hardware
) -> Aspect:
    """What fits in memory may still take too long."""
    volume = training_volume(training, on.count, None)
    if volume is None:
        return Aspect("size", standing, text, memory)
    took = seconds_per_token(job, on) * volume.tokens
    if took > LONG_SECONDS:
        standing = "out" if took > TOO_LONG_SECONDS else "caution"
        text += f", but takes about {readable_seconds(took)}"
    return Aspect("size", standing, text, memory)


def licence_aspect(facts: ModelFacts, section: ModelSection) -> Aspect:
    """The licence against the intended use, with its conditions."""
    judged = judge(facts.licence, section.intended_use)
    standing: dict[str, Standing] = {
        "free": "good", "conditions": "caution", "forbidden": "out", "unknown": "unknown",
    }  # fmt: skip
    gated = ["access must be requested on the hub"] if facts.gated else []
    text = "; ".join([judged.why, *judged.conditions, *gated])
    return Aspect("licence", standing[judged.standing], text)


def context_aspect(facts: ModelFacts, fit: TokenFit | None, max_length: int) -> Aspect:
    """The context against the recipe's length and the lengths of the rows."""
    context = facts.context
    if context is None:
        return Aspect("context", "unknown", "config.json states no context length")
    if fit is None:
        standing: Standing = "good" if context >= max_length else "caution"
        return Aspect("context", standing, f"{context} tokens, no rows to compare with", context)
    half, most, nearly_all, longest = fit.lengths
    about = "" if fit.measured else f", at {TYPICAL_BYTES_PER_TOKEN:g} bytes a token"
    lengths = f"median {half}, 90 % {most}, 99 % {nearly_all}, longest {longest} tokens{about}"
    if context < half:
        return Aspect(
            "context",
            "out",
            f"{context} tokens are too few for half of the rows ({lengths})",
            context,
        )
    if context < nearly_all or context < max_length:
        short = f"max_length {max_length}" if context < max_length else "the longest rows"
        return Aspect(
            "context",
            "caution",
            f"{context} tokens are too few for {short} (rows: {lengths})",
            context,
        )
    return Aspect("context", "good", f"{context} tokens (rows: {lengths})", context)


def tokenizer_aspect(facts: ModelFacts, fit: TokenFit | None) -> Aspect:
    """How the tokenizer cuts the user's rows."""
    if fit is None or not fit.measured:
        return Aspect("tokenizer", "unknown", "not measured: no tokenizer.json on this machine")
    unknown = fit.unknown or 0.0
    text = f"{fit.bytes_per_token:.2f} bytes per token, {unknown:.2%} of the characters unknown"
    standing: Standing = "good"
    if unknown > FEW_UNKNOWN or fit.bytes_per_token < LOW_BYTES_PER_TOKEN:
        standing = "caution"
    if unknown > MANY_UNKNOWN:
        standing = "bad"
    return Aspect("tokenizer", standing, text, fit.bytes_per_token)


def domain_aspect(bits: float | None, why_not: str | None, row: CatalogueModel | None) -> Aspect:
    """Fit of the pre-training to the user's responses; measured, or what is documented."""
    known = f"pre-trained on {row.pretraining_data}" if row else "pre-training data not recorded"
    if row and row.pretraining_tokens:
        known += f", {row.pretraining_tokens / 1e12:.3g}T tokens"
    if bits is None:
        return Aspect("domain", "unknown", f"not measured: {why_not or 'no rows'}; {known}")
    standing: Standing = "good" if bits < NEAR_BITS else "caution" if bits < FAR_BITS else "bad"
    words = {"good": "close to", "caution": "some way from", "bad": "far from"}[standing]
    text = f"{bits:.3f} bits per byte on your responses: {words} its pre-training; {known}"
    return Aspect("domain", standing, text, bits)


def support_aspect(facts: ModelFacts, section: ModelSection, row: CatalogueModel | None) -> Aspect:
    """Does it load without foreign code, and is it documented."""
    if facts.remote_code:
        standing: Standing = "caution" if section.trust_remote_code else "out"
        return Aspect("support", standing, "needs Python code of its author (trust_remote_code)")
    native = native_support(facts.model_type)
    packed = facts.model_type not in UNPACKED
    words = [
        f"architecture {facts.model_type} {'is' if native else 'is not'} part of the installed "
        "transformers",
        "own chat template" if facts.chat_template else "chat template: the built-in one",
    ]
    if not packed:
        words.append("its attention cannot take packed documents: they are padded, which is slower")
    if row:
        words.append(f"documented at {row.documentation}")
    if row and row.recalled:
        words.append(f"from memory of its pages, to be checked: {', '.join(row.recalled)}")
    standing = "bad" if not native else "good" if packed else "caution"
    return Aspect("support", standing, "; ".join(words))


def community_aspect(hub: HubFacts | None, why_not: str | None) -> Aspect:
    """How many use it and whether its page says what it is; only known when the hub was asked."""
    if hub is None:
        return Aspect("community", "unknown", f"not looked up: {why_not or 'not on the hub'}")
    counts = [
        f"{count:,} {what}"
        for count, what in ((hub.downloads, "downloads in 30 days"), (hub.likes, "likes"))
        if count is not None
    ]
    card = "a model card with metadata" if hub.card else "no metadata in its model card"
    text = ", ".join([*counts, card, *([f"last changed {hub.updated}"] if hub.updated else [])])
    few = hub.downloads is not None and hub.downloads < FEW_DOWNLOADS
    return Aspect("community", "caution" if few or not hub.card else "good", text, hub.downloads)


def age_aspect(released: str | None, today: date) -> Aspect:
    """Months since the weights became public. Age excludes nothing: compute counts for itself."""
    if released is None:
        return Aspect("age", "unknown", "its release is not recorded")
    year, month = int(released[:4]), int(released[5:7])
    months = 12 * (today.year - year) + today.month - month
    text = f"released {released}, {months} months ago"
    if months <= OLD_MONTHS:
        return Aspect("age", "good", text, months)
    return Aspect("age", "caution", f"{text}: newer models of its size saw more text", months)
