"""The recipe: what the user wants, each value with its origin. Validators check, never change."""

from sftprep.recipe.load import ResolvedRecipe, load_recipe
from sftprep.recipe.sections import Recipe

__all__ = ["Recipe", "ResolvedRecipe", "load_recipe"]
