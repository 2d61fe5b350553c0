"""The text of a commented recipe: sections of key, value and the reason for the value."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Scalar = bool | int | float | str | None
PLAIN_TEXT = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+-]*")
# Words that YAML reads as something other than text.
RESERVED = {"null", "true", "false", "yes", "no", "on", "off", "none", "y", "n"}
COMMENT_COLUMN = 44


@dataclass(frozen=True, slots=True)
class Line:
    """One `key: value  # comment`. A list value is written below its key."""

    key: str
    value: Scalar | Sequence[Mapping[str, Scalar]]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class TextSection:
    """One section of the recipe, with remarks above it."""

    name: str
    lines: Sequence[Line]
    remarks: Sequence[str] = field(default=())


def scalar_text(value: Scalar) -> str:
    """A YAML 1.2 scalar that loads back to exactly this value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return re.sub(r"e([+-])0+(\d)", r"e\1\2", repr(value)).replace("e+", "e")
    if isinstance(value, int):
        return str(value)
    if PLAIN_TEXT.fullmatch(value) and value.lower() not in RESERVED:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def recipe_text(head: Sequence[str], sections: Sequence[TextSection]) -> str:
    """The whole file. `head`: remarks at the top."""
    lines = [_remark(text) for text in head]
    for section in sections:
        lines += ["", *(_remark(text) for text in section.remarks), f"{section.name}:"]
        for line in section.lines:
            lines += _line(line)
    return "\n".join(lines) + "\n"


def _remark(text: str) -> str:
    return f"# {_one_line(text)}".rstrip()


def _one_line(text: str) -> str:
    """Comments come from file names and model cards: no line break may end them early."""
    return "".join(c if c.isprintable() else " " for c in text)


def _line(line: Line) -> list[str]:
    comment = f"# {_one_line(line.comment)}" if line.comment else ""
    if isinstance(line.value, Sequence) and not isinstance(line.value, str):
        head = _with_comment(f"  {line.key}:", comment)
        return [head, *(text for item in line.value for text in _item(item))]
    return [_with_comment(f"  {line.key}: {scalar_text(line.value)}", comment)]


def _item(item: Mapping[str, Any]) -> list[str]:
    pairs = [f"{key}: {scalar_text(value)}" for key, value in item.items()]
    return [f"    {'- ' if place == 0 else '  '}{pair}" for place, pair in enumerate(pairs)]


def _with_comment(text: str, comment: str) -> str:
    """At least two blanks before the `#`: without one it would belong to the value."""
    return f"{text + '  ':<{COMMENT_COLUMN}}{comment}" if comment else text
