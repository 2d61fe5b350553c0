"""Rank base models for a recipe: what trains here, may be used, and fits the data, in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sftprep.errors import ModelError
from sftprep.model.alignment import bits_per_byte, why_not_measured
from sftprep.model.aspects import (
    Aspect,
    Fit,
    age_aspect,
    community_aspect,
    context_aspect,
    domain_aspect,
    licence_aspect,
    size_aspect,
    support_aspect,
    tokenizer_aspect,
)
from sftprep.model.catalogue import CatalogueModel, catalogue, facts_for, find_model
from sftprep.model.describe import ModelFacts
from sftprep.model.hardware import Hardware, parse_hardware
from sftprep.model.hub import Hub, HubFacts
from sftprep.model.sample import RowSample, sample_rows, token_fit
from sftprep.progress import Progress
from sftprep.recipe.presets import preset_for
from sftprep.recipe.sections import Recipe, TrainingSection
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder

CATALOGUE = "catalogue"
# Points. One point is ten times the pre-training compute, or 0.1 bits per byte when every usable
# model was measured: about what ten times the compute gains (Hoffmann et al. 2022, figure 2).
BITS_PER_POINT = 0.1
PENALTY = {
    ("size", "caution"): 0.5,
    ("size", "unknown"): 3.0,
    ("licence", "caution"): 0.5,
    ("licence", "unknown"): 1.5,
    ("context", "caution"): 1.0,
    ("context", "unknown"): 0.5,
    ("tokenizer", "caution"): 0.5,
    ("tokenizer", "bad"): 3.0,
    ("support", "caution"): 0.5,
    ("support", "bad"): 2.0,
    ("community", "caution"): 0.25,
}
LORA_PENALTY = 0.5
# Pre-training tokens per parameter where they are not published (Hoffmann et al. 2022).
ASSUMED_TOKENS_PER_PARAMETER = 20


@dataclass(frozen=True, slots=True)
class RankedModel:
    """One model with everything that speaks for and against it.

    `usable` is false when an aspect excludes it. `bits_per_byte` is None when not measured.
    `score` in points, comparable only within one ranking. `role`: base, candidate or catalogue.
    `sources`: the page that states each fact, for models of the catalogue.
    """

    rank: int
    ref: str
    role: str
    usable: bool
    fit: Fit
    score: float
    parameters: int | None
    licence: str | None
    context: int | None
    bits_per_byte: float | None
    aspects: tuple[Aspect, ...]
    released: str | None = None
    downloads: int | None = None
    likes: int | None = None
    sources: Mapping[str, str] | None = None

    @property
    def reasons(self) -> list[str]:
        """One line of words per aspect."""
        return [f"{a.name} {a.standing}: {a.text}" for a in self.aspects]


@dataclass(frozen=True, slots=True)
class Judged:
    """One model before it has a place among others."""

    facts: ModelFacts
    role: str
    fit: Fit
    aspects: tuple[Aspect, ...]
    bits: float | None
    compute: float | None
    hub: HubFacts | None = None
    released: str | None = None

    @property
    def usable(self) -> bool:
        return all(aspect.standing != "out" for aspect in self.aspects)


@dataclass(frozen=True, slots=True)
class Judges:
    """What every model is held against. `by_size`: training values by each model's size."""

    rows: RowSample
    hardware: Hardware
    hub: Hub
    today: date
    progress: Progress
    stop: StopSignal
    by_size: bool = False


def select(
    recipe: Recipe,
    run: RunFolder | None = None,
    *,
    hardware: Hardware | None = None,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> list[RankedModel]:
    """Rank `model.base` and `model.candidates`; the word `catalogue` stands for the whole table.

    Raises:
        ModelError: `model.base` cannot be described. Other candidates are ranked last instead.
        RecipeError: `model.hardware` is not understood.
    """
    hardware = hardware or parse_hardware(recipe.model.hardware)
    judges = judges_for(sample_rows(recipe.data, run), hardware, progress, stop)
    return rank([judge_one(ref, role, recipe, judges) for ref, role in candidates(recipe)])


def judges_for(
    rows: RowSample,
    hardware: Hardware,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
    *,
    by_size: bool = False,
) -> Judges:
    """Today, and a hub that has not been asked yet."""
    progress, stop = progress or Progress(quiet=True), stop or StopSignal()
    return Judges(rows, hardware, Hub(), datetime.now(UTC).date(), progress, stop, by_size)


def candidates(recipe: Recipe) -> list[tuple[str, str]]:
    """Names and roles: the base model first, nothing twice."""
    section = recipe.model
    wanted = [(section.base, "base")]
    for ref in section.candidates:
        rows = [(row.id, "catalogue") for row in catalogue()]
        wanted += rows if ref == CATALOGUE else [(ref, "candidate")]
    seen: dict[str, str] = {}
    for ref, role in wanted:
        seen.setdefault(ref, role)
    return list(seen.items())


def judge_one(ref: str, role: str, recipe: Recipe, judges: Judges) -> Judged:
    """Everything that speaks for and against one model.

    Raises:
        ModelError: the base model cannot be described; another one is judged unusable instead.
        Interrupted: a stop was requested.
    """
    judges.stop.check("ranking base models")
    try:
        facts = facts_for(ref, recipe.model.revision if role == "base" else None)
    except ModelError as error:
        if role == "base":
            raise
        return Judged(_nothing(ref), role, "no", (Aspect("model", "out", str(error)),), None, None)
    row, rows, hardware = find_model(ref), judges.rows, judges.hardware
    training = recipe.training
    if judges.by_size and facts.parameters is not None:
        preset = preset_for(facts.parameters).training
        training = TrainingSection.model_validate(training.model_dump() | dict(preset))
    fit = token_fit(rows.pairs, facts.folder)
    why_not = why_not_measured(facts, hardware) if rows.pairs else "there are no readable rows"
    bits = None if why_not else bits_per_byte(facts, rows.pairs, judges.progress, judges.stop)
    size, method = size_aspect(facts, training, hardware)
    hub = judges.hub.facts(ref) if role != "catalogue" else None
    why_no_hub = judges.hub.unreachable if role != "catalogue" else "only for named candidates"
    released = facts.released or (hub.created[:7] if hub and hub.created else None)
    aspects = (
        size,
        licence_aspect(facts, recipe.model),
        context_aspect(facts, fit, training.max_length),
        tokenizer_aspect(facts, fit),
        domain_aspect(bits, why_not, row),
        support_aspect(facts, recipe.model, row),
        community_aspect(hub, why_no_hub),
        age_aspect(released, judges.today),
    )
    return Judged(facts, role, method, aspects, bits, _compute(facts, row), hub, released)


def _nothing(ref: str) -> ModelFacts:
    return ModelFacts(
        ref, None, "unknown", "unknown", None, "unknown", None, None, None, None, False, None, None,
        False,
    )  # fmt: skip


def _compute(facts: ModelFacts, row: CatalogueModel | None) -> float | None:
    """Operations of pre-training, 6 N D; None when the size is unknown."""
    if facts.parameters is None:
        return None
    active = facts.shape.active_parameters if facts.shape else facts.parameters
    known = row.pretraining_tokens if row else None
    return 6.0 * active * (known or ASSUMED_TOKENS_PER_PARAMETER * active)


def rank(judged: Sequence[Judged]) -> list[RankedModel]:
    """Usable models first, then by points, then by name."""
    usable = [model for model in judged if model.usable]
    by_bits = len(usable) > 1 and all(model.bits is not None for model in usable)
    ordered = sorted(judged, key=lambda m: (not m.usable, -_score(m, by_bits), m.facts.ref))
    return [
        RankedModel(
            rank=place,
            ref=model.facts.ref,
            role=model.role,
            usable=model.usable,
            fit=model.fit,
            score=round(_score(model, by_bits), 3),
            parameters=model.facts.parameters,
            licence=model.facts.licence,
            context=model.facts.context,
            bits_per_byte=model.bits,
            aspects=model.aspects,
            released=model.released,
            downloads=model.hub.downloads if model.hub else None,
            likes=model.hub.likes if model.hub else None,
            sources=row.sources if (row := find_model(model.facts.ref)) else None,
        )
        for place, model in enumerate(ordered, start=1)
    ]


def _score(model: Judged, by_bits: bool) -> float:
    if by_bits and model.bits is not None:
        points = -model.bits / BITS_PER_POINT
    else:
        points = math.log10(model.compute) if model.compute else 0.0
    penalty = sum(PENALTY.get((a.name, a.standing), 0.0) for a in model.aspects)
    return points - penalty - (LORA_PENALTY if model.fit == "lora" else 0.0)
