"""Write a resolved recipe as YAML, each value with its origin as a comment."""

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from sftprep.recipe.load import ResolvedRecipe


def recipe_text(resolved: ResolvedRecipe) -> str:
    """YAML that loads to the same recipe; origins stand behind the values."""
    tree = CommentedMap()
    for section, values in resolved.recipe.model_dump(mode="json").items():
        tree[section] = _commented(values, section, resolved)
    yaml = YAML()
    yaml.width = 4096
    out = StringIO()
    out.write("# Resolved by sftprep. Every value, with where it came from.\n")
    yaml.dump(tree, out)
    return out.getvalue()


def _commented(values: dict[str, Any], section: str, resolved: ResolvedRecipe) -> CommentedMap:
    table = CommentedMap()
    for key, value in values.items():
        table[key] = value
        origin = resolved.origins.get(f"{section}.{key}", "default")
        if not isinstance(value, list | dict):
            table.yaml_add_eol_comment(origin, key)
    return table
