"""Planning: which requests are one pass, and which passes share a beginning. No model involved.

1. Distinct work: requests that differ only in their last token (answer letters) are one pass.
2. Families: sorted neighbours that share a prefix (few-shot block, primer, question).
3. Trees: inside a family, works that share more than the family does (a question's answers).
Prefixes are found on the token ids of the full texts, never by tokenising a prefix on its own: a
tokenizer may end "\\n\\n" differently when more text follows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sftprep.evaluate.encode import Encoded, Ids
from sftprep.evaluate.rows import Row

TREE_TOKENS = 1024
"""Longest tree: its dense mask costs the square."""
PREFIX_GAIN = 256
"""Tokens saved from which a pass of its own for the family's prefix pays."""


@dataclass(slots=True)
class Work:
    """One distinct pass: model input `ids`; the first `context` of them are not scored.

    `last` maps each final token (not part of the input) to the requests that end with it.
    """

    ids: Ids
    context: int
    last: dict[int, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tree:
    """Works that share their first `trunk` tokens."""

    trunk: int
    works: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Trees that share their first `prefix` tokens."""

    prefix: int
    trees: tuple[Tree, ...]

    @property
    def prefix_pays(self) -> bool:
        """Whether encoding the prefix once saves enough to be a pass of its own."""
        return (len(self.trees) - 1) * self.prefix >= PREFIX_GAIN


def distinct(indices: Sequence[int], encoded: Sequence[Encoded]) -> list[Work]:
    """One work per different (input, cut), in lexicographic order of the input's tokens."""
    works: dict[tuple[bytes, int], Work] = {}
    for index, one in zip(indices, encoded, strict=True):
        ids = one.full[:-1]
        context = len(one.full) - one.continuation
        key = (ids.astype(">i4").tobytes(), context)
        work = works.setdefault(key, Work(ids, context))
        work.last.setdefault(int(one.full[-1]), []).append(index)
    return [works[key] for key in sorted(works)]


def common_prefix(a: Ids, b: Ids, limit: int) -> int:
    """Number of equal leading tokens, at most `limit`."""
    length = min(len(a), len(b), limit)
    differs = np.nonzero(a[:length] != b[:length])[0]
    return int(differs[0]) if differs.size else length


def families(works: Sequence[Work]) -> list[Family]:
    """Cut sorted works where neighbours stop sharing at least half of what the family shares.

    A work's own prefix ends one before its context does, so that each work owns the column that
    predicts its first scored token.
    """
    found = []
    for start, end, prefix in _runs(works, 0, None):
        members = works[start:end]
        trees = tuple(
            Tree(trunk, tuple(members[a:b])) for a, b, trunk in _runs(members, prefix, TREE_TOKENS)
        )
        found.append(Family(prefix, trees))
    return found


def _runs(works: Sequence[Work], base: int, cap: int | None) -> Iterable[tuple[int, int, int]]:
    """(start, end, shared tokens) of neighbours sharing more than `base`, up to `cap` tokens."""
    start = 0
    while start < len(works):
        shared = works[start].context - 1
        size = len(works[start].ids) - base
        end = start + 1
        while end < len(works):
            limit = min(shared, works[end].context - 1)
            now = common_prefix(works[start].ids, works[end].ids, limit)
            # Members already in the run repeat what the shrunken trunk no longer covers.
            size += (shared - now) * (end - start - 1) + len(works[end].ids) - now
            if (now - base) * 2 < shared - base or (cap is not None and size > cap):
                break
            shared, end = now, end + 1
        yield start, end, shared
        start = end


def tree_row(tree: Tree, prefix: int) -> Row:
    """Lay a tree out as one row that hangs on the first `prefix` tokens (0: carries everything).

    Targets come work by work: scored tokens but the last, then one per final token.
    """
    trunk = tree.works[0].ids[prefix : tree.trunk]
    ids, positions = [trunk], [np.arange(len(trunk), dtype=np.int32)]
    segments, read, slots, tokens = [np.zeros(len(trunk), np.int32)], [], [], []
    column, slot = len(trunk), 0
    for number, work in enumerate(tree.works, start=1):
        branch = work.ids[tree.trunk :]
        ids.append(branch)
        positions.append(np.arange(len(branch), dtype=np.int32) + len(trunk))
        segments.append(np.full(len(branch), number, np.int32))
        scored = len(work.ids) - work.context + 1
        read.append(np.arange(scored, dtype=np.int32) + (column + work.context - 1 - tree.trunk))
        last = np.full(len(work.last), slot + scored - 1, np.int32)
        slots.append(np.concatenate([np.arange(slot, slot + scored - 1, dtype=np.int32), last]))
        tokens.append(
            np.concatenate([work.ids[work.context :], np.asarray([*work.last], np.int32)])
        )
        column, slot = column + len(branch), slot + scored
    join = np.concatenate
    return Row(join(ids), join(positions), join(segments), join(read), join(slots), join(tokens))
