"""A reviewed table of base models. Counts follow from the shape and are tested against published
ones. `sources` names where each fact stands; facts not in `checked` are recalled from there.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sftprep.model.describe import ModelFacts, describe_model
from sftprep.model.shape import ModelShape


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """One base model.

    `parameters` is the published exact count (buffers excluded). `context` in tokens; `released`
    is the month (YYYY-MM) the weights were first public. `pretraining_tokens` and `gated` are None
    where undisclosed or not certain. `checked`: facts that were compared with public material when
    the table was reviewed.
    """

    id: str
    family: str
    model_type: str
    parameters: int
    shape: ModelShape
    context: int
    released: str
    pretraining_tokens: float | None
    pretraining_data: str
    licence: str
    gated: bool | None
    documentation: str
    checked: tuple[str, ...]

    @property
    def sources(self) -> dict[str, str]:
        """Each fact and the page that states it."""
        page = f"https://huggingface.co/{self.id}"
        config = f"{page}/blob/main/config.json"
        return {
            "parameters": page, "shape": config, "context": config, "released": page,
            "pretraining_tokens": self.documentation, "pretraining_data": self.documentation,
            "licence": page, "gated": page,
        }  # fmt: skip

    @property
    def recalled(self) -> tuple[str, ...]:
        """Facts that were not compared with their source."""
        return tuple(fact for fact in self.sources if fact not in self.checked)

    @property
    def active_parameters(self) -> int:
        """Weights that work on one token; fewer than all in a mixture of experts."""
        return self.shape.active_parameters


def _row(values: dict[str, Any]) -> CatalogueModel:
    found = {"shape": ModelShape(**values["shape"]), "checked": tuple(values["checked"])}
    return CatalogueModel(**{**values, **found})


@cache
def catalogue() -> tuple[CatalogueModel, ...]:
    """All rows, in the order of the file (by family)."""
    table = json.loads((files("sftprep.model") / "catalogue.json").read_text(encoding="utf-8"))
    return tuple(_row(values) for values in table["models"])


def find_model(ref: str) -> CatalogueModel | None:
    """The row of a hub id (letter case is ignored), or None."""
    wanted = ref.strip().lower()
    return next((row for row in catalogue() if row.id.lower() == wanted), None)


def facts_for(ref: str, revision: str | None = None) -> ModelFacts:
    """Facts of a folder, of a catalogue row (no network), or of any other hub id.

    Raises:
        ModelError: as `describe_model`.
    """
    row = None if Path(ref).is_dir() else find_model(ref)
    return _facts(row) if row is not None else describe_model(ref, revision)


def _facts(row: CatalogueModel) -> ModelFacts:
    return ModelFacts(
        ref=row.id,
        folder=None,
        architecture=row.family,
        model_type=row.model_type,
        parameters=row.parameters,
        parameters_from="catalogue",
        shape=row.shape,
        context=row.context,
        dtype=None,
        weight_bytes=None,
        chat_template=False,
        tokenizer=None,
        licence=row.licence,
        remote_code=False,
        gated=row.gated,
        released=row.released,
    )
