"""Rows of Parquet and Arrow files, a batch in memory at a time; `line` is the row's number."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sftprep.data.rawrow import RawRow
from sftprep.errors import DataError
from sftprep.records import Reason

BATCH = 1000
# A few bytes may claim any number of empty rows; columns of one repeated value reach about 30.
MAX_ROWS_PER_BYTE = 100
MIN_ROWS = 1_000_000


def parquet_rows(path: Path) -> Iterator[RawRow]:
    """Rows of a Parquet file.

    Raises:
        DataError: damaged, more rows than its size allows, or two columns have one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, path)
            number = 0
            _check_count(file.metadata.num_rows, path)
            for batch in file.iter_batches(batch_size=BATCH):
                _check_batch(batch)
                yield from _batch_rows(batch, number)
                number += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged parquet file ({error}). Fetch it again.") from error


def arrow_rows(path: Path) -> Iterator[RawRow]:
    """Rows of an Arrow file or stream (what `datasets` keeps on disk).

    Raises:
        DataError: damaged, more rows than its size allows, or two columns have one name.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as mapped:
            number = 0
            for batch in _arrow_batches(mapped, path):
                _check_count(number + batch.num_rows, path)
                _check_batch(batch)
                for start in range(0, batch.num_rows, BATCH):
                    yield from _batch_rows(batch.slice(start, BATCH), number + start)
                number += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged arrow file ({error}). Write it again.") from error


def _arrow_batches(mapped: Any, path: Path) -> Iterator[Any]:
    import pyarrow as pa

    if mapped.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(mapped)
        _check_names(reader.schema.names, path)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
        return
    mapped.seek(0)
    stream = pa.ipc.open_stream(mapped)
    _check_names(stream.schema.names, path)
    yield from stream


def _check_names(names: list[str], path: Path) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are named {twice!r}. Rename one of them.")


def _check_count(rows: int, path: Path) -> None:
    if rows > max(MIN_ROWS, MAX_ROWS_PER_BYTE * path.stat().st_size):
        raise DataError(f"{path}: {rows:,} rows in {path.stat().st_size:,} bytes: not credible.")


def _check_batch(batch: Any) -> None:
    """Offsets and indexes of a damaged file point anywhere: following them would end the process.

    Text that is not UTF-8 passes in a plain column, whose offsets are sound then: it is the fault
    of one row.

    Raises:
        pyarrow.ArrowInvalid: a column is not sound.
    """
    import pyarrow as pa

    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if not (pa.types.is_string(column.type) and "UTF8" in str(error)):
                raise


def _batch_rows(batch: Any, before: int) -> Iterator[RawRow]:
    try:
        for number, value in enumerate(batch.to_pylist(), start=before + 1):
            yield RawRow(number, b"", _size(value), value=value)
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            yield _one_row(batch.slice(index, 1), before + index + 1)


def _one_row(row: Any, number: int) -> RawRow:
    """A row of a batch in which some text is not UTF-8: shown with escapes when it is this one."""
    try:
        value = row.to_pylist()[0]
        return RawRow(number, b"", _size(value), value=value)
    except UnicodeDecodeError as error:
        shown: dict[str, Any] = {}
        for name in row.schema.names:
            try:
                shown[name] = row.column(name)[0].as_py()
            except UnicodeDecodeError as bad:
                shown[name] = bytes(bad.object).decode("utf-8", "backslashreplace")
        fault = Reason("encoding_invalid", f"byte {error.start} of a text")
        return RawRow(number, b"", 0, value=shown, fault=fault)


def _size(value: Any) -> int:
    """Characters of all texts in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 0
