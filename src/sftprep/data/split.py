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
    ids: Sequence[str], kept: NDArray[np.bool_], ties: Groups, fraction: float, seed: int
) -> Split:
    """Choose the held-out rows.

    Args:
        ids: example id of each row. kept: bool [N], rows to split. ties: related rows.
        fraction: share to hold out, 0..1. seed: of the hash.
    At least one group is held out when there are two that may be: the one with the smallest hash.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(kept).tolist():
        members[ties.find(row)].append(row)
    groups = np.full(len(ids), -1, dtype=np.int64)
    validation = np.zeros(len(ids), dtype=np.bool_)
    limit = max(1.0, LARGE_SHARE * int(kept.sum()))
    draws: dict[int, float] = {}
    large = []
    for group, rows in members.items():
        groups[rows] = group
        smallest = min(ids[row] for row in rows)
        if len(rows) > limit:
            large.append(LargeGroup(len(rows), smallest))
        else:
            draws[group] = draw(smallest, seed)
    chosen = [group for group, value in draws.items() if value < fraction]
    if not chosen and draws and len(members) > 1:
        chosen = [min(draws, key=lambda group: draws[group])]
    for group in chosen:
        validation[members[group]] = True
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
