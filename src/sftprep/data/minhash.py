"""Candidates for near duplicates: MinHash signatures cut into bands (LSH), vectorised in numpy.

Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3
(bands). A band of r values collides with probability J^r, one of b bands with 1 - (1 - J^r)^b.
Candidates are no verdict: the caller verifies each with the exact Jaccard similarity.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from sftprep.data.cores import usable_cores
from sftprep.data.wordstore import Hashes, Index, Texts

PERMUTATIONS = 128
MIN_RECALL = 0.99  # of pairs exactly at the threshold; pairs above it are found more often
_BAND_ROWS = (32, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)


def rows_per_band(threshold: float) -> int:
    """Most rows per band that still find MIN_RECALL of the pairs at the threshold.

    0.8 gives 6 rows, so 21 bands; a lower threshold needs more bands with fewer rows.
    """
    for rows in _BAND_ROWS:
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= MIN_RECALL:
            return rows
    return 1


def band_keys(
    texts: Texts, n: int, rows: NDArray[np.bool_], threshold: float, seed: int = 1
) -> NDArray[np.uint64]:
    """Keys of all bands: uint64 [bands, N]; 0 for rows that are left out or have no shingle.

    Args:
        texts: word hashes. n: words per shingle. rows: bool [N], which rows to sign.
        threshold: similarity that must be found. seed: of the permutations.
    """
    generator = np.random.default_rng(seed)
    factors = generator.integers(1, 1 << 63, PERMUTATIONS, dtype=np.uint64) * np.uint64(2)
    factors += np.uint64(1)
    shifts = generator.integers(0, 1 << 63, PERMUTATIONS, dtype=np.uint64)
    per_band = rows_per_band(threshold)
    keys = np.zeros((PERMUTATIONS // per_band, len(texts)), dtype=np.uint64)

    def sign(piece: tuple[int, int]) -> None:
        if rows[slice(*piece)].any():
            hashes, owners = texts.shingles(*piece, n)
            wanted = rows[owners]
            _sign(hashes[wanted], owners[wanted], factors, shifts, per_band, keys)

    # Threads: pieces fill other columns of `keys`, and numpy works without the interpreter's lock.
    with ThreadPoolExecutor(usable_cores()) as pool:
        deque(pool.map(sign, texts.pieces()), maxlen=0)
    return keys


def _sign(
    hashes: Hashes,
    owners: Index,
    factors: Hashes,
    shifts: Hashes,
    per_band: int,
    keys: NDArray[np.uint64],
) -> None:
    """Fill the keys of the rows that own these shingles (owners ascending)."""
    if len(hashes) == 0:
        return
    starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
    rows = owners[starts]
    signature = np.empty((PERMUTATIONS, len(rows)), dtype=np.uint64)
    scratch = np.empty(len(hashes), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for k in range(PERMUTATIONS):
            np.multiply(hashes, factors[k], out=scratch)
            np.add(scratch, shifts[k], out=scratch)
            np.minimum.reduceat(scratch, starts, out=signature[k])
        for band in range(len(keys)):
            value = np.zeros(len(rows), dtype=np.uint64)
            for k in range(band * per_band, (band + 1) * per_band):
                value = (value ^ signature[k]) * np.uint64(0x9E3779B97F4A7C15)
                value ^= value >> np.uint64(32)
            keys[band, rows] = np.maximum(value, np.uint64(1))


def buckets(keys: NDArray[np.uint64], order: Index) -> Iterator[Index]:
    """Groups of rows that share a band, each in the given order of rows.

    Args:
        keys: from `band_keys`. order: int64 [N], rows by preference; makes the result independent
            of the order in which rows were read.
    """
    for band in keys:
        ordered = band[order]
        by_key = np.argsort(ordered, kind="stable")
        sorted_keys = ordered[by_key]
        edges = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
        sizes = np.diff(np.concatenate([edges, [len(sorted_keys)]]))
        for edge, size in zip(edges[sizes > 1], sizes[sizes > 1], strict=True):
            if sorted_keys[edge] != 0:
                yield order[by_key[edge : edge + size]]
