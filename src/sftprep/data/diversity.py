"""How varied questions and answers are: crowded prompts, dominant templates, topics, distinct-n.

Surplus rows of a crowd or a template are named, the preferred ones of the group are not. Topics are
clusters of questions: hashed words weighted by rarity, spherical k-means (Dhillon, Modha 2001) on a
sample; the effective number of topics is exp(entropy) of their shares (Hill 1973, order 1).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftprep.data.wordstore import Hashes, Texts

MIN_TEMPLATE_ROWS = 100  # below this many rows nothing dominates
SAMPLE_ROWS = 10_000
DIMENSIONS = 1024
MAX_TOPICS = 50
ROWS_PER_TOPIC = 20
ROUNDS = 12
MAX_NGRAMS = 1_000_000  # counted for distinct-n: the answers in order up to the one that passes it


@dataclass(frozen=True, slots=True)
class Surplus:
    """A row beyond the limit of its group of `size` rows; `first` is the group's preferred row."""

    first: int
    size: int


def surplus(keys: NDArray[Any], order: NDArray[np.int64], limit: int) -> dict[int, Surplus]:
    """Rows beyond the first `limit` of their group.

    Args:
        keys: integer [N], group of each row, 0 for none. order: the rows that count, by
            preference. limit: rows a group may have.
    """
    order = order[keys[order] != 0]
    _, groups, sizes = np.unique(keys[order], return_inverse=True, return_counts=True)
    members: dict[int, list[int]] = {}
    for place in np.flatnonzero(sizes[groups] > limit).tolist():
        members.setdefault(int(groups[place]), []).append(int(order[place]))
    return {row: Surplus(rows[0], len(rows)) for rows in members.values() for row in rows[limit:]}


@dataclass(frozen=True, slots=True)
class Topics:
    """Clusters of questions: rows of each, largest first, with the row nearest to each centre."""

    sizes: tuple[int, ...]
    central: tuple[int, ...]

    @property
    def entropy_nats(self) -> float:
        """Entropy of the clusters' shares; 0 for none."""
        total = sum(self.sizes)
        return -sum(n / total * math.log(n / total) for n in self.sizes if n) if total else 0.0

    @property
    def effective(self) -> float:
        """exp(entropy): as many clusters of equal size would be as varied."""
        return math.exp(self.entropy_nats) if self.sizes else 0.0


def topics(prompts: Texts, rows: NDArray[np.int64], seed: int = 0) -> Topics:
    """Cluster the questions of the rows (at most SAMPLE_ROWS of them, evenly spaced)."""
    sample = rows[:: max(1, math.ceil(len(rows) / SAMPLE_ROWS))]
    sample = sample[prompts.lengths[sample] > 0]
    count = min(MAX_TOPICS, len(sample) // ROWS_PER_TOPIC)
    if count < 2:
        return Topics((), ())
    vectors = _vectors(prompts, sample)
    centres = vectors[np.random.default_rng(seed).choice(len(sample), count, replace=False)]
    nearest = np.zeros(len(sample), dtype=np.int64)
    for _ in range(ROUNDS):
        nearest = np.argmax(vectors @ centres.T, axis=1)
        for k in range(count):
            members = vectors[nearest == k]
            if len(members):
                mean = members.sum(axis=0)
                centres[k] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    sizes = np.bincount(nearest, minlength=count)
    largest = [k for k in np.argsort(-sizes, kind="stable").tolist() if sizes[k]]
    similarity = np.einsum("ij,ij->i", vectors, centres[nearest])
    central = []
    for k in largest:
        members = np.flatnonzero(nearest == k)
        central.append(int(sample[members[np.argmax(similarity[members])]]))
    return Topics(tuple(int(sizes[k]) for k in largest), tuple(central))


def _vectors(prompts: Texts, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Unit vectors [rows, DIMENSIONS] of word counts weighted by log(N / rows with the word)."""
    vectors = np.zeros((len(rows), DIMENSIONS), dtype=np.float32)
    for k, row in enumerate(rows.tolist()):
        places = np.unique(prompts.row(row)) % DIMENSIONS
        np.add.at(vectors[k], places, 1.0)
    seen = (vectors > 0).sum(axis=0)
    vectors *= np.log(len(rows) / np.maximum(seen, 1)).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(norms, 1e-9)
    return vectors


def distinct(answers: Texts, rows: NDArray[np.int64]) -> dict[str, float | None]:
    """distinct-n: different n-grams over all n-grams of answers (Li et al. 2016).

    Args:
        answers: word hashes. rows: ascending; the first of them that hold MAX_NGRAMS count.
    """
    found: dict[str, float | None] = {}
    for n in (1, 2, 3):
        grams = np.maximum(answers.lengths[rows] - n + 1, 0)
        counted = rows[np.cumsum(grams) - grams < MAX_NGRAMS]
        hashes = _ngrams(answers, counted, n)
        found[f"distinct_{n}"] = (
            round(len(np.unique(hashes)) / len(hashes), 6) if len(hashes) else None
        )
    return found


def _ngrams(texts: Texts, rows: NDArray[np.int64], n: int) -> Hashes:
    """Hashes of all n-grams of the rows."""
    wanted = np.zeros(len(texts), dtype=np.bool_)
    wanted[rows] = True
    parts = [np.zeros(0, dtype=np.uint64)]
    for first, last in texts.pieces():
        if wanted[first:last].any():
            hashes, owners = texts.shingles(first, last, n)
            parts.append(hashes[wanted[owners]])
    return np.concatenate(parts)
