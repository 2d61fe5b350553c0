"""Independent check of the split: does a held-out row have a copy in the training set?

Written apart from the duplicate search on purpose: it reads the final texts again, cuts and hashes
words its own way, and finds all pairs exactly (prefix filter) instead of by MinHash.

A pair leaks when the questions are the same, or the whole rows (question and answer) have a Jaccard
similarity of 3-word shingles of at least the threshold.

Source of the prefix filter: Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_ROUND_UP = 1e-9


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
        held_out, train: the rows of both sides; memory grows with the held-out side only.
        threshold: Jaccard similarity, 0..1.
    """
    held: dict[int, frozenset[int]] = {}
    questions: dict[str, list[int]] = defaultdict(list)
    for row in held_out:
        held[row.row] = _shingles(row.prompt, row.response)
        questions[_folded(row.prompt)].append(row.row)
    index = _PrefixIndex(held, threshold)
    leaks: dict[int, Leak] = {}
    for row in train:
        for other in questions.get(_folded(row.prompt), ()):
            leaks.setdefault(other, Leak(other, row.row, 1.0))
        for other, similarity in index.alike(_shingles(row.prompt, row.response)):
            leaks.setdefault(other, Leak(other, row.row, similarity))
    return [leaks[row] for row in sorted(leaks)]


def _folded(text: str) -> str:
    return " ".join(_WORD.findall(text.lower())) or text


def _shingles(prompt: str, response: str) -> frozenset[int]:
    found = _WORD.findall(f"{prompt} {response}".lower())
    if len(found) < 3:
        return frozenset((hash(tuple(found)),))
    return frozenset(map(hash, zip(found, found[1:], found[2:], strict=False)))


class _PrefixIndex:
    """Held-out rows by their rarest shingles.

    Two sets with Jaccard >= t share a member among the rarest |A| - ceil(t |A|) + 1 of each, when
    both are ordered alike; so only rows that meet there need to be compared.
    """

    def __init__(self, held: dict[int, frozenset[int]], threshold: float) -> None:
        self.held = held
        self.threshold = threshold
        self.frequency: Counter[int] = Counter()
        for shingles in held.values():
            self.frequency.update(shingles)
        self.by_shingle: dict[int, list[int]] = defaultdict(list)
        for row, shingles in held.items():
            for shingle in self._prefix(shingles):
                self.by_shingle[shingle].append(row)

    def _prefix(self, shingles: frozenset[int]) -> list[int]:
        size = len(shingles) - math.ceil(self.threshold * len(shingles) - _ROUND_UP) + 1
        absent = [s for s in shingles if s not in self.frequency]
        if len(absent) >= size:
            return []
        present = sorted(
            (s for s in shingles if s in self.frequency), key=lambda s: (self.frequency[s], s)
        )
        return present[: size - len(absent)]

    def alike(self, shingles: frozenset[int]) -> list[tuple[int, float]]:
        """Held-out rows at least as similar as the threshold."""
        candidates = {row for s in self._prefix(shingles) for row in self.by_shingle.get(s, ())}
        found = []
        for row in sorted(candidates):
            other = self.held[row]
            common = len(other & shingles)
            similarity = common / (len(other) + len(shingles) - common)
            if similarity >= self.threshold - _ROUND_UP:
                found.append((row, similarity))
        return found


def groups_of(leaks: list[Leak], groups: NDArray[Any]) -> set[int]:
    """The groups whose held-out rows leak."""
    return {int(groups[leak.validation]) for leak in leaks}
