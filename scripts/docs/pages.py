"""Pages of the documentation that are made from the code's own tables, so they cannot drift.

Used by mkdocs as a hook (`mkdocs.yml`) and by tests/docs; run on its own it prints a page:
`python scripts/docs/pages.py reference/red_flags.md`.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KEYS = re.compile(r"<!-- keys: begin -->.*?<!-- keys: end -->\n?", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; cells are single lines, bars escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (" ".join(str(cell).split()).replace("|", "\\|") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def recipe_page() -> str:
    """Every key of the recipe with type, default, limits and help, from the schema."""
    from pydantic import BaseModel

    from sftprep.recipe.sections import Recipe

    parts = [
        "# Recipe reference",
        "Every key of a recipe, from the schema that validates it. How values come about, presets "
        "and examples: [Recipes](../recipes.md).",
    ]
    seen: list[type[BaseModel]] = []
    for name, field in Recipe.model_fields.items():
        section = _model_in(field.annotation)
        assert section is not None
        parts += _section(name, section)
        for key, inner in section.model_fields.items():
            entry = _model_in(inner.annotation)
            if entry is not None and entry not in seen:
                seen.append(entry)
                parts += _section(f"one entry of {name}.{key}", entry)
    return "\n\n".join(parts) + "\n"


def _model_in(annotation: Any) -> Any:
    """The recipe section inside an annotation such as tuple[Source, ...]; None without one."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None


def _section(title: str, section: Any) -> list[str]:
    schema = section.model_json_schema(mode="validation")
    words = words_below(section)
    rows = [
        (f"`{key}`", _kind(schema["properties"][key]), _default(field), words.get(key, ""))
        for key, field in section.model_fields.items()
    ]
    return [f"## {title}", inspect.getdoc(section) or "",
            table(("key", "type", "default", "meaning"), rows)]  # fmt: skip


def words_below(section: Any) -> dict[str, str]:
    """The text that stands below each key in the source.

    Read here and not by pydantic: it would parse the source again at every start of the program.
    """
    (body,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(body, ast.ClassDef)
    return {
        line.target.id: inspect.cleandoc(after.value.value)
        for line, after in pairwise(body.body)
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }  # fmt: skip


LIMITS = (("exclusiveMinimum", "> "), ("minimum", ">= "), ("exclusiveMaximum", "< "),
          ("maximum", "<= "), ("minItems", "at least "))  # fmt: skip


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in words from JSON Schema: `integer > 0 or empty`."""
    if "anyOf" in schema:
        kinds = [_kind(option) for option in schema["anyOf"]]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum") or [schema["const"]]))
    if "$ref" in schema:
        return "section"
    kind = {"null": "empty", "array": "list", "object": "table", "string": "text"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    return " ".join([kind, *(f"{sign}{schema[key]:g}" for key, sign in LIMITS if key in schema)])


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ", ".join(getattr(item, "name", str(item)) for item in value) or "none"
    if hasattr(value, "model_fields"):
        return "its defaults"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in ("", {}) else str(value)


def red_flags_page() -> str:
    """Every red flag of training with cause, remedy and action."""
    from sftprep.train.redflags import RED_FLAGS

    parts = [
        "# Red flags",
        "Looked at after every step of training. A flag is printed, written to "
        "`train/flags.jsonl` and marked on the curves of the report. Its action is set with "
        "`training.red_flags`, a table from flag to `warn`, `stop` or `off`; a flag that stays up "
        "is repeated at most every 500 steps.",
    ]
    for rule in RED_FLAGS:
        parts.append(
            f"## `{rule.id}`\n\n**Fires when** {_lower(_sentence(rule.find))}\n\n"
            f"**Cause.** {rule.cause}\n\n**Remedy.** {rule.remedy}\n\n"
            f"**Action:** {rule.action}."
        )
    return "\n\n".join(parts) + "\n"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _sentence(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n\n")[0]


def rules_page() -> str:
    """Every rule of the gate and every symptom and cause of the diagnosis."""
    from sftprep.diagnose.table import CASES
    from sftprep.gate.judge import GATE_RULES

    rules = [(f"`{name}`", _sentence(rule)) for name, rule in GATE_RULES.items()]
    cases = [
        (f"`{case.id}`", case.title, _sentence(case.look),
         "; ".join(_sentence(cause).rstrip(".") for cause in case.causes))
        for case in CASES
    ]  # fmt: skip
    return (
        "# Gate rules and diagnoses\n\nThe remedy of a rule is chosen by what the run recorded; "
        "see [Gate and diagnosis](../gate.md).\n\n## Rules of the gate\n\n"
        + table(("rule", "passes when"), rules)
        + "\n\n## Symptoms and causes\n\n"
        + table(("symptom", "title", "seen by", "causes weighed"), cases)
        + "\n"
    )


def checks_page() -> str:
    """Every check of the data stage."""
    from sftprep.data.checks import CHECKS, SET_CHECKS

    rows = [
        (f"`{c.id}`", c.action, "" if c.threshold is None else f"{c.threshold:g} {c.unit}",
         c.why, c.source)
        for c in CHECKS
    ]  # fmt: skip
    sets = [(f"`{c.id}`", c.action, f"`{c.limit}`" if c.limit else "", c.why) for c in SET_CHECKS]
    return (
        "# Data checks\n\n`drop` rejects a row and keeps it in `rejected.parquet` with its reason, "
        "`flag` keeps it marked, `repair` mends it and keeps the original. Change one with "
        "`data.checks: {id: {action: ..., threshold: ...}}`.\n\n## Row by row\n\n"
        + table(("check", "action", "threshold", "why", "source"), rows)
        + "\n\n## Between rows\n\n"
        + table(("check", "action", "limit", "why"), sets)
        + "\n"
    )


def benchmarks_page() -> str:
    """Every benchmark of the table."""
    from sftprep.evaluate.benchmarks.table import BENCHMARKS

    rows = [
        (f"`{b.name}`", f"`{b.protocol_id.format(shots=b.few_shot)}`", f"`{b.headline}`",
         "the file's" if b.items is None else f"{b.items:,}",
         "" if b.typical_range is None else
         f"{b.typical_range[0]:.0%} to {b.typical_range[1]:.0%}")
        for b in BENCHMARKS.values()
    ]  # fmt: skip
    return (
        "# Benchmarks\n\nForm, chance level and data of each: "
        "[Evaluation](../evaluation.md).\n\n"
        + table(("benchmark", "protocol", "headline", "full set", "typical range"), rows)
        + "\n"
    )


EXITS = (
    (0, "done, or the gate passed, or nothing regressed"),
    (1, "the gate failed, or a regression was found"),
    (2, "an error you can mend: the message says what, where and what to change"),
    (3, "not decidable: something was not measured"),
    (75, "stopped on request; the same command continues"),
)


# What to do when a message says no more than what is wrong.
REMEDIES = {
    "SftprepError": "Follow the message; each kind below says more.",
    "RecipeError": "Change the key that is named; `sftprep run RECIPE --dry-run` prints every "
    "value with its origin.",
    "DataError": "Mend or delete the row that is named; `sftprep data explain FILE:LINE` says "
    "what happened to it.",
    "ModelError": "Give another folder or hub id, or download it again; `sftprep models MODEL` "
    "says what it lacks.",
    "StoreError": "Check path and permissions, or run the stage that writes the file "
    "(`sftprep run RECIPE --from STAGE`).",
    "RunLockedError": "Wait for the other process, or choose another `output.run_dir`.",
    "DiskFullError": "Free space and give the same command again: it continues.",
    "CorruptError": "Run the stage that writes the file again (`sftprep run RECIPE --from STAGE`). "
    "A damaged training checkpoint is passed over for an older one.",
    "TrainingError": "Change the key that is named; `sftprep diagnose RUN` weighs the causes.",
    "EvaluationError": "Score again: `sftprep validate RECIPE` or `sftprep benchmark RECIPE`.",
    "OutOfMemoryError": "Take smaller batches or rows; `sftprep plan RECIPE` says what fits.",
    "MissingDependencyError": "Run the pip line of the message.",
    "Interrupted": "Give the same command again: it continues.",
}


def errors_page() -> str:
    """The exception tree, exit codes, and every message of the code with its remedy."""
    from sftprep import errors

    kinds = [
        (f"`{name}`", value.__mro__[1].__name__, _sentence(value), REMEDIES[name], value.exit_code)
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.SftprepError)
    ]
    parts = [
        "# Errors",
        "Every error that a user can mend. A message says what, where, the value and what to "
        "change; set `SFTPREP_TRACEBACK=1` to see the traceback too.",
        "## Exit status\n\n" + table(("status", "meaning"), EXITS),
        "## Kinds\n\n" + table(("error", "child of", "meaning", "what to do", "exit"), kinds),
        "## Messages\n\nCollected from the source; `…` stands for a name or value of your run.",
    ]
    for room, rows in sorted(messages().items()):
        parts.append(f"### {room}\n\n" + table(("error", "message and remedy"), rows))
    return "\n\n".join(parts) + "\n"


def messages(source: Path = ROOT / "src" / "sftprep") -> dict[str, list[tuple[str, str]]]:
    """(error, message) of every `raise` of ours, by room, read from the syntax tree."""
    from sftprep import errors

    kinds = {n for n, v in vars(errors).items() if isinstance(v, type)}
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(source.rglob("*.py")):
        room = path.relative_to(source).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
                text = _template(call.args[0]).strip()
                if call.func.id in kinds and len(text.replace("…", "").split()) >= 3:
                    row = (f"`{call.func.id}`", _literal(text))
                    rows = found.setdefault(room, [])
                    rows += [] if row in rows else [row]
    return found


def _template(node: Any) -> str:
    """The text of a message expression; what is computed becomes an ellipsis."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _template(part) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return _template(node.left) + _template(node.right)
    return "…"


def _literal(text: str) -> str:
    for character in "\\`*_<>[]{}$":
        text = text.replace(character, "\\" + character)
    return text


def commands_page() -> str:
    """Every command with its arguments and options."""
    from typer.main import get_command

    from sftprep.cli.main import app

    parts = ["# Commands", "Every command also takes `--help`. Exit status: [Errors](errors.md)."]
    group: Any = get_command(app)
    for name, command in group.commands.items():
        parts.append(f"## sftprep {name}\n\n{command.help or ''}")
        rows = [_parameter(p) for p in command.params if p.name != "help"]
        if rows:
            parts.append(table(("argument or option", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _parameter(parameter: Any) -> tuple[str, str, str]:
    option = any(text.startswith("-") for text in parameter.opts)
    name = ", ".join(parameter.opts) if option else parameter.name.upper()
    default = "required" if parameter.required else parameter.default
    return (f"`{name}`", "" if default in (None, False, ()) else f"{default}",
            getattr(parameter, "help", None) or "")  # fmt: skip


def tutorial_page() -> str:
    """The tutorial script, with its own comments as the text."""
    script = (ROOT / "examples" / "tutorial.py").read_text(encoding="utf-8")
    return (
        "# Tutorial\n\nThe whole stage in one script, on the embedded starter model and a small "
        "part of its data: about a minute on a CPU, offline. The tests run it as it stands: "
        "`python examples/tutorial.py`. With so little training the gate is meant to fail; the "
        "last part shows how to read why.\n\n```python\n" + script + "```\n"
    )


def changelog_page() -> str:
    """CHANGELOG.md of the repository."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/recipe.md": recipe_page,
    "reference/commands.md": commands_page,
    "reference/checks.md": checks_page,
    "reference/red_flags.md": red_flags_page,
    "reference/rules.md": rules_page,
    "reference/benchmarks.md": benchmarks_page,
    "reference/errors.md": errors_page,
    "tutorial.md": tutorial_page,
    "changelog.md": changelog_page,
}


def on_config(config: Any) -> Any:
    """mkdocs hook: the tab Decisions lists every file of docs/decisions in order."""
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for entry in config["nav"]:
        if "Decisions" in entry:
            entry["Decisions"] = [f"decisions/{file.name}" for file in files]
    return config


def on_files(files: Any, config: Any) -> Any:
    """mkdocs hook: add the generated pages."""
    generated = importlib.import_module("mkdocs.structure.files").File.generated
    for name, make in PAGES.items():
        files.append(generated(config, name, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """mkdocs hook: on the site, the recipe page points at the generated table of keys."""
    if page.file.src_uri != "recipes.md":
        return markdown
    pointer = "## Keys\n\nEvery key, type and default: [Recipe reference](reference/recipe.md).\n\n"
    return KEYS.sub(pointer, markdown)


if __name__ == "__main__":
    print(PAGES[sys.argv[1]]())
