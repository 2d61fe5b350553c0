"""Per-item scores as saved beside a benchmark: `NAME.items.jsonl.gz`."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from sftprep.errors import CorruptError, StoreError
from sftprep.records import ItemRecord, from_dict

ITEMS = ".items.jsonl.gz"


def read_items(path: Path) -> dict[str, ItemRecord]:
    """Items by id, in file order; a repeated id (MMLU holds 27 exact twins) gets `#2`, `#3`.

    Raises:
        StoreError: the file cannot be opened.
        CorruptError: it is truncated, not gzip, or a line is not an item.
    """
    items: dict[str, ItemRecord] = {}
    seen: dict[str, int] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                item = from_dict(ItemRecord, json.loads(line))
                seen[item.id] = seen.get(item.id, 0) + 1
                twin = seen[item.id]
                items[item.id if twin == 1 else f"{item.id}#{twin}"] = item
    except (gzip.BadGzipFile, EOFError) as error:
        raise CorruptError(f"{path}: truncated or not gzip. Run the benchmark again.") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}.") from error
    except (ValidationError, ValueError, TypeError) as error:
        line_number = sum(seen.values()) + 1
        raise CorruptError(f"{path}:{line_number}: not a benchmark item. Run it again.") from error
    return items


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
