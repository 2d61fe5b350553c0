"""Does the model read its instructions? Held-out answers under their own and under another."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sftprep.data.pack import Ints, PackedBatch, TokenCache, assemble, document_batches

MAX_ROWS = 64
MIN_ROWS = 8


@dataclass(frozen=True, slots=True)
class SwappedRows:
    """The same first answers, each after its own instruction and after the next row's."""

    own: list[PackedBatch]
    swapped: list[PackedBatch]


def swapped_rows(
    cache: TokenCache, documents: Ints, max_length: int, max_tokens: int
) -> SwappedRows | None:
    """Pair up to 64 documents in a ring; None when fewer than 8 can be paired.

    Args:
        documents: cache indices to choose from; max_length: tokens a swapped document may have.
    """
    split = [parts for d in documents[: 2 * MAX_ROWS] if (parts := _split(cache, int(d)))]
    pairs = [
        (instruction, answer, other)
        for (instruction, answer), (other, _) in zip(split, split[1:] + split[:1], strict=True)
        if len(other) + len(answer) <= max_length and not np.array_equal(other, instruction)
    ][:MAX_ROWS]
    if len(pairs) < MIN_ROWS:
        return None
    own = _cache([(instruction, answer) for instruction, answer, _ in pairs])
    swapped = _cache([(other, answer) for _, answer, other in pairs])
    return SwappedRows(list(_batches(own, max_tokens)), list(_batches(swapped, max_tokens)))


def _split(cache: TokenCache, document: int) -> tuple[Ints, Ints] | None:
    """Tokens before the first answer, and that answer; None without both."""
    row = cache.document(document)
    places = np.flatnonzero(row.supervised)
    if len(places) == 0 or places[0] == 0:
        return None
    begin = int(places[0])
    gaps = np.flatnonzero(~row.supervised[begin:])
    end = begin + int(gaps[0]) if len(gaps) else len(row.ids)
    return row.ids[:begin].astype(np.int64), row.ids[begin:end].astype(np.int64)


def _cache(rows: list[tuple[Ints, Ints]]) -> TokenCache:
    ids = np.concatenate([part for row in rows for part in row]).astype(np.int32)
    supervised = np.concatenate(
        [np.full(len(part), answer) for row in rows for answer, part in enumerate(row)]
    ).astype(bool)
    ends = np.cumsum([len(a) + len(b) for a, b in rows])
    starts = np.concatenate([np.zeros(1, np.int64), ends])
    return TokenCache(ids, supervised, starts, tuple(map(str, range(len(rows)))), "")


def _batches(cache: TokenCache, max_tokens: int) -> Iterator[PackedBatch]:
    for documents in document_batches(cache.lengths, np.arange(len(cache)), max_tokens):
        yield assemble(cache, documents)
