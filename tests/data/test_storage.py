"""Examples and rejected rows survive the disk; a broken file says so."""

from pathlib import Path

import pytest

from sftprep.data.storage import (
    ROWS_PER_GROUP,
    read_examples,
    read_rejected,
    write_examples,
    write_rejected,
)
from sftprep.errors import CorruptError, StoreError
from sftprep.records import Example, Message, Reason, Rejected, SourceRef

EXAMPLE = Example(
    id="0123456789abcdef",
    source=SourceRef("set", "a/b.jsonl", 12, "MIT"),
    messages=(
        Message("system", "Be kind.", False),
        Message("user", 'Tab\t, quote ", \u2028 and \U0001f600?', False),
        Message("assistant", "Yes.\n", True),
    ),
    tools='[{"name": "x"}]',
    category="qa",
    meta={"format": "messages", "flags": "a,b"},
)
PLAIN = Example("f" * 16, SourceRef("set", "c", 1), EXAMPLE.messages)
REJECTED = Rejected(
    source=SourceRef("set", "a.jsonl", 3, None),
    raw='{"x": "\u00e9"}',
    reasons=(Reason("duplicate_near", "copy of x", 0.9), Reason("toxic_words", "..")),
    example_id="0" * 16,
    kept_id="1" * 16,
)


def test_examples_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    assert write_examples(path, [EXAMPLE, PLAIN]) == 2
    assert list(read_examples(path)) == [EXAMPLE, PLAIN]


def test_rejected_rows_come_back_as_they_were(tmp_path: Path) -> None:
    unread = Rejected(REJECTED.source, "base64:AAA=", (Reason("encoding_invalid", "byte 0"),))
    path = tmp_path / "rejected.parquet"
    assert write_rejected(path, [REJECTED, unread]) == 2
    assert list(read_rejected(path)) == [REJECTED, unread]


def test_no_rows_make_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    assert write_examples(path, []) == 0
    assert list(read_examples(path)) == []


def test_rows_are_written_in_groups_and_in_order(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    count = ROWS_PER_GROUP + 1
    rows = (Example(f"{k:016x}", SourceRef("s", "f", k), EXAMPLE.messages) for k in range(count))
    assert write_examples(path, rows) == count
    assert pq.ParquetFile(path).num_row_groups == 2
    assert [e.source.line for e in read_examples(path)] == list(range(count))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_examples(path, [EXAMPLE])

    def failing() -> list[Example]:
        raise KeyError("boom")

    with pytest.raises(KeyError):
        write_examples(path, (e for _ in range(2) for e in failing()))
    assert list(read_examples(path)) == [EXAMPLE]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_missing_file_and_a_foreign_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Run the data stage first"):
        list(read_examples(tmp_path / "none.parquet"))
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 not really")
    with pytest.raises(CorruptError, match="not a readable parquet file"):
        list(read_examples(bad))


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_examples(path, [EXAMPLE])
    with pytest.raises(CorruptError):
        list(read_rejected(path))
