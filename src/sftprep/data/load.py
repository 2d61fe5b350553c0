"""Files to raw rows: JSON lines or a JSON array, plain or gzip, read as bytes, one row at a time.

A bad row never stops the rows after it. Lines end at `\\n` only (U+2028 and friends are text), a
row has a size limit, and what is cut is found by file and line.
"""

import gzip
import mmap
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from sftprep.errors import DataError
from sftprep.recipe.sections import Source

MAX_ROW_BYTES = 8 << 20  # a row of 8 MiB is two million tokens: never a training example
KEPT_PREFIX = 4096  # bytes kept of a row that is too big
SUFFIXES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},"]', re.DOTALL)
_BROKEN_STRING = re.compile(rb'\n\s*["{}\]]')
_CLOSES = {ord("}"): ord("{"), ord("]"): ord("[")}
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "a parquet file"),
    (b"ARROW1", "an arrow file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
Bytes: TypeAlias = "bytes | mmap.mmap"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as found: `line` is 1-based; `size` is its real size when `data` is only a prefix."""

    line: int
    data: bytes
    size: int

    @property
    def too_big(self) -> bool:
        """True when the row passes the limit; `data` then holds its beginning."""
        return self.size > MAX_ROW_BYTES


def source_files(source: Source) -> list[Path]:
    """The files of a source, sorted by name.

    Raises:
        DataError: the path is missing, unreadable, or a folder without data files.
    """
    path = Path(source.path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            f"{path}: no such file or folder. Correct data.sources "
            "(paths are relative to the recipe)."
        )
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    if not found:
        raise DataError(
            f"{path}: no data file in this folder. Expected names ending in {', '.join(SUFFIXES)}."
        )
    return found


def read_rows(path: Path) -> Iterator[RawRow]:
    """Rows of one file in order, with bounded memory per row.

    Raises:
        DataError: the file cannot be opened, is of another kind, is damaged gzip, or is a JSON
            array broken in a way that hides how many rows follow.
    """
    try:
        with _opened(path) as handle:
            start = _first_bytes(handle, path)
            if start.lstrip(_SPACE)[:1] == b"[":
                yield from _array_rows(path, handle)
            else:
                yield from _line_rows(handle)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}). Fetch or pack it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as handle:
        if handle.read(2) != b"\x1f\x8b":
            handle.seek(0)
            yield handle
            return
        handle.seek(0)
        with gzip.GzipFile(fileobj=handle) as unpacked:
            yield cast(BinaryIO, unpacked)


def _first_bytes(handle: BinaryIO, path: Path) -> bytes:
    """Look at the beginning; the position is left after a byte-order mark, if there is one."""
    start = handle.read(4096)
    for magic, what in _FOREIGN:
        if start.startswith(magic):
            raise DataError(
                f"{path}: this is {what}, not JSON. Convert it to UTF-8 JSON lines "
                '({"instruction": ..., "response": ...} per line).'
            )
    has_bom = start.startswith(_BOM)
    handle.seek(len(_BOM) if has_bom else 0)
    return start[len(_BOM) :] if has_bom else start


def _line_rows(handle: BinaryIO) -> Iterator[RawRow]:
    number = 0
    while line := handle.readline(MAX_ROW_BYTES + 1):
        number += 1
        size = len(line)
        if size > MAX_ROW_BYTES and not line.endswith(b"\n"):
            while rest := handle.readline(1 << 20):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield RawRow(number, line[:KEPT_PREFIX], size)
            continue
        body = line.rstrip(b"\r\n")
        if body.strip(_SPACE):
            yield RawRow(number, body, len(body))


def _array_rows(path: Path, handle: BinaryIO) -> Iterator[RawRow]:
    if isinstance(handle, gzip.GzipFile):
        handle.seek(0)
        yield from ArrayScan(path, handle.read()).rows()
        return
    with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield from ArrayScan(path, content).rows()


class ArrayScan:
    """Finds the elements of a JSON array without parsing them.

    After a broken element (a quote or bracket missing) it starts anew at the next `{` that begins
    a line with the indentation of the first element.
    """

    def __init__(self, path: Path, content: Bytes) -> None:
        self.path = path
        self.content = content
        self.open: list[int] = []
        self.broken = False
        self.indent: bytes | None = None
        self.line = 1
        self.counted = 0
        self.sizes = 0
        self.found = 0

    def rows(self) -> Iterator[RawRow]:
        """The elements in order; text after the array is one bad row."""
        content = self.content
        place = content.find(b"[") + 1
        start = place
        while match := _TOKEN.search(content, place):
            token, place = match.group(), match.end()
            if token[0] == ord('"'):
                place = self._after_string(token, match.start(), place)
                continue
            if token == b"," or token in (b"{", b"["):
                if token == b"," and not self.open:
                    yield from self._row(start, match.start(), must_hold=True)
                    start = place
                elif token != b",":
                    if self._starts_anew(token, match.start()):
                        yield from self._row(start, match.start(), must_hold=False)
                        start = match.start()
                    self.open.append(token[0])
                continue
            if not self.open and token == b"]":
                yield from self._row(start, match.start(), must_hold=False)
                yield from self._row(place, len(content), must_hold=False)
                return
            self._close(token[0])
        self._refuse_long_rest(start)
        yield from self._row(start, len(content), must_hold=False)
        if not self.open:  # the last row looks whole, but the file was cut: one bad row says so
            yield RawRow(self.line, b"", 0)

    def _after_string(self, token: bytes, start: int, end: int) -> int:
        """Where to go on after a quote; a string that swallowed structure ends with its line."""
        if token != b'"' and _BROKEN_STRING.search(token) is None:
            return end
        self.broken = True
        newline = self.content.find(b"\n", start)
        return len(self.content) if newline < 0 else newline

    def _close(self, token: int) -> None:
        if self.open and self.open[-1] == _CLOSES.get(token):
            self.open.pop()
        else:
            self.broken = True

    def _starts_anew(self, token: bytes, at: int) -> bool:
        line_start = self.content.rfind(b"\n", 0, at) + 1
        before = self.content[line_start:at]
        first_on_line = line_start > 0 and not before.strip(_SPACE)
        if not self.open and self.indent is None and first_on_line:
            self.indent = before
        if not (self.broken and self.open and token == b"{" and first_on_line):
            return False
        if before != self.indent:
            return False
        self.open.clear()
        self.broken = False
        return True

    def _row(self, start: int, end: int, *, must_hold: bool) -> Iterator[RawRow]:
        data = self.content[start : min(end, start + MAX_ROW_BYTES + 1)]
        body = data.strip(_SPACE)
        if not body and not must_hold:
            return
        first = start + (len(data) - len(data.lstrip(_SPACE)) if body else 0)
        self.line += self.content[self.counted : first].count(b"\n")
        self.counted = first
        self.found += 1
        self.sizes += end - start
        self.broken = False
        if end - start > MAX_ROW_BYTES:
            yield RawRow(self.line, body[:KEPT_PREFIX], end - start)
        else:
            yield RawRow(self.line, body, len(body))

    def _refuse_long_rest(self, start: int) -> None:
        """A cut file loses its last row; a rest of many rows must not pass as one."""
        usual = self.sizes / self.found if self.found else 0.0
        rest = len(self.content) - start
        if rest > max(20 * usual, 1 << 16):
            line = self.line + self.content[self.counted : start].count(b"\n")
            raise DataError(
                f"{self.path}:{line}: the JSON array is broken here; {rest:,} bytes after it "
                "cannot be told apart. Mend the row, or store the data as one JSON object per line."
            )
