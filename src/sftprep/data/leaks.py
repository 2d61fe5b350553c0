"""Independent check of the split: does a held-out row have a copy in the training set?

Written apart from the duplicate search on purpose: it reads the final texts again, cuts and hashes
words its own way, and finds all pairs exactly (prefix filter) instead of by MinHash. Memory grows
with the held-out side only, by about 40 bytes per word.

A pair leaks when the questions are the same, or the whole rows (question and answer) have a Jaccard
similarity of 3-word shingles of at least the threshold.

Source of the prefix filter: Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_ASCII_WORDS = bytes(
    ord(chr(c).lower()) if c < 128 and _WORD.match(chr(c)) else 32 for c in range(256)
)
_ROUND_UP = 1e-9
_ROWS_AT_ONCE = 1000
_SEEN_PER_SHINGLE = 8  # places of the table of held-out shingles per shingle
_ODD = tuple(np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F))
Hashes = NDArray[np.uint64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FinalRow:
    """One row of the finished split, by its index."""

    row: int
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Leak:
    """A held-out row and a training row that are too alike."""

    validation: int
    train: int
    similarity: float


def find_leaks(
    held_out: Iterable[FinalRow], train: Iterable[FinalRow], threshold: float
) -> list[Leak]:
    """Every held-out row that leaks, with the first training row that is too alike.

    Args:
        held_out, train: the rows of both sides. threshold: Jaccard similarity, 0..1.
    """
    held = _HeldOut(held_out, threshold)
    leaks: dict[int, Leak] = {}
    for batch in _batches(train):
        asked = [_words(row.prompt) for row in batch]
        texts = [words + _words(row.response) for words, row in zip(asked, batch, strict=True)]
        alike = held.alike(texts)
        for place, row in enumerate(batch):
            same = held.questions.get(_folded(asked[place], row.prompt), ())
            for other in same:
                leaks.setdefault(other, Leak(other, row.row, 1.0))
            for other, similarity in alike.get(place, ()):
                leaks.setdefault(other, Leak(other, row.row, similarity))
    return [leaks[row] for row in sorted(leaks)]


def _batches(rows: Iterable[FinalRow]) -> Iterator[list[FinalRow]]:
    rest = iter(rows)
    while batch := list(islice(rest, _ROWS_AT_ONCE)):
        yield batch


def _words(text: str) -> list[str]:
    """Words in lower case; a regular expression takes six times as long for plain ASCII."""
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).decode().split()
    return _WORD.findall(text.lower())


def _folded(words: Sequence[str], text: str) -> str:
    return " ".join(words) or text


def _shingles(texts: Sequence[list[str]]) -> tuple[Hashes, Index]:
    """Distinct 3-word shingles of texts: hashes [S] and the text of each [S], both ascending.

    A text of fewer words is one shingle.
    """
    sizes = np.array([len(words) for words in texts], dtype=np.int64)
    each_word = chain.from_iterable(texts)
    words = np.fromiter(map(hash, each_word), np.int64, int(sizes.sum())).view(np.uint64)
    owners = np.repeat(np.arange(len(texts)), sizes)
    with np.errstate(over="ignore"):
        hashes = (words[:-2] * _ODD[0] + words[1:-1]) * _ODD[1] + words[2:]
    whole = owners[:-2] == owners[2:]
    short = np.flatnonzero(sizes < 3)
    few = np.array([hash(tuple(texts[k])) for k in short.tolist()], dtype=np.int64)
    hashes = np.concatenate([hashes[whole], few.view(np.uint64)])
    owners = np.concatenate([owners[:-2][whole], short])
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(hashes), dtype=np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[new], owners[new]


class _HeldOut:
    """Held-out rows by their questions and by their rarest shingles.

    Two sets with Jaccard >= t share a member among the rarest |A| - ceil(t |A|) + 1 of each, when
    both are ordered alike; so only rows that meet there need to be compared. Besides, t |A| members
    of A are held out at all, which most training rows fail: a table of bits tells.
    """

    def __init__(self, rows: Iterable[FinalRow], threshold: float) -> None:
        self.threshold = threshold
        self.rows: list[int] = []
        self.questions: dict[str, list[int]] = defaultdict(list)
        parts: list[Hashes] = []
        sizes: list[Index] = []
        for batch in _batches(rows):
            asked = [_words(row.prompt) for row in batch]
            for words, row in zip(asked, batch, strict=True):
                self.rows.append(row.row)
                self.questions[_folded(words, row.prompt)].append(row.row)
            hashes, owners = _shingles(
                [words + _words(row.response) for words, row in zip(asked, batch, strict=True)]
            )
            parts.append(hashes)
            sizes.append(np.bincount(owners, minlength=len(batch)))
        self.flat = np.concatenate([np.zeros(0, np.uint64), *parts])
        self.sizes = np.concatenate([np.zeros(0, np.int64), *sizes])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self._index()

    def _index(self) -> None:
        """Find the rarest shingles of each row, and mark all shingles in a table."""
        self.keys, places, self.counts = np.unique(
            self.flat, return_inverse=True, return_counts=True
        )
        owners = np.repeat(np.arange(len(self.sizes)), self.sizes)
        order = np.lexsort((self.flat, self.counts[places], owners))
        rank = np.arange(len(order)) - self.starts[owners]  # owners are ascending in both orders
        order = order[rank < _prefix(self.sizes, self.threshold)[owners]]
        order = order[np.argsort(self.flat[order], kind="stable")]
        self.rare, self.rare_owners = self.flat[order], owners[order]
        bits = max(10, (_SEEN_PER_SHINGLE * len(self.keys)).bit_length())
        self.shift = np.uint64(64 - bits)
        self.seen = np.zeros(1 << bits, dtype=np.bool_)
        self.seen[self._place(self.keys)] = True

    def _place(self, hashes: Hashes) -> Hashes:
        with np.errstate(over="ignore"):
            return hashes * _ODD[0] >> self.shift

    def alike(self, texts: Sequence[list[str]]) -> dict[int, list[tuple[int, float]]]:
        """Held-out rows at least as similar as the threshold, by place of the text."""
        hashes, owners = _shingles(texts)
        sizes = np.bincount(owners, minlength=len(texts))
        known = np.bincount(owners, self.seen[self._place(hashes)], minlength=len(texts))
        ends = np.cumsum(sizes)
        found: dict[int, list[tuple[int, float]]] = {}
        for place in np.flatnonzero(known >= self.threshold * sizes - _ROUND_UP).tolist():
            found[place] = self._alike(hashes[ends[place] - sizes[place] : ends[place]])
        return found

    def _alike(self, shingles: Hashes) -> list[tuple[int, float]]:
        at = np.minimum(np.searchsorted(self.keys, shingles), max(0, len(self.keys) - 1))
        present = self.keys[at] == shingles if len(self.keys) else np.zeros(len(at), np.bool_)
        size = _prefix(np.array([len(shingles)]), self.threshold)[0]
        size -= len(shingles) - int(present.sum())  # absent ones are the rarest
        if size <= 0:
            return []
        mine = shingles[present]
        mine = mine[np.lexsort((mine, self.counts[at[present]]))][:size]
        first = np.searchsorted(self.rare, mine, side="left")
        last = np.searchsorted(self.rare, mine, side="right")
        near = {int(k) for a, b in zip(first, last, strict=True) for k in self.rare_owners[a:b]}
        found = []
        for other in sorted(near):
            theirs = self.flat[self.starts[other] : self.starts[other] + self.sizes[other]]
            common = len(np.intersect1d(theirs, shingles, assume_unique=True))
            similarity = common / (len(theirs) + len(shingles) - common)
            if similarity >= self.threshold - _ROUND_UP:
                found.append((self.rows[other], similarity))
        return found


def _prefix(sizes: Index, threshold: float) -> Index:
    """How many of the rarest members of sets of these sizes must be looked at."""
    common: Index = np.ceil(threshold * sizes - _ROUND_UP).astype(np.int64)
    return sizes - common + 1


def groups_of(leaks: list[Leak], groups: NDArray[Any]) -> set[int]:
    """The groups whose held-out rows leak."""
    return {int(groups[leak.validation]) for leak in leaks}
