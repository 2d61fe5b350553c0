"""Examples and rejected rows on disk: parquet, written in row groups, atomically.

Columns of examples: id, dataset, file, line, licence, messages (JSON text), tools, category,
meta (JSON text). Columns of rejected rows: example_id, kept_id, dataset, file, line, licence,
reason (the first), reasons (JSON text), raw.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sftprep.errors import CorruptError, StoreError
from sftprep.records import Example, Message, Reason, Rejected, Role, SourceRef
from sftprep.store.durable import TEMPORARY, storage_errors, sync_file, sync_folder

ROWS_PER_GROUP = 5_000
_JSON = json.JSONEncoder(ensure_ascii=False)
_TEXT_COLUMNS = ("dataset", "file", "licence")
EXAMPLE_COLUMNS = ("id", *_TEXT_COLUMNS, "line", "messages", "tools", "category", "meta")
REJECTED_COLUMNS = (
    "example_id", "kept_id", *_TEXT_COLUMNS, "line", "reason", "reasons", "raw",
)  # fmt: skip


@cache
def schema_of(columns: tuple[str, ...]) -> Any:
    """Arrow schema of columns of ours: `line` is a number, everything else text."""
    import pyarrow as pa

    return pa.schema(
        [(name, pa.int64() if name == "line" else pa.large_string()) for name in columns]
    )


class RowWriter:
    """Appends rows to a parquet file that appears under its name only when all are written."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.rows = 0
        self._pa = pa
        self._pending: list[Mapping[str, Any]] = []
        self._batches: list[Any] = []
        self._waiting = 0
        self.schema = schema_of(columns)
        self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")

    def add(self, row: Mapping[str, Any]) -> None:
        """Queue one row; every ROWS_PER_GROUP rows become one row group."""
        self._pending.append(row)
        self.rows += 1
        if len(self._pending) + self._waiting >= ROWS_PER_GROUP:
            self._flush()

    def add_batch(self, batch: Any) -> None:
        """Queue an Arrow batch with these columns."""
        self._gather()
        if batch.num_rows:
            self._batches.append(batch)
            self._waiting += batch.num_rows
            self.rows += batch.num_rows
        if self._waiting >= ROWS_PER_GROUP:
            self._flush()

    def _gather(self) -> None:
        """Queued rows become a batch, so that rows and batches stay in order."""
        if self._pending:
            batch = self._pa.RecordBatch.from_pylist(self._pending, schema=self.schema)
            self._waiting += batch.num_rows
            self._batches.append(batch)
            self._pending = []

    def _flush(self) -> None:
        self._gather()
        if self._batches:
            table = self._pa.Table.from_batches(self._batches, schema=self.schema)
            self._writer.write_table(table.combine_chunks())
            self._batches, self._waiting = [], 0

    def close(self) -> None:
        """Write what is queued and the footer."""
        self._flush()
        self._writer.close()


@contextmanager
def writing(path: Path, columns: tuple[str, ...]) -> Iterator[RowWriter]:
    """A `RowWriter` whose file is synced and renamed to `path` at the end, or not at all.

    Raises:
        DiskFullError, StoreError: nothing under `path` has changed.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = RowWriter(temporary, columns)
        try:
            yield writer
            writer.close()
            sync_file(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def example_row(example: Example) -> dict[str, Any]:
    """Column values of one example."""
    source = example.source
    messages = [[m.role, m.content, m.train] for m in example.messages]
    return {
        "id": example.id,
        "dataset": source.dataset,
        "file": source.file,
        "line": source.line,
        "licence": source.licence,
        "messages": _JSON.encode([{"role": r, "content": c, "train": t} for r, c, t in messages]),
        "tools": example.tools,
        "category": example.category,
        "meta": _JSON.encode(dict(example.meta)),
    }


def rejected_row(rejected: Rejected) -> dict[str, Any]:
    """Column values of one rejected row."""
    source = rejected.source
    reasons = [{"id": r.id, "evidence": r.evidence, "score": r.score} for r in rejected.reasons]
    return {
        "example_id": rejected.example_id,
        "kept_id": rejected.kept_id,
        "dataset": source.dataset,
        "file": source.file,
        "line": source.line,
        "licence": source.licence,
        "reason": reasons[0]["id"],
        "reasons": json.dumps(reasons, ensure_ascii=False),
        "raw": rejected.raw,
    }


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example of one row of column values."""
    return Example(
        id=row["id"],
        source=_source(row),
        messages=messages_from_text(row["messages"]),
        tools=row["tools"],
        category=row["category"],
        meta=json.loads(row["meta"]),
    )


def messages_from_text(text: str) -> tuple[Message, ...]:
    """The turns in the JSON text of the column `messages`."""
    return tuple(Message(_role(m["role"]), m["content"], m["train"]) for m in json.loads(text))


def rejected_from_row(row: Mapping[str, Any]) -> Rejected:
    """The rejected row of one row of column values."""
    reasons = json.loads(row["reasons"])
    return Rejected(
        source=_source(row),
        raw=row["raw"],
        reasons=tuple(Reason(r["id"], r["evidence"], r["score"]) for r in reasons),
        example_id=row["example_id"],
        kept_id=row["kept_id"],
    )


def _role(name: str) -> Role:
    roles: tuple[Role, ...] = ("system", "user", "assistant", "tool")
    for role in roles:
        if role == name:
            return role
    raise CorruptError(f"unknown role {name!r} in a file of ours.")


def _source(row: Mapping[str, Any]) -> SourceRef:
    return SourceRef(row["dataset"], row["file"], row["line"], row["licence"])


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples in the order given; returns their number. Atomic."""
    with writing(path, EXAMPLE_COLUMNS) as writer:
        for example in examples:
            writer.add(example_row(example))
        return writer.rows


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> int:
    """Write rejected rows in the order given; returns their number. Atomic."""
    with writing(path, REJECTED_COLUMNS) as writer:
        for row in rejected:
            writer.add(rejected_row(row))
        return writer.rows


def read_examples(path: Path) -> Iterator[Example]:
    """Examples in file order, one row group in memory at a time.

    Raises:
        StoreError: the file is missing. CorruptError: it is not one of ours.
    """
    for row in _rows(path, EXAMPLE_COLUMNS):
        yield example_from_row(row)


def read_rejected(path: Path) -> Iterator[Rejected]:
    """Rejected rows in file order, one row group in memory at a time.

    Raises:
        StoreError: the file is missing. CorruptError: it is not one of ours.
    """
    for row in _rows(path, REJECTED_COLUMNS):
        yield rejected_from_row(row)


def count_rows(path: Path) -> int:
    """Rows of a file of ours, from its footer.

    Raises:
        StoreError: the file is missing. CorruptError: it is not one of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise StoreError(f"{path}: no such file. Run the data stage first.")
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        raise CorruptError(f"{path}: not a readable parquet file ({error}). Redo it.") from error


def search(
    path: Path, columns: tuple[str, ...], wanted: Mapping[str, str | int]
) -> Iterator[dict[str, Any]]:
    """Rows of a file of ours whose columns equal the wanted values, found without decoding others.

    A text for the first column is a beginning of it; for examples it also finds the id that a
    repaired row had before.

    Raises:
        StoreError: the file is missing. CorruptError: it is not one of ours.
    """
    import pyarrow.compute as pc

    for table in _groups(path, columns):
        mask = None
        for name, value in wanted.items():
            if name == columns[0]:
                found = pc.starts_with(table[name], value)
                if "meta" in columns:
                    before = f'"id_before_repair": "{value}'
                    found = pc.or_(found, pc.match_substring(table["meta"], before))
            else:
                found = pc.equal(table[name], value)
            mask = found if mask is None else pc.and_(mask, found)
        yield from (table if mask is None else table.filter(mask)).to_pylist()


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for table in _groups(path, columns):
        yield from table.to_pylist()


def _groups(path: Path, columns: tuple[str, ...]) -> Iterator[Any]:
    """Row groups of a file of ours as Arrow tables, one in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise StoreError(f"{path}: no such file. Run the data stage first.")
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(columns))
                if table.num_columns != len(columns):
                    raise CorruptError(f"{path}: columns missing. Run the data stage again.")
                yield table
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        raise CorruptError(f"{path}: not a readable parquet file ({error}). Redo it.") from error
