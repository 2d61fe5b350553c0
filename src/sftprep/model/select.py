"""Rank base models for a recipe: what trains here, may be used, and fits the data, in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sftprep.errors import ModelError
from sftprep.model.alignment import bits_per_byte, why_not_measured
from sftprep.model.aspects import (
    Aspect,
    Fit,
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
from sftprep.model.sample import RowSample, sample_rows, token_fit
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.stop import StopSignal
from sftprep.store.durable import write_json
from sftprep.store.run import RunFolder

MODELS_VERSION = 1
CATALOGUE = "catalogue"
SUGGESTIONS = 5
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
}
LORA_PENALTY = 0.5
# Pre-training tokens per parameter where they are not published (Hoffmann et al. 2022).
ASSUMED_TOKENS_PER_PARAMETER = 20


@dataclass(frozen=True, slots=True)
class RankedModel:
    """One model with everything that speaks for and against it.

    `usable` is false when an aspect excludes it. `bits_per_byte` is None when not measured.
    `score` in points, comparable only within one ranking. `role`: base, candidate or catalogue.
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

    @property
    def reasons(self) -> list[str]:
        """One line of words per aspect."""
        return [f"{a.name} {a.standing}: {a.text}" for a in self.aspects]


@dataclass(frozen=True, slots=True)
class _Judged:
    facts: ModelFacts
    role: str
    fit: Fit
    aspects: tuple[Aspect, ...]
    bits: float | None
    compute: float | None

    @property
    def usable(self) -> bool:
        return all(aspect.standing != "out" for aspect in self.aspects)


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
    return _select(recipe, sample_rows(recipe.data, run), hardware, progress, stop)


def _select(
    recipe: Recipe,
    rows: RowSample,
    hardware: Hardware,
    progress: Progress | None,
    stop: StopSignal | None,
) -> list[RankedModel]:
    progress, stop = progress or Progress(quiet=True), stop or StopSignal()
    judged = []
    for ref, role in _candidates(recipe):
        stop.check("ranking base models")
        judged.append(_judge(ref, role, recipe, rows, hardware, progress, stop))
    return rank(judged)


def _candidates(recipe: Recipe) -> list[tuple[str, str]]:
    section = recipe.model
    wanted = [(section.base, "base")]
    for ref in section.candidates:
        rows = [(row.id, "catalogue") for row in catalogue()]
        wanted += rows if ref == CATALOGUE else [(ref, "candidate")]
    seen: dict[str, str] = {}
    for ref, role in wanted:
        seen.setdefault(ref, role)
    return list(seen.items())


def _judge(
    ref: str,
    role: str,
    recipe: Recipe,
    rows: RowSample,
    hardware: Hardware,
    progress: Progress,
    stop: StopSignal,
) -> _Judged:
    try:
        facts = facts_for(ref, recipe.model.revision if role == "base" else None)
    except ModelError as error:
        if role == "base":
            raise
        return _Judged(_nothing(ref), role, "no", (Aspect("model", "out", str(error)),), None, None)
    row = find_model(ref)
    fit = token_fit(rows.pairs, facts.folder)
    why_not = why_not_measured(facts, hardware) if rows.pairs else "there are no readable rows"
    bits = None if why_not else bits_per_byte(facts, rows.pairs, progress, stop)
    size, method = size_aspect(facts, recipe.training, hardware)
    aspects = (
        size,
        licence_aspect(facts, recipe.model),
        context_aspect(facts, fit, recipe.training.max_length),
        tokenizer_aspect(facts, fit),
        domain_aspect(bits, why_not, row),
        support_aspect(facts, recipe.model, row),
    )
    return _Judged(facts, role, method, aspects, bits, _compute(facts, row))


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


def rank(judged: Sequence[_Judged]) -> list[RankedModel]:
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
        )
        for place, model in enumerate(ordered, start=1)
    ]


def _score(model: _Judged, by_bits: bool) -> float:
    if by_bits and model.bits is not None:
        points = -model.bits / BITS_PER_POINT
    else:
        points = math.log10(model.compute) if model.compute else 0.0
    penalty = sum(PENALTY.get((a.name, a.standing), 0.0) for a in model.aspects)
    return points - penalty - (LORA_PENALTY if model.fit == "lora" else 0.0)


def select_stage(
    recipe: Recipe, run: RunFolder, progress: Progress, stop: StopSignal
) -> dict[str, Any]:
    """Write models.json: the ranking, suggestions from the catalogue, and what they rest on."""
    hardware = parse_hardware(recipe.model.hardware)
    rows = sample_rows(recipe.data, run)
    ranking = _select(recipe, rows, hardware, progress, stop)
    ranked = {model.ref.lower() for model in ranking}
    others = rank(
        [
            _judge(row.id, "catalogue", recipe, rows, hardware, progress, stop)
            for row in catalogue()
            if row.id.lower() not in ranked
        ]
    )
    document = {
        "version": MODELS_VERSION,
        "base": recipe.model.base,
        "recommended": ranking[0].ref if ranking[0].usable else None,
        "intended_use": recipe.model.intended_use,
        "hardware": hardware.label,
        "rows": rows.rows,
        "rows_sampled": len(rows.pairs),
        "rows_problem": rows.problem,
        "ranking": [_as_dict(model) for model in ranking],
        "suggestions": [_as_dict(model) for model in others if model.usable][:SUGGESTIONS],
    }
    write_json(run.models, document)
    for line in models_lines(document):
        progress.line(f"  {line}")
    return document


def _as_dict(model: RankedModel) -> dict[str, Any]:
    return {**asdict(model), "reasons": model.reasons}


def models_lines(document: dict[str, Any]) -> list[str]:
    """The ranking in words, for a terminal."""
    lines = []
    for model in document["ranking"]:
        state = "" if model["usable"] else " (cannot be used)"
        lines.append(f"{model['rank']}. {model['ref']}{state}")
        lines += [f"   {reason}" for reason in model["reasons"]]
    recommended = document["recommended"]
    if recommended is not None and recommended != document["base"]:
        lines.append(f"{recommended} ranks above model.base {document['base']}: consider it")
    if recommended is None:
        lines.append("no model of the recipe can be used as it stands")
    if document["suggestions"]:
        names = ", ".join(model["ref"] for model in document["suggestions"])
        lines.append(f"from the catalogue, by size and licence, not measured: {names}")
    return lines
