"""Training and validation set, split by whole groups of related rows.

A group's side follows from a hash of its smallest example id and the seed, so adding data does not
move old rows (unless new rows tie groups together), and every source and category gives about the
same share without being asked to.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftprep.data.features import id_text
from sftprep.data.groups import Groups

LARGE_SHARE = 0.01  # a group above this share of the rows trains whole


@dataclass(frozen=True, slots=True)
class LargeGroup:
    """A group too large to hold out."""

    rows: int
    example_id: str


@dataclass(frozen=True, slots=True)
class Split:
    """`validation`: bool [N], true for held-out rows; `groups`: int64 [N], each row's group."""

    validation: NDArray[np.bool_]
    groups: NDArray[np.int64]
    large: tuple[LargeGroup, ...]


def assign(
    ids: NDArray[np.uint64], kept: NDArray[np.bool_], ties: Groups, fraction: float, seed: int
) -> Split:
    """Choose the held-out rows.

    Args:
        ids: example id of each row, as a number. kept: bool [N], rows to split. ties: related rows.
        fraction: share to hold out, 0..1. seed: of the hash.
    At least one group is held out when there are two that may be: the one with the smallest hash.
    """
    groups = np.where(kept, ties.roots(), -1)
    rows = np.flatnonzero(kept)
    names, member_of, sizes = np.unique(groups[rows], return_inverse=True, return_counts=True)
    smallest = np.full(len(names), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, member_of, ids[rows])
    is_large = sizes > max(1.0, LARGE_SHARE * len(rows))
    draws = np.array(
        [
            1.0 if big else draw(id_text(first), seed)
            for first, big in zip(smallest.tolist(), is_large, strict=True)
        ]
    )
    chosen = draws < fraction
    if not chosen.any() and not is_large.all() and len(names) > 1:
        chosen[np.argmin(draws)] = True
    validation = np.zeros(len(ids), dtype=np.bool_)
    validation[rows] = chosen[member_of]
    large = [LargeGroup(int(sizes[k]), id_text(int(smallest[k]))) for k in np.flatnonzero(is_large)]
    large.sort(key=lambda g: (-g.rows, g.example_id))
    return Split(validation, groups, tuple(large))


def draw(example_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but the id and the seed."""
    digest = hashlib.sha256(f"{seed}:{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def shares(
    strata: Sequence[str], kept: NDArray[np.bool_], validation: NDArray[np.bool_]
) -> Mapping[str, tuple[int, int]]:
    """(train, validation) rows per stratum, largest first."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in np.flatnonzero(kept).tolist():
        counts[strata[row]][int(validation[row])] += 1
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return {name: (train, held_out) for name, (train, held_out) in ordered}
