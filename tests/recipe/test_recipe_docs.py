"""docs/recipes.md lists every key with its default; docs/models.md counts the catalogue right."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from sftprep.model.catalogue import catalogue
from sftprep.recipe.sections import BenchmarkTask, CheckSetting, Recipe, Source

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
TABLES: dict[str, type[BaseModel]] = {
    **SECTIONS,
    "one entry of data.sources": Source,
    "one entry of data.checks": CheckSetting,
    "one entry of benchmarks.tasks": BenchmarkTask,
}


def keys_under(title: str) -> list[str]:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    part = text.partition(f"### {title}\n")[2].partition("\n### ")[0]
    return re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)


@pytest.mark.parametrize("title", TABLES)
def test_the_page_lists_exactly_the_keys_of_a_section(title: str) -> None:
    assert keys_under(title) == list(TABLES[title].model_fields)


def test_the_page_on_models_counts_the_catalogue() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    assert f"holds {len(catalogue())} base models" in text
