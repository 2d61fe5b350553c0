"""Rows between the passes, on disk: Arrow batches appended once, read back batch by batch.

Legend of a batch: the columns of an example, `raw` (the row as read), `flags` (JSON text), `events`
(the trace so far), what the report counts (`coverage.Facts`: `kind`, `domains`, `opening`), and
what the comparisons use: keys, word hashes, lengths.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftprep.data.features import KEYS
from sftprep.data.storage import EXAMPLE_COLUMNS, example_from_row, example_row, messages_from_text
from sftprep.recipe.sections import Source
from sftprep.records import Example, Message, Reason

if TYPE_CHECKING:
    from sftprep.data.rowcheck import Kept

PAIRS = ("passages", "questions")
_TEXTS = ("raw", "flags", "events", "kind", "opening")
STORED = (*EXAMPLE_COLUMNS, *_TEXTS, "domains")
_NUMBERS = ("line", "domains")
NO_FLAGS = "[]"  # `flags` of a row without any


@cache
def kept_schema() -> Any:
    """Columns of a batch of rows that may train."""
    import pyarrow as pa

    def kind(name: str) -> Any:
        return pa.int64() if name in _NUMBERS else pa.large_string()

    return pa.schema(
        [(name, kind(name)) for name in STORED]
        + [("file_number", pa.int64()), ("allowed", pa.bool_()), ("weight", pa.float64())]
        + [("flag_count", pa.int64())]
        + [("tokens", pa.int64()), ("response_chars", pa.int64())]
        + [(f"key_{name}", pa.uint64()) for name in KEYS]
        + [(name, pa.large_list(pa.uint64())) for name in PAIRS]
        + [("words", pa.large_list(pa.uint32())), ("prompt_words", pa.int64())]
    )


def kept_batch(rows: Sequence["Kept"], file: int, source: Source) -> Any:
    """One Arrow batch of checked rows; `file`: number of their file, `source`: its source."""
    import pyarrow as pa

    examples = [example_row(row.example) for row in rows]
    columns: dict[str, Any] = {name: [e[name] for e in examples] for name in EXAMPLE_COLUMNS}
    columns["raw"] = [row.raw for row in rows]
    columns["flags"] = [
        json.dumps([[f.id, f.evidence, f.score] for f in row.flags], ensure_ascii=False)
        if row.flags
        else NO_FLAGS
        for row in rows
    ]
    columns["events"] = [row.events for row in rows]
    for name in ("kind", "domains", "opening"):
        columns[name] = [getattr(row.facts, name) for row in rows]
    columns["file_number"] = [file] * len(rows)
    columns["allowed"] = [source.allow_duplicates] * len(rows)
    columns["weight"] = [source.weight] * len(rows)
    columns["flag_count"] = [len(row.flags) for row in rows]
    columns["tokens"] = [row.tokens for row in rows]
    columns["response_chars"] = [row.features.response_chars for row in rows]
    for name in KEYS:
        columns[f"key_{name}"] = [getattr(row.features, name) for row in rows]
    for name in PAIRS:
        columns[name] = [getattr(row.features, name) for row in rows]
    columns["words"] = _word_lists(rows)
    columns["prompt_words"] = [len(row.features.prompt_words) for row in rows]
    schema = kept_schema()
    arrays = [
        v if isinstance(v := columns[f.name], pa.Array) else pa.array(v, f.type) for f in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _word_lists(rows: Sequence["Kept"]) -> Any:
    """The prompt's words and the answer's, one list per row."""
    import pyarrow as pa

    parts = [w for row in rows for w in (row.features.prompt_words, row.features.response_words)]
    flat = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
    sizes = np.array([len(part) for part in parts], np.int64).reshape(-1, 2).sum(axis=1)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.uint32()))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that passed the checks on single rows, as it was read and as it was understood."""

    example: Example
    raw: str
    flags: tuple[Reason, ...]
    events: str = ""


class Spool:
    """A temporary file of candidates: first all batches are added, then they are read.

    Delete the folder it lives in afterwards.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.starts: list[int] = []
        self.rows = 0
        self._pa = pa
        self._path = path
        self._schema = pa.schema([kept_schema().field(name) for name in STORED])
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema, options=options)
        self._file: Any = None
        self._reader: Any = None

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_writing()
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self.rows

    def add(self, batch: Any) -> None:
        """Append a batch of `kept_schema`; the columns that passes read back are stored."""
        if batch.num_rows:
            self.starts.append(self.rows)
            self.rows += batch.num_rows
            self._writer.write_batch(batch.select(list(STORED)))

    def batches(self) -> Iterator[tuple[int, Any]]:
        """(index of the first row, Arrow batch), in order; one batch in memory at a time."""
        for number, start in enumerate(self.starts):
            yield start, self._open().get_batch(number)

    def get(self, index: int) -> Candidate:
        """One row by its index."""
        number = bisect_right(self.starts, index) - 1
        batch = self._open().get_batch(number)
        return candidate(batch.slice(index - self.starts[number], 1).to_pylist()[0])

    def messages(self, rows: NDArray[np.bool_]) -> Iterator[tuple[int, tuple[Message, ...]]]:
        """(index, turns) of the rows that are true in bool [rows]; no other column is decoded."""
        for start, batch in self.batches():
            wanted = np.flatnonzero(rows[start : start + batch.num_rows])
            texts = batch["messages"].take(wanted).to_pylist()
            for place, text in zip(wanted.tolist(), texts, strict=True):
                yield start + place, messages_from_text(text)

    def _open(self) -> Any:
        if self._reader is None:
            self._end_writing()
            self._file = self._pa.OSFile(str(self._path), "rb")
            self._reader = self._pa.ipc.open_file(self._file)
        return self._reader

    def _end_writing(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None


def candidate(values: dict[str, Any]) -> Candidate:
    """A row of a batch."""
    flags = tuple(Reason(i, e, s) for i, e, s in json.loads(values["flags"]))
    return Candidate(example_from_row(values), values["raw"], flags, values["events"])
