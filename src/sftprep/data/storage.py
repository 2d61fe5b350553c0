"""Examples and rejected rows on disk: parquet, written in row groups, atomically.

Columns of examples: id, dataset, file, line, licence, messages (JSON text), tools, category,
meta (JSON text). Columns of rejected rows: example_id, kept_id, dataset, file, line, licence,
reason (the first), reasons (JSON text), raw.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sftprep.errors import CorruptError, StoreError
from sftprep.records import Example, Message, Reason, Rejected, Role, SourceRef
from sftprep.store.durable import TEMPORARY, storage_errors, sync_file, sync_folder

ROWS_PER_GROUP = 5_000
_TEXT_COLUMNS = ("dataset", "file", "licence")
EXAMPLE_COLUMNS = ("id", *_TEXT_COLUMNS, "line", "messages", "tools", "category", "meta")
REJECTED_COLUMNS = (
    "example_id", "kept_id", *_TEXT_COLUMNS, "line", "reason", "reasons", "raw",
)  # fmt: skip


class RowWriter:
    """Appends rows to a parquet file that appears under its name only when all are written."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.rows = 0
        self._pa = pa
        self._pending: list[Mapping[str, Any]] = []
        self.schema = pa.schema(
            [(name, pa.int64() if name == "line" else pa.large_string()) for name in columns]
        )
        self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")

    def add(self, row: Mapping[str, Any]) -> None:
        """Queue one row; every ROWS_PER_GROUP rows become one row group."""
        self._pending.append(row)
        self.rows += 1
        if len(self._pending) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            table = self._pa.Table.from_pylist(self._pending, schema=self.schema)
            self._writer.write_table(table)
            self._pending = []

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
        "messages": json.dumps(
            [{"role": r, "content": c, "train": t} for r, c, t in messages], ensure_ascii=False
        ),
        "tools": example.tools,
        "category": example.category,
        "meta": json.dumps(dict(example.meta), ensure_ascii=False),
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
        messages=tuple(
            Message(_role(m["role"]), m["content"], m["train"]) for m in json.loads(row["messages"])
        ),
        tools=row["tools"],
        category=row["category"],
        meta=json.loads(row["meta"]),
    )


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


def find_rows(path: Path, column: str, value: str) -> list[dict[str, Any]]:
    """All rows of a file of ours whose text column equals a value."""
    columns = EXAMPLE_COLUMNS if column == "id" else REJECTED_COLUMNS
    return [row for row in _rows(path, columns) if row[column] == value]


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
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
                yield from table.to_pylist()
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        raise CorruptError(f"{path}: not a readable parquet file ({error}). Redo it.") from error
