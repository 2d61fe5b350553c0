"""Bytes of one row to a JSON object, strictly; and every reason the reader can give.

What other readers pass silently is refused here: duplicate keys (the last would win), NaN, bytes
that are not UTF-8, half surrogate pairs that no tokenizer takes, NUL, and very deep nesting.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sftprep.data.rawrow import RawRow
from sftprep.records import Reason

MAX_DEPTH = 64  # nested brackets of a row; conversations need about five
Object = dict[str, Any]
_BRACKETS_OUTSIDE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([\[{])|([\]}])', re.DOTALL)


@dataclass(frozen=True, slots=True)
class ReadReason:
    """A reason the reader gives. `quarantined` rows are unreadable and count as bad."""

    id: str
    quarantined: bool
    why: str


READ_REASONS: tuple[ReadReason, ...] = (
    ReadReason("row_too_big", True, "the row passes the size limit of 8 MiB"),
    ReadReason("encoding_invalid", True, "the bytes are not UTF-8"),
    ReadReason("json_invalid", True, "the row is not JSON"),
    ReadReason("json_not_object", True, "the row is JSON, but not an object with named fields"),
    ReadReason("json_duplicate_key", True, "a key occurs twice: which value counts is unknown"),
    ReadReason("json_not_finite", True, "NaN and Infinity are not JSON"),
    ReadReason("json_too_deep", True, f"more than {MAX_DEPTH} nested brackets"),
    ReadReason("nul_character", True, "text with the character U+0000"),
    ReadReason("surrogate_lone", True, "half of a surrogate pair is not text"),
    ReadReason("format_unknown", True, "no known format has these columns"),
    ReadReason("columns_conflict", True, "two columns for the same field hold different texts"),
    ReadReason("preference_row", True, "chosen and rejected answers belong to the next stage"),
    ReadReason("field_wrong_type", True, "a field is not text"),
    ReadReason("role_unknown", True, "a turn has a role that is not in the table"),
    ReadReason("roles_out_of_order", True, "user and assistant turns do not alternate"),
    ReadReason("csv_invalid", True, "the row of a CSV file cannot be cut into its columns"),
    ReadReason("tool_call_unsupported", True, "a call of a tool, or the list of tools, is broken"),
    ReadReason("media_unsupported", True, "a turn holds a picture, sound or another unknown part"),
    ReadReason("tree_broken", True, "messages of a tree without their parent or first message"),
    ReadReason("transcript_unlabelled", True, "a transcript must begin with a speaker's name"),
    ReadReason("instruction_missing", False, "there is nothing to answer"),
    ReadReason("response_missing", False, "there is no answer to learn"),
)
QUARANTINED = frozenset(r.id for r in READ_REASONS if r.quarantined)


class RowError(Exception):
    """A row that is no conversation; carries its reason."""

    def __init__(self, reason_id: str, evidence: str) -> None:
        super().__init__(f"{reason_id}: {evidence}")
        self.reason = Reason(reason_id, evidence)


def row_object(raw: RawRow) -> Object:
    """The object of a row, whatever it was read from.

    Raises:
        RowError: the reader found a fault, or the row is no object that can be stored.
    """
    if raw.fault is not None:
        raise RowError(raw.fault.id, raw.fault.evidence)
    if raw.too_big:
        raise RowError("row_too_big", f"{raw.size:,} bytes; a row has at most 8 MiB")
    if raw.value is None:
        return parse_object(raw.data)
    _check_text(raw.value)
    return raw.value


def parse_object(data: bytes) -> Object:
    """Strict JSON of one row.

    Raises:
        RowError: not UTF-8, not one JSON object, or text that cannot be stored.
    """
    value = parse_value(data)
    if not isinstance(value, dict):
        raise RowError(
            "json_not_object", f"{type(value).__name__}: {data[:60].decode(errors='replace')!r}"
        )
    return value


def parse_value(data: bytes) -> Any:
    """Strict JSON of any kind.

    Raises:
        RowError: not UTF-8, not JSON, or text that cannot be stored.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = data[error.start : error.start + 4].hex(" ")
        raise RowError("encoding_invalid", f"byte {error.start}: {bad}") from error
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise RowError("json_too_deep", f"{_depth(data)} levels")
    try:
        value = _STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        raise RowError("json_invalid", f"{error}; row begins {text[:60]!r}") from error
    if "\\u" in text:
        _check_text(value)
    return value


def _depth(data: bytes) -> int:
    depth = deepest = 0
    for match in _BRACKETS_OUTSIDE.finditer(data):
        depth += (match.group(1) is not None) - (match.group(2) is not None)
        deepest = max(deepest, depth)
    return deepest


def _no_repeats(pairs: list[tuple[str, Any]]) -> Object:
    table = dict(pairs)
    if len(table) != len(pairs):
        repeated = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
        raise RowError("json_duplicate_key", repr(repeated))
    return table


def _not_finite(name: str) -> float:
    raise RowError("json_not_finite", name)


_STRICT = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_not_finite)


def _check_text(value: Any) -> None:
    for text in _texts(value):
        if "\0" in text:
            raise RowError("nul_character", f"character {text.index(chr(0))} of {text[:40]!r}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            code = f"\\u{ord(text[error.start]):04x}"
            raise RowError("surrogate_lone", f"{code} at character {error.start}") from error


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
