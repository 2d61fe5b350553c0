"""Reads damaged tables until the time is over; a program of its own, because one may end it.

usage: python -m tests.faults.tables FOLDER SECONDS SEED
Bytes of a Parquet file, an Arrow file and an Arrow stream are changed or cut; the rule is that of
every parser: rows or a SftprepError. Prints how many were read and refused.
"""

import json
import random
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sftprep.data.load import read_rows
from sftprep.errors import SftprepError

ROWS = 50


def originals(folder: Path) -> dict[str, bytes]:
    """The same sound table in three forms."""
    texts = [f"say {i}" for i in range(ROWS)]
    turns = [[{"role": "user", "content": text}] for text in texts]
    table = pa.table({"instruction": texts, "response": texts, "messages": turns})
    pq.write_table(table, folder / "t.parquet")
    with pa.ipc.new_file(folder / "file.arrow", table.schema) as file:
        file.write_table(table)
    with pa.ipc.new_stream(folder / "stream.arrow", table.schema) as stream:
        stream.write_table(table)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One to eight bytes changed, more often near the end; one in ten cut short."""
    new = bytearray(content)
    for _ in range(chance.choice((1, 2, 8))):
        near_end = len(new) - 1 - min(len(new) - 1, int(chance.expovariate(1 / 200)))
        place = chance.choice((chance.randrange(len(new)), near_end))
        new[place] = chance.choice((0, 255, new[place] ^ (1 << chance.randrange(8))))
    return bytes(new[: chance.randrange(len(new))] if chance.random() < 0.1 else new)


def main() -> None:
    """Until the time is over."""
    folder, seconds, chance = Path(sys.argv[1]), float(sys.argv[2]), random.Random(sys.argv[3])
    files = originals(folder)
    counts = {"read": 0, "refused": 0}
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for name, content in files.items():
            (folder / name).write_bytes(damaged(content, chance))
            try:
                for _ in read_rows(folder / name):
                    pass
                counts["read"] += 1
            except SftprepError:
                counts["refused"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
