"""Per-item scores as saved beside a benchmark: `NAME.items.jsonl.gz`.

The validation stage leaves `validation.items.jsonl.gz`: one JSON object per held-out row or
instruction prompt with id, nll (sum in nats), tokens, correct, and the base model's base_nll,
base_tokens and base_correct; what was not measured is null or absent.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sftprep.errors import CorruptError, StoreError
from sftprep.files import open_plain
from sftprep.records import ItemRecord, from_dict

ITEMS = ".items.jsonl.gz"
VALIDATION_ITEMS = f"validation{ITEMS}"
MAX_LINE_BYTES = 16 << 20  # an item with its text has a few kilobytes; a packed bomb has no end


@dataclass(frozen=True, slots=True)
class ItemScores:
    """Scores of one metric by item id, in file order.

    `clusters`: what each item belongs to. `weights`: what a sum is counted in (tokens), or None
    when each item counts once.
    """

    values: Mapping[str, float]
    clusters: Mapping[str, str]
    weights: Mapping[str, float] | None = None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorruptError(f"{path}: truncated or not gzip. Score it again.") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}.") from error


def read_items(path: Path) -> dict[str, ItemRecord]:
    """Items by id, in file order; a repeated id (MMLU holds 27 exact twins) gets `#2`, `#3`.

    Raises:
        StoreError: the file cannot be opened.
        CorruptError: it is truncated, not gzip, or a line is not an item.
    """
    items: dict[str, ItemRecord] = {}
    seen: dict[str, int] = {}
    try:
        with _readable(path), open_plain(path) as packed, gzip.open(packed) as lines:
            for line in iter(lambda: lines.readline(MAX_LINE_BYTES), b""):
                item = from_dict(ItemRecord, json.loads(line))
                items[_own_id(item.id, seen)] = item
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        line_number = sum(seen.values()) + 1
        raise CorruptError(f"{path}:{line_number}: not a benchmark item. Run it again.") from error
    return items


def _own_id(name: str, seen: dict[str, int]) -> str:
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def read_validation_items(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of `validation.items.jsonl.gz` by id; a repeated id gets `#2`, `#3`.

    Raises:
        StoreError: the file cannot be opened.
        CorruptError: it is truncated, not gzip, or a line is not such a row.
    """
    rows: dict[str, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    try:
        with _readable(path), open_plain(path) as packed, gzip.open(packed) as lines:
            for line in iter(lambda: lines.readline(MAX_LINE_BYTES), b""):
                row = json.loads(line)
                rows[_own_id(str(row["id"]), seen)] = row
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        line_number = sum(seen.values()) + 1
        raise CorruptError(
            f"{path}:{line_number}: not a validation row. Validate again."
        ) from error
    return rows


def validation_nats(path: Path, *, base: bool = False) -> ItemScores:
    """Minus the nats of each held-out row (so that higher is better), weighted by its tokens."""
    values: dict[str, float] = {}
    weights: dict[str, float] = {}
    for name, row in read_validation_items(path).items():
        nats = _number(row.get("base_nll" if base else "nll"))
        tokens = _number(row.get("base_tokens" if base else "tokens"))
        if nats is not None and tokens is not None and tokens > 0:
            values[name], weights[name] = -nats, tokens
    return ItemScores(values, {}, weights)


def validation_correct(path: Path, *, base: bool = False) -> ItemScores:
    """1 for an instruction that was followed, 0 for one that was not."""
    key = "base_correct" if base else "correct"
    found = {name: _number(row.get(key)) for name, row in read_validation_items(path).items()}
    return ItemScores({name: value for name, value in found.items() if value is not None}, {})


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def benchmark_scores(path: Path, metric: str, headline: str) -> ItemScores:
    """Scores of one benchmark metric with the items' clusters."""
    items = read_items(path)
    clusters = {name: item.cluster for name, item in items.items()}
    return ItemScores(metric_scores(items, metric, headline), clusters)


def metric_scores(items: Mapping[str, ItemRecord], metric: str, headline: str) -> dict[str, float]:
    """Scores of one metric by item id.

    A metric's own value stands in `extra` under its name; the headline metric may be `score`.
    Items without a score (errors) are left out.
    """
    scores: dict[str, float] = {}
    for key, item in items.items():
        value = item.extra.get(metric)
        if not isinstance(value, int | float):
            value = item.score if metric == headline else None
        if value is not None:
            scores[key] = float(value)
    return scores
