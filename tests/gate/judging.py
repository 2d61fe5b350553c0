"""Ask the gate about one rule of a run folder."""

from sftprep.gate import judge
from sftprep.recipe import load_recipe
from sftprep.recipe.sections import Recipe
from sftprep.records import Verdict
from sftprep.store.run import RunFolder


def recipe_of(run: RunFolder, *overrides: str) -> Recipe:
    return load_recipe(run.recipe, overrides).recipe


def verdict_of(run: RunFolder, rule: str, *overrides: str) -> Verdict:
    result = judge(recipe_of(run, *overrides), run)
    return next(v for v in result.rules if v.rule == rule)
