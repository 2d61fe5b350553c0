"""Rows between the passes, on disk: appended once, read back in order or one at a time.

Memory is 8 bytes per row (the offset), whatever the size of the texts.
"""

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sftprep.data.storage import example_from_row, example_row
from sftprep.records import Example, Reason


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that passed the checks on single rows; `raw_json` is the row as read, as JSON text."""

    example: Example
    raw_json: str
    flags: tuple[Reason, ...]

    @property
    def raw(self) -> str:
        """The row as it was read; decoded only when asked for."""
        return str(json.loads(self.raw_json))


class Spool:
    """A temporary file of candidates: first all are added, then they are read.

    Delete the folder it lives in afterwards.
    """

    def __init__(self, path: Path) -> None:
        self.offsets: array[int] = array("q")
        self._size = 0
        self._file = path.open("w+b")

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, candidate: Candidate) -> int:
        """Append a row; returns its index."""
        flags = [[f.id, f.evidence, f.score] for f in candidate.flags]
        body = json.dumps([example_row(candidate.example), flags], ensure_ascii=False)
        row = f"{body}\n{candidate.raw_json}\n".encode()
        self.offsets.append(self._size)
        self._size += len(row)
        self._file.write(row)
        return len(self.offsets) - 1

    def get(self, index: int) -> Candidate:
        """One row by its index."""
        if self._file.tell() != self.offsets[index]:
            self._file.seek(self.offsets[index])
        (row, flags), raw = json.loads(self._file.readline()), self._file.readline()
        reasons = tuple(Reason(i, e, s) for i, e, s in flags)
        return Candidate(example_from_row(row), raw.decode(), reasons)

    def __iter__(self) -> Iterator[Candidate]:
        """All rows in order."""
        for index in range(len(self)):
            yield self.get(index)
