"""How documents are padded for attention where no kernel takes them packed, without tensors.

Rows and micro-batches of a sample are made as training makes them (data/pack.py, train/batches.py),
the groups of an attention call as in model/attention.py (a test compares them).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

# As in model/attention.py: padding that one more call is worth, and the longest documents whose
# scores are kept on a CPU.
WASTE_PAIRS, WASTE_SHARE = 1 << 18, 0.15
SHORT_TOKENS = 256
# A CPU works a micro-batch off in pieces of at most so many tokens (or one longer document): what a
# larger one holds leaves its caches (docs/benchmarks.md).
CPU_PIECE_TOKENS = 2048
# A sample that fills fewer micro-batches is repeated.
MICRO_BATCHES = 4


@dataclass(frozen=True, slots=True)
class Padding:
    """`places`: padded places per token; `score_span`: scores kept per token and head."""

    places: float
    score_span: float


@lru_cache(maxsize=256)
def paddings(
    lengths: tuple[int, ...], rows: int, length: int, piece: int | None = None
) -> tuple[Padding, ...]:
    """Padding of each micro-batch, or of each piece at least half as large as the largest.

    Args:
        lengths: tokens per document of the sample; those above `length` are left out.
        rows: packed rows of `length` tokens per micro-batch.
        piece: tokens that a micro-batch is cut into.
    """
    kept = [n for n in lengths if 0 < n <= length]
    if not kept:
        return (Padding(1.0, 0.0),)
    batches = list(_micro_batches(kept, rows, length, piece))
    least = max(map(sum, batches)) / 2
    return tuple(_padding(batch) for batch in batches if sum(batch) >= least)


def _micro_batches(
    lengths: Sequence[int], rows: int, length: int, piece: int | None
) -> Iterator[list[int]]:
    """Documents of each micro-batch, or of its pieces, of an epoch over the sample."""
    import numpy as np

    from sftprep.data.pack import document_batches, pack

    wanted = MICRO_BATCHES * rows * length
    documents = np.array(list(lengths) * (-(-wanted // sum(lengths))), np.int64)
    packed = pack(documents, length, seed=0, epoch=0)
    for first in range(0, len(packed) - rows + 1, rows):
        batch = np.concatenate(packed[first : first + rows])
        for part in document_batches(documents, batch, piece or wanted):
            yield documents[part].tolist()


def _padding(batch: Sequence[int]) -> Padding:
    groups = groups_of(sorted(batch, reverse=True))
    places = sum(count * longest for count, longest in groups)
    pairs = sum(count * longest**2 for count, longest in groups if longest <= SHORT_TOKENS)
    return Padding(places / sum(batch), pairs / sum(batch))


def groups_of(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Documents and longest length of each attention call; `lengths` longest first.

    A document joins a group while its padding stays cheaper than another call.
    """
    groups: list[tuple[int, int]] = []
    longest = count = waste = useful = 0
    for length in lengths:
        extra = (longest - length) * longest
        if count and waste + extra > max(WASTE_PAIRS, WASTE_SHARE * useful):
            groups.append((count, longest))
            count = waste = useful = 0
        if count == 0:
            longest, extra = length, 0
        count += 1
        waste += extra
        useful += length * length
    return [*groups, (count, longest)]
