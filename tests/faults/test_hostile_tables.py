"""Parquet and Arrow files that lie about where their values are: refused, never followed."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from sftprep.data.load import read_rows
from sftprep.errors import DataError

ROOT = Path(__file__).parents[2]


def stream(path: Path, *columns: pa.Array) -> Path:
    """An Arrow stream with columns a, b, ..."""
    batch = pa.record_batch(list(columns), names=[chr(97 + i) for i in range(len(columns))])
    with pa.ipc.new_stream(path, batch.schema) as out:
        out.write_batch(batch)
    return path


def texts_at(*offsets: int) -> pa.Array:
    """Texts at these places of ten letters."""
    places = pa.array(offsets, pa.int32()).buffers()[1]
    return pa.StringArray.from_buffers(len(offsets) - 1, places, pa.py_buffer(b"abcdefghij"))


@pytest.mark.parametrize("offsets", [(0, 4, 2, 10), (0, 1 << 30, 10), (0, -5, 10)])
def test_places_outside_the_text_are_refused(offsets: tuple[int, ...], tmp_path: Path) -> None:
    path = stream(tmp_path / "t.arrow", texts_at(*offsets))
    with pytest.raises(DataError, match="damaged arrow file"):
        list(read_rows(path))


def test_sound_places_are_read(tmp_path: Path) -> None:
    rows = list(read_rows(stream(tmp_path / "t.arrow", texts_at(0, 4, 10))))
    assert [row.value for row in rows] == [{"a": "abcd"}, {"a": "efghij"}]


def test_a_text_that_is_no_utf8_is_the_fault_of_its_row(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(2, texts_at(0, 1, 2).buffers()[1], pa.py_buffer(b"a\xff"))
    first, second = read_rows(stream(tmp_path / "t.arrow", bad))
    assert [first.value, first.fault] == [{"a": "a"}, None]
    assert second.fault is not None
    assert second.fault.id == "encoding_invalid"


def test_a_hundred_million_empty_rows_in_a_few_bytes_are_refused(tmp_path: Path) -> None:
    path = stream(tmp_path / "t.arrow", pa.nulls(100_000_000))
    assert path.stat().st_size < 1000
    with pytest.raises(DataError, match=r"100,000,000 rows in .* not credible"):
        next(iter(read_rows(path)))


def test_hundreds_of_damaged_tables_are_read_or_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.tables", str(tmp_path), "4", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)
    assert min(counts["read"], counts["refused"]) > 10
