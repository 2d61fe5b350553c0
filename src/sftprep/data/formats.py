"""One parsed row to one conversation, whatever the format; or the reason why not.

Formats are recognised on the first rows of a file and checked again on every row, so a mixed file
is legal. Nothing is guessed: an ambiguous row, an unknown role or preference data is refused with
what to do.
"""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sftprep.data.parse import Object, RowError
from sftprep.errors import DataError
from sftprep.recipe.sections import Source
from sftprep.records import Example, Message, Role, SourceRef

DETECT_ROWS = 200


@dataclass(frozen=True, slots=True)
class Flat:
    """A format with one prompt and one answer per row; the first column of each is canonical."""

    name: str
    prompt: str
    passage: tuple[str, ...]
    response: tuple[str, ...]


FLAT_FORMATS: tuple[Flat, ...] = (
    Flat("instruction_response", "instruction", ("input", "context"), ("response", "output")),
    Flat("alpaca", "instruction", ("input", "context"), ("output", "response")),
    Flat("prompt_completion", "prompt", (), ("completion", "response", "output")),
    Flat("question_answer", "question", ("context", "input"), ("answer", "response", "output")),
)
CHAT_FORMATS: tuple[tuple[str, str], ...] = (
    ("sharegpt", "conversations"),
    ("messages", "messages"),
)
FORMAT_NAMES = (*(f.name for f in FLAT_FORMATS), *(name for name, _ in CHAT_FORMATS))
COLUMN_NAMES = ("instruction", "input", "response", "system", "category", "messages", "tools")

ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "bard": "assistant", "model": "assistant", "function_call": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "ipython": "tool",
}  # fmt: skip
_SYSTEM_KEYS = ("system", "system_prompt")
_PREFERENCE = ("chosen", "rejected")


def _format_of(row: Mapping[str, Any]) -> str | None:
    """The format whose prompt and answer columns a row has; None when there is none."""
    for name, container in CHAT_FORMATS:
        if isinstance(row.get(container), list):
            return name
    if "instruction" in row and ("output" in row or "response" in row):
        is_alpaca = "output" in row or "input" in row
        return "alpaca" if is_alpaca else "instruction_response"
    for flat in FLAT_FORMATS[2:]:
        if flat.prompt in row and any(name in row for name in flat.response):
            return flat.name
    return None


def detect_format(rows: Sequence[Mapping[str, Any]], where: str) -> str | None:
    """The format of most of the first rows; None when no row is recognised.

    Raises:
        DataError: the file holds preference data.
    """
    votes: Counter[str] = Counter()
    for row in rows[:DETECT_ROWS]:
        if _is_preference(row):
            raise DataError(
                f"{where}: preference data (columns chosen and rejected) is for the stage after "
                "this one. To use it here, write the chosen answers as "
                '{"instruction": prompt, "response": chosen} rows, or keep it for DPO.'
            )
        name = _format_of(row)
        if name is not None:
            votes[name] += 1
    return votes.most_common(1)[0][0] if votes else None


def _is_preference(row: Mapping[str, Any]) -> bool:
    return all(name in row for name in _PREFERENCE)


def check_columns(source: Source) -> None:
    """Refuse a column map or format name that nobody reads.

    Raises:
        DataError: an unknown name; the nearest known one is given.
    """
    for name in source.columns:
        if name not in COLUMN_NAMES:
            raise DataError(_unknown(source, "columns", name, COLUMN_NAMES))
    if source.format != "auto" and source.format not in FORMAT_NAMES:
        raise DataError(_unknown(source, "format", source.format, ("auto", *FORMAT_NAMES)))


def _unknown(source: Source, key: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
    return f"data.sources: {source.path}: {key}: unknown name '{name}'. {hint}"


def to_example(row: Object, file_format: str | None, source: Source, place: SourceRef) -> Example:
    """Turn an object into a conversation.

    Args:
        row: the parsed row. file_format: detected for the file; used where a row fits several.
        source: explicit format, columns and category. place: where the row came from.
    Raises:
        RowError: with a reason of READ_REASONS.
    """
    if source.columns:
        row = _renamed(row, source.columns)
    if _is_preference(row) and "response" not in row:
        raise RowError("preference_row", "columns chosen and rejected")
    name = _row_format(row, file_format, source)
    used: set[str] = set()
    extra: dict[str, str] = {}
    containers = dict(CHAT_FORMATS)
    if name in containers:
        messages = _chat(row, containers[name], used)
    else:
        flat = next(f for f in FLAT_FORMATS if f.name == name)
        messages, extra = _flat(row, flat, used)
    messages = _with_system(messages, row, used)
    _check_order(messages)
    meta = {"format": name, **extra}
    category = row.get("category")
    for column, value in row.items():
        if column not in used and column != "category" and value not in (None, "", [], {}):
            meta[column if column not in meta else f"row.{column}"] = _as_text(value)
    tools = meta.pop("tools", None)
    return Example(
        id=example_id(messages, tools),
        source=place,
        messages=tuple(messages),
        tools=tools,
        category=category if isinstance(category, str) and category else source.category,
        meta=meta,
    )


def example_id(messages: Sequence[Message], tools: str | None) -> str:
    """First 16 hex digits of sha256 over the canonical JSON of the messages."""
    rows: list[Any] = [[m.role, m.content, m.train] for m in messages]
    text = json.dumps([rows, tools] if tools else rows, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _renamed(row: Object, columns: Mapping[str, str]) -> Object:
    taken = set(columns.values())
    plain = {k: v for k, v in row.items() if k not in taken and k not in columns}
    return plain | {logical: row[name] for logical, name in columns.items() if name in row}


def _row_format(row: Object, file_format: str | None, source: Source) -> str:
    if source.format != "auto":
        wanted: str | None = source.format
    elif source.columns:
        wanted = "messages" if "messages" in source.columns else "instruction_response"
    else:
        wanted = file_format
    found = _format_of(row)
    if wanted is not None and (_fits(row, wanted) or source.format != "auto" or source.columns):
        return wanted
    if found is None:
        found = next((n for n in FORMAT_NAMES if _fits(row, n)), None)
    if found is None and wanted is not None and _has_response(row, wanted):
        return wanted
    if found is None:
        shown = ", ".join(list(row)[:8]) or "none"
        raise RowError("format_unknown", f"columns: {shown}. Set data.sources[].columns")
    return found


def _fits(row: Object, name: str) -> bool:
    containers = dict(CHAT_FORMATS)
    if name in containers:
        return containers[name] in row
    return any(f.prompt in row for f in FLAT_FORMATS if f.name == name)


def _has_response(row: Object, name: str) -> bool:
    return any(k in row for f in FLAT_FORMATS if f.name == name for k in f.response)


def _text_field(row: Object, names: Sequence[str], used: set[str]) -> str | None:
    """The text under the first of the names that holds one; None when all are missing or null."""
    found: str | None = None
    found_name = ""
    for name in names:
        value = row.get(name)
        if name not in row:
            continue
        used.add(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise RowError("field_wrong_type", f"{name!r} is {type(value).__name__}, not text")
        if found is None or not found.strip():
            found, found_name = value, name
        elif value.strip() and value != found:
            raise RowError("columns_conflict", f"{found_name!r} and {name!r} differ: set columns")
    return found


def _flat(row: Object, flat: Flat, used: set[str]) -> tuple[list[Message], dict[str, str]]:
    prompt_value = row.get(flat.prompt)
    if isinstance(prompt_value, list):
        return _prompt_turns(row, flat, used), {}
    instruction = _text_field(row, (flat.prompt,), used)
    passage = _text_field(row, flat.passage, used) or ""
    response = _text_field(row, flat.response, used)
    if instruction is None and not passage.strip():
        raise RowError("instruction_missing", f"no {flat.prompt!r}; columns: {', '.join(row)}")
    if response is None:
        raise RowError("response_missing", f"no {flat.response[0]!r}; columns: {', '.join(row)}")
    prompt = join_prompt(instruction or "", passage)
    extra = {"input": passage} if passage.strip() else {}
    return [Message("user", prompt, False), Message("assistant", response, True)], extra


def join_prompt(instruction: str, passage: str) -> str:
    """The user's turn of a row with an instruction and a text that it is about."""
    return f"{instruction}\n\n{passage}" if passage.strip() and instruction.strip() else (
        instruction if instruction.strip() else passage
    )  # fmt: skip


def _prompt_turns(row: Object, flat: Flat, used: set[str]) -> list[Message]:
    """Prompt and completion given as lists of turns."""
    name = next((n for n in flat.response if n in row), flat.response[0])
    answer = row.get(name)
    if not isinstance(answer, list):
        raise RowError("field_wrong_type", f"{flat.prompt!r} is a list of turns, {name!r} is not")
    used.update((flat.prompt, name))
    return _turns([*row[flat.prompt], *answer])


def _chat(row: Object, container: str, used: set[str]) -> list[Message]:
    used.add(container)
    turns = row.get(container)
    if not isinstance(turns, list):
        raise RowError("field_wrong_type", f"{container!r} is {type(turns).__name__}, not a list")
    return _turns(turns)


def _turns(turns: Sequence[Any]) -> list[Message]:
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise RowError("field_wrong_type", f"turn {number} is {type(turn).__name__}")
        name = turn.get("role", turn.get("from"))
        role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
        if role is None:
            known = ", ".join(ROLES)
            raise RowError("role_unknown", f"turn {number}: {name!r}. Known: {known}")
        content = _content(turn, number)
        weight = turn.get("weight", turn.get("loss_weight", 1))
        train = turn.get("train", weight != 0)
        messages.append(Message(role, content, role == "assistant" and bool(train)))
    return messages


def _content(turn: Mapping[str, Any], number: int) -> str:
    if turn.get("tool_calls"):
        raise RowError("tool_call_unsupported", f"turn {number}")
    content = turn.get("content", turn.get("value"))
    if content is None and turn.get("role", turn.get("from")) in ("assistant", "gpt"):
        raise RowError("response_missing", f"turn {number} has no content")
    if isinstance(content, list):
        parts = [p.get("text") if isinstance(p, dict) else p for p in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "".join(texts)
    if not isinstance(content, str):
        raise RowError("field_wrong_type", f"turn {number}: content is not text")
    return content


def _with_system(messages: list[Message], row: Object, used: set[str]) -> list[Message]:
    system = _text_field(row, _SYSTEM_KEYS, used)
    if system is None or not system.strip():
        return messages
    if messages and messages[0].role == "system":
        raise RowError("columns_conflict", "a system column and a system turn")
    return [Message("system", system, False), *messages]


_NEXT: Mapping[str, tuple[str, ...]] = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


def _check_order(messages: Sequence[Message]) -> None:
    before: Literal["start"] | Role = "start"
    for number, message in enumerate(messages, start=1):
        if message.role not in _NEXT[before]:
            raise RowError("roles_out_of_order", f"turn {number} is {message.role} after {before}")
        before = message.role
    if not any(m.role == "user" for m in messages):
        raise RowError("instruction_missing", f"{len(messages)} turns, none by a user")
    if before != "assistant":
        raise RowError("response_missing", f"the last turn is by {before}")
    if not any(m.train for m in messages):
        raise RowError("response_missing", "no assistant turn is marked for training")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
