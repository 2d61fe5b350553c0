"""Write a recipe with changed values, keeping comments, order and everything else."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from sftprep.errors import RecipeError
from sftprep.recipe.load import load_recipe
from sftprep.recipe.sections import Recipe
from sftprep.store.durable import write_text


def apply_patch(recipe_path: Path, patch: Mapping[str, Any], out: Path) -> None:
    """Write `recipe_path` with the values of `patch` to `out`.

    Args:
        patch: values by dotted key, e.g. {"training.learning_rate": 1e-5}.
    Raises:
        RecipeError: the recipe cannot be read, a key is not `section.key`, or the changed recipe
            is not valid. Nothing is written then.
    """
    load_recipe(recipe_path)  # refuses aliases, which a copy would multiply
    yaml = YAML()
    yaml.width = 4096
    try:
        tree = yaml.load(recipe_path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise RecipeError(f"{recipe_path}: cannot be read as a recipe ({error}).") from error
    if not isinstance(tree, CommentedMap):
        raise RecipeError(f"{recipe_path}: expected sections such as 'model:' and 'data:'.")
    for key, value in patch.items():
        _set(tree, key, value)
    try:
        Recipe.model_validate(_plain(tree))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"{recipe_path}: with these changes {where}: {first['msg']}. Nothing was written."
        ) from error
    text = StringIO()
    yaml.dump(tree, text)
    write_text(out, text.getvalue())


def _set(tree: CommentedMap, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    if not sections or not all((*sections, name)):
        raise RecipeError(f"patch key '{key}': expected section.key.")
    table = tree
    for section in sections:
        below = table.get(section)
        if below is None:
            below = table[section] = CommentedMap()
        if not isinstance(below, CommentedMap):
            raise RecipeError(f"patch key '{key}': '{section}' is not a table in this recipe.")
        table = below
    table[name] = value
    comments = table.ca.items.get(name)
    if comments is not None and comments[2] is not None:
        after = comments[2].value.partition("\n")[2]  # keep what stands below the value
        comments[2].value = f"# changed by sftprep diagnose\n{after}"


def _plain(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(item) for item in tree]
    return tree
