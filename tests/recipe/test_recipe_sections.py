"""Every section refuses unknown keys, cannot be changed, and explains its keys."""

import pytest
from pydantic import BaseModel, ValidationError
from scripts.docs.pages import words_below

from sftprep.recipe.presets import PRESETS, preset_for
from sftprep.recipe.sections import Recipe, TrainingSection

SECTIONS: list[type[BaseModel]] = [
    field.annotation
    for field in Recipe.model_fields.values()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
]


def test_the_recipe_has_its_seven_sections() -> None:
    names = list(Recipe.model_fields)
    assert names == ["model", "data", "training", "validation", "benchmarks", "gate", "output"]
    assert len(SECTIONS) == 7


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_is_explained(section: type[BaseModel]) -> None:
    assert set(section.model_fields) - set(words_below(section)) == set()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_a_section_refuses_keys_it_does_not_know(section: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        section.model_validate({"no_such_key": 1})


def test_a_recipe_cannot_be_changed() -> None:
    training = TrainingSection()
    with pytest.raises(ValidationError, match="frozen"):
        training.learning_rate = 1.0


def test_a_presets_values_are_keys_of_the_training_section() -> None:
    for preset in PRESETS:
        assert TrainingSection(**preset.training).model_fields_set == set(preset.training)
        assert preset.source != ""


@pytest.mark.parametrize(
    ("parameters", "name"),
    [(1, "tiny (< 50M)"), (50_000_000, "tiny (< 50M)"), (50_000_001, "small (< 1B)"),
     (6_738_415_616, "7B (4B to 20B)"), (34_388_917_248, "20B to 60B"),
     (405_853_388_800, "70B+")],
)  # fmt: skip
def test_the_preset_follows_the_size(parameters: int, name: str) -> None:
    assert preset_for(parameters).name == name


def test_larger_models_learn_with_smaller_steps() -> None:
    rates = [preset.training["learning_rate"] for preset in PRESETS]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(rates) - 1  # the same published rate for 30B and 65B
