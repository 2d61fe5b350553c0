"""Read a recipe: YAML 1.2, origins, overrides, errors with file, line and nearest known name."""

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    ScalarEvent,
)

from sftprep.errors import RecipeError
from sftprep.files import read_plain
from sftprep.recipe.presets import preset_for
from sftprep.recipe.sections import Recipe

MAX_BYTES = 1 << 20  # a recipe is a page of text; more is a mistake or an attack
MAX_DEPTH = 20
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """The recipe with every value's origin: default, preset, file:line or --set."""

    recipe: Recipe
    origins: Mapping[str, str]
    file: Path

    def lines(self) -> list[str]:
        """One `section.key = value  # origin` line per value, in the order of the sections."""
        return [f"{key} = {value!r}  # {self.origins.get(key, 'default')}" for key, value in
                flatten(self.recipe.model_dump(mode="json"))]  # fmt: skip


def flatten(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Dotted keys of nested tables; lists stay values."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{name}.")
        else:
            rows.append((name, value))
    return rows


def load_recipe(
    path: Path | str,
    overrides: Sequence[str] = (),
    parameters_of: Callable[[str], int | None] | None = None,
) -> ResolvedRecipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        overrides: `section.key=value` texts, as given to `--set`; values are YAML.
        parameters_of: number of parameters of `model.base`, to choose the size preset; None or a
            None result keeps the defaults (those of a 7B model).
    Raises:
        RecipeError: anything wrong; the message is `file:line: key: what, and what to change`.
    """
    file = Path(path)
    tree = _parse(file)
    lines = _line_numbers(tree)
    values = {key: value for key, value in _plain(tree).items() if value is not None}
    origins = {key: f"{file.name}:{lines.get(tuple(key.split('.')), 1)}" for key, _ in
               flatten(values)}  # fmt: skip
    for override in overrides:
        key = _apply_override(values, override)
        origins[key] = "--set"
    _expand_paths(values, file, lines)
    _apply_preset(values, origins, parameters_of)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, file, lines, origins)) from error
    return ResolvedRecipe(recipe, origins, file)


def _parse(file: Path) -> CommentedMap:
    try:
        raw = read_plain(file, MAX_BYTES)
    except FileNotFoundError as error:
        raise RecipeError(
            f"{file}: no such file. Write one with `sftprep init`, or check the path."
        ) from error
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read ({error.strerror}). Check the path.") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: not UTF-8 text (byte {error.start}).") from error
    yaml = YAML(typ="rt")
    try:
        _refuse_tricks(text, file)
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = (error.problem or "not valid YAML").strip()
        raise RecipeError(f"{file}:{line}: {problem}. Correct the YAML.") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{file}: not valid YAML ({type(error).__name__}).") from error
    if not isinstance(tree, CommentedMap):
        raise RecipeError(f"{file}: expected sections such as 'model:' and 'data:'.")
    return tree


def _refuse_tricks(text: str, file: Path) -> None:
    """Aliases make bombs, tags make objects; a recipe needs neither."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line + 1
        value = isinstance(event, ScalarEvent | CollectionStartEvent)
        if isinstance(event, AliasEvent) or (value and event.anchor):
            raise RecipeError(f"{file}:{line}: YAML anchors and aliases are refused: repeat it.")
        if value and event.tag:
            raise RecipeError(f"{file}:{line}: YAML tags are refused: remove '{event.tag}'.")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecipeError(f"{file}:{line}: values nested more than {MAX_DEPTH} deep.")


def _line_numbers(tree: Any, before: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    if isinstance(tree, CommentedMap):
        for key in tree:
            here = (*before, str(key))
            found[here] = tree.lc.key(key)[0] + 1
            found |= _line_numbers(tree[key], here)
    elif isinstance(tree, CommentedSeq):
        for index, item in enumerate(tree):
            here = (*before, str(index))
            found[here] = tree.lc.item(index)[0] + 1
            found |= _line_numbers(item, here)
    return found


def _plain(tree: Any) -> Any:
    """ruamel's commented values as plain Python values."""
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(item) for item in tree]
    if isinstance(tree, bool) or tree is None:
        return tree
    for kind in (int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return tree


def _apply_override(values: dict[str, Any], override: str) -> str:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: expected section.key=value.")
    parts = key.strip().split(".")
    try:
        _refuse_tricks(text, Path("--set"))
        value = _plain(YAML(typ="rt").load(text))
    except (YAMLError, ValueError) as error:
        raise RecipeError(f"--set {override}: the value is not valid YAML.") from error
    table = values
    for part in parts[:-1]:
        below = table.setdefault(part, {})
        if not isinstance(below, dict):
            raise RecipeError(f"--set {override}: '{part}' is not a table.")
        table = below
    table[parts[-1]] = value
    return ".".join(parts)


PATH_KEYS: tuple[tuple[str, ...], ...] = (
    ("model", "base"),
    ("model", "tokenizer"),
    ("model", "chat_template"),
    ("model", "candidates"),
    ("data", "sources"),
    ("validation", "instruction_prompts"),
    ("benchmarks", "data_dir"),
    ("benchmarks", "tasks"),
)


# Where a text may be a name: built-in templates, the catalogue, and benchmarks (their paths stand
# under `path`).
NAMES: Mapping[str, Callable[[str], bool]] = {
    "chat_template": lambda text: text in ("auto", "plain", "chatml"),
    "candidates": lambda text: text == "catalogue",
    "tasks": lambda text: True,
}


def _expand_paths(values: Any, file: Path, lines: Mapping[tuple[str, ...], int]) -> None:
    """Replace ${NAME} and make paths that exist beside the recipe absolute."""
    for section, key in PATH_KEYS:
        table = values.get(section)
        if section == "benchmarks" and isinstance(table, list):
            table = values[section] = {"tasks": table}
        if isinstance(table, dict) and key in table:
            where = f"{file}:{lines.get((section, key), 1)}: {section}.{key}"
            table[key] = _expanded(table[key], file.parent, where, NAMES.get(key))


FILES = ("path", "labels")  # keys below a list that hold a file


def _expanded(
    value: Any, folder: Path, where: str, name: Callable[[str], bool] | None = None
) -> Any:
    """`name` tells texts that are a name and not a path."""
    if isinstance(value, list):
        return [_expanded(item, folder, where, name) for item in value]
    if isinstance(value, dict):
        return value | {k: _expanded(v, folder, where) for k, v in value.items() if k in FILES}
    if not isinstance(value, str) or (name is not None and name(value)):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise RecipeError(f"{where}: the environment variable {match[1]} is not set.")
        return os.environ[match[1]]

    text = re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", variable, value)
    try:
        beside = (folder / Path(text).expanduser()).resolve()
        return str(beside) if text and "\0" not in text and beside.exists() else text
    except (OSError, RuntimeError):
        return text


def _apply_preset(
    values: dict[str, Any],
    origins: dict[str, str],
    parameters_of: Callable[[str], int | None] | None,
) -> None:
    model = values.get("model")
    base = model.get("base") if isinstance(model, dict) else None
    if parameters_of is None or not isinstance(base, str):
        return
    parameters = parameters_of(base)
    training = values.setdefault("training", {})
    if parameters is None or not isinstance(training, dict):
        return
    preset = preset_for(parameters)
    for key, value in preset.training.items():
        if key not in training and not (key == "max_steps" and "epochs" in training):
            training[key] = value
            origins[f"training.{key}"] = f"preset {preset.name}: {preset.source}"
    if training.get("epochs") is not None and "max_steps" not in training:
        training["max_steps"] = None
        origins["training.max_steps"] = "epochs is given"


def _known_keys(kind: type[BaseModel], location: Key) -> list[str]:
    """Names allowed beside the unknown key at `location`."""
    current: Any = kind
    for part in location[:-1]:
        field = current.model_fields.get(part) if hasattr(current, "model_fields") else None
        if field is None:
            break
        current = _model_in(field.annotation) or current
    return list(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _explain(
    error: ValidationError,
    file: Path,
    lines: Mapping[tuple[str, ...], int],
    origins: Mapping[str, str],
) -> str:
    messages = []
    for problem in error.errors(include_url=False)[:10]:
        location = _location(problem["type"], problem["loc"])
        names = tuple(str(part) for part in location)
        while names and names not in lines:
            names = names[:-1]
        key = ".".join(str(part) for part in location) or "recipe"
        where = "--set" if origins.get(key) == "--set" else f"{file}:{lines.get(names, 1)}"
        messages.append(f"{where}: {key}: {_what(dict(problem), location)}")
    return "\n".join(messages)


def _location(kind: str, parts: Key) -> Key:
    """The keys of the recipe among what pydantic names; an unknown key may look like anything."""
    own = 1 if kind == "extra_forbidden" else 0
    checked = parts[: len(parts) - own]
    return (*(p for p in checked if not _is_validator_name(p)), *parts[len(checked) :])


def _is_validator_name(part: object) -> bool:
    return isinstance(part, str) and ("[" in part or "-" in part)


def _what(problem: Mapping[str, Any], location: Key) -> str:
    if problem["type"] == "extra_forbidden":
        known = _known_keys(Recipe, location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(sorted(known))}."
        return f"unknown key. {hint}"
    if problem["type"] == "missing":
        return "required, but not given."
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]} (got {str(problem['input'])[:80]!r})."
