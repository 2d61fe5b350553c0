"""Planning: which requests are one pass, and which passes share a beginning. No model involved.

1. Distinct work: requests that differ only in their last token (answer letters) are one pass.
2. Families: sorted neighbours that share a prefix (few-shot block, primer, question).
3. Trees: inside a family, works that share more than the family does (a question's answers). What
   answers themselves begin with alike is laid out once, too.
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
    """Works laid out as one row: sorted, so that equal beginnings are neighbours."""

    works: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Trees that share their first `prefix` tokens."""

    prefix: int
    trees: tuple[Tree, ...]

    def prefix_pays(self, budget: int) -> bool:
        """Whether the prefix is better a pass of its own, where a pass holds `budget` tokens.

        It saves encoding the prefix once per tree. A single tree gains too when it fills a pass
        anyway: behind a prefix only its answers need the dense mask, the rest is plainly causal.
        """
        again = (len(self.trees) - 1) * self.prefix
        return again >= PREFIX_GAIN or (len(self.trees[0].works) > 1 and self.prefix * 2 >= budget)


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

    A family's prefix ends one before any member's context does, so that the column that predicts a
    first scored token is never part of it.
    """
    found = []
    for start, end, prefix in _runs(works, 0, None):
        members = works[start:end]
        trees = tuple(Tree(tuple(members[a:b])) for a, b, _ in _runs(members, prefix, TREE_TOKENS))
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
            length = len(works[end].ids)
            same = common_prefix(works[end - 1].ids, works[end].ids, length)
            now = min(shared, works[end].context - 1, same)
            size += length - same
            if (now - base) * 2 < shared - base or (cap is not None and size > cap):
                break
            shared, end = now, end + 1
        yield start, end, shared
        start = end


def tree_row(tree: Tree, prefix: int) -> Row:
    """Lay a tree out as one row that hangs on the first `prefix` tokens (0: carries everything).

    Columns come in the order of a walk through the tree, so everything behind a column up to its
    `end` has that column among its own beginnings. Targets come work by work: scored tokens but the
    last, then one per final token.
    """
    pieces: list[Ids] = []
    positions: list[Ids] = []
    read: list[Ids] = []
    tokens: list[Ids] = []
    ends = np.zeros(sum(len(work.ids) - prefix for work in tree.works), np.int32)
    before, path, count = np.empty(0, np.int32), np.empty(0, np.int32), 0
    for work in tree.works:
        own = work.ids[prefix:]
        same = common_prefix(before, own, len(own))
        ends[path[same:]] = count
        new = np.arange(len(own) - same, dtype=np.int32)
        pieces.append(own[same:])
        positions.append(new + same)
        before, path, count = own, np.concatenate([path[:same], new + count]), count + len(new)
        predicting = path[work.context - 1 - prefix :]
        read.append(np.concatenate([predicting[:-1], np.repeat(predicting[-1:], len(work.last))]))
        tokens.append(np.asarray([*work.ids[work.context :], *work.last], np.int32))
    ends[path] = count
    join = np.concatenate
    columns, slots = np.unique(join(read), return_inverse=True)
    return Row(
        join(pieces), join(positions), ends[:count], columns, slots.astype(np.int32), join(tokens)
    )
