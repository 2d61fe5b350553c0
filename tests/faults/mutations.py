"""A run folder from another hand: values of its files replaced, removed, or cut short."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None, [], {}, "x", -1, 1e308, float("nan"), True, [[1]], {"a": {"b": 1}}, 10**400,
)  # fmt: skip
DEPTH = 4
WHOLE = (b"", b"\0" * 50, bytes(range(256)), b"[" * 100_000)
Place = tuple[str | int, ...]


def places(value: Any, before: Place = ()) -> Iterator[Place]:
    """Where the values of a JSON document are; the first of a list stands for all."""
    yield before
    if len(before) == DEPTH:
        return
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*before, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*before, 0))


def replaced(value: Any, place: Place, new: Any) -> Any:
    """A copy of a document with one value replaced."""
    if not place:
        return new
    copy = json.loads(json.dumps(value))
    table = copy
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = new
    return copy


def without(value: Any, place: Place) -> Any:
    """A copy of a document without one value."""
    copy = json.loads(json.dumps(value))
    table = copy
    for key in place[:-1]:
        table = table[key]
    del table[place[-1]]
    return copy


def documents(value: Any) -> Iterator[tuple[str, bytes]]:
    """(what was changed, JSON) for each change of one value."""
    for place in places(value):
        for new in VALUES:
            yield f"{place} = {new!r:.20}", json.dumps(replaced(value, place, new)).encode()
        if place:
            yield f"{place} gone", json.dumps(without(value, place)).encode()


def changed(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """(what was changed, content) for a file of a run folder: JSON, lines of it, packed lines."""
    for number, whole in enumerate((*WHOLE, content[: len(content) // 2])):
        yield f"whole {number}", whole
    if name.endswith(".json"):
        yield from documents(json.loads(content))
        return
    packed = name.endswith(".gz")
    first, *rest = (gzip.decompress(content) if packed else content).split(b"\n")
    for what, line in documents(json.loads(first)):
        text = b"\n".join([line, *rest])
        yield f"line 1 {what}", gzip.compress(text, 1) if packed else text


def mutations(run: Path, every: int, offset: int = 0) -> Iterator[tuple[Path, str, bytes, bytes]]:
    """(file, what was changed, new content, old content) for every EVERY-th change."""
    number = -offset
    for path in sorted(run.rglob("*")):
        if not path.name.endswith((".json", ".jsonl", ".gz")) or not path.is_file():
            continue
        content = path.read_bytes()
        for what, new in changed(path.name, content):
            if number % every == 0:
                yield path, what, new, content
            number += 1
