"""Duplicates to drop, and related rows that must stay on one side of the split.

Duplicate: question AND answer alike, exactly (normal form) or nearly (Jaccard of each >= the
threshold, same numbers, negations and operators, same task as far as words tell). Related: same or
similar question, same passage, same or similar long answer; such rows are kept and tied.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftprep.data.features import Table
from sftprep.data.groups import Groups
from sftprep.data.minhash import band_keys, buckets
from sftprep.data.wordstore import Texts, jaccard, shingle_set

SHORT_WORDS = 30  # up to here a text is compared as a set of words, beyond by 3-word shingles
OVERLAP_WORDS = 38  # 30 / 0.8: a short text's near copy may be this long
LONG_ANSWER_WORDS = 20
TELLING_WORDS = 8  # shorter answers ("yes", "vehicle") are equal by chance: the questions decide
MAX_PER_PASSAGE = 50  # a paragraph in more rows than this is a template, not a passage
MAX_REPRESENTATIVES = 32  # rows of a bucket compared with each further row
KNOWN_PAIRS = 300_000  # similarities remembered, about 50 MB
Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Twin:
    """Why a row is a duplicate: the row that stays, and the smaller of the two similarities."""

    kept: int
    similarity: float
    reason: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """`twins` by row; `ties`: groups for the split; `conflicts`: row -> the row preferred to it.

    `prompts`: groups of rows whose questions are the same or nearly so.
    """

    twins: dict[int, Twin]
    ties: Groups
    prompts: Groups
    conflicts: dict[int, int]


class Similarity:
    """Exact Jaccard similarity of rows, with recent shingle sets kept."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self._set = lru_cache(maxsize=20_000)(self._shingles)
        self._known: dict[tuple[int, int], float] = {}

    def _shingles(self, row: int, n: int) -> frozenset[int]:
        return shingle_set(self.texts.row(row), n)

    def of(self, left: int, right: int) -> float:
        """Similarity by words when one text is short, else by 3-word shingles.

        Remembered, because a pair meets again in other bands.
        """
        known = self._known.get((left, right))
        if known is not None:
            return known
        if len(self._known) >= KNOWN_PAIRS:
            self._known.clear()
        a, b = int(self.texts.lengths[left]), int(self.texts.lengths[right])
        n = 1 if min(a, b) <= SHORT_WORDS else 3
        value = jaccard(self._set(left, n), self._set(right, n))
        self._known[left, right] = value
        return value


def find_duplicates(
    table: Table, alive: Rows, threshold: float, *, near: bool = True, exact: bool = True
) -> Duplicates:
    """Compare all rows that are still alive.

    Args:
        table: features of all rows. alive: bool [N]. threshold: Jaccard similarity, 0..1.
        near, exact: whether such copies are dropped; rows are tied in any case.
    The result does not depend on the order in which rows were read.
    """
    prompts, answers, both = table.views()
    ties = Groups(len(table))
    order = table.order()
    order = order[alive[order]]
    twins: dict[int, Twin] = {}
    for name in ("row", "prompt", "opening"):
        ties.join_equal(np.where(alive, table.keys(name), np.uint64(0)))
    _tie_passages(table, alive, ties)
    if exact:
        _exact(table, order, twins)
    live = alive.copy()
    live[list(twins)] = False
    asked, given = Similarity(prompts), Similarity(answers)
    alike = Groups(len(table))
    alike.join_equal(np.where(alive, table.keys("prompt"), np.uint64(0)))
    _tie_similar(prompts, live, order, threshold, alike, asked)
    for row in order[alike.roots()[order] != order].tolist():
        ties.join(row, alike.find(row))
    long_answers = live & (answers.lengths >= LONG_ANSWER_WORDS)
    _tie_similar(answers, long_answers, order, threshold, ties, given)
    if near:
        _near(table, both, live, order, threshold, (asked, given), ties, twins)
    return Duplicates(twins, ties, alike, _conflicts(table, order, twins))


def _exact(table: Table, order: NDArray[np.int64], twins: dict[int, Twin]) -> None:
    first: dict[int, int] = {}
    keys = table.keys("row")
    for row in _repeated(keys, order).tolist():
        kept = first.setdefault(int(keys[row]), row)
        if kept != row and not table.allowed[row]:
            twins[row] = Twin(kept, 1.0, "duplicate_exact")


def _repeated(keys: NDArray[Any], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of `order` that share their key with another one of them."""
    _, groups, sizes = np.unique(keys[order], return_inverse=True, return_counts=True)
    return order[sizes[groups] > 1]


def _tie_passages(table: Table, alive: Rows, ties: Groups) -> None:
    rows, keys = table.pairs("passages")
    rows, keys = rows[alive[rows]], keys[alive[rows]]
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    used = counts[inverse] <= MAX_PER_PASSAGE
    first: dict[int, int] = {}
    for row, passage in zip(rows[used].tolist(), keys[used].tolist(), strict=True):
        ties.join(first.setdefault(passage, row), row)


def _lengths_apart(texts: Texts) -> tuple[tuple[int, Rows], ...]:
    """(words per shingle, rows): short and long texts, with an overlap so that no pair is lost."""
    return (
        (1, (texts.lengths > 0) & (texts.lengths <= OVERLAP_WORDS)),
        (3, texts.lengths > SHORT_WORDS),
    )


def _tie_similar(
    texts: Texts,
    rows: Rows,
    order: NDArray[np.int64],
    threshold: float,
    ties: Groups,
    similarity: Similarity,
) -> None:
    for n, long_enough in _lengths_apart(texts):
        keys = band_keys(texts, n, rows & long_enough, threshold)
        for bucket in buckets(keys, order):
            _link(bucket.tolist(), ties, lambda a, b: similarity.of(a, b) >= threshold)


def _link(bucket: list[int], groups: Groups, alike: Callable[[int, int], bool]) -> None:
    """Join rows of a bucket with the first representative that they are like."""
    representatives = [bucket[0]]
    for row in bucket[1:]:
        for other in representatives:
            if groups.find(row) == groups.find(other):
                break
            if alike(other, row):
                groups.join(other, row)
                break
        else:
            if len(representatives) < MAX_REPRESENTATIVES:
                representatives.append(row)


def _near(
    table: Table,
    both: Texts,
    live: Rows,
    order: NDArray[np.int64],
    threshold: float,
    fields: tuple[Similarity, Similarity],
    ties: Groups,
    twins: dict[int, Twin],
) -> None:
    guard = table.keys("guard")
    asked, given = fields

    def similarity(left: int, right: int) -> float:
        if guard[left] != guard[right]:
            return 0.0
        prompt = asked.of(left, right)
        answer = given.of(left, right) if prompt >= threshold else 0.0
        if answer < threshold or _other_task(asked.texts, given.texts, left, right):
            return 0.0
        return min(prompt, answer)

    copies = Groups(len(table))
    for n, long_enough in _lengths_apart(both):
        keys = band_keys(both, n, live & long_enough, threshold)
        for bucket in buckets(keys, order):
            _link(bucket.tolist(), copies, lambda a, b: similarity(a, b) >= threshold)
    kept: dict[int, list[int]] = {}
    for row in _repeated(copies.roots(), order[live[order]]).tolist():
        group = kept.setdefault(copies.find(row), [])
        found = [(similarity(other, row), other) for other in group]
        best = max(found, key=lambda f: f[0], default=(0.0, row))
        if best[0] >= threshold and best[1] != row:
            ties.join(row, best[1])
            if not table.allowed[row]:
                twins[row] = Twin(best[1], best[0], "duplicate_near")
                continue
        group.append(row)
    for row, twin in twins.items():
        if twin.kept in twins:  # the row it repeats was itself dropped: name the one that stays
            twins[row] = twins[twin.kept]


def _other_task(prompts: Texts, answers: Texts, left: int, right: int) -> bool:
    """The rows are alike but ask for different things.

    With short answers: some word of the question was exchanged, not only added. With any: both
    questions have a word of their own that comes back in their answer (miles, kilometres).
    """
    a, b = Counter(prompts.row(left).tolist()), Counter(prompts.row(right).tolist())
    if max(answers.lengths[left], answers.lengths[right]) < TELLING_WORDS:
        return not (a <= b or b <= a)
    given_a, given_b = set(answers.row(left).tolist()), set(answers.row(right).tolist())
    own_a = (a.keys() - b.keys()) & (given_a - given_b)
    own_b = (b.keys() - a.keys()) & (given_b - given_a)
    return bool(own_a and own_b)


def _conflicts(table: Table, order: NDArray[np.int64], twins: dict[int, Twin]) -> dict[int, int]:
    """Rows whose question has another answer among the kept rows, and the row preferred."""
    prompts, answers = table.keys("prompt"), table.keys("response")
    by_prompt: dict[int, list[int]] = {}
    for row in _repeated(prompts, order[~np.isin(order, list(twins))]).tolist():
        by_prompt.setdefault(int(prompts[row]), []).append(row)
    conflicts = {}
    for rows in by_prompt.values():
        if len({int(answers[row]) for row in rows}) > 1:
            conflicts.update(dict.fromkeys(rows, rows[0]))
    return conflicts
